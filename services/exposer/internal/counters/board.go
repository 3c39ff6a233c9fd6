package counters

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

const (
	// skew is how far the clocks of exposers may be apart.
	skew = 5 * time.Second
	// known is how long after its commit an entry is known to every exposer that serves a
	// page, by the clock of each.
	known = sample.Millis((counter.Announced + skew) / time.Millisecond)
	// settleAfter is how old a time is about which no page is rendered any more.
	settleAfter = 2 * time.Minute
	// held is how far the clock may be behind what is confirmed or a page has shown. Until it
	// has caught up, pages are of that time: Prometheus takes a counter that decreases for one
	// that began at zero, and adds all of it.
	held = counter.Announced
)

// Unavailable is why a page cannot be served.
type Unavailable struct {
	// Reason is the value of the metric label "reason".
	Reason string
	text   string
}

// Error says what is missing.
func (u Unavailable) Error() string { return u.text }

var (
	neverConnected = Unavailable{"disconnected", "no stream of counters from a collector has been opened yet"}
	catchingUp     = Unavailable{"catching_up", "the totals and the entries after them are being received"}
	noCounters     = Unavailable{"no_counters", "no collector has begun to count in this store yet; the first one that leads does"}
	unsupported    = Unavailable{"unsupported", "the collector does not know these counters; run collectors and exposers of one release"}
	changed        = Unavailable{"history_changed", "the history of the store has changed; totals are requested again"}
	restored       = Unavailable{"restored", "the store was restored, and counters would step back: run `collector counters restart` (see docs/operations.md)"}
)

// Board has what is served. It is safe for concurrent use.
type Board struct {
	clock clock.Clock
	ends  *Ends
	shown atomic.Int64 // the latest time of a page, in Unix nanoseconds

	mu      sync.RWMutex // guards the rest
	serving *history     // nil: none yet, or it has ended
	epoch   identity     // of what was served last
	until   time.Time    // all entries that were committed before have been counted
	way     least        // from a confirmed time to its arrival
	why     Unavailable  // the state of the stream; of no meaning while until is recent
}

// NewBoard returns a board that serves nothing yet, and the newest windows of ends.
func NewBoard(c clock.Clock, ends *Ends) *Board {
	return &Board{clock: c, ends: ends, why: neverConnected}
}

// explain notes the state of the stream. That the store was restored is said until it is
// no longer so.
func (b *Board) explain(why Unavailable) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why == restored && why == catchingUp {
		return
	}
	b.why = why
}

// replace serves another history, or none. In another epoch all counters begin at zero, so pages
// of the one before bound no page.
func (b *Board) replace(h *history, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h != nil && h.id != b.epoch {
		b.epoch = h.id
		b.shown.Store(0)
	}
	b.serving, b.until, b.why = h, until, catchingUp
}

