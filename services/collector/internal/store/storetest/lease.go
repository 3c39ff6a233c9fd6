package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

func testNew(t *testing.T, d Driver) {
	s := open(t, d)
	h := mustHead(t, s)
	if h.StoreID == "" {
		t.Error("a new store has no id")
	}
	if h.Now.IsZero() {
		t.Error("the head does not say what time it is")
	}
	h.StoreID, h.Now = "", time.Time{}
	equal(t, "head of a new store", store.Head{Settings: Settings}, h)

	if other := mustHead(t, open(t, d)); other.StoreID == mustHead(t, s).StoreID {
		t.Error("two stores have one id")
	}
	if entries, err := s.ReadLog(t.Context(), 0, 10); len(entries) != 0 || err != nil {
		t.Errorf("log of a new store: %d entries, error %v", len(entries), err)
	}
	if _, entries := snapshot(t, s, store.SnapshotQuery{}); len(entries) != 0 {
		t.Errorf("snapshot of a new store has %d entries", len(entries))
	}
	if runs, err := s.Coverage(t.Context(), store.Filter{}, 0); len(runs) != 0 || err != nil {
		t.Errorf("coverage of a new store: %v, error %v", runs, err)
	}
	if size, err := s.Size(t.Context()); size <= 0 || err != nil {
		t.Errorf("size of a new store: %d bytes, error %v", size, err)
	}
}

