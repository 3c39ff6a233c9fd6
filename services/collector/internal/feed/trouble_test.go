package feed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

func TestHistoryChanges(t *testing.T) {
	changes := map[string]func(s *source){
		"the head is lower": func(s *source) { s.log = s.log[:5] },
		"the same head with another chain": func(s *source) {
			s.log = s.log[:9]
			s.mu.Unlock()
			s.add(1)
			s.mu.Lock()
		},
		"a higher head on another chain": func(s *source) {
			s.log = s.log[:5]
			s.mu.Unlock()
			s.add(20)
			s.mu.Lock()
		},
		"another store": func(s *source) { s.id = "store-b" },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, feed.Config{}, func(s *source) { s.add(5) }, func(b *bench) {
				b.src.add(5)
				c := b.open(bucket.Position{}, store.Filter{})
				b.until(c, 10)
				old := b.src.head()
				b.src.set(func() { change(b.src) })
				b.wantErr(c, feed.ErrHistoryChanged)

				// The feed goes on with the new history.
				if _, _, err := b.feed.Open(b.Context(), "store-a", old, feed.Filter{}); err == nil {
					b.Error("the old point was accepted")
				}
				b.src.set(func() { b.src.id = "store-a" })
				time.Sleep(5 * time.Second)
				head := b.src.head()
				fresh := b.open(head, store.Filter{})
				b.until(fresh, uint64(head.Revision))
				b.src.add(1)
				wantRevisions(b.T, b.until(fresh, uint64(head.Revision)+1), []uint64{uint64(head.Revision) + 1})
			})
		})
	}
}

// A store that does not answer is told by what it takes to mend it, seldom while it
// lasts, and not for each second in which it comes and goes.
func TestAwayIsToldByItsReason(t *testing.T) {
	for _, c := range []struct {
		err   error
		level string
	}{
		{store.ErrUnavailable, "WARN"},
		{store.ErrDenied, "ERROR"},
		{store.ErrSchema, "ERROR"},
		{store.ErrCorrupt, "ERROR"},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			inBubble(t, feed.Config{}, nil, func(b *bench) {
				b.src.set(func() { b.src.err = fmt.Errorf("read: %w", c.err) })
				time.Sleep(time.Hour)
				const message = " msg=\"store is unavailable, streams are waiting\""
				if n := b.said.Count("level=" + c.level + message); n < 3 || n > 7 {
					b.Errorf("%d lines at %s in an hour, want one and some that count", n, c.level)
				}
				b.src.set(func() { b.src.err = nil })
				time.Sleep(2 * time.Second)
				if b.said.Count("level=INFO msg=\"store is available again\"") != 1 {
					b.Error("the end is not told")
				}
				before := strings.Count(b.said.String(), "level=INFO") + strings.Count(b.said.String(), "level="+c.level)
				for range 600 {
					b.src.set(func() { b.src.err = c.err })
					time.Sleep(time.Second)
					b.src.set(func() { b.src.err = nil })
					time.Sleep(time.Second)
				}
				if n := strings.Count(b.said.String(), "level=INFO") + strings.Count(b.said.String(), "level="+c.level) - before; n > 5 {
					b.Errorf("a store that comes and goes 600 times is %d lines", n)
				}
			})
		})
	}
}

// Pages that were read before a restore do not join what comes after it.
func TestHistoryChangesWhileCatchingUp(t *testing.T) {
	inBubble(t, feed.Config{Page: 2}, func(s *source) { s.add(10) }, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		b.next(c) // revisions 1 and 2
		b.src.set(func() { b.src.log = nil })
		b.src.add(12)
		b.wantErr(c, feed.ErrHistoryChanged)
	})
}

// A page that was read before a restore goes beyond what the feed has read, and the restored
// head is the one that the feed knows: nothing that the feed sees has changed.
func TestHistoryChangesBeyondTheRing(t *testing.T) {
	inBubble(t, feed.Config{Page: 3, Poll: time.Hour, Heartbeat: time.Second}, func(s *source) { s.add(10) }, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		b.src.add(4)
		for range 4 {
			b.next(c) // up to revision 12
		}
		b.src.set(func() { b.src.log = b.src.log[:10] })
		b.wantErr(c, feed.ErrHistoryChanged)
	})
}

