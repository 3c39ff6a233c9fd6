package feed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"google.golang.org/protobuf/proto"
)

// source is a log in memory, as far as the feed looks at one. The whole feed
// runs on a real store in bucketsvc; here is what needs virtual time or a
// database that fails on request.
type source struct {
	mu      sync.Mutex
	id      string
	log     []store.Entry
	floor   bucket.Revision
	at      time.Time // progress
	err     error     // of every call
	hang    bool      // calls never return by themselves
	reads   int       // ReadLog calls
	heads   int
	wake    chan struct{}
	onRead  func() // called before a page is read
	shifted int    // commit time
}

func newSource() *source { return &source{id: "store-a", wake: make(chan struct{}, 1)} }

func (s *source) head() bucket.Position {
	if len(s.log) == 0 {
		return bucket.Position{}
	}
	return s.log[len(s.log)-1].Position
}

func (s *source) answer(ctx context.Context) error {
	s.mu.Lock()
	hang, err := s.hang, s.err
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (s *source) Head(ctx context.Context) (store.Head, error) {
	if err := s.answer(ctx); err != nil {
		return store.Head{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads++
	return store.Head{Settings: store.Settings{StoreID: s.id}, Position: s.head(), ProgressAt: s.at, Floor: s.floor}, nil
}

func (s *source) ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	if s.onRead != nil {
		s.onRead()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if after < s.floor {
		return nil, fmt.Errorf("read after %d: %w", after, store.ErrCompacted)
	}
	if int(after) >= len(s.log) {
		return nil, nil
	}
	return slices.Clone(s.log[after:min(len(s.log), int(after)+limit)]), nil
}

func (s *source) ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error) {
	if err := s.answer(ctx); err != nil {
		return bucket.Chain{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev < s.floor {
		return bucket.Chain{}, store.ErrCompacted
	}
	if rev == 0 {
		return bucket.Chain{}, nil
	}
	return s.log[rev-1].Chain, nil
}

func (s *source) Wake() <-chan struct{} { return s.wake }

// add appends n buckets of alternating zones and says that the leader is up to
// date, without waking anybody.
func (s *source) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		i := len(s.log)
		s.shifted++
		b := feedtest.Bucket("http_5m", feedtest.Zone(i%2), i)
		batch := store.Batch{
			CommittedAt: feedtest.T0.Add(time.Duration(s.shifted) * time.Second),
			Entries:     []store.NewEntry{{Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Payload: wire.EncodeBucket(b)}},
		}
		s.log = append(s.log, store.Entry{Position: batch.Positions(s.head())[0], CommittedAt: batch.CommittedAt, NewEntry: batch.Entries[0]})
		s.at = batch.CommittedAt
	}
}

// set changes the source under its lock.
func (s *source) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// bench is a feed on a source, in virtual time.
type bench struct {
	*testing.T
	src  *source
	feed *feed.Feed
	stop func()
}

func inBubble(t *testing.T, c feed.Config, prepare func(*source), run func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		if prepare != nil {
			prepare(src)
		}
		c.Source, c.Logger = src, testkit.Logger(t)
		b := &bench{T: t, src: src, feed: feed.New(c)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.feed.Run(ctx) }()
		b.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run returned %v; want nil", err)
			}
		})
		synctest.Wait()
		run(b)
		b.stop()
	})
}

