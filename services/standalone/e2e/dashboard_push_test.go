package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/weir-metrics/weir/internal/testkit"
)

// pushedTo is the destination of the story's push: the panels show what it answers.
type pushedTo struct {
	away     atomic.Bool
	refusals atomic.Int64 // requests that it still refuses, as older than its window
}

func (d *pushedTo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch {
	case d.away.Load():
		http.Error(w, "it is away", http.StatusServiceUnavailable)
	case d.refusals.Add(-1) >= 0:
		http.Error(w, "out of order sample", http.StatusBadRequest)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// startPush starts the shipped program, and waits until it follows.
func (s *dashboardStage) startPush() *pushedTo {
	s.t.Helper()
	d := &pushedTo{}
	server := httptest.NewServer(d)
	s.t.Cleanup(server.Close)
	listen := address(s.t)
	launch(s.t, "weir push", command(s.t, program(s.t, "weir"), []string{
		"WEIR_COLLECTOR_ADDRESS=" + strings.Join(s.grpc, ","), "WEIR_COLLECTOR_TOKEN=" + s.w.adminToken,
		"WEIR_PUSH_DESTINATION_URL=" + server.URL + "/api/v1/write", "WEIR_PUSH_FROM=beginning", "WEIR_PUSH_MAX_PAUSE=1s",
		"WEIR_PUSH_CURSOR_FILE=" + filepath.Join(s.t.TempDir(), "cursor.json"), "WEIR_PUSH_OPS_LISTEN=" + listen,
	}, "push"))
	testkit.Eventually(s.t, func() error {
		_, err := page("http://" + listen + "/metrics")
		return err
	})
	s.watch("weir", "push", listen)
	return d
}