func TestOpenErrors(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour}, func(s *source) { s.add(10); s.floor = 3 }, func(b *bench) {
		at := func(r int) bucket.Position { return b.src.log[r-1].Position }
		wrong := at(7)
		wrong.Chain[0]++
		for name, c := range map[string]struct {
			id   string
			at   bucket.Position
			want error
		}{
			"another store":           {"store-b", at(7), feed.ErrOtherStore},
			"another chain":           {"store-a", wrong, feed.ErrHistoryChanged},
			"older than the floor":    {"store-a", at(2), store.ErrCompacted},
			"before the first, floor": {"store-a", bucket.Position{}, store.ErrCompacted},
			"beyond the head":         {"store-a", bucket.Position{Revision: 11}, feed.ErrFutureRevision},
		} {
			if _, _, err := b.feed.Open(b.Context(), c.id, c.at, feed.Filter{}); !errors.Is(err, c.want) {
				b.Errorf("%s: error is %v; want %v", name, err, c.want)
			}
		}
		b.open(at(3), store.Filter{}) // the floor itself is a good point
	})
}

// A point below the ring, which the store lost a moment ago: the feed has not
// looked yet, the store itself says so.
func TestOpenBehindARestoreThatNobodyHasSeen(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour}, func(s *source) { s.add(10) }, func(b *bench) {
		at := b.src.log[6].Position
		b.src.set(func() { b.src.log = b.src.log[:5] })
		if _, _, err := b.feed.Open(b.Context(), "store-a", at, feed.Filter{}); !errors.Is(err, feed.ErrFutureRevision) {
			b.Errorf("error is %v; want %v", err, feed.ErrFutureRevision)
		}
	})
}

// A point that another collector has already given out: the primary has it, this
// process is about to.
func TestOpenWaitsForThisProcess(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour}, func(s *source) { s.add(1) }, func(b *bench) {
		b.src.add(3)
		c := b.open(b.src.head(), store.Filter{})
		wantRevisions(b.T, b.until(c, 4), nil)
	})
}

func TestOpenSaysBehind(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour, Catchup: 3 * time.Second}, func(s *source) { s.add(1) }, func(b *bench) {
		b.src.add(3)
		head := b.src.head()
		b.src.onRead = func() { time.Sleep(4 * time.Second) }
		start := time.Now()
		_, _, err := b.feed.Open(b.Context(), "store-a", head, feed.Filter{})
		if !errors.Is(err, feed.ErrBehind) || time.Since(start) != 3*time.Second {
			b.Errorf("after %s the error is %v; want %v after 3 s", time.Since(start), err, feed.ErrBehind)
		}
	})
}

// A point that the store loses while this process is waited for, which was not there yet.
func TestOpenWhileTheStoreIsRestored(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour, Catchup: 3 * time.Second}, func(s *source) { s.add(1) }, func(b *bench) {
		b.src.add(3)
		at := b.src.head()
		b.src.onHead = func() { b.src.set(func() { b.src.log = b.src.log[:1] }) }
		if _, _, err := b.feed.Open(b.Context(), "store-a", at, feed.Filter{}); !errors.Is(err, feed.ErrFutureRevision) {
			b.Errorf("error is %v; want %v", err, feed.ErrFutureRevision)
		}
	})
}

// A short outage is waited out; a long one sends clients to another collector.
func TestStoreAway(t *testing.T) {
	inBubble(t, feed.Config{Away: 15 * time.Second}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.until(c, 1)
		away := fmt.Errorf("dial: %w", store.ErrUnavailable)
		b.src.set(func() { b.src.err = away })
		time.Sleep(10 * time.Second)
		b.src.set(func() { b.src.err = nil })
		b.src.add(1)
		wantRevisions(b.T, b.until(c, 2), []uint64{2})

		b.src.set(func() { b.src.err = away })
		start := time.Now()
		b.wantErr(c, store.ErrUnavailable)
		if took := time.Since(start); took < 14*time.Second || took > 18*time.Second {
			b.Errorf("the stream ended after %s; want 15 s or so", took)
		}
		heads := b.src.heads
		if _, _, err := b.feed.Open(b.Context(), "store-a", b.src.head(), feed.Filter{}); !errors.Is(err, store.ErrUnavailable) {
			b.Errorf("opening during the outage: %v", err)
		}
		if b.src.heads != heads {
			b.Error("a client's attempt during the outage reached for the store")
		}
		b.src.set(func() { b.src.err = nil })
		time.Sleep(2 * time.Second)
		b.open(b.src.head(), store.Filter{})
	})
}

