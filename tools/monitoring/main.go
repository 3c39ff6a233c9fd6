// The command dashboards writes the Grafana dashboards into the folders that are named: the
// one from which people import, and the chart's.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/weir-metrics/weir/tools/monitoring/pipeline"
	"github.com/weir-metrics/weir/tools/monitoring/traffic"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func write(folders []string) error {
	if len(folders) == 0 {
		return fmt.Errorf("name the folders to write to")
	}
	text, err := pipeline.Build()
	if err != nil {
		return err
	}
	files, err := traffic.Build()
	if err != nil {
		return err
	}
	files = append(files, traffic.File{Name: "weir-pipeline.json", JSON: text})
	for _, folder := range folders {
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(folder, f.Name), f.JSON, 0o644); err != nil {
				return fmt.Errorf("write the dashboard: %w", err)
			}
		}
	}
	return nil
}
