package feedtest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weir-metrics/weir/client"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream is one WatchBuckets call of a walk, read until it ends.
type stream struct {
	w       *walk
	name    string
	line    *line
	process int
	req     *bucketv1.WatchBucketsRequest
	origin  *node  // of the resume point, as far as it is one; may be of a lost history
	expect  string // the only reason with which it may end, and it must end
	stop    func() // and wait

	mu    sync.Mutex
	at    *node // nil before it begins
	begun bool  // info has come
	done  bool
	since int // number of the first event that may explain its end
	asked int // the model's moment from which on states may explain it
}

func (s *stream) place() *node { s.mu.Lock(); defer s.mu.Unlock(); return s.at }
func (s *stream) ended() bool  { s.mu.Lock(); defer s.mu.Unlock(); return s.done }

// calm: what happened before now has had its effect.
func (s *stream) calm() {
	since, asked := s.w.since()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.asked = since, asked
}

// open begins a stream on some process. What comes is judged as it comes.
func (w *walk) open(req *bucketv1.WatchBucketsRequest, origin *node, expect string) {
	s := &stream{
		w: w, name: fmt.Sprintf("stream %d", len(w.trace)), line: newLine(), process: w.rng.IntN(len(w.arena.Processes)),
		req: req, origin: origin, expect: expect,
	}
	s.calm()
	w.say("open %s on process %d: %v", s.name, s.process, req)
	s.line.lead(w.arena.Processes[s.process].Dial)
	conn, err := s.line.conn()
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	finished := make(chan struct{})
	s.stop = sync.OnceFunc(func() {
		cancel()
		s.line.heal()
		<-finished
		_ = conn.Close()
	})
	go func() {
		defer close(finished)
		err := s.read(ctx, bucketv1.NewBucketServiceClient(conn))
		if ctx.Err() == nil {
			s.judge(err)
		}
		s.mu.Lock()
		s.done = true
		s.mu.Unlock()
	}()
	w.taps = append(w.taps, s)
}

// errBroken ends a stream that broke a promise; it has been told.
var errBroken = errors.New("promise broken")

func (s *stream) read(ctx context.Context, rpc bucketv1.BucketServiceClient) error {
	call, err := rpc.WatchBuckets(ctx, s.req)
	if err != nil {
		return err
	}
	broken := func(format string, args ...any) error {
		s.w.fail(s.name, format, args...)
		return errBroken
	}
	var held []*bucketv1.Entry
	for inside := s.req.GetSnapshot() != nil; ; {
		m, err := call.Recv()
		if err != nil {
			return err
		}
		switch e := m.GetEvent().(type) {
		case *bucketv1.WatchBucketsResponse_Info:
			if s.begun || e.Info.GetStoreId() != s.w.model.storeID {
				return broken("got %v", m)
			}
			s.begin()
		case *bucketv1.WatchBucketsResponse_SnapshotEnd:
			if !inside || e.SnapshotEnd.GetBuckets() != countBuckets(held) {
				return broken("got %v after %d buckets", m, countBuckets(held))
			}
			end := e.SnapshotEnd
			n, err := s.w.model.snapshot(s.asked, s.req.GetSnapshot(), s.req.GetFilter(), held, end.GetPoint(), end.GetProgressTime().AsTime())
			if err != nil {
				return broken("%v", err)
			}
			inside = false
			s.move(n)
		case *bucketv1.WatchBucketsResponse_Entry:
			if inside {
				held = append(held, e.Entry)
				continue
			}
			n, err := s.w.model.follow(s.at, e.Entry, s.req.GetFilter())
			if err != nil {
				return broken("%v", err)
			}
			s.move(n)
		case *bucketv1.WatchBucketsResponse_Progress:
			if inside || !s.begun {
				return broken("got %v inside a snapshot", m)
			}
			n, err := s.w.model.reach(s.at, e.Progress, s.req.GetFilter())
			if err != nil {
				return broken("%v", err)
			}
			s.move(n)
		default:
			return broken("got %T", e)
		}
	}
}

