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

	"github.com/weir-metrics/weir/services/exposer/internal/backfill"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// Outcomes of a backfill, as the meter counts them.
const (
	outcomeWhole   = "whole"
	outcomeRefused = "refused" // nothing was sent but the reason
	outcomeBroken  = "broken"  // broken off after the first bytes
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
	if request.Format == expo.Text && !r.ProtoAtLeast(1, 1) {
		err := &backfill.ParamError{Name: "format", Value: "text", Want: "openmetrics over HTTP/1.0: only its # EOF tells such a client a whole answer from one that broke off"}
		text(w, http.StatusBadRequest, err.Error())
		return outcomeRefused
	}
	if !h.backfills.TryEnter() {
		w.Header().Set("Retry-After", "30")
		text(w, http.StatusServiceUnavailable, fmt.Sprintf("%d backfills are running already (WEIR_EXPOSER_MAX_BACKFILLS)", cap(h.backfills)))
		return outcomeRefused
	}
	defer h.backfills.Leave()
	end := time.Now().Add(h.limits.backfill)
	ctx, cancel := context.WithDeadlineCause(r.Context(), end, errTooLong)
	defer cancel()

	s := &stream{ctx: ctx, w: w, end: end, stall: h.limits.backfillStall, request: request, gzip: expo.NegotiateEncoding(r.Header.Get("Accept-Encoding")) == expo.Gzip}
	s.wait()
	job, err := backfill.Prepare(ctx, h.Store, state, request)
	if err == nil {
		describe(w.Header(), request, &job.Coverage)
		if r.Method == http.MethodHead {
			s.hurry()
			s.begin()
			return outcomeWhole
		}
		unreadable := 0
		err = job.Write(ctx, s, now, func(revision uint64, why error) {
			unreadable++ // the collector has a list of all; see GetCoverage
			h.often.Error("", "backfill passes over a stored bucket that cannot be read", "revision", revision, "err", why)
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
	if context.Cause(ctx) == errTooLong { // the collector's words for it are others
		err = fmt.Errorf("%w (%s)", errTooLong, h.limits.backfill)
	}
	if !s.begun {
		for _, name := range []string{"X-Weir-Range", "X-Weir-Lacks", "X-Weir-Left-Out"} {
			w.Header().Del(name) // of a body that does not come
		}
		h.failed(w, err)
		return outcomeRefused
	}
	if errors.Is(err, context.Canceled) { // the client went away
		h.Logger.Debug("backfill broke off", "err", err, "range", request.Range.String())
	} else {
		h.often.Warn(status.Code(err).String(), "backfill broke off", "err", err, "range", request.Range.String())
	}
	s.hurry() // what the server's buffers hold is sent yet
	// The one way to tell an HTTP client that what it got is not all. A proper
	// end, with or without "# EOF", would make a file of it.
	panic(http.ErrAbortHandler)
}

var errTooLong = errors.New("the backfill took longer than one may; ask for the range in pieces, cut at midnight UTC")

// failed answers for an error before the first byte.
func (h *handler) failed(w http.ResponseWriter, err error) {
	var param *backfill.ParamError
	if errors.As(err, &param) {
		text(w, http.StatusBadRequest, param.Error())
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
		text(w, http.StatusServiceUnavailable, "the collector's store cannot be read at the moment; the exposer's log has the reason")
	default:
		text(w, http.StatusBadGateway, "the collector's answer could not be used; the exposer's log has the reason")
	}
}

// stream sends a body in pieces. Nothing is sent before the first buffer is
// full, so that what fails early still gets a status of its own.
type stream struct {
	ctx     context.Context
	w       http.ResponseWriter
	end     time.Time     // of everything
	stall   time.Duration // for the client to accept a buffer
	request *backfill.Request
	gzip    bool

	begun bool
	buf   []byte
	zip   *gzip.Writer
}

func (s *stream) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	if len(s.buf) < piece {
		return len(p), nil
	}
	defer s.wait()
	return len(p), s.flush()
}

// wait puts the deadline off while nothing is written, since the source may be
// quiet for longer than a client may: over HTTP/2 a deadline that passes resets
// the stream even if nobody is writing. The end comes first, and has an answer.
func (s *stream) wait() { hurry(s.w, s.end.Add(s.stall)) }

// hurry gives the client the time of a stall for what is written next.
func (s *stream) hurry() {
	deadline := time.Now().Add(s.stall)
	if s.end.Before(deadline) {
		deadline = s.end
	}
	hurry(s.w, deadline)
}

func (s *stream) flush() error {
	if s.ctx.Err() != nil { // a listing that is all here already does not notice
		return context.Cause(s.ctx)
	}
	s.hurry()
	s.begin()
	_, err := s.body().Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

func (s *stream) body() io.Writer {
	if s.zip != nil {
		return s.zip
	}
	return s.w
}

// begin sends the header.
func (s *stream) begin() {
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

// announce says how many of something there are, if any, which is known at the
// body's end only: in the header if that is not sent yet, else behind the body.
func (s *stream) announce(name string, n int) {
	if n == 0 {
		return
	}
	if s.begun {
		name = http.TrailerPrefix + name
	}
	s.w.Header().Set(name, strconv.Itoa(n))
}

// mostNamed bounds a header: proxies refuse long ones. The body names more.
const mostNamed = 20

// describe puts on the answer what it will be, and what it will lack.
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

// close sends the rest and the end. It is for whole bodies alone.
func (s *stream) close() error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.zip != nil {
		return s.zip.Close()
	}
	return nil
}
