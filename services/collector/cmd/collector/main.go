// Command collector asks Cloudflare for settled buckets, stores each once, and
// serves them over gRPC.
package main

import (
	"context"
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // CA roots for images without any

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/collector"
)

func main() {
	os.Exit(cli.Program{
		Name:     "collector",
		Summary:  "settled Cloudflare analytics, stored once and served over gRPC",
		Commands: collector.Commands(),
	}.Main(context.Background(), os.Args[1:]))
}
