package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// metrics serves the replay: the body of an immutable view, whose parts are in memory.
// Its allocations do not depend on the number of series.
func (h *handler) metrics(w http.ResponseWriter, r *http.Request) {
	h.Meter.ScrapeBegan()
	code := http.StatusInternalServerError // also when scrape panics
	defer func() { h.Meter.Scraped(code) }()
	code = h.scrape(w, r)
}

func (h *handler) scrape(w http.ResponseWriter, r *http.Request) (code int) {
	hours, err := replayHours(r.URL.RawQuery, h.Board.Hours())
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return http.StatusBadRequest
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.limits.patience)
	defer cancel()
	if h.scrapes.Acquire(ctx) != nil {
		return full(w, fmt.Sprintf("too many concurrent scrapes: the limit is %d (WEIR_EXPOSER_MAX_SCRAPES)", cap(h.scrapes)))
	}
	defer h.scrapes.Release()
	v, err := h.Board.View(hours)
	if err != nil {
		return h.refuse(w, err)
	}
	format := expo.Negotiate(r.Header.Get("Accept"))
	encoding := expo.NegotiateEncoding(r.Header.Get("Accept-Encoding"))
	body := v.Body(format, encoding)

	header := w.Header()
	header.Set("Content-Type", format.ContentType())
	header.Set("Content-Length", strconv.Itoa(body.Len))
	header.Set("Vary", "Accept, Accept-Encoding")
	header.Set("Cache-Control", "no-store") // the maximum age is applied at the time of the scrape
	if encoding != expo.Identity {
		header.Set("Content-Encoding", encoding.String())
	}
	h.setPosition(header, v)
	setWriteDeadline(w, time.Now().Add(h.limits.answer))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead && !h.limits.send(w, body) {
		h.Meter.ScrapeCut() // Content-Length told the client that the body is truncated
	}
	return http.StatusOK
}

// full rejects a request because a limit is reached.
func full(w http.ResponseWriter, why string) int {
	w.Header().Set("Retry-After", "5")
	text(w, http.StatusServiceUnavailable, why)
	return http.StatusServiceUnavailable
}

// replayHours parses replay_hours, the only parameter of /metrics.
func replayHours(query string, most int) (int, error) {
	if query == "" {
		return view.Default, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, fmt.Errorf("query is malformed: %w", err)
	}
	for name := range values {
		if name != "replay_hours" {
			return 0, fmt.Errorf("parameter %q is unknown; the only parameter of /metrics is replay_hours", bucket.Clip(name))
		}
	}
	if len(values) == 0 { // "?&"
		return view.Default, nil
	}
	if given := values["replay_hours"]; len(given) > 1 {
		return 0, fmt.Errorf("parameter replay_hours is given %d times; give it once", len(given))
	}
	value := values.Get("replay_hours")
	hours, err := strconv.Atoi(value)
	if err != nil || hours < 0 || hours > most {
		return 0, fmt.Errorf("parameter replay_hours is %q; it must be a whole number from 0 (only the newest bucket) to %d (CF_METRICS_REPLAY_HOURS)", bucket.Clip(value), most)
	}
	return hours, nil
}
