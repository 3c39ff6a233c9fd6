// Command build builds the Prometheus, promtool and VictoriaMetrics that the
// tests use, unless they are there already, and prints where they are. make test
// runs it before the tests, whose time limit the first build would use up.
package main

import (
	"fmt"
	"os"

	"github.com/weir-metrics/weir/internal/promtest"
)

func main() {
	tools, err := promtest.Build(os.Stderr)
	if err != nil {
		fail(err)
	}
	victoria, err := promtest.BuildVictoria(os.Stderr)
	if err != nil {
		fail(err)
	}
	fmt.Println(victoria.Path)
	fmt.Println(tools.Prometheus)
	fmt.Println(tools.Promtool) // last, for tools/chart.sh
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