func (b *bench) open(at bucket.Position, f store.Filter) *feed.Cursor {
	b.Helper()
	c, _, err := b.feed.Open(b.Context(), "store-a", at, f)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// message is what one frame says.
type message struct {
	entry    uint64 // revision; 0 for progress
	progress uint64
	at       time.Time
}

func (b *bench) next(c *feed.Cursor) []message {
	b.Helper()
	batch, err := c.Next(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return b.decode(batch)
}

func (b *bench) decode(batch feed.Batch) []message {
	b.Helper()
	var out []message
	frames := batch.Entries
	if batch.Progress != nil {
		frames = append(slices.Clone(frames), batch.Progress)
	}
	for _, f := range frames {
		var m bucketv1.WatchBucketsResponse
		if err := proto.Unmarshal(f, &m); err != nil {
			b.Fatal(err)
		}
		if e := m.GetEntry(); e != nil {
			out = append(out, message{entry: e.GetRevision()})
			continue
		}
		p := message{progress: m.GetProgress().GetPoint().GetRevision()}
		if t := m.GetProgress().GetProgressTime(); t != nil {
			p.at = t.AsTime()
		}
		out = append(out, p)
	}
	return out
}

// until reads batches until progress reaches the revision and returns the
// revisions of the entries.
func (b *bench) until(c *feed.Cursor, revision uint64) []uint64 {
	b.Helper()
	var got []uint64
	for {
		for _, m := range b.next(c) {
			if m.entry != 0 {
				got = append(got, m.entry)
			}
			if m.progress >= revision {
				return got
			}
		}
	}
}

func (b *bench) wantErr(c *feed.Cursor, want error) {
	b.Helper()
	for range 100 {
		if _, err := c.Next(b.Context()); err != nil {
			if !errors.Is(err, want) {
				b.Fatalf("error is %v; want %v", err, want)
			}
			return
		}
	}
	b.Fatalf("no error in 100 batches; want %v", want)
}

func upTo(first, last uint64) []uint64 {
	var out []uint64
	for r := first; r <= last; r++ {
		out = append(out, r)
	}
	return out
}

func wantRevisions(t *testing.T, got, want []uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("revisions are %v; want %v", got, want)
	}
}

// Everything old from the store's pages, everything new from the ring, once.
func TestCursorCatchesUpFromTheStore(t *testing.T) {
	inBubble(t, feed.Config{Page: 3}, func(s *source) { s.add(10) }, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		b.src.add(5) // the feed learns of these in a second
		wantRevisions(t, b.until(c, 15), upTo(1, 15))
		before := b.src.reads
		b.src.add(2)
		wantRevisions(t, b.until(c, 17), upTo(16, 17))
		// One read, the feed's own: a live cursor costs the store nothing.
		if got := b.src.reads - before; got != 1 {
			t.Errorf("two new entries took %d reads of the store; want 1", got)
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
			batch, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(batch.Entries) != entries {
				t.Fatalf("stream %d got %d entries; want %d", i, len(batch.Entries), entries)
			}
			if i == 0 {
				first = batch
			}
			for j := range batch.Entries {
				if &batch.Entries[j][0] != &first.Entries[j][0] {
					t.Fatalf("stream %d has a frame of its own for entry %d", i, j)
				}
			}
		}
		if got := b.feed.Stats().Encoded; got != entries {
			t.Errorf("%d entries were encoded %d times", entries, got)
		}
	})
}

func TestFilterLeavesProgress(t *testing.T) {
	inBubble(t, feed.Config{Page: 4}, func(s *source) { s.add(9) }, func(b *bench) {
		odd := store.Filter{Scopes: []bucket.Scope{feedtest.Zone(0)}}
		c := b.open(bucket.Position{}, odd)
		wantRevisions(t, b.until(c, 9), []uint64{1, 3, 5, 7, 9})
		none := b.open(bucket.Position{}, store.Filter{Datasets: []string{"dns_5m"}})
		wantRevisions(t, b.until(none, 9), nil)
		b.src.add(1) // revision 10, of the other zone
		wantRevisions(t, b.until(c, 10), nil)
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
			t.Errorf("a woken feed took %s", took)
		}
		b.src.add(1)
		b.until(c, 2)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("without a wake-up the feed took %s; want at most the poll interval", took)
		}
	})
}

// G4: the time of a progress message never precedes the data committed before
// it, however the reads of head and log fall between commits.
func TestProgressNeverPrecedesItsData(t *testing.T) {
	inBubble(t, feed.Config{Page: 2}, nil, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		// While the feed reads a page, the leader commits more and says so.
		rounds := 0
		b.src.onRead = func() {
			if rounds++; rounds <= 20 {
				b.src.add(1)
			}
		}
		b.src.add(5)
		seen, deadline := uint64(0), time.Now().Add(time.Minute)
		for time.Now().Before(deadline) {
			for _, m := range b.next(c) {
				if m.entry != 0 {
					if m.entry != seen+1 {
						t.Fatalf("revision %d after %d", m.entry, seen)
					}
					seen = m.entry
					continue
				}
				if m.progress != seen {
					t.Fatalf("progress at %d after revision %d", m.progress, seen)
				}
				// Entry n is committed at T0 + n seconds, and so is the progress
				// that the leader reports with it.
				if covered := uint64(m.at.Sub(feedtest.T0) / time.Second); !m.at.IsZero() && covered > seen {
					t.Fatalf("progress time covers revision %d, but only %d was sent", covered, seen)
				}
			}
		}
		if seen != 25 {
			t.Fatalf("saw %d revisions; want 25", seen)
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
				t.Fatalf("a quiet stream carries %v; want progress at revision 1", m)
			}
		}
		if took := time.Since(start); took > beats*4*time.Second {
			t.Errorf("%d beats took %s; want one every 3 s or so", beats, took)
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
			t.Errorf("the first sign of life took %s", took)
		}
		if len(m) != 1 || m[0].progress == 0 || m[0].progress >= 20 || !m[0].at.IsZero() {
			t.Errorf("got %v; want progress on the way, without a time", m)
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
			t.Errorf("the ring holds %d entries; want its limit, 8", s.Entries)
		}
		reads := b.src.reads
		b.wantErr(slow, feed.ErrSlowReader)
		if b.src.reads != reads {
			t.Error("the slow reader read from the store")
		}
		// It comes back with what it has, and gets the rest from the store.
		again := b.open(bucket.Position{}, store.Filter{})
		wantRevisions(t, b.until(again, 20), upTo(1, 20))
	})
}

