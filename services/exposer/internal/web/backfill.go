package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/backfill"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// Outcomes of a backfill, as the meter counts them.
const (
	outcomeWhole   = "whole"
	outcomeRefused = "refused" // an error response
	outcomeBroken  = "broken"  // interrupted after the first bytes
)

// backfill serves stored history.
func (h *handler) backfill(defaults backfill.Defaults) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.Meter.BackfillBegan()
		outcome := outcomeBroken // also when serveBackfill panics to abort
		defer func() { h.Meter.BackfillEnded(outcome) }()
		outcome = h.serveBackfill(w, r, defaults)
	}
}

func (h *handler) serveBackfill(w http.ResponseWriter, r *http.Request, defaults backfill.Defaults) (outcome string) {
	state := h.Board.State()
	if state == nil { // names and labels come from the stream
		h.refuse(w, view.ErrNotReady)
		return outcomeRefused
	}
	now := h.Board.Now()
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		text(w, http.StatusBadRequest, fmt.Sprintf("query is malformed: %v", err))
		return outcomeRefused
	}
	request, err := backfill.Parse(query, state, defaults, backfill.Bounds{Now: now, MaxHours: h.MaxBackfillHours})
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return outcomeRefused
	}
	request.Only = limitOf(r)
	if request.Format == expo.Text && !r.ProtoAtLeast(1, 1) {
		err := &backfill.ParamError{Name: "format", Value: "text", Want: "openmetrics over HTTP/1.0: without its # EOF an HTTP/1.0 client cannot detect a truncated response"}
		text(w, http.StatusBadRequest, err.Error())
		return outcomeRefused
	}
	if !h.backfills.TryAcquire() {
		w.Header().Set("Retry-After", "30")
		text(w, http.StatusServiceUnavailable, fmt.Sprintf("too many concurrent backfills: the limit is %d (WEIR_EXPOSER_MAX_BACKFILLS)", cap(h.backfills)))
		return outcomeRefused
	}
	defer h.backfills.Release()
	end := time.Now().Add(h.limits.backfill)
	ctx, cancel := context.WithDeadlineCause(r.Context(), end, errTooLong)
	defer cancel()

	s := &response{ctx: ctx, w: w, end: end, stall: h.limits.backfillStall, request: request, gzip: expo.NegotiateEncoding(r.Header.Get("Accept-Encoding")) == expo.Gzip}
	s.setIdleDeadline()
	job, err := backfill.Prepare(ctx, h.Store, state, request)
	if err == nil {
		describe(w.Header(), request, &job.Coverage)
		if r.Method == http.MethodHead {
			s.setStallDeadline()
			s.begin()
			return outcomeWhole
		}
		unreadable := 0
		err = job.Write(ctx, s, now, func(revision uint64, why error) {
			unreadable++ // GetCoverage of the collector lists all of them
			h.often.Error("", "backfill skips a stored bucket that cannot be read", "revision", revision, "err", why)
		})
		s.announce("X-Weir-Unreadable", unreadable)
		s.announce("X-Weir-Incomplete-Sums", job.Incomplete)
		s.announce("X-Weir-Estimated-Sums", job.Estimates)
	}
	if err == nil {
		err = s.close()
	}
	if err == nil {
		return outcomeWhole
	}
	if context.Cause(ctx) == errTooLong { // gRPC reports it as DeadlineExceeded
		err = fmt.Errorf("%w (%s)", errTooLong, h.limits.backfill)
	}
	if !s.begun {
		for _, name := range []string{"X-Weir-Range", "X-Weir-Lacks", "X-Weir-Left-Out"} {
			w.Header().Del(name) // there is no body to describe
		}
		h.failed(w, err)
		return outcomeRefused
	}
	if errors.Is(err, context.Canceled) { // the client disconnected
		h.Logger.Debug("backfill interrupted", "err", err, "range", request.Range.String())
	} else {
		h.often.Warn(status.Code(err).String(), "backfill interrupted", "err", err, "range", request.Range.String())
	}
	s.setStallDeadline() // the server still flushes its buffers
	// Aborting is the only way to tell an HTTP client that the body is truncated.
	// After a proper end, with or without "# EOF", the client would keep the file.
	panic(http.ErrAbortHandler)
}

var errTooLong = errors.New("the backfill exceeded its time limit; request the range in parts, split at midnight UTC")

