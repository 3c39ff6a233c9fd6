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
	led     bool      // somebody holds the lease
	err     error     // of every call
	hang    bool      // calls never return by themselves
	reads   int       // ReadLog calls
	heads   int
	wake    chan struct{}
	onRead  func() // called before a page is read
	onHead  func() // called after the head was read, before it is returned
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
	s.heads++
	h := store.Head{Settings: store.Settings{StoreID: s.id}, Position: s.head(), ProgressAt: s.at, Floor: s.floor, Now: time.Now()}
	if s.led {
		h.ExpiresAt = h.Now.Add(time.Second)
	}
	s.mu.Unlock()
	if s.onHead != nil {
		s.onHead()
	}
	return h, nil
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
	if int(rev) > len(s.log) {
		return bucket.Chain{}, fmt.Errorf("chain of %d: %w", rev, store.ErrBeyondHead)
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
	said *testkit.Logs
}

func inBubble(t *testing.T, c feed.Config, prepare func(*source), run func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		if prepare != nil {
			prepare(src)
		}
		log, said := testkit.RecordingLogger(t)
		c.Source, c.Logger = src, log
		b := &bench{T: t, src: src, feed: feed.New(c), said: said}
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
	c, _, err := b.feed.Open(b.Context(), "store-a", at, feed.Filter{Filter: f})
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
	complete time.Time
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
		if t := m.GetProgress().GetCompleteUntil(); t != nil {
			p.complete = t.AsTime()
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
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	for range 100 {
		if _, err := c.Next(ctx); err != nil {
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
