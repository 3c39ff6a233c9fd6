// The command dashboards writes the Grafana dashboard to the files that are named:
// the one that people import, and the chart's copy.
package main

import (
	"fmt"
	"os"

	"github.com/weir-metrics/weir/tools/monitoring/pipeline"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func write(files []string) error {
	if len(files) == 0 {
		return fmt.Errorf("name the files to write")
	}
	text, err := pipeline.Build()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return fmt.Errorf("write the dashboard: %w", err)
		}
	}
	return nil
}
