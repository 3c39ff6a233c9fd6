package feedtest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// Scripted is a BucketService server with its log in memory that does what a
// test tells it to. Without a script it is a correct server. Methods are safe
// for concurrent use.
type Scripted struct {
	bucketv1.UnimplementedBucketServiceServer

	// Heartbeat is how often progress is repeated on a quiet stream; set it
	// before the first call. Zero means 2 s.
	Heartbeat time.Duration

	dial func(context.Context) (net.Conn, error) // set by Serve

	mu       sync.Mutex
	storeID  string
	log      []logged
	floor    bucket.Revision
	progress time.Time
	era      int // raised when the history is replaced
	draining bool
	script   []Step
	requests []*bucketv1.WatchBucketsRequest
	conns    map[net.Conn]bool
	changed  chan struct{} // closed and replaced at every change
}

// logged is one entry of the log.
type logged struct {
	at      bucket.Position
	kind    bucket.Kind
	entry   *bucketv1.Entry // without content where that cannot be read
	key     bucket.Key      // as far as the kind has one
	end     bucket.Time     // of its window
	dropped bool            // by Retire
}

// NewScripted returns a server with an empty store of this id.
func NewScripted(storeID string) *Scripted {
	return &Scripted{storeID: storeID, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
}

// Serve runs the server in memory until the test ends and returns a connection
// to it.
func (s *Scripted) Serve(t testing.TB) *grpc.ClientConn {
	memory := bufconn.Listen(1 << 16)
	s.dial = memory.DialContext
	l := &listener{Listener: memory, s: s}
	server := grpc.NewServer()
	bucketv1.RegisterBucketServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Stop
	}()
	conn, err := grpc.NewClient("passthrough:///scripted",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.dial(ctx) }))
	if err != nil {
		t.Fatalf("connect to the scripted server: %v", err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-done
	})
	return conn
}

// Subject makes the server one that [Run] can examine.
func (s *Scripted) Subject(t testing.TB) Subject {
	return Subject{
		Conn:     s.Serve(t),
		Append:   func(_ testing.TB, at time.Time, entries ...Entry) { s.Append(at, entries...) },
		Progress: func(_ testing.TB, at time.Time) { s.SetProgress(at) },
		Backup: func(testing.TB) func(testing.TB) {
			restore := s.Backup()
			return func(testing.TB) { restore() }
		},
		Retire: func(_ testing.TB, before bucket.Time) { s.Retire(before) },
		Drain:  func(testing.TB) { s.Drain() },
	}
}

// Arena makes the server one that [Walk] can walk with.
func (s *Scripted) Arena(t testing.TB) Arena {
	subject := s.Subject(t)
	return Arena{
		StoreID: s.storeID, Append: subject.Append, Progress: subject.Progress, Backup: subject.Backup, Retire: subject.Retire,
		Processes: []Process{{Dial: s.dial, Restart: func(testing.TB) { s.DropConnections() }}},
	}
}

// change alters the state and wakes all streams.
func (s *Scripted) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Append commits entries and returns the new head.
func (s *Scripted) Append(committedAt time.Time, entries ...Entry) bucket.Position {
	var head bucket.Position
	s.change(func() {
		for i := range entries {
			e := entries[i].Encode()
			h := s.head()
			at := bucket.Position{Revision: h.Revision + 1, Chain: h.Chain.Next(e.Kind, committedAt, e.Payload)}
			l := logged{at: at, kind: e.Kind, entry: entries[i].message(at.Revision, committedAt), key: e.Key, end: e.End}
			l.entry.Chain = at.Chain[:]
			s.log = append(s.log, l)
		}
		head = s.head()
	})
	return head
}

// SetProgress makes the leader say that it lived at this time.
func (s *Scripted) SetProgress(at time.Time) { s.change(func() { s.progress = at }) }

// Head is the newest position.
func (s *Scripted) Head() bucket.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head()
}

// Backup remembers the log; the returned function brings it back and ends all
// streams, as after a restore.
func (s *Scripted) Backup() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, floor, progress := slices.Clone(s.log), s.floor, s.progress
	return func() {
		s.change(func() {
			s.log, s.floor, s.progress = slices.Clone(log), floor, progress
			s.era++
		})
	}
}

// Retire drops buckets whose window ends at or before the border.
func (s *Scripted) Retire(before bucket.Time) {
	s.change(func() {
		for i := range s.log {
			if l := &s.log[i]; l.kind == bucket.KindBucket && l.end <= before {
				l.dropped = true
				s.floor = max(s.floor, l.at.Revision)
			}
		}
	})
}

// Drain ends all streams and refuses new ones.
func (s *Scripted) Drain() { s.change(func() { s.draining = true }) }

// Requests returns the watch requests so far.
func (s *Scripted) Requests() []*bucketv1.WatchBucketsRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// DropConnections closes every connection without a word.
func (s *Scripted) DropConnections() {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

func (s *Scripted) head() bucket.Position {
	if len(s.log) == 0 {
		return bucket.Position{}
	}
	return s.log[len(s.log)-1].at
}

// info must be called with the lock held.
func (s *Scripted) info() *bucketv1.StoreInfo {
	return &bucketv1.StoreInfo{StoreId: s.storeID, SampleTimestamp: bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END}
}

// listener notes connections, so that they can be dropped.
type listener struct {
	net.Listener
	s *Scripted
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	noted := &conn{Conn: c, s: l.s}
	l.s.conns[noted] = true
	return noted, nil
}

type conn struct {
	net.Conn
	s *Scripted
}

func (c *conn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// errScript marks the end that a step asked for.
var errScript = errors.New("end of the step")
