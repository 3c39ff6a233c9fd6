package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/snappy"

	"github.com/weir-metrics/weir/internal/testkit"
)

// pushedTo is the destination of the story's push: the panels show what it answers.
type pushedTo struct {
	away    atomic.Bool
	refuses atomic.Bool // samples of one zone, as older than others that it has
}

func (d *pushedTo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case d.away.Load():
		http.Error(w, "it is away", http.StatusServiceUnavailable)
	case d.refuses.Load() && bytes.Contains(body, []byte("shop.example")):
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