func TestRingIsBoundedInBytes(t *testing.T) {
	inBubble(t, feed.Config{Bytes: 1000}, nil, func(b *bench) {
		b.src.add(50)
		time.Sleep(2 * time.Second)
		if s := b.feed.Stats(); s.Bytes > 1000 || s.Entries == 0 {
			t.Errorf("the ring holds %d entries of %d bytes; want at most 1000 bytes", s.Entries, s.Bytes)
		}
	})
}

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
				if _, _, err := b.feed.Open(t.Context(), "store-a", old, store.Filter{}); err == nil {
					t.Error("the old point was accepted")
				}
				b.src.set(func() { b.src.id = "store-a" })
				time.Sleep(5 * time.Second)
				head := b.src.head()
				fresh := b.open(head, store.Filter{})
				b.until(fresh, uint64(head.Revision))
				b.src.add(1)
				wantRevisions(t, b.until(fresh, uint64(head.Revision)+1), []uint64{uint64(head.Revision) + 1})
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
			if _, _, err := b.feed.Open(t.Context(), c.id, c.at, store.Filter{}); !errors.Is(err, c.want) {
				t.Errorf("%s: error is %v; want %v", name, err, c.want)
			}
		}
		b.open(at(3), store.Filter{}) // the floor itself is a good point
	})
}

// A point that another collector has already given out: the primary has it, this
// process is about to.
func TestOpenWaitsForThisProcess(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour}, func(s *source) { s.add(1) }, func(b *bench) {
		b.src.add(3)
		c := b.open(b.src.head(), store.Filter{})
		wantRevisions(t, b.until(c, 4), nil)
	})
}

func TestOpenSaysBehind(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour, Catchup: 3 * time.Second}, func(s *source) { s.add(1) }, func(b *bench) {
		b.src.add(3)
		head := b.src.head()
		b.src.onRead = func() { time.Sleep(4 * time.Second) }
		start := time.Now()
		_, _, err := b.feed.Open(t.Context(), "store-a", head, store.Filter{})
		if !errors.Is(err, feed.ErrBehind) || time.Since(start) != 3*time.Second {
			t.Errorf("after %s the error is %v; want %v after 3 s", time.Since(start), err, feed.ErrBehind)
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
		wantRevisions(t, b.until(c, 2), []uint64{2})

		b.src.set(func() { b.src.err = away })
		start := time.Now()
		b.wantErr(c, store.ErrUnavailable)
		if took := time.Since(start); took < 14*time.Second || took > 18*time.Second {
			t.Errorf("the stream ended after %s; want 15 s or so", took)
		}
		heads := b.src.heads
		if _, _, err := b.feed.Open(t.Context(), "store-a", b.src.head(), store.Filter{}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("opening during the outage: %v", err)
		}
		if b.src.heads != heads {
			t.Error("a client's attempt during the outage reached for the store")
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

// Slept through its retention: what was not read is gone, and says so.
func TestFeedFallsBehindTheFloor(t *testing.T) {
	inBubble(t, feed.Config{}, func(s *source) { s.add(5) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		at := b.src.head()
		b.until(c, 5)
		b.src.add(10)
		b.src.set(func() { b.src.floor = 12 })
		b.wantErr(c, feed.ErrSlowReader)
		if _, _, err := b.feed.Open(t.Context(), "store-a", at, store.Filter{}); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("resuming: %v; want %v", err, store.ErrCompacted)
		}
	})
}

func TestStopEndsEveryCursor(t *testing.T) {
	inBubble(t, feed.Config{}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.stop()
		b.wantErr(c, feed.ErrStopped)
		if _, _, err := b.feed.Open(t.Context(), "store-a", b.src.head(), store.Filter{}); !errors.Is(err, feed.ErrStopped) {
			t.Errorf("opening after the end: %v", err)
		}
	})
}

func TestNextHonoursItsContext(t *testing.T) {
	inBubble(t, feed.Config{Poll: time.Hour, Heartbeat: time.Hour}, func(s *source) { s.add(1) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.next(c)
		cause := errors.New("client left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := c.Next(ctx); !errors.Is(err, cause) {
			t.Errorf("error is %v; want the context's cause", err)
		}
	})
}
