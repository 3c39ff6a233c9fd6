package poll

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// A restatement reads final windows again, like an audit, and records what differs. The
// requests to Cloudflare are errands of their own, with the loop's work between them; what
// they show is kept by the caller until all windows were read, and committed as one append.
// If the term ends before that, nothing was changed.

// MaxRestate is the most windows of one request.
const MaxRestate = 1000

// maxRestateBytes bounds the append of a request, which must end within the timeout of a
// write.
const maxRestateBytes = 8 << 20

// restateAttempts is how often a request to Cloudflare that failed for a passing reason is
// sent.
const (
	restateAttempts = 3
	restatePause    = 5 * time.Second
)

// Restate is the request to read final windows again.
type Restate struct {
	Selection
	Asked
	DryRun bool
}

// Outcome is what reading a window again showed.
type Outcome uint8

// The outcomes.
const (
	OutcomeEqual    Outcome = iota + 1 // as the value in force
	OutcomeRestated                    // it differs
	OutcomeFailed                      // it could not be read
)

// RestatedWindow is one window that was read again.
type RestatedWindow struct {
	bucket.Key
	End     bucket.Time
	Name    string // of the scope, for people
	Outcome Outcome
	Detail  string // of a failure
	// Sums of the families' values, of what was in force before and after.
	Before, After map[string]float64
}

// Restated is the result of a request.
type Restated struct {
	Windows  []RestatedWindow // ascending by key
	Revision bucket.Revision  // of the audit event; 0 for a dry run
}

// restating is a request under way. It belongs to the loop during an errand, and to the
// caller between errands.
type restating struct {
	Restate
	term    store.Term
	windows map[bucket.Key]*restateWindow
	order   []*restateWindow
	left    []plan.Request
}

type restateWindow struct {
	RestatedWindow
	stored  store.Entry // as first stored
	inForce *bucket.Bucket
	entry   store.NewEntry // the restatement, if there is one
}

func (w *restateWindow) fail(format string, args ...any) {
	w.Outcome, w.Detail = OutcomeFailed, store.Text(fmt.Sprintf(format, args...))
}

// Restate reads the final windows of a selection from Cloudflare again, and records a
// restatement for each whose content differs from the value in force. One request is
// carried out at a time.
func (p *Poller) Restate(ctx context.Context, req Restate) (Restated, error) {
	select {
	case p.restating <- struct{}{}:
		defer func() { <-p.restating }()
	default:
		return answer(ctx, &p.reception, func(ctx context.Context, s *state) (Restated, error) {
			return Restated{}, s.refuseRestate(ctx, req, refuse(TooMany, "another restatement is under way: wait until it has ended"))
		})
	}
	r, err := answer(ctx, &p.reception, func(ctx context.Context, s *state) (*restating, error) { return s.beginRestate(ctx, req) })
	if err != nil {
		return Restated{}, err
	}
	for attempt := 0; len(r.left) > 0; {
		wait, err := answer(ctx, &p.reception, func(ctx context.Context, s *state) (time.Duration, error) {
			return s.restateNext(ctx, r, attempt)
		})
		if err != nil {
			return Restated{}, err
		}
		if wait == 0 {
			attempt = 0
			continue
		}
		if wait < 0 { // of an attempt that failed
			attempt, wait = attempt+1, -wait
		}
		if err := p.config.Clock.WaitUntil(ctx, p.config.Clock.Now().Add(wait)); err != nil {
			return Restated{}, fmt.Errorf("nothing was changed: %w", err)
		}
	}
	return answer(ctx, &p.reception, func(ctx context.Context, s *state) (Restated, error) { return s.endRestate(ctx, r) })
}

// sameTerm refuses to go on with what another term has begun: the caller may begin again.
func (s *state) sameTerm(r *restating) error {
	if s.journal.Term() != r.term {
		return fmt.Errorf("%w in the term in which windows were read", ErrNotLeading)
	}
	return nil
}

func (s *state) beginRestate(ctx context.Context, req Restate) (*restating, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	r := &restating{Restate: req, term: s.journal.Term(), windows: map[bucket.Key]*restateWindow{}}
	if err := s.selectFinal(ctx, now, r); err != nil {
		return nil, s.refuseRestate(ctx, req, err)
	}
	return r, nil
}

// refuseRestate records that a request was refused, unless it was to change nothing.
func (s *state) refuseRestate(ctx context.Context, req Restate, why error) error {
	if req.DryRun {
		return why
	}
	return s.writer.refused(ctx, req.event(bucketv1.AuditEvent_ACTION_RESTATED, req.Asked), why)
}