// confirm notes that all entries committed before a time have been counted; zero: nothing
// more than before. The caller holds the lock.
func (b *Board) confirm(until time.Time) {
	if b.serving == nil {
		return
	}
	if until.After(b.until) { // another collector may confirm less
		b.until = until
		b.way.note(b.clock.Now(), b.clock.Now().Sub(until))
	}
	// Not by the clock alone: one that was ahead for a moment must not settle too much.
	b.serving.settle(earlier(b.clock.Now(), b.until).Add(-settleAfter))
	b.serving.prepare()
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// now is the time of a page: that of the clock, and not before what the collector, whose
// clock is checked, has confirmed, nor before what a page has shown. An [Unavailable] if the
// clock is too far behind that. The caller holds the lock.
func (b *Board) now() (time.Time, error) {
	now := b.clock.Now()
	t := now
	for _, least := range []time.Time{b.until, time.Unix(0, b.shown.Load())} {
		if least.After(t) {
			t = least
		}
	}
	if behind := t.Sub(now); behind > held {
		return t, Unavailable{"clock", fmt.Sprintf("the clock of this exposer went back or is slow: it is at %s, %s before what is counted or was shown; synchronise it",
			now.UTC().Format(time.RFC3339), behind.Truncate(time.Second))}
	}
	return t, nil
}

// note keeps the time of a page.
func (b *Board) note(t time.Time) {
	for {
		had := b.shown.Load()
		if had >= t.UnixNano() || b.shown.CompareAndSwap(had, t.UnixNano()) {
			return
		}
	}
}

// check returns an [Unavailable] if there is no page at a time. The caller holds the lock.
func (b *Board) check(t time.Time) error {
	switch {
	case b.serving == nil:
		return b.why
	case b.until.Before(t.Add(-counter.Announced)):
		u := Unavailable{"behind", fmt.Sprintf("entries are confirmed up to %s, which is %s ago; a page needs those of up to %s ago",
			b.until.UTC().Format(time.RFC3339), t.Sub(b.until).Truncate(time.Second), counter.Announced)}
		if b.why != catchingUp {
			u.text += ": " + b.why.text
		}
		return u
	case t.Before(b.serving.settled):
		return Unavailable{"clock", fmt.Sprintf("the time, %s, is before %s, up to which the totals are settled: the clock of this exposer is slow, or that of a collector was ahead",
			t.UTC().Format(time.RFC3339), b.serving.settled.UTC().Format(time.RFC3339))}
	}
	return nil
}

// State is what a board serves, for metrics.
type State struct {
	Err    error // why not
	Series int
	Lag    time.Duration // since the last confirmation
	Known  bool          // Series and Lag are known
	// Ahead is how far the clock is ahead of the leader's, and what the way of a confirmation
	// takes at least; nil: not known.
	Ahead *time.Duration
}

// State returns the present state.
func (b *Board) State() State {
	b.mu.RLock()
	defer b.mu.RUnlock()
	now, err := b.now()
	s := State{Err: cmp.Or(err, b.check(now))}
	if b.serving != nil {
		s.Known, s.Series, s.Lag = true, b.serving.series, now.Sub(b.until)
	}
	s.Ahead = b.way.of()
	return s
}

// least is the least of the durations of the last five to ten minutes.
type least struct {
	since time.Time         // of the second one
	last  [2]*time.Duration // of five minutes, and since
}

const leastOf = 5 * time.Minute

func (l *least) note(at time.Time, d time.Duration) {
	if at.Before(l.since) || at.Sub(l.since) >= leastOf {
		l.since, l.last[0], l.last[1] = at, l.last[1], nil
	}
	if l.last[1] == nil || d < *l.last[1] {
		l.last[1] = &d
	}
}

func (l *least) of() *time.Duration {
	if l.last[0] == nil || l.last[1] != nil && *l.last[1] < *l.last[0] {
		return l.last[1]
	}
	return l.last[0]
}

// Options are those of a page.
type Options struct {
	Format expo.Format
	// Created adds the start time of each counter, in OpenMetrics only.
	Created bool
	// Only selects the zones and accounts that are shown. The page has the lines of the page of
	// all that are about these, and those that are about no zone or account.
	Only selection.Selection
}

// Page is the answer to a request.
type Page struct {
	Body         []byte
	Store, Epoch string
	Age          time.Duration // since the last confirmation
	// Owners are whose series there are, of a page that selects some.
	Owners []selection.Owner
}

// Page appends a page to dst. The error is an [Unavailable].
func (b *Board) Page(dst []byte, o Options) (Page, error) {
	return b.Read(o.Only, func(r Reading) []byte {
		if r.shows {
			if o.Only == selection.Everything { // what grew on the way would leave several pages of garbage
				dst = slices.Grow(dst, r.of.room)
			}
			for all := range r.of.fold.Named {
				dst = appendFamilies(dst, o, r.only, all, r.At)
			}
		}
		dst = appendGauge(dst, zoneInfo, "Always 1. The zone of each counter, with its id.")
		for i := range r.of.zones {
			if r.Has(r.of.zones[i].Owner) {
				dst = append(dst, r.of.zones[i].line...)
			}
		}
		dst = append(dst, r.of.facts...)
		dst = b.ends.append(dst, r.only, r.At.Std())
		dst = r.of.appendEpoch(dst)
		return expo.AppendEnd(dst, o.Format)
	})
}

// Reading is the counters at the time of a page.
type Reading struct {
	At sample.Millis

	of    *history
	only  selection.Match // what the page shows
	shows bool            // counters; before that, an exposer that is cut off may still show the epoch before
}

// Has reports whether the page shows what belongs to an owner.
func (r Reading) Has(o selection.Owner) bool { return r.only.Has(o) }

// Accounts calls yield once for the name of each account that has series, whether or not the page
// shows it, in any order.
func (r Reading) Accounts(yield func(name string) bool) {
	for name := range r.of.accounts {
		if !yield(name) {
			return
		}
	}
}

// Shown calls yield for the series of the families of a name that are shown, with the names of
// their own labels, in the order of these names and then of zone, account and values.
func (r Reading) Shown(name string, yield func(labels []string, s *counter.Series, v counter.Value)) {
	if !r.shows {
		return
	}
	for _, fam := range r.of.fold.Of(name) {
		for s, v := range shown(fam.Series(), r.only, r.At) {
			yield(fam.Labels, s, v)
		}
	}
}

// Read makes a page about a selection of what render returns, which may not use the reading afterwards. Every page
// is made by it, so that all have the same time and are refused together. The error is an
// [Unavailable].
func (b *Board) Read(only selection.Selection, render func(Reading) (body []byte)) (Page, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	t, err := b.now()
	if err = cmp.Or(err, b.check(t)); err != nil {
		return Page{}, err
	}
	b.note(t)
	h, at := b.serving, sample.MillisOf(t)
	now := Reading{At: at, of: h, only: only.Match(), shows: at > sample.MillisOf(h.epoch.Began)+known}
	page := Page{Store: h.id.store, Epoch: h.id.epoch, Age: t.Sub(b.until)}
	if only != selection.Everything {
		page.Owners = slices.DeleteFunc(slices.Clone(h.owners), func(of selection.Owner) bool { return !now.Has(of) })
	}
	page.Body = render(now)
	return page, nil
}

// appendFamilies appends the counters of the families of one name that match has, and those of
// what came late if anything did.
func appendFamilies(dst []byte, o Options, match selection.Match, all []*counter.Family, t sample.Millis) []byte {
	if !slices.ContainsFunc(all, func(fam *counter.Family) bool { return len(fam.Series()) > 0 }) {
		return dst
	}
	o.Created = o.Created && o.Format == expo.OpenMetrics
	of, before := all[0], len(dst)
	name, late := strings.TrimSuffix(of.Name, expo.CounterSuffix), false
	dst = expo.AppendCounterHeader(dst, o.Format, name, of.Help+" Sum of the buckets, as it was weir_counter_delay_seconds ago.", of.Unit)
	total, created, header := name+expo.CounterSuffix, name+"_created", len(dst)
	for s, v := range shownOf(all, match, t) {
		late = late || v.HasLate
		dst = appendCounter(dst, total, s, v.Live)
		if o.Created {
			dst = appendCreated(dst, created, s, v)
		}
	}
	if o.Only != selection.Everything && len(dst) == header {
		return dst[:before] // a family of others
	}
	if !late {
		return dst
	}
	name += "_late"
	dst = expo.AppendCounterHeader(dst, o.Format, name, of.Help+" Sum of the buckets that were stored too late for the other counter.", of.Unit)
	total, created = name+expo.CounterSuffix, name+"_created"
	for s, v := range shownOf(all, match, t) {
		if !v.HasLate {
			continue
		}
		dst = appendCounter(dst, total, s, v.Late)
		if o.Created {
			dst = appendCreated(dst, created, s, v)
		}
	}
	return dst
}

// shownOf yields the series of the families of one name that match has.
func shownOf(all []*counter.Family, match selection.Match, t sample.Millis) iter.Seq2[*counter.Series, counter.Value] {
	return func(yield func(*counter.Series, counter.Value) bool) {
		for _, fam := range all {
			for s, v := range shown(fam.Series(), match, t) {
				if !yield(s, v) {
					return
				}
			}
		}
	}
}

// shown yields the series that match has and that are shown at a time. Of two zones that have
// had the same name, and so series with the same labels, the later one is shown, from when
// every exposer knows of it, whichever of them match has.
func shown(all []*counter.Series, match selection.Match, t sample.Millis) iter.Seq2[*counter.Series, counter.Value] {
	return func(yield func(*counter.Series, counter.Value) bool) {
		for i := 0; i < len(all); {
			s := all[i]
			alone := i+1 == len(all) || !alike(all[i+1], s)
			if alone && !match.Has(ownerOf(s)) { // before its value, which is most of the work
				i++
				continue
			}
			v, is := s.At(t)
			for i++; i < len(all) && alike(all[i], s); i++ {
				other, also := all[i].At(t)
				if !also {
					continue
				}
				first, then := v.Began, other.Began
				if !is || first < then && t >= then+known || then < first && t < first+known {
					s, v, is = all[i], other, true
				}
			}
			if is && match.Has(ownerOf(s)) && !yield(s, v) {
				return
			}
		}
	}
}

// alike reports whether two series have the same labels on a page.
func alike(a, b *counter.Series) bool {
	return (a.Owner == b.Owner || bytes.Equal(a.Owner.Text, b.Owner.Text)) && (a.Own == b.Own || bytes.Equal(a.Own.Text, b.Own.Text))
}

// appendLabels appends the labels of a series, in braces, and a space. A series without
// any is a space.
func appendLabels(dst []byte, s *counter.Series) []byte {
	dst = append(append(dst, s.Owner.Text...), s.Own.Text...)
	switch last := len(dst) - 1; dst[last] {
	case ',':
		dst[last] = '}'
	case '{':
		dst = dst[:last]
	}
	return append(dst, ' ')
}

func appendCounter(dst []byte, name string, s *counter.Series, v float64) []byte {
	dst = appendLabels(append(dst, name...), s)
	return append(expo.AppendValue(dst, v), '\n')
}

func appendCreated(dst []byte, name string, s *counter.Series, v counter.Value) []byte {
	dst = appendLabels(append(dst, name...), s)
	return append(expo.AppendSeconds(dst, v.Began), '\n')
}
