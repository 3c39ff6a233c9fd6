package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
	"github.com/weir-metrics/weir/services/exposer/internal/gzpart"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// pagesOfCounters are the buffers that pages of counters are rendered and compressed in: a page
// has the length of all series, and new ones for each scrape would be most of the garbage.
var pagesOfCounters = sync.Pool{New: func() any { return new(pageOfCounters) }}

type pageOfCounters struct{ plain, zipped []byte }

// counters serves the counters at the time of the request. Its allocations do not depend on
// the number of series.
func (h *handler) counters(w http.ResponseWriter, r *http.Request) {
	outcome := "failed" // also when it panics
	defer func() { h.Meter.CountersScraped(outcome) }()
	if h.Counters == nil {
		text(w, http.StatusNotFound, "counters are not served: WEIR_EXPOSER_COUNTERS is false")
		outcome = "refused"
		return
	}
	outcome = h.serveCounters(w, r, h.counterScrapes, h.Counters.Page)
}

// compat serves the counters, and gauges of the same time, under another exporter's names.
func (h *handler) compat(w http.ResponseWriter, r *http.Request) {
	outcome := "failed"
	defer func() { h.Meter.CompatScraped(outcome) }()
	if h.Compat == nil {
		text(w, http.StatusNotFound, "the compatibility page is not served: WEIR_EXPOSER_COMPAT is none; lablabs turns it on")
		outcome = "refused"
		return
	}
	outcome = h.serveCounters(w, r, h.compatScrapes, func(dst []byte, o counters.Options) (counters.Page, error) {
		return h.Counters.Read(o.Only, func(now counters.Reading) []byte { return h.Compat.Append(dst, o, now, now.At) })
	})
}

// serveCounters serves a page that is rendered at the time of the request.
func (h *handler) serveCounters(w http.ResponseWriter, r *http.Request, scrapes proc.Semaphore, render func(dst []byte, o counters.Options) (counters.Page, error)) (outcome string) {
	options, asked, err := parseCounters(r.URL)
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return "refused"
	}
	limit := limitOf(r)
	options.Only = limit.And(asked.Selection())
	ctx, cancel := context.WithTimeout(r.Context(), h.limits.patience)
	defer cancel()
	if scrapes.Acquire(ctx) != nil {
		full(w, fmt.Sprintf("too many concurrent scrapes of %s: the limit is %d (WEIR_EXPOSER_MAX_SCRAPES)", r.URL.Path, cap(scrapes)))
		return "overload"
	}
	defer scrapes.Release()
	options.Format = expo.Negotiate(r.Header.Get("Accept"))
	encoding := expo.NegotiateEncoding(r.Header.Get("Accept-Encoding"))

	buf, _ := pagesOfCounters.Get().(*pageOfCounters)
	defer pagesOfCounters.Put(buf)
	page, err := render(buf.plain[:0], options)
	var none counters.Unavailable
	if errors.As(err, &none) {
		w.Header().Set("Retry-After", "15")
		text(w, http.StatusServiceUnavailable, none.Error())
		return none.Reason
	}
	body := page.Body
	buf.plain = body
	if f := h.judge(ctx, asked, limit, page.Owners); f != nil {
		h.fail(w, f)
		return "refused"
	}
	if encoding == expo.Gzip {
		body = gzpart.Append(buf.zipped[:0], body)
		buf.zipped = body
	}

	header := w.Header()
	header.Set("Content-Type", options.Format.ContentType())
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Vary", "Accept, Accept-Encoding")
	header.Set("Cache-Control", "no-store")
	if encoding != expo.Identity {
		header.Set("Content-Encoding", encoding.String())
	}
	header.Set("X-Weir-Store", page.Store)
	header.Set("X-Weir-Counter-Epoch", page.Epoch)
	header.Set("X-Weir-Age-Seconds", strconv.FormatInt(int64(page.Age/time.Second), 10))
	setWriteDeadline(w, time.Now().Add(h.limits.answer))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return "served"
	}
	if !h.limits.send(w, func(write func([]byte) error) error { return inChunks(body, write) }) {
		return "cut" // Content-Length told the client that the body is truncated
	}
	return "served"
}

// inChunks writes a body in chunks of at most [view.Chunk] bytes, until one cannot be written.
func inChunks(body []byte, write func([]byte) error) error {
	for len(body) > 0 {
		n := min(len(body), view.Chunk)
		if err := write(body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// parseCounters parses the parameters of a page of counters: created, account and zone.
func parseCounters(at *url.URL) (o counters.Options, asked selection.Set, err error) {
	values, err := url.ParseQuery(at.RawQuery)
	if err != nil {
		return o, asked, fmt.Errorf("query is malformed: %w", err)
	}
	if asked, err = takeSet(values); err != nil {
		return o, asked, err
	}
	for name, given := range values {
		switch {
		case name != "created":
			return o, asked, fmt.Errorf("parameter %q is unknown; the parameters of %s are account, created and zone", bucket.Clip(name), at.Path)
		case len(given) > 1:
			return o, asked, fmt.Errorf("parameter %s is given %d times; give it once", name, len(given))
		case given[0] != "true" && given[0] != "false":
			return o, asked, fmt.Errorf("parameter created is %q; it must be true or false", bucket.Clip(given[0]))
		}
		o.Created = given[0] == "true"
	}
	return o, asked, nil
}
