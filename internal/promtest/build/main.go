// Command build builds the Prometheus, promtool and VictoriaMetrics that the
// tests use, unless they are there already, and prints where they are. make test
// runs it before the tests, whose time limit the first build would use up. With TEST_ALL
// it builds older versions of Prometheus, Mimir, Thanos and the OpenTelemetry collector too.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
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
	if testkit.All() {
		for _, build := range []func(io.Writer) (promtest.Tools, error){promtest.BuildOldest, promtest.BuildTooOld} {
			old, err := build(os.Stderr)
			if err != nil {
				fail(err)
			}
			fmt.Println(old.Prometheus)
		}
		for _, build := range []func(io.Writer) (promtest.Receiver, error){promtest.BuildMimir, promtest.BuildThanos, promtest.BuildOpenTelemetry} {
			receiver, err := build(os.Stderr)
			if err != nil {
				fail(err)
			}
			fmt.Println(receiver.Path)
		}
	}
	fmt.Println(victoria.Path)
	fmt.Println(tools.Prometheus)
	fmt.Println(tools.Promtool) // last, for tools/chart.sh
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
