package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/weir-metrics/weir/internal/testkit"
)

func newOps(t *testing.T, change func(*Config)) *Ops {
	t.Helper()
	cfg := Config{
		Service: "weir-collector", Summary: "Collects.", Version: "1.2.3", Revision: "abc",
		Registry: prometheus.NewRegistry(), Logger: testkit.Logger(t),
	}
	if change != nil {
		change(&cfg)
	}
	o, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func get(o http.Handler, path string) (int, string) {
	w := httptest.NewRecorder()
	o.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadiness(t *testing.T) {
	reason := errors.New("the store is away")
	var ready atomic.Bool
	o := newOps(t, func(c *Config) {
		c.Ready = func() error {
			if ready.Load() {
				return nil
			}
			return reason
		}
	})
	expect := func(code int, text string) {
		t.Helper()
		if gotCode, got := get(o, "/-/ready"); gotCode != code || !strings.Contains(got, text) {
			t.Errorf("got %d %q, want %d with %q", gotCode, got, code, text)
		}
		if code, body := get(o, "/-/healthy"); code != http.StatusOK {
			t.Errorf("health follows readiness: %d %s", code, body)
		}
	}
	expect(http.StatusServiceUnavailable, "weir-collector is not ready: the store is away")
	ready.Store(true)
	expect(http.StatusOK, "weir-collector is ready")
	o.Drain()
	expect(http.StatusServiceUnavailable, "shutting down")
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := newOps(t, func(c *Config) { c.Registry = registry })
	code, body := get(o, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("got %d: %s", code, body)
	}
	for _, want := range []string{`weir_build_info{goversion="go`, `revision="abc",version="1.2.3"} 1`, "go_goroutines ", "process_start_time_seconds "} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "weir_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if _, err := New(Config{Registry: registry, Logger: testkit.Logger(t)}); err == nil {
		t.Error("a registry was accepted twice")
	}
}

func TestPages(t *testing.T) {
	plain := newOps(t, func(c *Config) { c.Links = []Link{{"/status", "Status", "coverage"}} })
	profiled := newOps(t, func(c *Config) { c.Pprof = true })
	if code, body := get(plain, "/"); code != http.StatusOK || !strings.Contains(body, "weir-collector") || !strings.Contains(body, "/status") {
		t.Errorf("landing page: %d %s", code, body)
	}
	if code, _ := get(plain, "/no/such/page"); code != http.StatusNotFound {
		t.Errorf("an unknown page is %d", code)
	}
	if code, _ := get(plain, "/debug/pprof/heap"); code != http.StatusNotFound {
		t.Errorf("profiles are served unasked: %d", code)
	}
	if code, _ := get(profiled, "/debug/pprof/heap"); code != http.StatusOK {
		t.Errorf("profiles asked for: %d", code)
	}
	w := httptest.NewRecorder()
	plain.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/-/ready", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST is %d", w.Code)
	}
}

// serve runs Serve and returns a function that stops it and gives its error.
func serve(t *testing.T, cfg ServerConfig, handler http.Handler) (stop func() error) {
	t.Helper()
	cfg.Name, cfg.Logger = "test", testkit.Logger(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, cfg, handler) }()
	return func() error {
		cancel()
		return <-done
	}
}

func TestServeFinishesRequests(t *testing.T) {
	testkit.NoLeaks(t)
	l := testkit.Listen(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	stop := serve(t, ServerConfig{Listener: l}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		fmt.Fprint(w, "whole")
	}))
	type reply struct {
		body string
		err  error
	}
	replies := make(chan reply, 1)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	go func() {
		resp, err := (&http.Client{Transport: transport}).Get("http://" + l.Addr().String())
		if err != nil {
			replies <- reply{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		replies <- reply{string(body), err}
	}()
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	testkit.Eventually(t, func() error { // no new connection …
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			return errors.Join(errors.New("still accepts"), c.Close())
		}
		return nil
	})
	close(finish) // … but the old one gets its answer
	if r := <-replies; r.err != nil || r.body != "whole" {
		t.Errorf("got %q, error %v", r.body, r.err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestServeCutsOffTheStubborn(t *testing.T) {
	l := testkit.Listen(t)
	begun := make(chan struct{})
	stop := serve(t, ServerConfig{Listener: l, Shutdown: 10 * time.Millisecond}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done() // ends when the connection is cut
	}))
	go func() {
		if resp, err := http.Get("http://" + l.Addr().String()); err == nil {
			resp.Body.Close()
		}
	}()
	<-begun
	if err := stop(); err == nil || !strings.Contains(err.Error(), "aborted") {
		t.Errorf("got error %v, want one that says that requests were aborted", err)
	}
}

func TestServeDrains(t *testing.T) {
	l := testkit.Listen(t)
	o := newOps(t, nil)
	stop := serve(t, ServerConfig{Listener: l, Drain: 300 * time.Millisecond}, o)
	url := "http://" + l.Addr().String() + "/-/ready"
	ready := func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return err
	}
	testkit.Eventually(t, ready)
	o.Drain()
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if err := ready(); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("while draining: got error %v, want a 503 with the reason", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("drained for %v only", took)
	}
}

func TestServeRefuses(t *testing.T) {
	taken := testkit.Listen(t)
	file := filepath.Join(t.TempDir(), "web.yml")
	testkit.WriteFile(t, file, []byte("tls_server_conf: {}\n"))
	for name, test := range map[string]struct {
		cfg  ServerConfig
		want string
	}{
		"address in use":          {ServerConfig{Address: taken.Addr().String()}, "address already in use"},
		"wrong web configuration": {ServerConfig{Listener: testkit.Listen(t), WebConfigFile: file}, "web.yml"},
	} {
		test.cfg.Name, test.cfg.Logger = "data", testkit.Logger(t)
		if err := Serve(t.Context(), test.cfg, http.NotFoundHandler()); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "data listener") {
			t.Errorf("%s: got error %v, want one with %q", name, err, test.want)
		}
	}
}