// A database that accepts and never answers is away as well.
func TestStoreHangs(t *testing.T) {
	inBubble(t, feed.Config{}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.src.set(func() { b.src.hang = true })
		b.wantErr(c, store.ErrUnavailable)
	})
}

// Slept through its retention: what was not read is gone, and says so, also if it is dropped
// between the reading of the head and that of the log.
func TestFeedFallsBehindTheFloor(t *testing.T) {
	for name, after := range map[string]bool{"before the head is read": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			drop := func(s *source) {
				s.set(func() {
					if len(s.log) > 12 {
						s.floor = 12
					}
				})
			}
			inBubble(t, feed.Config{}, func(s *source) {
				s.add(5)
				if after {
					s.onHead = func() { drop(s) }
				}
			}, func(b *bench) {
				c := b.open(b.src.head(), store.Filter{})
				at := b.src.head()
				b.until(c, 5)
				b.src.add(10)
				if !after {
					drop(b.src)
				}
				b.wantErr(c, store.ErrCompacted) // the reader was not slow
				if _, _, err := b.feed.Open(b.Context(), "store-a", at, feed.Filter{}); !errors.Is(err, store.ErrCompacted) {
					b.Errorf("resuming: %v; want %v", err, store.ErrCompacted)
				}
			})
		})
	}
}

// What retention dropped soon after it was committed has a place in the log still:
// who comes to it passes it, as an entry without content.
func TestFeedPassesWhatWasDropped(t *testing.T) {
	inBubble(t, feed.Config{}, func(s *source) { s.add(5) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.until(c, 5)
		b.src.set(func() { b.src.hang = true })
		time.Sleep(time.Second)
		b.src.add(10)
		b.src.set(func() {
			for _, i := range []int{2, 7, 8} {
				b.src.log[i].Kind, b.src.log[i].Payload = bucket.KindDropped, nil
			}
			b.src.hang = false
		})
		wantRevisions(b.T, b.until(c, 15), []uint64{6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
		wantRevisions(b.T, b.until(b.open(bucket.Position{}, store.Filter{}), 15), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	})
}

func TestStopEndsEveryCursor(t *testing.T) {
	inBubble(t, feed.Config{}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.stop()
		b.wantErr(c, feed.ErrStopped)
		if _, _, err := b.feed.Open(b.Context(), "store-a", b.src.head(), feed.Filter{}); !errors.Is(err, feed.ErrStopped) {
			b.Errorf("opening after the end: %v", err)
		}
	})
}

func TestNextHonoursItsContext(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.next(c)
		cause := errors.New("client left")
		ctx, cancel := context.WithCancelCause(b.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := c.Next(ctx); !errors.Is(err, cause) {
			b.Errorf("error is %v; want the context's cause", err)
		}
	})
}

// However many streams come back with old points at once, the store is read by
// a few at a time, and each gets everything.
func TestCursorsTakeTurns(t *testing.T) {
	inBubble(t, feed.Config{Page: 10, Readers: 3}, func(s *source) { s.add(40) }, func(b *bench) {
		reading, most := 0, 0
		var mu sync.Mutex
		b.src.onRead = func() {
			mu.Lock()
			reading++
			most = max(most, reading)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			reading--
			mu.Unlock()
		}
		const streams = 50
		got := make([][]uint64, streams)
		var all sync.WaitGroup
		for i := range streams {
			all.Go(func() { got[i] = b.until(b.open(bucket.Position{}, store.Filter{}), 40) })
		}
		all.Wait()
		for i := range got {
			wantRevisions(b.T, got[i], upTo(1, 40))
		}
		if most != 3 {
			b.Errorf("%d cursors read at once; want 3", most)
		}
	})
}

// A queue behind a store that hangs does not try one after the other.
func TestTheQueueEndsWhenTheStoreIsAway(t *testing.T) {
	inBubble(t, feed.Config{Readers: 1}, func(s *source) { s.add(40) }, func(b *bench) {
		b.src.set(func() { b.src.hang = true })
		began := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, _, err := b.feed.Open(b.Context(), "store-a", b.src.log[3].Position, feed.Filter{}); !errors.Is(err, store.ErrUnavailable) {
					b.Errorf("error is %v; want %v", err, store.ErrUnavailable)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > 30*time.Second {
			b.Errorf("100 streams were told after %s; want half a minute at most", took)
		}
	})
}