// failed responds with an error that occurred before the first byte.
func (h *handler) failed(w http.ResponseWriter, err error) {
	var param *backfill.ParamError
	if errors.As(err, &param) {
		text(w, http.StatusBadRequest, param.Error())
		return
	}
	var hidden *backfill.HiddenError
	switch {
	case errors.As(err, &hidden):
		h.forbid(w, hidden.Error())
		return
	case errors.Is(err, backfill.ErrNothing):
		text(w, http.StatusNotFound, backfill.ErrNothing.Error())
		return
	}
	h.often.Warn(status.Code(err).String(), "backfill failed", "err", err)
	if errors.Is(err, errTooLong) {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded:
		w.Header().Set("Retry-After", "10")
		text(w, http.StatusServiceUnavailable, "the collector's store is unavailable; see the exposer's log")
	default:
		text(w, http.StatusBadGateway, "the collector's response is invalid; see the exposer's log")
	}
}

// response sends a body in chunks. Nothing is sent before the first chunk is full,
// so that an early failure still gets an error status.
type response struct {
	ctx     context.Context
	w       http.ResponseWriter
	end     time.Time     // of everything
	stall   time.Duration // for the client to read a chunk
	request *backfill.Request
	gzip    bool

	begun bool
	buf   []byte
	zip   *gzip.Writer
}

func (s *response) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	if len(s.buf) < chunk {
		return len(p), nil
	}
	defer s.setIdleDeadline()
	return len(p), s.flush()
}

// setIdleDeadline extends the write deadline while nothing is written, because the
// source may be silent for longer than a client may stall: over HTTP/2 an expired
// deadline resets the stream even between writes. The request's own deadline is
// earlier and has an error response.
func (s *response) setIdleDeadline() { setWriteDeadline(s.w, s.end.Add(s.stall)) }

// setStallDeadline sets the deadline for writing the next chunk.
func (s *response) setStallDeadline() {
	deadline := time.Now().Add(s.stall)
	if s.end.Before(deadline) {
		deadline = s.end
	}
	setWriteDeadline(s.w, deadline)
}

func (s *response) flush() error {
	if s.ctx.Err() != nil { // a list that has arrived completely does not check
		return context.Cause(s.ctx)
	}
	s.setStallDeadline()
	s.begin()
	_, err := s.body().Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

func (s *response) body() io.Writer {
	if s.zip != nil {
		return s.zip
	}
	return s.w
}

// begin sends the header.
func (s *response) begin() {
	if s.begun {
		return
	}
	s.begun = true
	header := s.w.Header()
	header.Set("Content-Type", s.request.Format.ContentType())
	header.Set("Vary", "Accept-Encoding")
	header.Set("Cache-Control", "no-store")
	if s.gzip {
		header.Set("Content-Encoding", "gzip")
		s.zip, _ = gzip.NewWriterLevel(s.w, gzip.BestSpeed) // no error: the level is a constant
	}
	s.w.WriteHeader(http.StatusOK)
}

// announce sets a count that is known only at the end of the body, if it is not 0:
// as a header if the headers have not been sent, else as a trailer.
func (s *response) announce(name string, n int) {
	if n == 0 {
		return
	}
	if s.begun {
		name = http.TrailerPrefix + name
	}
	s.w.Header().Set(name, strconv.Itoa(n))
}

// mostNamed limits the length of a header, since proxies reject long ones. The
// body names more.
const mostNamed = 20

// describe sets the headers that describe the body and what it lacks.
func describe(header http.Header, r *backfill.Request, c *backfill.Coverage) {
	header.Set("X-Weir-Range", r.Range.String())
	lacks := "unknown"
	if c.Known {
		lacks = strconv.Itoa(c.Lacking)
	}
	header.Set("X-Weir-Lacks", lacks)
	var names []string
	for i, l := range r.LeftOut {
		if i == mostNamed {
			names = append(names, fmt.Sprintf("and %d more", len(r.LeftOut)-i))
			break
		}
		names = append(names, l.Family)
	}
	if len(names) > 0 {
		header.Set("X-Weir-Left-Out", strings.Join(names, ", "))
	}
}

// close sends the rest and terminates the body. It is for complete bodies only.
func (s *response) close() error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.zip != nil {
		return s.zip.Close()
	}
	return nil
}