// selectFinal finds the final windows of the selection, reads what is in force for them, and
// packs those that can be read again into requests.
func (s *state) selectFinal(ctx context.Context, now bucket.Time, r *restating) error {
	sel := &r.Selection
	var rechecks []plan.Recheck
	for _, c := range sel.claims(s.books.claims(now)) {
		d := c.Dataset
		asked := bucket.Window{Start: sel.Window.Start.Ceil(d.Size), End: sel.Window.End.Floor(d.Size)}
		l := s.lines.named(c.Scope.Credential)
		var kept bucket.Time // by Cloudflare, from then on; a backfill brings windows from before the claim's
		if keeps := c.Limits.NotOlderThan; keeps > 0 {
			kept = now.Add(-keeps).Ceil(d.Size).Add(d.Size)
		}
		for _, span := range s.books.coverage.View(c, now).Final(asked) {
			for start := span.Start; start < span.End; start = start.Add(d.Size) {
				w := &restateWindow{RestatedWindow: RestatedWindow{
					Key: bucket.Key{Dataset: d.Dataset, Scope: c.Scope.Scope, Start: start}, End: start.Add(d.Size), Name: s.books.nameOf(c.Scope.Scope),
				}}
				if r.windows[w.Key], r.order = w, append(r.order, w); len(r.order) > MaxRestate {
					return refuse(Refused, "the selection has more than %d final windows: select less", MaxRestate)
				}
				switch {
				case d.State:
					w.fail("the dataset is a state, which Cloudflare does not keep")
				case c.Variant == nil:
					w.fail("it may not be requested: %s", c.Refused)
				case l == nil:
					w.fail("its credential %q is not configured any more", c.Scope.Credential)
				case start < kept:
					w.fail("Cloudflare keeps the dataset for %s and no longer has it", bucket.SizeName(c.Limits.NotOlderThan))
				case s.faults.isOff(d.Dataset):
					w.fail("the dataset is disabled, since Cloudflare does not know a field of it")
				default:
					rechecks = append(rechecks, plan.Recheck{
						Want:   plan.Want{Dataset: d, Variant: c.Variant, Scope: c.Scope.Scope, Group: l.group, Limits: c.Limits},
						Window: bucket.Window{Start: start, End: beyond(w.End, d.Size, now)},
					})
				}
			}
		}
	}
	if len(r.order) == 0 {
		return refuse(Refused, "nothing of the selection is final")
	}
	slices.SortFunc(r.order, func(a, b *restateWindow) int { return a.Compare(b.Key) })
	if err := s.readInForce(ctx, r); err != nil {
		return err
	}
	slices.SortStableFunc(rechecks, func(a, b plan.Recheck) int {
		return bucket.Key{Dataset: a.Want.Dataset.Dataset, Start: a.Window.Start, Scope: a.Want.Scope}.
			Compare(bucket.Key{Dataset: b.Want.Dataset.Dataset, Start: b.Window.Start, Scope: b.Want.Scope})
	})
	r.left = plan.Rechecks(rechecks, plan.DefaultCeilings)
	return nil
}

// readInForce reads what is stored of the windows, and the newest restatements.
func (s *state) readInForce(ctx context.Context, r *restating) error {
	q := store.ListQuery{Window: bucket.Window{Start: r.order[0].Start, End: r.order[0].End}}
	for _, w := range r.order {
		q.Window.Start, q.Window.End = min(q.Window.Start, w.Start), max(q.Window.End, w.End)
		if !slices.Contains(q.Datasets, w.Dataset) {
			q.Datasets = append(q.Datasets, w.Dataset)
		}
		if !slices.Contains(q.Scopes, w.Scope) {
			q.Scopes = append(q.Scopes, w.Scope)
		}
	}
	for _, q.Restated = range []bool{false, true} {
		err := s.auditor.store.List(ctx, q, func(e store.Entry) error {
			w := r.windows[e.Key]
			if w == nil {
				return nil
			}
			if !q.Restated {
				w.stored = e
				w.stored.Payload = slices.Clone(e.Payload)
			}
			w.inForce, _ = unreadable.Bucket(&e) // nil: whatever is read replaces it
			return nil
		})
		if err != nil {
			return fmt.Errorf("read buckets: %w", err)
		}
	}
	for _, w := range r.order {
		if w.stored.Revision == 0 {
			w.fail("it is final, but not in the store any more")
		}
		w.Before = sums(w.inForce)
	}
	return nil
}

// restateNext sends the next request, unless it must wait for so long. A negative time is the
// pause after an attempt that failed.
func (s *state) restateNext(ctx context.Context, r *restating, attempt int) (wait time.Duration, err error) {
	if err := s.sameTerm(r); err != nil {
		return 0, err
	}
	next := r.left[0]
	l := s.books.lineOf(next.Scopes[0])
	if l == nil {
		s.restateFailed(r, "the credential is not configured any more")
		return 0, nil
	}
	if now := s.trusted.Second(); l.blocked > now {
		return min(l.blocked.Sub(now), time.Minute), nil
	}
	ok, wait, err := s.sender.permit(ctx, l, quota.Background)
	switch {
	case err != nil:
		return 0, fmt.Errorf("reserve permits: %w", err)
	case !ok:
		return max(wait, time.Second), nil
	}
	response, readAt, err := s.sender.send(ctx, next)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err == nil {
		r.left = r.left[1:]
		for i, sel := range next.Selections {
			for _, sc := range next.Scopes {
				if w := r.windows[bucket.Key{Dataset: sel.Dataset.Dataset, Scope: sc, Start: sel.Window.Start}]; w != nil && w.Outcome == 0 {
					s.compareAgain(r, w, sel, alias(i), response, readAt)
				}
			}
		}
		return 0, nil
	}
	return s.restateRefused(r, l, attempt, err), nil
}

