package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// metrics serves the replay: finished bytes of one immutable view. What it
// allocates does not depend on the number of series.
func (h *handler) metrics(w http.ResponseWriter, r *http.Request) {
	h.Meter.Scraped(h.scrape(w, r))
}

func (h *handler) scrape(w http.ResponseWriter, r *http.Request) (code int) {
	hours, err := replayHours(r.URL.RawQuery, h.Board.Hours())
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return http.StatusBadRequest
	}
	if !enter(h.scrapes) {
		w.Header().Set("Retry-After", "5")
		text(w, http.StatusServiceUnavailable, fmt.Sprintf("%d scrapes are in flight already (WEIR_EXPOSER_MAX_SCRAPES)", cap(h.scrapes)))
		return http.StatusServiceUnavailable
	}
	defer func() { <-h.scrapes }()
	v, err := h.Board.View(hours)
	if err != nil {
		return h.refuse(w, err)
	}
	format := expo.Negotiate(r.Header.Get("Accept"))
	encoding := expo.NegotiateEncoding(r.Header.Get("Accept-Encoding"))
	body := v.Body(format, encoding)

	header := w.Header()
	header.Set("Content-Type", format.ContentType())
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Vary", "Accept, Accept-Encoding")
	header.Set("Cache-Control", "no-store") // age is cut at the moment of serving
	if encoding != expo.Identity {
		header.Set("Content-Encoding", encoding.String())
	}
	h.stand(header, v)
	// Unknown to some wrappers of ResponseWriter; then there is no limit.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the length tells the client whether it got all
	}
	return http.StatusOK
}

// replayHours reads the one parameter of /metrics.
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
			return 0, fmt.Errorf("parameter %q is unknown; /metrics takes replay_hours alone", clip(name))
		}
	}
	if given := values["replay_hours"]; len(given) != 1 {
		return 0, fmt.Errorf("parameter replay_hours is given %d times; once is enough", len(given))
	}
	value := values.Get("replay_hours")
	hours, err := strconv.Atoi(value)
	if err != nil || hours < 0 || hours > most {
		return 0, fmt.Errorf("parameter replay_hours is %q; it must be a whole number from 0 (the newest bucket alone) to %d (CF_METRICS_REPLAY_HOURS)", clip(value), most)
	}
	return hours, nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
