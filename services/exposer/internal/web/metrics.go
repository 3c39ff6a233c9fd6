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

// metrics serves the replay: finished bytes of one immutable view. What it
// allocates does not depend on the number of series.
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
	if h.scrapes.Enter(ctx) != nil {
		return full(w, fmt.Sprintf("%d scrapes are in flight already (WEIR_EXPOSER_MAX_SCRAPES)", cap(h.scrapes)))
	}
	defer h.scrapes.Leave()
	v, err := h.Board.View(hours)
	if err != nil {
		return h.refuse(w, err)
	}
	format := expo.Negotiate(r.Header.Get("Accept"))
	encoding := expo.NegotiateEncoding(r.Header.Get("Accept-Encoding"))
	key := bodyKey{v, format, encoding}
	body, ok := h.bodies.take(ctx, key)
	if !ok {
		return full(w, "too many different bodies are being sent to slow readers: ask for gzip, and for one length of replay_hours")
	}
	defer h.bodies.give(key)

	header := w.Header()
	header.Set("Content-Type", format.ContentType())
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Vary", "Accept, Accept-Encoding")
	header.Set("Cache-Control", "no-store") // age is cut at the moment of serving
	if encoding != expo.Identity {
		header.Set("Content-Encoding", encoding.String())
	}
	h.stand(header, v)
	hurry(w, time.Now().Add(h.limits.answer))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead && !h.limits.send(w, body) {
		h.Meter.ScrapeCut() // the length told the client that this was not all
	}
	return http.StatusOK
}

// full refuses a scrape for which there is no room.
func full(w http.ResponseWriter, why string) int {
	w.Header().Set("Retry-After", "5")
	text(w, http.StatusServiceUnavailable, why)
	return http.StatusServiceUnavailable
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
			return 0, fmt.Errorf("parameter %q is unknown; /metrics takes replay_hours alone", bucket.Clip(name))
		}
	}
	if len(values) == 0 { // "?&"
		return view.Default, nil
	}
	if given := values["replay_hours"]; len(given) > 1 {
		return 0, fmt.Errorf("parameter replay_hours is given %d times; once is enough", len(given))
	}
	value := values.Get("replay_hours")
	hours, err := strconv.Atoi(value)
	if err != nil || hours < 0 || hours > most {
		return 0, fmt.Errorf("parameter replay_hours is %q; it must be a whole number from 0 (the newest bucket alone) to %d (CF_METRICS_REPLAY_HOURS)", bucket.Clip(value), most)
	}
	return hours, nil
}