// restateRefused handles a request that failed: it is sent again, or in halves, until what
// voids it stands alone and fails alone.
func (s *state) restateRefused(r *restating, l *line, attempt int, err error) (wait time.Duration) {
	next := r.left[0]
	var e *cloudflare.Error
	if !errors.As(err, &e) {
		e = &cloudflare.Error{Class: cloudflare.Transient, Message: err.Error()}
	}
	s.metrics.errors.WithLabelValues(e.Class.String()).Inc()
	whole := s.sender.refusedAsWhole(l, plan.Request{}, e) // which blocks the line
	passes := whole || e.Class == cloudflare.Transient || e.Class == cloudflare.BadResponse
	halves := halved(next)
	switch {
	case passes && attempt+1 < restateAttempts:
		return -restatePause
	case passes || halves == nil:
		s.restateFailed(r, e.Error())
	default:
		r.left = append(halves, r.left[1:]...)
	}
	return 0
}

// restateFailed gives up the next request.
func (s *state) restateFailed(r *restating, detail string) {
	next := r.left[0]
	r.left = r.left[1:]
	for _, sel := range next.Selections {
		for _, sc := range next.Scopes {
			if w := r.windows[bucket.Key{Dataset: sel.Dataset.Dataset, Scope: sc, Start: sel.Window.Start}]; w != nil && w.Outcome == 0 {
				w.fail("%s", detail)
			}
		}
	}
}

// halved splits a request by scopes, or by selections; nil if it has one of each.
func halved(r plan.Request) []plan.Request {
	first, second := r, r
	switch n, m := len(r.Scopes), len(r.Selections); {
	case n > 1:
		first.Scopes, second.Scopes = r.Scopes[:n/2], r.Scopes[n/2:]
	case m > 1:
		first.Selections, second.Selections = r.Selections[:m/2], r.Selections[m/2:]
	default:
		return nil
	}
	return []plan.Request{first, second}
}

// endRestate commits what differs, with the audit event.
func (s *state) endRestate(ctx context.Context, r *restating) (Restated, error) {
	if err := s.sameTerm(r); err != nil {
		return Restated{}, err
	}
	var out Restated
	var batch store.Batch
	var before, after strings.Builder
	count, size := map[Outcome]int{}, 0
	for _, w := range r.order {
		if w.Outcome == 0 {
			w.fail("the response lacks it")
		}
		out.Windows = append(out.Windows, w.RestatedWindow)
		count[w.Outcome]++
		if w.Outcome == OutcomeRestated {
			batch.Entries = append(batch.Entries, w.entry)
			size += len(w.entry.Payload)
			describe(&before, w, w.Before)
			describe(&after, w, w.After)
		}
	}
	if r.DryRun {
		return out, nil
	}
	event := r.event(bucketv1.AuditEvent_ACTION_RESTATED, r.Asked)
	if size > maxRestateBytes {
		return Restated{}, s.writer.refused(ctx, event, refuse(Refused, "what differs has %d bytes; at most %d can be restated at once: select less", size, maxRestateBytes))
	}
	event.Before = auditText(before.String())
	event.After = auditText(fmt.Sprintf("restated: %d windows; equal: %d; not read: %d\n%s", count[OutcomeRestated], count[OutcomeEqual], count[OutcomeFailed], after.String()))
	revision, err := s.writer.commitAudited(ctx, batch, event)
	if err != nil {
		return Restated{}, err
	}
	out.Revision = revision
	s.log.Info("final windows were read again on request", "restated", count[OutcomeRestated], "equal", count[OutcomeEqual], "not_read", count[OutcomeFailed],
		"requester", r.Requester, "reason", r.Reason, "revision", revision)
	return out, nil
}

// describe appends one window to the text of an event.
func describe(b *strings.Builder, w *restateWindow, sums map[string]float64) {
	if b.Len() > wire.MaxAuditText {
		return // it is cut
	}
	fmt.Fprintf(b, "%s %s %s:", w.Dataset, w.Name, bucket.Window{Start: w.Start, End: w.End})
	for _, family := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(b, " %s %g", family, sums[family])
	}
	if len(sums) == 0 {
		b.WriteString(" not known")
	}
	b.WriteByte('\n')
}
