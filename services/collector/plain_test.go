package collector_test

import (
	"path/filepath"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
)

// The API token in plain text is for a simulator, and said beyond this machine.
func TestATokenInPlainTextIsSaid(t *testing.T) {
	for address, want := range map[string]int{
		"http://cloudflare.example/client/v4":  1,
		"https://cloudflare.example/client/v4": 0,
		"http://127.0.0.1:1/client/v4":         0,
		"http://localhost:1/client/v4":         0,
	} {
		config, err := load("WEIR_SQLITE_FILE="+filepath.Join(t.TempDir(), "weir.db"), "WEIR_CLOUDFLARE_URL="+address)
		if err != nil {
			t.Fatal(err)
		}
		log, said := testkit.RecordingLogger(t)
		c, err := collector.New(t.Context(), config, collector.Deps{Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if got := said.Count("the API token is sent in plain text"); got != want {
			t.Errorf("%s: said %d times, want %d", address, got, want)
		}
	}
}
