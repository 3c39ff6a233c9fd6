package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
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
	query, asked, err := parseQuery(r.URL.RawQuery, h.Board.Hours())
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return http.StatusBadRequest
	}
	limit := limitOf(r)
	query.Only = limit.And(asked.Selection())
	ctx, cancel := context.WithTimeout(r.Context(), h.limits.patience)
	defer cancel()
	if h.scrapes.Acquire(ctx) != nil {
		return full(w, fmt.Sprintf("too many concurrent scrapes: the limit is %d (WEIR_EXPOSER_MAX_SCRAPES)", cap(h.scrapes)))
	}
	defer h.scrapes.Release()
	v, err := h.Board.View(query)
	if err != nil {
		return h.refuse(w, err)
	}
	if f := h.judge(ctx, asked, limit, v.Owners); f != nil {
		return h.fail(w, f)
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
	header.Set("X-Weir-Turn", strconv.FormatInt(v.Choice.Turn, 10))
	hours := query.Hours
	if hours < 0 {
		hours = h.Board.Hours()
	}
	header.Set("X-Weir-Replay-Hours", strconv.Itoa(hours))
	if n := v.Choice.Missing; n > 0 {
		header.Set("X-Weir-Pages-Missing", strconv.Itoa(n))
	}
	setWriteDeadline(w, time.Now().Add(h.limits.answer))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead && !h.limits.send(w, body.WriteTo) {
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

// The range of the parameter round. Shorter rounds than a dataset's pages take follow one
// another without a pause.
const (
	shortestRound = carousel.Turn
	longestRound  = 12 * time.Hour
)

// parseQuery parses the parameters of /metrics: replay_hours and round, account and zone.
func parseQuery(query string, most int) (q view.Query, asked selection.Set, err error) {
	q = view.Default
	values, err := url.ParseQuery(query)
	if err != nil {
		return q, asked, fmt.Errorf("query is malformed: %w", err)
	}
	if asked, err = takeSet(values); err != nil {
		return q, asked, err
	}
	for name, given := range values {
		value := given[0]
		switch {
		case name != "replay_hours" && name != "round":
			return q, asked, fmt.Errorf("parameter %q is unknown; the parameters of /metrics are account, replay_hours, round and zone", bucket.Clip(name))
		case len(given) > 1:
			return q, asked, fmt.Errorf("parameter %s is given %d times; give it once", name, len(given))
		case name == "replay_hours":
			hours, err := strconv.ParseUint(value, 10, 16)
			if q.Hours = int(hours); err != nil || q.Hours > most {
				return q, asked, fmt.Errorf("parameter replay_hours is %q; it must be a whole number from 0 (only the newest bucket) to %d (CF_METRICS_REPLAY_HOURS)", bucket.Clip(value), most)
			}
		default:
			if q.Round, err = time.ParseDuration(value); err != nil || q.Round < shortestRound || q.Round > longestRound {
				return q, asked, fmt.Errorf("parameter round is %q; it must be a duration from %s to %s, such as 80m", bucket.Clip(value), bucket.SizeName(shortestRound), bucket.SizeName(longestRound))
			}
		}
	}
	if q.Hours == 0 && q.Round > 0 {
		return q, asked, errors.New("parameter round has no effect with replay_hours=0, which shows only the newest bucket; leave one of them out")
	}
	return q, asked, nil
}

// mostAsked is how many accounts and zones a request may name.
const mostAsked = 1000

// takeSet removes the parameters account and zone, which may be given several times, and returns
// what they name.
func takeSet(values url.Values) (asked selection.Set, err error) {
	for _, of := range []struct {
		name string
		into *[]string
	}{{"account", &asked.Accounts}, {"zone", &asked.Zones}} {
		given := values[of.name]
		if slices.Contains(given, "") {
			return asked, fmt.Errorf("parameter %s is empty; give it the value of the label %s, or leave it out", of.name, of.name)
		}
		if len(given) > mostAsked {
			return asked, fmt.Errorf("parameter %s is given %d times; give it at most %d times", of.name, len(given), mostAsked)
		}
		*of.into = given
		delete(values, of.name)
	}
	return asked, nil
}

// fail answers with a fault.
func (h *handler) fail(w http.ResponseWriter, f *fault) int {
	switch f.code {
	case http.StatusForbidden:
		return h.forbid(w, f.text)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "10")
	}
	text(w, f.code, f.text)
	return f.code
}
