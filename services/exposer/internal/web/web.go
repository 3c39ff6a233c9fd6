// Package web serves the exposer's data port: /metrics with the replay, /counters, the same
// counters under the names of another exporter, /backfill with history, the status page, a
// landing page, and the two probes. Requests are answered from memory or, for a backfill and the
// status page, from the collector's store;
// none ever causes a request to Cloudflare (G6).
//
// A truncated response is always recognisable: responses from memory have a
// Content-Length, and a stream that fails is aborted rather than terminated
// properly.
//
// Scrapes of each page, backfills, status and landing pages have separate concurrency limits, and the
// probes have none, so that slow or greedy clients of one do not block the others;
// limits.go has the limits.
package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/exposer/internal/access"
	"github.com/weir-metrics/weir/services/exposer/internal/backfill"
	"github.com/weir-metrics/weir/services/exposer/internal/compat"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
	"github.com/weir-metrics/weir/services/exposer/internal/inquiry"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// Meter counts responses; package meter implements it.
type Meter interface {
	ScrapeBegan()
	Scraped(code int)
	ScrapeCut()
	CountersScraped(outcome string)
	CompatScraped(outcome string)
	BackfillBegan()
	BackfillEnded(outcome string)
	Denied(reason string)
}

// Config configures the handler.
type Config struct {
	Board *view.Board
	// Counters is what /counters shows; nil: nothing, by a setting.
	Counters *counters.Board
	// Compat is what /counters/compat/lablabs shows besides; nil: nothing, by a setting. It needs Counters.
	Compat *compat.View
	Store  backfill.Lister // the source of backfills
	// Status returns the collector's problems for the landing page; nil: the
	// page shows none.
	Status Status
	// Inquiry asks the collector for the status page; nil: it is not served, by a setting.
	Inquiry *inquiry.Desk
	// Scopes says which zones and accounts exist; nil: nobody knows.
	Scopes Scopes
	// Tokens are those of the clients, and what each may read; nil: anyone may read everything.
	Tokens *access.Tokens
	Meter  Meter
	// MaxScrapes and MaxBackfills limit concurrent requests. Further scrapes
	// wait for a moment; further backfills are rejected at once.
	MaxScrapes, MaxBackfills int
	// MaxBackfillHours limits the range of one backfill.
	MaxBackfillHours int
	// CollectionInterval is the default step of /cloudflare/backfill.
	CollectionInterval time.Duration
	Version            string
	Logger             *slog.Logger

	limits *limits // nil: defaultLimits
}

// New returns the handler of the data port.
func New(cfg Config) http.Handler {
	if cfg.limits == nil {
		cfg.limits = &defaultLimits
	}
	h := &handler{
		Config: cfg, scrapes: make(proc.Semaphore, cfg.MaxScrapes), counterScrapes: make(proc.Semaphore, cfg.MaxScrapes), compatScrapes: make(proc.Semaphore, cfg.MaxScrapes), backfills: make(proc.Semaphore, cfg.MaxBackfills),
		pages: make(proc.Semaphore, cfg.limits.pages), statuses: make(proc.Semaphore, cfg.limits.statuses), problems: newProblems(cfg.Status), often: quiet.New(cfg.Logger, time.Minute),
	}
	mux := http.NewServeMux()
	// GET patterns answer HEAD too; other methods get 405 with Allow.
	mux.HandleFunc("GET /metrics", h.metrics)
	mux.HandleFunc("GET /counters", h.counters)
	mux.HandleFunc("GET /counters/compat/lablabs", h.compat)
	mux.HandleFunc("GET /backfill", h.backfill(backfill.Defaults{Hours: min(24, cfg.MaxBackfillHours)}))
	mux.HandleFunc("GET /cloudflare/backfill", h.backfill(backfill.Defaults{
		Hours: cfg.MaxBackfillHours, Step: cfg.CollectionInterval, Extend: true,
	}))
	mux.HandleFunc("GET /{$}", h.landing)
	h.handleStatus(mux)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "weir-exposer is healthy") })
	mux.HandleFunc("GET /-/ready", h.ready)
	return h.admit(mux)
}

type handler struct {
	Config
	scrapes, counterScrapes, compatScrapes, backfills, pages, statuses proc.Semaphore

	problems *problems
	often    *quiet.Log // for errors that may repeat with every request
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if err := h.Board.Ready(); err != nil {
		text(w, http.StatusServiceUnavailable, "weir-exposer is not ready: "+err.Error())
		return
	}
	text(w, http.StatusOK, "weir-exposer is ready")
}

// text responds with one line of plain text.
func text(w http.ResponseWriter, code int, line string) {
	setWriteDeadline(w, time.Now().Add(defaultLimits.answer))
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	fmt.Fprintln(w, line) // an error means that the client disconnected
}

// setPosition sets the headers that name the store, the revision and the age of
// the response.
func (h *handler) setPosition(header http.Header, v *view.View) {
	header.Set("X-Weir-Revision", strconv.FormatUint(uint64(v.State.Position.Revision), 10))
	header.Set("X-Weir-Store", v.State.Store.ID)
	if progress := h.Board.Progress(); !progress.IsZero() {
		age := h.Board.Now().Sub(progress)
		header.Set("X-Weir-Age-Seconds", strconv.FormatInt(int64(age/time.Second), 10))
	}
}

// refuse responds with an error of the board.
func (h *handler) refuse(w http.ResponseWriter, err error) int {
	var many *recent.TooManyError
	switch {
	case errors.Is(err, view.ErrNotReady):
		w.Header().Set("Retry-After", "5")
	case errors.As(err, &many):
	default:
		h.often.Error(err.Error(), "view could not be built", "err", err)
	}
	text(w, http.StatusServiceUnavailable, err.Error())
	return http.StatusServiceUnavailable
}
