package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// housekeeping does the work that is not about windows: who there is, what
// they may be asked, and what is too old to keep.
func (s *state) housekeeping(ctx context.Context, now bucket.Time) error {
	for _, l := range s.lines {
		if l.blocked, l.unlisted = 0, false; now < l.outage.Next {
			l.blocked = l.outage.Next
		}
	}
	moved, err := s.discover(ctx, now)
	if err != nil {
		return err
	}
	for _, sc := range moved {
		s.forget(sc)
	}
	well := false
	for _, l := range s.lines {
		if l.blocked == 0 && !l.unlisted {
			if err := s.entitle(ctx, now, l); err != nil {
				return err
			}
		}
		well = well || l.blocked == 0 && !l.unlisted
	}
	if !well {
		return nil
	}
	return s.retireInTime(ctx, now)
}

// forget drops what was held against a scope, and heard of it, with a credential
// that it is not asked by any more.
func (s *state) forget(sc bucket.Scope) {
	for of := range s.tries {
		if of.Scope == sc {
			delete(s.tries, of)
		}
	}
	delete(s.unread, sc)
	delete(s.heard, sc)
}

// retireInTime drops what is too old to keep, once in a while.
func (s *state) retireInTime(ctx context.Context, now bucket.Time) error {
	if now >= s.retireAt {
		s.retireAt = now.Add(retireEvery)
		err := s.retire(ctx, now)
		switch {
		case err == nil:
			s.putOff = 0
			s.Writes.Works(writes.Retention)
		case store.NeedsRepair(err) && ctx.Err() == nil:
			s.Writes.Failed(writes.Retention, err) // no reason not to collect
		case errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil:
			// Most likely a snapshot is reading what would be dropped. If the
			// store is really away, the next append says so.
			if s.putOff == 0 {
				s.putOff = now
			}
			level := slog.LevelInfo
			if now.Sub(s.putOff) >= retireLate {
				level = slog.LevelWarn
			}
			s.often.Log(ctx, level, "", "retention is put off", "since", s.putOff.String(), "err", err)
		default:
			return err
		}
	}
	return nil
}

// upstreamFailed keeps what is known and tries again later; a store's error
// ends the term.
func (a *asker) upstreamFailed(ctx context.Context, l *line, level slog.Level, what string, err error) error {
	var e *cloudflare.Error
	if ctx.Err() != nil || !errors.As(err, &e) {
		return err
	}
	a.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
	a.often.Log(ctx, level, l.about(e.Class.String()+" "+e.Message), "cannot "+what+" at Cloudflare", "credential", l.Name, "class", e.Class.String(), "err", err, bodyOf(e))
	switch {
	case e.Class == cloudflare.Budget:
		l.Budget.Refused(e.RetryAfter)
		l.blocked = a.trusted.Second().Add(max(e.RetryAfter, 5*time.Minute))
	case e.Class == cloudflare.Auth || !a.owns(l): // otherwise known zones are still worth asking
		a.away(l, e, upstream.ReasonOf(e), tokenRefused)
	}
	return nil
}

// compareClocks asks Cloudflare for its time where its clock was last seen behind
// ours and no answer has come since. While it is, nothing falls due and nothing
// is asked, so that no answer would ever say that it is right again.
func (a *asker) compareClocks(ctx context.Context) {
	answered := a.answered
	a.answered = false
	if answered || a.trusted.Skew(trusted.Cloudflare) >= 0 {
		return
	}
	for _, l := range a.lines { // the first that gets an answer
		sent := a.Clock.Now()
		date, err := l.Client.Date(ctx)
		if err == nil {
			a.trusted.Observe(trusted.Cloudflare, sent, a.Clock.Now(), date, time.Second)
			return
		}
		a.often.Warn("", "cannot compare clocks with Cloudflare, which was behind", "credential", l.Name, "err", err)
	}
}

// save writes scopes' records, those first that have ended: should the term end
// half-way, no name belongs to two.
func (w *writer) save(ctx context.Context, contents *roster.Contents, scopes []*roster.Scope) error {
	slices.SortStableFunc(scopes, func(a, b *roster.Scope) int { return boolOrder(b.End != 0, a.End != 0) })
	for part := range slices.Chunk(scopes, most) {
		if err := w.commit(ctx, store.Batch{Records: contents.Records(part...)}); err != nil {
			return err
		}
	}
	return nil
}

// retire drops what is older than the retention.
func (s *state) retire(ctx context.Context, now bucket.Time) error {
	before := now.Add(-s.Retention)
	if mark := max(before, s.retired); mark > s.retired || s.damaged.retired {
		// Written down first, so that a longer retention, set later, does not want
		// back what is dropped now.
		if err := s.commit(ctx, store.Batch{Records: append(s.Unreadable.Retire(before), ledger.RetiredRecord(mark))}); err != nil {
			return err
		}
		s.retired = mark
		if s.damaged.retired {
			s.damaged.retired = false
			s.Unreadable.Records(ledger.KindRetired, nil)
		}
	}
	border, err := s.Store.Retire(ctx, s.journal.Term(), before, now.Add(-resumable).Std())
	if err != nil {
		return fmt.Errorf("drop buckets before %s: %w", before, err)
	}
	if size, err := s.Store.Size(ctx); err == nil {
		s.Metrics.storeSize.Set(float64(size))
	}
	s.Logger.Debug("retention applied", "before", border.String())
	return nil
}
