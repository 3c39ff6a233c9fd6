package storetest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// truth is the log as it is written, for readers that look at it meanwhile. An
// entry is in it before it is in the store, so whatever a reader sees is there.
type truth struct {
	mu  sync.Mutex
	log []store.Entry
	// border of what was dropped, by the floor that dropping it led to.
	dropped map[bucket.Revision]bucket.Time
}

// append writes entries to the truth and then to the store.
func (m *truth) append(l *leader, entries ...store.NewEntry) {
	m.mu.Lock()
	m.log = append(m.log, expected(store.Batch{CommittedAt: commitTime(l.appends + 1), Entries: entries}, l.at)...)
	m.mu.Unlock()
	l.append(entries...)
}

// after is the log behind a revision, n entries of it.
func (m *truth) after(rev bucket.Revision, n int) []store.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log[rev:min(int(rev)+n, len(m.log))])
}

// stored is what a store holds whose head says h.
func (m *truth) stored(h store.Head) []store.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	border := m.dropped[h.Floor]
	return slices.DeleteFunc(slices.Clone(m.log[:h.Revision]), func(e store.Entry) bool {
		return e.Kind == bucket.KindBucket && e.End <= border
	})
}

// meanwhile runs readers, each again and again, until work has returned and each
// has had a whole turn that began after that. A reader's number is its seed.
func meanwhile(t *testing.T, work func(), readers ...func(r *rand.Rand) bool) {
	t.Helper()
	var ended atomic.Bool
	var wg sync.WaitGroup
	for i, read := range readers {
		r := rand.New(rand.NewPCG(uint64(i), 0))
		wg.Go(func() {
			for last := false; !last; {
				last = ended.Load()
				if !read(r) {
					return // it has said why
				}
			}
		})
	}
	defer wg.Wait() // also when work ends the test
	defer ended.Store(true)
	work()
}

// testReadersWhileAppending: whoever follows the log while it grows sees each
// entry once, in order, without a gap, whatever page it asks for; a head never
// goes back and has the chain of its revision; a snapshot is the log up to its
// head and nothing else (G4).
func testReadersWhileAppending(t *testing.T, d Driver) {
	opener := d.Create(t)
	s := reopen(t, opener)
	other := s
	if d.Shared {
		other = reopen(t, opener)
	}
	l := lead(t, s, "a")
	var m truth
	follower := func(s store.Store) func(*rand.Rand) bool {
		var at bucket.Revision
		return func(r *rand.Rand) bool {
			for {
				page, err := s.ReadLog(t.Context(), at, 1+r.IntN(20))
				if err != nil {
					t.Errorf("read the log after %d: %v", at, err)
					return false
				}
				if len(page) == 0 {
					return true
				}
				equal(t, "page of the log", m.after(at, len(page)), page)
				at = page[len(page)-1].Revision
			}
		}
	}
	var last bucket.Revision
	heads := func(*rand.Rand) bool {
		h := mustHeadOf(t, other)
		if h.Revision < last {
			t.Errorf("the head went from %d back to %d", last, h.Revision)
		}
		last = h.Revision
		if h.Revision > 0 {
			equal(t, "head", m.after(h.Revision-1, 1)[0].Position, h.Position)
		}
		return !t.Failed()
	}
	snapshots := func(*rand.Rand) bool {
		h, got, err := trySnapshot(t, other)
		if err != nil {
			t.Errorf("snapshot: %v", err)
			return false
		}
		equal(t, "snapshot", snapshotOf(m.stored(h), store.SnapshotQuery{}), got)
		return !t.Failed()
	}
	meanwhile(t, func() {
		r := rand.New(rand.NewPCG(99, 0))
		for n := 0; n < 200; {
			var entries []store.NewEntry
			for range 1 + r.IntN(4) {
				entries = append(entries, five(n%5, n/5))
				if n++; r.IntN(10) == 0 {
					entries = append(entries, version("http_5m", n))
				}
			}
			m.append(l, entries...)
		}
	}, follower(s), follower(other), follower(other), heads, snapshots)
}

