// Command exposer follows a collector and serves its final buckets to
// Prometheus. It keeps no state of its own.
package main

import (
	"context"
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // CA roots for images without any

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/exposer"
)

func main() {
	os.Exit(cli.Program{
		Name:     "exposer",
		Summary:  "final Cloudflare buckets as Prometheus samples, replayed at their own timestamps",
		Commands: exposer.Commands(),
	}.Main(context.Background(), os.Args[1:]))
}
