// Command exposer follows a collector and serves its final buckets to
// Prometheus. It keeps no state of its own.
package main

import (
	"context"
	"os"
	"runtime/debug"

	_ "golang.org/x/crypto/x509roots/fallback" // CA roots for images without any

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/exposer"
)

func main() {
	// It holds much, nearly all of it text, which the garbage collector does not look into: a cycle
	// takes milliseconds, and a heap that may grow by a quarter keeps the process below twice the
	// body that it serves.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	os.Exit(cli.Program{
		Name:     "exposer",
		Summary:  "final Cloudflare buckets as Prometheus samples, replayed at their own timestamps",
		Commands: exposer.Commands(),
	}.Main(context.Background(), os.Args[1:]))
}
