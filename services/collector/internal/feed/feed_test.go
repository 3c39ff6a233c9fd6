package feed_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Everything old from the store's pages, everything new from the ring, once.
func TestCursorCatchesUpFromTheStore(t *testing.T) {
	inBubble(t, feed.Config{Page: 3}, func(s *source) { s.add(10) }, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		b.src.add(5) // the feed learns of these in a second
		wantRevisions(b.T, b.until(c, 15), upTo(1, 15))
		before := b.src.reads
		b.src.add(2)
		wantRevisions(b.T, b.until(c, 17), upTo(16, 17))
		// One read, the feed's own: a live cursor costs the store nothing.
		if got := b.src.reads - before; got != 1 {
			b.Errorf("two new entries took %d reads of the store; want 1", got)
		}
	})
}

func TestEntriesAreEncodedOnceForAllStreams(t *testing.T) {
	inBubble(t, feed.Config{}, nil, func(b *bench) {
		const streams, entries = 20, 50
		cursors := make([]*feed.Cursor, streams)
		for i := range cursors {
			cursors[i] = b.open(bucket.Position{}, store.Filter{})
			b.until(cursors[i], 0)
		}
		b.src.add(entries)
		time.Sleep(2 * time.Second)
		var first feed.Batch
		for i, c := range cursors {
			batch, err := c.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if len(batch.Entries) != entries {
				b.Fatalf("stream %d got %d entries; want %d", i, len(batch.Entries), entries)
			}
			if i == 0 {
				first = batch
			}
			for j := range batch.Entries {
				if &batch.Entries[j][0] != &first.Entries[j][0] {
					b.Fatalf("stream %d has a frame of its own for entry %d", i, j)
				}
			}
		}
		if got := b.feed.Stats().Encoded; got != entries {
			b.Errorf("%d entries were encoded %d times", entries, got)
		}
	})
}

func TestFilterLeavesProgress(t *testing.T) {
	inBubble(t, feed.Config{Page: 4}, func(s *source) { s.add(9) }, func(b *bench) {
		odd := store.Filter{Scopes: []bucket.Scope{feedtest.Zone(0)}}
		c := b.open(bucket.Position{}, odd)
		wantRevisions(b.T, b.until(c, 9), []uint64{1, 3, 5, 7, 9})
		none := b.open(bucket.Position{}, store.Filter{Datasets: []string{"dns_5m"}})
		wantRevisions(b.T, b.until(none, 9), nil)
		b.src.add(1) // revision 10, of the other zone
		wantRevisions(b.T, b.until(c, 10), nil)
	})
}

// Wake makes the feed look at once; without it, it looks every Poll.
func TestWake(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Minute, Heartbeat: time.Hour}, nil, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		b.until(c, 0)
		start := time.Now()
		b.src.add(1)
		b.src.wake <- struct{}{}
		b.until(c, 1)
		if took := time.Since(start); took != 0 {
			b.Errorf("a woken feed took %s", took)
		}
		b.src.add(1)
		b.until(c, 2)
		if took := time.Since(start); took > time.Minute {
			b.Errorf("without a wake-up the feed took %s; want at most the poll interval", took)
		}
	})
}

