package collector_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
)

// At the start, a secret that can never be right is a configuration error that
// names setting and file, all of them at once, and a file that is no secret at
// all does not fill the memory.
func TestSecretsThatCanNeverBeRight(t *testing.T) {
	for name, content := range map[string]string{
		"quotes": `"hunter2"`, "two words": "hunter2 hunter2", "zero width": "hunter2\u200b", "UTF-16": "\xff\xfeh\x00u\x00n\x00t\x00",
		"empty": "\ufeff\r\n", "large": strings.Repeat("hunter2", 1<<20), "device": "/dev/zero",
	} {
		t.Run(name, func(t *testing.T) {
			path := content
			if name != "device" {
				path = filepath.Join(t.TempDir(), "secret")
				testkit.WriteFile(t, path, []byte(content))
			}
			var c collector.Config
			_, err := cli.Load(c.Settings(), cli.Sources{Environ: []string{
				"CF_API_TOKEN_FILE=" + path, "WEIR_GRPC_TOKEN_FILE=" + path, "WEIR_DATABASE_URL_FILE=" + path,
			}}, c.Validate)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, setting := range []string{"CF_API_TOKEN_FILE", "WEIR_GRPC_TOKEN_FILE", "WEIR_DATABASE_URL_FILE"} {
				if n := strings.Count(err.Error(), "\n  "+setting); n != 1 {
					t.Errorf("%s is named %d times", setting, n)
				}
			}
			if strings.Count(err.Error(), path) < 3 || strings.Contains(err.Error(), "hunt") {
				t.Errorf("the file must be named for each, and not shown:\n%v", err)
			}
		})
	}
}

// Every file that a setting names is refused when it is too large, with its name,
// its setting and the limit.
func TestFilesThatAreTooLarge(t *testing.T) {
	for _, setting := range []string{"WEIR_CONFIG_FILE", "WEIR_CATALOGUE_FILE", "WEIR_CLOUDFLARE_CA_FILE", "WEIR_GRPC_CERT_FILE", "WEIR_GRPC_CLIENT_CA_FILE", "WEIR_COLLECTOR_WEB_CONFIG_FILE"} {
		environ := []string{setting + "=/dev/zero", "WEIR_SQLITE_FILE=" + filepath.Join(t.TempDir(), "weir.db")}
		if strings.HasPrefix(setting, "WEIR_GRPC") {
			environ = append([]string{"WEIR_GRPC_CERT_FILE=/dev/null", "WEIR_GRPC_KEY_FILE=/dev/null"}, environ...)
		}
		config, err := load(environ...)
		if err == nil {
			var c *collector.Collector
			c, err = collector.New(t.Context(), config, collector.Deps{GRPC: testkit.Listen(t), Ops: testkit.Listen(t)})
			if err == nil {
				err = c.Run(t.Context())
			}
		}
		if err == nil || !strings.Contains(err.Error(), setting) || !strings.Contains(err.Error(), "/dev/zero is larger than") {
			t.Errorf("%s: error is %v; it must name setting, file and limit", setting, err)
		}
	}
}

// shown notes the tokens that Cloudflare is shown.
type shown struct {
	next http.RoundTripper

	mu     sync.Mutex
	tokens map[string]int
}

func (s *shown) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.tokens[r.Header.Get("Authorization")]++
	s.mu.Unlock()
	return s.next.RoundTrip(r)
}

func (s *shown) count() (all int, good int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, n := range s.tokens {
		if all += n; token == "Bearer "+cfsim.DemoToken {
			good += n
		}
	}
	return all, good
}

// A token file that is spoilt while the collector runs takes nothing out of
// force: Cloudflare is asked on with the token before, one WARN names the file,
// and nothing says that Cloudflare refused what it was never shown.
func TestASpoiltTokenFileChangesNothing(t *testing.T) {
	clk := clock.System()
	sim, err := cfsim.New(cfsim.Demo(clk, 1))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "token")
	testkit.WriteFile(t, path, []byte("\ufeff"+cfsim.DemoToken+"\r\n"))
	var config collector.Config
	if _, err := cli.Load(config.Settings(), cli.Sources{Environ: []string{
		"CF_API_TOKEN_FILE=" + path, "WEIR_SQLITE_FILE=" + filepath.Join(t.TempDir(), "weir.db"), "WEIR_DRAIN=100ms",
		"WEIR_CLOUDFLARE_URL=https://simulator.example" + cfsim.Prefix, "CF_COLLECTION_INTERVAL_SECONDS=1",
	}}, config.Validate); err != nil {
		t.Fatal(err)
	}
	log, said := testkit.RecordingLogger(t)
	transport := &shown{next: cfsimtest.Transport(sim), tokens: map[string]int{}}
	registry := prometheus.NewPedanticRegistry()
	c, err := collector.New(t.Context(), config, collector.Deps{Logger: log, Transport: transport, GRPC: testkit.Listen(t), Ops: testkit.Listen(t), Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(testkit.Patience); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not within %s", what, testkit.Patience)
			}
		}
	}
	usable := func() float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "weir_secret_usable" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	asked := func(what string) {
		t.Helper()
		_, before := transport.count()
		eventually("Cloudflare is asked "+what, func() bool { _, now := transport.count(); return now > before })
	}
	eventually("Cloudflare is asked", func() bool { all, _ := transport.count(); return all > 0 })
	if usable() != 1 {
		t.Errorf("weir_secret_usable is %v at the start", usable())
	}
	replace := func(content string) { // at once: nobody finds an empty file in between
		t.Helper()
		err := os.WriteFile(path+".next", []byte(content), 0o600)
		if err == nil {
			err = os.Rename(path+".next", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, spoilt := range []string{`"` + cfsim.DemoToken + `"`, cfsim.DemoToken + " " + cfsim.DemoToken, "\xff\xfet\x00o\x00k\x00"} {
		replace(spoilt)
		eventually("weir_secret_usable is 0", func() bool { return usable() == 0 })
		asked("with the token before")
		if got := said.Count("cannot reload secret"); got != i+1 {
			t.Errorf("said %d times for %d spoilt files", got, i+1)
		}
	}
	replace("  " + cfsim.DemoToken + " \n")
	eventually("weir_secret_usable is 1", func() bool { return usable() == 1 })
	asked("again")
	if all, good := transport.count(); all != good {
		t.Errorf("%d of %d requests showed another token", all-good, all)
	}
	if said.Count(path) != 3 || said.Count("refuse") > 0 || said.Count(cfsim.DemoToken) > 0 {
		t.Errorf("the log must name the file for each fault, say of no refusal and not show the token:\n%s", said)
	}
}
