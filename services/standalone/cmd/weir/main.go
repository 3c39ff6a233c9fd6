// Command weir is both services in one process, for one machine and for trying
// Weir out, and the simulator that stands in for Cloudflare.
package main

import (
	"context"
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // CA roots for images without any

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/standalone"
)

func main() {
	os.Exit(cli.Program{
		Name:     "weir",
		Summary:  "Cloudflare's analytics in Prometheus, with a history that can be trusted",
		Commands: standalone.Commands(),
	}.Main(context.Background(), os.Args[1:]))
}