// G4: the time of a progress message never precedes the data committed before
// it, however the reads of head and log fall between commits.
func TestProgressNeverPrecedesItsData(t *testing.T) {
	inBubble(t, feed.Config{Page: 2}, nil, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		// Between any two reads of the feed, the leader commits more and says so.
		rounds := 0
		more := func() {
			if rounds++; rounds <= 20 {
				b.src.add(1)
			}
		}
		b.src.onHead, b.src.onRead = more, more
		b.src.add(5)
		seen, deadline := uint64(0), time.Now().Add(time.Minute)
		for time.Now().Before(deadline) {
			for _, m := range b.next(c) {
				if m.entry != 0 {
					if m.entry != seen+1 {
						b.Fatalf("revision %d after %d", m.entry, seen)
					}
					seen = m.entry
					continue
				}
				if m.progress != seen {
					b.Fatalf("progress at %d after revision %d", m.progress, seen)
				}
				// Entry n is committed at T0 + n seconds, and so is the progress
				// that the leader reports with it.
				if covered := uint64(m.at.Sub(feedtest.T0) / time.Second); !m.at.IsZero() && covered > seen {
					b.Fatalf("progress time covers revision %d, but only %d was sent", covered, seen)
				}
			}
		}
		if seen != 25 {
			b.Fatalf("saw %d revisions; want 25", seen)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	inBubble(t, feed.Config{Heartbeat: 3 * time.Second}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.next(c)
		start := time.Now()
		const beats = 10
		for range beats {
			if m := b.next(c); len(m) != 1 || m[0].progress != 1 || m[0].at.IsZero() {
				b.Fatalf("a quiet stream carries %v; want progress at revision 1", m)
			}
		}
		if took := time.Since(start); took > beats*4*time.Second {
			b.Errorf("%d beats took %s; want one every 3 s or so", beats, took)
		}
	})
}

// A leader says up to which time the log is complete. Without one it is so up to a minute
// ago, as long as the store is read (G10).
func TestCompleteUntil(t *testing.T) {
	inBubble(t, feed.Config{Heartbeat: 2 * time.Second}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		last := func() message {
			var m message
			for range 3 { // what follows the change of the source
				for _, m = range b.next(c) {
				}
			}
			return m
		}
		said := time.Now().Add(-5 * time.Minute).Truncate(time.Second)
		b.src.set(func() { b.src.led, b.src.at = true, said })
		if m := last(); !m.at.Equal(said) || !m.complete.Equal(said) {
			b.Errorf("under a leader that is silent: %+v; want %s", m, said)
		}
		b.src.set(func() { b.src.led = false })
		if m := last(); !m.at.Equal(said) || m.complete.Before(time.Now().Add(-64*time.Second)) || m.complete.After(time.Now().Add(-time.Minute)) {
			b.Errorf("at %s, without a leader: %+v; want a minute ago", time.Now(), m)
		}
		b.src.set(func() { b.src.err = store.ErrUnavailable })
		fell := time.Now()
		if m := last(); m.complete.After(fell.Add(-time.Minute)) {
			b.Errorf("without the store, since %s: %+v", fell, m)
		}
		b.src.set(func() { b.src.err = nil; b.src.at = time.Now().Add(-time.Second) })
		if m := last(); !m.complete.Equal(m.at) {
			b.Errorf("a leader that has just left: %+v; want its own time", m)
		}
	})
}

// A filter that matches nothing in a long log must still say that it lives,
// and must not claim a time for data that it has not read.
func TestCatchingUpReportsWithoutATime(t *testing.T) {
	inBubble(t, feed.Config{Page: 1, Heartbeat: 2 * time.Second, Entries: 1}, func(s *source) { s.add(20) }, func(b *bench) {
		b.src.onRead = func() { time.Sleep(time.Second) } // a slow database
		c := b.open(bucket.Position{}, store.Filter{Datasets: []string{"dns_5m"}})
		start := time.Now()
		m := b.next(c)
		if took := time.Since(start); took > 3*time.Second {
			b.Errorf("the first sign of life took %s", took)
		}
		if len(m) != 1 || m[0].progress == 0 || m[0].progress >= 20 || !m[0].at.IsZero() {
			b.Errorf("got %v; want progress on the way, without a time", m)
		}
		b.until(c, 20)
	})
}

func TestSlowReaderFallsOffTheRing(t *testing.T) {
	inBubble(t, feed.Config{Entries: 8}, nil, func(b *bench) {
		slow, quick := b.open(bucket.Position{}, store.Filter{}), b.open(bucket.Position{}, store.Filter{})
		b.until(slow, 0)
		for range 5 {
			b.src.add(4)
			b.until(quick, uint64(b.src.head().Revision))
		}
		if s := b.feed.Stats(); s.Entries != 8 {
			b.Errorf("the ring holds %d entries; want its limit, 8", s.Entries)
		}
		reads := b.src.reads
		b.wantErr(slow, feed.ErrSlowReader)
		if b.src.reads != reads {
			b.Error("the slow reader read from the store")
		}
		// It comes back with what it has, and gets the rest from the store.
		again := b.open(bucket.Position{}, store.Filter{})
		wantRevisions(b.T, b.until(again, 20), upTo(1, 20))
	})
}

func TestRingIsBoundedInBytes(t *testing.T) {
	inBubble(t, feed.Config{Bytes: 1000}, nil, func(b *bench) {
		b.src.add(50)
		time.Sleep(2 * time.Second)
		if s := b.feed.Stats(); s.Bytes > 1000 || s.Entries == 0 {
			b.Errorf("the ring holds %d entries of %d bytes; want at most 1000 bytes", s.Entries, s.Bytes)
		}
	})
}