func countBuckets(entries []*bucketv1.Entry) (n uint64) {
	for _, e := range entries {
		if e.GetBucket() != nil {
			n++
		}
	}
	return n
}

func (s *stream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
	if s.req.GetResume() != nil {
		s.at = s.origin
	}
}

func (s *stream) move(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = n
}

// judge holds the end of the stream to what happened.
func (s *stream) judge(err error) {
	if errors.Is(err, errBroken) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := end{err: err, line: s.line, process: s.process, since: s.since, asked: s.asked, at: s.at, origin: s.origin, begun: s.begun}
	if why := s.w.explain(&e, s.expect); why != "" {
		s.w.fail(s.name, "at %s it ended with %v (reason %q): %s", s.at.position(), err, client.Reason(err), why)
	}
}

// end is how a stream ended, and when and where.
type end struct {
	err          error
	line         *line
	process      int // -1: any
	since, asked int
	at           *node // nil: it never stood anywhere
	origin       *node // of the point that it was to resume from; nil: a snapshot, or no such place
	begun        bool  // the server accepted the point
}

// explain returns "" if the end has a reason that something that happened
// justifies, and otherwise what is wrong with it.
func (w *walk) explain(e *end, expect string) string {
	reason, code := client.Reason(e.err), status.Code(e.err)
	happened := func(any ...what) bool { return w.happened(e.since, e.process, e.line, any...) }
	only := func(c codes.Code, ok bool, otherwise string) string {
		switch {
		case code != c:
			return fmt.Sprintf("the code is %s, not %s", code, c)
		case !ok:
			return otherwise
		}
		return ""
	}
	at := e.at
	if at == nil {
		at = e.origin
	}
	switch reason {
	case "OTHER_STORE", "BAD_REQUEST":
		return only(map[string]codes.Code{"OTHER_STORE": codes.FailedPrecondition, "BAD_REQUEST": codes.InvalidArgument}[reason], expect == reason, "nothing was wrong with the request in that way")
	case "FUTURE_REVISION":
		// Where a stream began: at the point it was to resume from, or at that of its
		// snapshot, which the store may have lost before anything followed it.
		from := e.origin
		if from == nil {
			from = e.at
		} else if e.begun {
			from = nil
		}
		ok := expect == reason || from != nil && w.model.some(e.asked, func(v *version) bool { return from.at.Revision > v.head.at.Revision })
		return only(codes.FailedPrecondition, ok, "the primary had that revision all the time")
	case "HISTORY_CHANGED":
		ok := at != nil && w.model.some(e.asked, func(v *version) bool { return !at.isAncestorOf(v.head) })
		ok = ok || expect == reason || (e.begun || at == nil) && happened(restored)
		return only(codes.FailedPrecondition, ok, "the history did not change")
	case "COMPACTED":
		ok := at != nil && w.model.some(e.asked, func(v *version) bool { return at.at.Revision < v.floor })
		return only(codes.OutOfRange, ok, "nothing behind that point was dropped")
	case "BEHIND":
		return only(codes.Unavailable, happened(stalled, away), "the process was not behind")
	case "STORE_UNAVAILABLE":
		return only(codes.Unavailable, happened(stalled, away, restarted), "the store was there")
	case "SLOW_READER":
		return only(codes.ResourceExhausted, happened(slow, flooded), "the reader was not slow")
	case "DRAINING":
		return only(codes.Unavailable, happened(restarted), "the process did not end")
	case "":
		if expect != "" && e.begun {
			return "it began"
		}
		if happened(cut, restarted, slow) {
			return ""
		}
		return "no connection was broken"
	}
	return "no such reason may come here"
}

// some reports whether the store was in such a state since a moment.
func (m *model) some(since int, is func(*version) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.versions[since:] {
		if is(&m.versions[since+i]) {
			return true
		}
	}
	return false
}