// testReadersWhileRetiring: while retention drops month after month, a reader at
// any revision gets what follows it, whole, or is told that it is compacted; a
// chain is the right one; a snapshot has all that its own head says that it
// must; a list has nothing twice, nothing out of order and nothing altered.
// Nobody ever gets less without being told (G4, G8).
func testReadersWhileRetiring(t *testing.T, d Driver) {
	opener := d.Create(t)
	s := reopen(t, opener)
	other := s
	if d.Shared {
		other = reopen(t, opener)
	}
	l := lead(t, s, "a")
	m := truth{dropped: map[bucket.Revision]bucket.Time{}}
	month := func(n int) bucket.Time {
		return bucket.TimeOf(time.Date(2026, time.Month(11+n), 1, 0, 0, 0, 0, time.UTC))
	}
	in := func(z, n, k int) store.NewEntry { return five(z, int(month(n).Sub(origin)/(5*time.Minute))+k) }
	const months, each = 6, 4
	m.append(l, version("http_5m", 1))
	for n := range months {
		for k := range each {
			m.append(l, in(1, n, k), in(2, n, k))
		}
	}

	var compacted, snapshots atomic.Int64
	resume := func(*rand.Rand) bool {
		for rev := bucket.Revision(0); rev <= mustHeadOf(t, s).Revision; rev++ {
			page, err := other.ReadLog(t.Context(), rev, 1000)
			switch {
			case errors.Is(err, store.ErrCompacted):
				compacted.Add(1)
				if h := mustHeadOf(t, other); h.Floor <= rev {
					t.Errorf("revision %d is called compacted, the floor is %d", rev, h.Floor)
				}
			case err != nil:
				t.Errorf("read the log after %d: %v", rev, err)
				return false
			default:
				equal(t, "what follows a revision", m.after(rev, len(page)), page)
			}
			chain, err := other.ChainAt(t.Context(), rev)
			if rev > 0 && err == nil && chain != m.after(rev-1, 1)[0].Chain || err != nil && !errors.Is(err, store.ErrCompacted) {
				t.Errorf("chain at %d: %s, %v", rev, chain, err)
			}
			if t.Failed() {
				return false
			}
		}
		return true
	}
	look := func(*rand.Rand) bool {
		h, got, err := trySnapshot(t, other)
		switch {
		case errors.Is(err, store.ErrCompacted), errors.Is(err, store.ErrUnavailable): // told
		case err != nil:
			t.Errorf("snapshot: %v", err)
		default:
			snapshots.Add(1)
			equal(t, "snapshot", snapshotOf(m.stored(h), store.SnapshotQuery{}), got)
		}
		return !t.Failed()
	}
	all := bucket.Window{Start: origin, End: month(months + 1)}
	browse := func(*rand.Rand) bool {
		known := make(map[bucket.Key]store.Entry)
		var before *bucket.Key
		var got []store.Entry
		if err := other.List(t.Context(), store.ListQuery{Window: all}, func(e store.Entry) error {
			got = append(got, kept(e))
			return nil
		}); err != nil {
			t.Errorf("list: %v", err)
		}
		for _, e := range m.after(0, 1<<20) {
			known[e.Key] = e
		}
		for i := range got {
			equal(t, "listed bucket", known[got[i].Key], got[i])
			if before != nil && got[i].Key.Compare(*before) <= 0 {
				t.Errorf("%s is listed after %s", got[i].Key, before)
			}
			before = &got[i].Key
		}
		return !t.Failed()
	}
	meanwhile(t, func() {
		for n := range months - 1 {
			// What the floor will be: the last bucket of the month, wherever it is.
			var floor bucket.Revision
			for _, e := range m.after(0, 1<<20) {
				if e.Kind == bucket.KindBucket && e.End <= month(n+1) {
					floor = max(floor, e.Revision)
				}
			}
			m.mu.Lock()
			m.dropped[floor] = month(n + 1)
			m.mu.Unlock()
			for {
				_, err := s.Retire(t.Context(), l.term, month(n+1), commitTime(1<<20))
				if err == nil {
					break
				}
				if !errors.Is(err, store.ErrUnavailable) { // it waits for snapshots
					t.Errorf("retire: %v", err)
					return
				}
			}
			m.append(l, in(3, months-1, n))
			// Late, into a month that is there still: the floor will jump.
			m.append(l, in(4, n+1, 0))
		}
	}, resume, look, look, browse)
	if compacted.Load() == 0 || snapshots.Load() == 0 {
		t.Errorf("%d readers were told of compaction, %d snapshots were whole; want some of both", compacted.Load(), snapshots.Load())
	}
	if h := mustHeadOf(t, s); h.Floor == 0 || len(snapshotOf(m.stored(h), store.SnapshotQuery{})) >= months*each {
		t.Errorf("hardly anything was retired: the floor is %d", h.Floor)
	}
}

// mustHeadOf is mustHead for a goroutine of its own, which may not end the test.
func mustHeadOf(t *testing.T, s store.Store) store.Head {
	h, err := s.Head(t.Context())
	if err != nil {
		t.Errorf("head: %v", err)
	}
	return h
}

func trySnapshot(t *testing.T, s store.Store) (h store.Head, got []store.Entry, err error) {
	h, err = s.Snapshot(t.Context(), store.SnapshotQuery{}, func(e store.Entry) error {
		got = append(got, kept(e))
		return nil
	})
	return h, got, err
}