func testSettings(t *testing.T, d Driver) {
	opener := d.Create(t)
	try := func(settings store.Settings) (store.Settings, error) {
		s, err := opener(settings)
		if err != nil {
			return store.Settings{}, err
		}
		defer s.Close()
		return mustHead(t, s).Settings, nil
	}
	if _, err := try(store.Settings{SampleTimestamp: "middle"}); err == nil {
		t.Error("a new store took sample timestamp \"middle\"")
	}
	if _, err := try(store.Settings{}); err == nil {
		t.Error("a new store was made without settings")
	}
	made, err := try(store.Settings{SampleTimestamp: "start", Simulated: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []store.Settings{{SampleTimestamp: "end", Simulated: true}, {SampleTimestamp: "start"}} {
		_, err := try(want)
		wantError(t, fmt.Sprintf("open with %+v", want), err, store.ErrSettings)
	}
	for _, want := range []store.Settings{{SampleTimestamp: "start", Simulated: true}, {SampleTimestamp: "start", AnySource: true}, {}} {
		got, err := try(want)
		if err != nil {
			t.Errorf("open with %+v: %v", want, err)
		}
		equal(t, "settings", made, got)
	}
}

func testAcquire(t *testing.T, d Driver) {
	s := open(t, d)
	first, err := s.Acquire(t.Context(), "a", long)
	if err != nil {
		t.Fatal(err)
	}
	h := mustHead(t, s)
	if first.Term == 0 || h.Term != first.Term || h.Holder != "a" {
		t.Errorf("after Acquire the head says term %d of %q, the lease term %d of a", h.Term, h.Holder, first.Term)
	}
	if left := h.ExpiresAt.Sub(h.Now); left < long-time.Minute || left > long {
		t.Errorf("a fresh lease of %s expires in %s", long, left)
	}
	equal(t, "position in the lease", h.Position, first.Head.Position)

	_, err = s.Acquire(t.Context(), "b", long)
	wantError(t, "acquire what another holds", err, store.ErrHeld)
	if held := (*store.HeldError)(nil); !errors.As(err, &held) || held.Holder != "a" || !held.Until.Equal(h.ExpiresAt) {
		t.Errorf("%q does not say who holds the lease, or until when", err)
	}
	// Of two processes that were given one name each is a holder of its own.
	if _, err := s.Acquire(t.Context(), store.Holder("a", "1"), long); !errors.Is(err, store.ErrHeld) {
		t.Errorf("acquire for another process of the same name: %v", err)
	}
	equal(t, "head after a refused Acquire", h.Term, mustHead(t, s).Term)

	// A process whose answer was lost need not wait for itself.
	again, err := s.Acquire(t.Context(), "a", long)
	if err != nil {
		t.Fatalf("acquire again for the same holder: %v", err)
	}
	if again.Term <= first.Term {
		t.Errorf("acquired again: term %d after %d", again.Term, first.Term)
	}
	wantError(t, "renew the earlier term of the same holder", s.Renew(t.Context(), first.Term, long, time.Time{}), store.ErrDeposed)

	for holder, ttl := range map[string]time.Duration{"": long, "c": 0} {
		if _, err := s.Acquire(t.Context(), holder, ttl); err == nil || errors.Is(err, store.ErrHeld) {
			t.Errorf("acquire for %q with ttl %s: %v", holder, ttl, err)
		}
	}
}

// expire waits until the database says that the lease is over.
func expire(t *testing.T, s store.Store) {
	t.Helper()
	for {
		h := mustHead(t, s)
		left := h.ExpiresAt.Sub(h.Now)
		if left <= 0 {
			return
		}
		if left > 10*time.Second {
			t.Fatalf("the lease lasts another %s", left)
		}
		time.Sleep(min(left, 5*time.Millisecond)) // the database's clock cannot be turned
	}
}

func testExpiry(t *testing.T, d Driver) {
	s := open(t, d)
	a, err := s.Acquire(t.Context(), "a", 40*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	expire(t, s)
	// Nobody took it: the holder may go on.
	if err := s.Renew(t.Context(), a.Term, 40*time.Millisecond, time.Time{}); err != nil {
		t.Fatalf("renew a lease that expired and that nobody took: %v", err)
	}
	expire(t, s)
	b, err := s.Acquire(t.Context(), "b", long)
	if err != nil {
		t.Fatalf("acquire an expired lease: %v", err)
	}
	if b.Term <= a.Term || b.Head.Holder != "b" {
		t.Errorf("stolen lease: term %d after %d, holder %q", b.Term, a.Term, b.Head.Holder)
	}
	wantError(t, "renew a stolen lease", s.Renew(t.Context(), a.Term, long, commitTime(9)), store.ErrDeposed)
	if h := mustHead(t, s); !h.ProgressAt.IsZero() || h.Holder != "b" {
		t.Errorf("a refused Renew left progress %s, holder %q", h.ProgressAt, h.Holder)
	}
}

func testRenew(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	renew := func(progress time.Time) time.Time {
		t.Helper()
		if err := s.Renew(t.Context(), l.term, 2*long, progress); err != nil {
			t.Fatal(err)
		}
		return mustHead(t, s).ProgressAt
	}
	h := mustHead(t, s)
	if got := renew(time.Time{}); !got.IsZero() {
		t.Errorf("progress is %s before the leader said so", got)
	}
	if after := mustHead(t, s); !after.ExpiresAt.After(h.ExpiresAt) {
		t.Errorf("renewed lease expires at %s, before at %s", after.ExpiresAt, h.ExpiresAt)
	}
	equal(t, "progress", commitTime(5), renew(commitTime(5)))
	equal(t, "progress after none was given", commitTime(5), renew(time.Time{}))
	equal(t, "progress after an earlier one was given", commitTime(5), renew(commitTime(4)))
	equal(t, "progress", commitTime(6), renew(commitTime(6).Add(300*time.Microsecond)))
	// What is too far ahead cannot be a leader's: it goes back.
	equal(t, "progress", commitTime(6).Add(store.MaxAhead), renew(commitTime(6).Add(store.MaxAhead)))
	equal(t, "progress after one an hour earlier", commitTime(6).Add(store.MaxAhead), renew(commitTime(6)))
	equal(t, "progress after one more than an hour earlier", commitTime(5), renew(commitTime(5)))
	if err := s.Renew(t.Context(), l.term, 0, time.Time{}); err == nil {
		t.Error("renewed for no time at all")
	}
}

func testRelease(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	l.append(five(1, 0))
	if err := s.Release(t.Context(), l.term); err != nil {
		t.Fatal(err)
	}
	if h := mustHead(t, s); h.Holder != "a" {
		t.Errorf("last holder is %q, want a", h.Holder)
	}
	// A call that was under way when the lease was released must not be the one
	// that writes after the next leader has begun.
	_, err := s.Append(t.Context(), l.term, l.at, l.batch(five(1, 1)))
	wantError(t, "append after release", err, store.ErrDeposed)
	wantError(t, "renew after release", s.Renew(t.Context(), l.term, long, time.Time{}), store.ErrDeposed)

	b, err := s.Acquire(t.Context(), "b", long)
	if err != nil {
		t.Fatalf("acquire a released lease: %v", err)
	}
	if err := s.Release(t.Context(), l.term); err != nil {
		t.Errorf("release a second time: %v", err)
	}
	if err := s.Renew(t.Context(), b.Term, long, time.Time{}); err != nil {
		t.Errorf("a late Release of an old term ended the new one: %v", err)
	}
}

// testContended: of many that want a free lease exactly one gets it.
func testContended(t *testing.T, d Driver) {
	opener := d.Create(t)
	stores := []store.Store{reopen(t, opener)}
	if d.Shared {
		stores = append(stores, reopen(t, opener))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []store.Term
	for i := range 8 {
		wg.Go(func() {
			lease, err := stores[i%len(stores)].Acquire(t.Context(), fmt.Sprint("holder ", i), long)
			if err != nil {
				wantError(t, "acquire", err, store.ErrHeld)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			won = append(won, lease.Term)
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of 8 got the lease, with terms %v", len(won), won)
	}
	if h := mustHead(t, stores[0]); h.Term != won[0] || h.Position != (bucket.Position{}) {
		t.Errorf("head has term %d at %v, the winner has %d", h.Term, h.Position, won[0])
	}
}

// testImpossible: whatever stands in the row of the lease, somebody can lead.
func testImpossible(t *testing.T, d Driver) {
	if d.Alter == nil {
		t.Skip("asked of the same driver elsewhere")
	}
	opener, alter, far := d.Alter(t)
	s := reopen(t, opener)
	deposed := lead(t, s, "a")
	terms := map[store.Term]bool{deposed.term: true}
	for i, row := range []string{
		"term = 9223372036854775807", "term = 9223372036854775806", "term = -1", "term = -9223372036854775807",
		"expires_at = " + far, "term = 9223372036854775807, holder = 'x', expires_at = " + far,
		"committed_at = " + far, "progress_at = " + far,
	} {
		alter("UPDATE log SET " + row)
		mustHead(t, s)
		lease, err := s.Acquire(t.Context(), "b", long)
		if i < 4 { // a has it, and its lease is a lease
			wantError(t, "acquire with "+row, err, store.ErrHeld)
			lease, err = s.Acquire(t.Context(), "a", long)
		}
		if err != nil {
			t.Fatalf("acquire with %s: %v", row, err)
		}
		if terms[lease.Term] || lease.Term > store.MaxTerm {
			t.Errorf("with %s the lease has term %d", row, lease.Term)
		}
		terms[lease.Term] = true
		wantError(t, "append by who led before", func() error {
			_, err := s.Append(t.Context(), deposed.term, deposed.at, deposed.batch(five(1, i)))
			return err
		}(), store.ErrDeposed)
		at, err := s.Append(t.Context(), lease.Term, deposed.at, deposed.batch(five(1, i)))
		if err != nil {
			t.Fatalf("append with %s: %v", row, err)
		}
		deposed.at = at
		if err := s.Renew(t.Context(), lease.Term, long, commitTime(i)); err != nil {
			t.Errorf("renew with %s: %v", row, err)
		}
	}
	for term := range terms { // of the last leader too
		if err := s.Release(t.Context(), term); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	if _, err := s.Acquire(t.Context(), "c", long); err != nil {
		t.Errorf("acquire what was released: %v", err)
	}
	if _, err := s.Acquire(t.Context(), "c", 2*store.MaxLease); err == nil {
		t.Error("a lease may be longer than the longest")
	}
}
