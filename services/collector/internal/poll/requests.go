package poll

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Operators' requests are carried out by the loop, since only it appends, and only it
// knows what is wanted. It takes them between two requests to Cloudflare and while it
// waits for the next pass. What a request changes and its audit event are one append
// (G11).

// Errors of requests. Any other error is a [Refusal], or the caller's context ended
// before the loop took the request, which was then not carried out.
var (
	// ErrNotLeading: this process does not lead, or no longer in the term in which the
	// request began. The request was not carried out.
	ErrNotLeading = errors.New("this process does not lead")
	// ErrOutcomeUnknown: the term or the caller's context ended while the request was
	// carried out. It may have been committed.
	ErrOutcomeUnknown = errors.New("it is not known whether the request was carried out")
)

// Why is the class of a refusal.
type Why uint8

// The classes.
const (
	// Malformed requests leave no audit event; all others do.
	Malformed Why = iota + 1
	// NotFound: there is no such object.
	NotFound
	// TooMany: a limit is reached for now.
	TooMany
	// Refused: it cannot be done.
	Refused
)

// Refusal says why a request was not carried out. The text is for the caller.
type Refusal struct {
	Why  Why
	Text string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

func refuse(why Why, format string, args ...any) error {
	return &Refusal{Why: why, Text: fmt.Sprintf(format, args...)}
}

// errand is a request on its way through the loop.
type errand struct {
	do   func(context.Context, *state) error
	done chan error // holds one
}

// desk takes the requests of one term.
type desk struct {
	errands chan *errand  // without a buffer: what was sent is carried out
	closed  chan struct{} // when the term has ended
}

// reception leads to the desk of the present term.
type reception struct{ at atomic.Pointer[desk] }

// open begins a term. The caller calls the result when the term has ended.
func (r *reception) open() (d *desk, end func()) {
	d = &desk{errands: make(chan *errand), closed: make(chan struct{})}
	r.at.Store(d)
	return d, func() {
		r.at.Store(nil)
		close(d.closed)
	}
}

// ask has the loop execute do, between two other steps of its goroutine, and returns its
// error. do gets the context of the term, so that a caller that leaves does not abort an
// append. An error of do that is neither a [Refusal] nor [ErrNotLeading] ends the term.
func (r *reception) ask(ctx context.Context, do func(context.Context, *state) error) error {
	d := r.at.Load()
	if d == nil {
		return ErrNotLeading
	}
	e := &errand{do: do, done: make(chan error, 1)}
	select {
	case d.errands <- e:
	case <-d.closed:
		return ErrNotLeading
	case <-ctx.Done():
		return fmt.Errorf("the leader was busy, and the request was not carried out: %w", context.Cause(ctx))
	}
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	}
}

// answer is [reception.ask] with a result, which is zero if there is an error.
func answer[T any](ctx context.Context, r *reception, do func(context.Context, *state) (T, error)) (out T, err error) {
	result := make(chan T, 1) // do may still run when the caller has left
	err = r.ask(ctx, func(ctx context.Context, s *state) error {
		got, err := do(ctx, s)
		if err == nil {
			result <- got
		}
		return err
	})
	if err == nil {
		out = <-result
	}
	return out, err
}

// serve carries out an errand. Its error ends the term.
func (s *state) serve(ctx context.Context, e *errand) error {
	err := e.do(ctx, s)
	if err == nil || errors.As(err, new(*Refusal)) || errors.Is(err, ErrNotLeading) {
		e.done <- err
		return nil
	}
	e.done <- fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	return err
}

// serveWaiting carries out the errands that wait.
func (s *state) serveWaiting(ctx context.Context) error {
	for {
		select {
		case e := <-s.desk.errands:
			if err := s.serve(ctx, e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// commitAudited appends what a request changes and its audit event, which comes last, in
// one append, and returns the event's revision. If the store cannot hold a value, nothing
// is stored, and the error is a [Refusal]; any other error ends the term.
func (w *writer) commitAudited(ctx context.Context, batch store.Batch, event *bucketv1.AuditEvent) (bucket.Revision, error) {
	payload, err := wire.EncodeAuditEvent(event)
	if err != nil {
		return 0, refuse(Malformed, "%v", err)
	}
	batch.Entries = append(batch.Entries, store.NewEntry{Kind: bucket.KindAudit, Payload: payload})
	at, err := w.journal.CommitWhole(ctx, batch)
	if store.ContentRejected(err) {
		return 0, refuse(Refused, "nothing was changed, since the store cannot hold a value of the request: %v", err)
	}
	return at.Revision, err
}

// refused records a refused request, and returns the refusal. A malformed request leaves no
// record.
func (w *writer) refused(ctx context.Context, event *bucketv1.AuditEvent, refusal error) error {
	var r *Refusal
	if !errors.As(refusal, &r) || r.Why == Malformed {
		return refusal
	}
	event.Refused = auditText(r.Text)
	if _, err := w.commitAudited(ctx, store.Batch{}, event); err != nil {
		return err
	}
	return refusal
}

// auditText shortens a text to what an audit event can hold.
func auditText(s string) string {
	const more = " …"
	if s = store.Valid(s); len(s) > wire.MaxAuditText {
		s = strings.ToValidUTF8(s[:wire.MaxAuditText-len(more)], "") + more
	}
	return s
}
