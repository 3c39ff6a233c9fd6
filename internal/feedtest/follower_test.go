package feedtest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const storeID = "00112233445566778899aabbccddeeff"

// diary is a handler that writes down what it is told. Its view is what an
// exposer would hold: replaced at SnapshotEnd, extended by live entries.
type diary struct {
	mu     sync.Mutex
	events []string
	view   []uint64 // revisions of the present view
	next   []uint64 // of the snapshot under way; nil outside
	inside bool
	refuse func(e *bucketv1.Entry) error
	pauses []time.Duration
	errs   []error
	point  *bucketv1.ResumePoint
}

func (d *diary) note(format string, args ...any) {
	d.events = append(d.events, fmt.Sprintf(format, args...))
}

func (d *diary) SnapshotBegin(*bucketv1.StoreInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note("begin")
	d.next, d.inside = nil, true
}

func (d *diary) Info(*bucketv1.StoreInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note("info")
}

func (d *diary) Entry(e *bucketv1.Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		if err := d.refuse(e); err != nil {
			return err
		}
	}
	if d.inside {
		d.next = append(d.next, e.GetRevision())
	} else {
		d.view = append(d.view, e.GetRevision())
		d.note("entry %d", e.GetRevision())
	}
	return nil
}

func (d *diary) SnapshotEnd(p *bucketv1.ResumePoint, _ time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view, d.next, d.inside, d.point = d.next, nil, false, p
	d.note("end %d", p.GetRevision())
}

func (d *diary) Progress(p *bucketv1.ResumePoint, _ time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.point = p
	if last := fmt.Sprintf("progress %d", p.GetRevision()); len(d.events) == 0 || d.events[len(d.events)-1] != last {
		d.events = append(d.events, last) // heartbeats are not told twice
	}
}

func (d *diary) Disconnected(err error, retryIn time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	word := client.Reason(err)
	for _, e := range []error{client.ErrContract, client.ErrIdle, client.ErrStepBack, client.ErrHandler} {
		if errors.Is(err, e) {
			word = e.Error()
		}
	}
	if word == "" {
		word = status.Code(err).String()
	}
	d.note("lost: %s", word)
	d.pauses = append(d.pauses, retryIn)
	d.errs = append(d.errs, err)
}

// bench is a follower on a scripted server, in a bubble of virtual time.
type bench struct {
	*testing.T
	server *feedtest.Scripted
	diary  *diary
	stop   context.CancelFunc
	done   chan error
}

// inBubble runs the test in virtual time: nothing waits, whatever the back-off.
func inBubble(t *testing.T, run func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, server: feedtest.NewScripted(storeID), diary: &diary{}}
		b.fill(0, 2)
		run(b)
		if b.stop != nil {
			b.stop()
			if err := <-b.done; err != nil {
				t.Errorf("Run returned %v after its context ended; want nil", err)
			}
		}
	})
}

// fill appends windows from up to but not including to; with the first, the
// dataset's definition.
func (b *bench) fill(from, to int) {
	if from == 0 {
		b.server.Append(feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
	}
	for n := from; n < to; n++ {
		b.server.Append(feedtest.T0.Add(time.Hour), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(1), n)})
	}
	b.server.SetProgress(feedtest.T0.Add(2 * time.Hour))
}

func options() client.Options {
	return client.Options{
		Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(24 * time.Hour)},
		Seed:     1,
	}
}

func (b *bench) follow(o client.Options) {
	b.Helper()
	f, err := client.New(b.server.Serve(b.T), o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	b.stop, b.done = cancel, make(chan error, 1)
	go func() { b.done <- f.Run(ctx, b.diary) }()
}

// after lets virtual time pass and returns what the handler was told meanwhile.
func (b *bench) after(d time.Duration) []string {
	time.Sleep(d)
	synctest.Wait()
	b.diary.mu.Lock()
	defer b.diary.mu.Unlock()
	events := b.diary.events
	b.diary.events = nil
	return events
}

func (b *bench) want(got []string, want ...string) {
	b.Helper()
	if d := cmp.Diff(want, got); d != "" {
		b.Fatalf("the handler was told (-want +got):\n%s\nerrors: %v", d, b.diary.errs)
	}
}

func (b *bench) wantView(want ...uint64) {
	b.Helper()
	b.diary.mu.Lock()
	defer b.diary.mu.Unlock()
	if !slices.Equal(b.diary.view, want) {
		b.Fatalf("the view holds revisions %v; want %v", b.diary.view, want)
	}
}

func (b *bench) lastPause() time.Duration {
	b.diary.mu.Lock()
	defer b.diary.mu.Unlock()
	return b.diary.pauses[len(b.diary.pauses)-1]
}

func TestFollowerSnapshotThenLive(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.follow(options())
		b.want(b.after(time.Second), "begin", "end 3", "progress 3")
		b.fill(2, 3)
		b.want(b.after(time.Second), "entry 4", "progress 4")
		b.fill(3, 4)
		b.want(b.after(time.Second), "entry 5", "progress 5")
		b.wantView(1, 2, 3, 4, 5)
	})
}

// A broken connection loses and repeats nothing: whatever was applied before the
// cut is where the next stream begins.
func TestFollowerResumesFromTheLastAppliedEntry(t *testing.T) {
	for after := range 12 {
		t.Run(fmt.Sprintf("cut after %d messages", after), func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.server.Script(feedtest.Step{After: after, Drop: true})
				b.follow(options())
				b.after(time.Second)
				b.fill(2, 6)
				b.after(time.Minute)
				b.wantView(1, 2, 3, 4, 5, 6, 7)
			})
		})
	}
}

func TestFollowerSurvivesACutAtEveryMessage(t *testing.T) {
	inBubble(t, func(b *bench) {
		for range 40 {
			b.server.Script(feedtest.Step{After: 2, Drop: true}) // info, one message, gone
		}
		o := options()
		point := b.server.Head()
		o.Resume = &bucketv1.ResumePoint{StoreId: storeID, Revision: uint64(point.Revision), Chain: point.Chain[:]}
		b.follow(o)
		b.fill(2, 12)
		b.after(time.Hour)
		b.wantView(4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
	})
}

func TestFollowerTakesASnapshotAtOnceWhenCompacted(t *testing.T) {
	inBubble(t, func(b *bench) {
		o := options()
		o.Resume = &bucketv1.ResumePoint{StoreId: storeID}
		b.server.Retire(bucket.TimeOf(feedtest.T0.Add(5 * time.Minute)))
		b.follow(o)
		b.want(b.after(0), "lost: COMPACTED", "begin", "end 3", "progress 3")
		if p := b.lastPause(); p != 0 {
			t.Errorf("pause before the snapshot is %s; want none", p)
		}
		b.wantView(1, 3)
	})
}

func TestFollowerTakesTheHistoryThatTheServerHas(t *testing.T) {
	for _, reason := range []string{"OTHER_STORE", "HISTORY_CHANGED", "FUTURE_REVISION"} {
		t.Run(reason, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				restore := b.server.Backup()
				b.fill(2, 5)
				b.follow(options())
				b.after(time.Second)
				b.wantView(1, 2, 3, 4, 5, 6)
				b.server.Script(feedtest.Step{After: -1, Err: feedtest.Error(codes.FailedPrecondition, reason)})
				b.server.DropConnections()
				restore() // the history is shorter now, so the view may step back
				b.after(time.Minute)
				b.wantView(1, 2, 3)
			})
		})
	}
}

// oldSnapshot makes a snapshot look like that of a collector that has not read
// beyond revision 3.
func oldSnapshot() feedtest.Step {
	return feedtest.Step{Alter: func(m *bucketv1.WatchBucketsResponse) []*bucketv1.WatchBucketsResponse {
		if e := m.GetSnapshotEnd(); e != nil {
			e.Point.Revision, e.Buckets = 3, 2
		}
		return dropIf(m, m.GetEntry().GetRevision() > 3)
	}}
}

// A collector that lags (its database is a replica, say) must not take readers
// back, as long as nobody says that the history changed.
func TestFollowerNeverStepsBackInOneHistory(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.fill(2, 5)
		b.follow(options())
		b.after(time.Second)
		b.wantView(1, 2, 3, 4, 5, 6)
		b.server.Script(
			feedtest.Step{After: -1, Err: feedtest.Error(codes.OutOfRange, "COMPACTED")},
			oldSnapshot(),
			feedtest.Step{After: -1, Err: feedtest.Error(codes.Unavailable, "BEHIND")},
		)
		b.server.DropConnections()
		b.want(b.after(time.Minute),
			"lost: Unavailable", "lost: COMPACTED",
			"begin", "lost: "+client.ErrStepBack.Error(), // and not "end 3"
			"lost: BEHIND",
			"info", "progress 6") // its own point is good after all
		b.wantView(1, 2, 3, 4, 5, 6)
	})
}

// The same while the view is in doubt: the point may not be resumed from, only
// asked with.
func TestFollowerNeverStepsBackWithABrokenView(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.fill(2, 5)
		b.follow(options())
		b.after(time.Second)
		refused := false
		b.diary.refuse = func(e *bucketv1.Entry) error {
			if e.GetRevision() == 7 && !refused {
				refused = true
				return errors.New("no room")
			}
			return nil
		}
		b.server.Script(oldSnapshot())
		b.fill(5, 6)
		b.want(b.after(time.Minute),
			"lost: "+client.ErrHandler.Error(),
			"begin", "lost: "+client.ErrStepBack.Error(),
			"lost: Unknown", // the probe: its point is known, and nothing is resumed
			"begin", "end 7", "progress 7")
		requests := b.server.Requests()
		if probe := requests[2].GetResume(); probe.GetRevision() != 6 {
			t.Errorf("the third stream asks with %v; want the applied point, revision 6", requests[2])
		}
		b.wantView(1, 2, 3, 4, 5, 6, 7)
	})
}

// When the server does say so, the same lower snapshot is taken.
func TestFollowerStepsBackWhenTheHistoryChanged(t *testing.T) {
	inBubble(t, func(b *bench) {
		restore := b.server.Backup()
		b.fill(2, 5)
		b.follow(options())
		b.after(time.Second)
		b.wantView(1, 2, 3, 4, 5, 6)
		restore()
		b.want(b.after(time.Minute), "lost: HISTORY_CHANGED", "begin", "end 3", "progress 3")
		b.wantView(1, 2, 3)
	})
}

func TestFollowerWaitsLongerAndLonger(t *testing.T) {
	inBubble(t, func(b *bench) {
		for range 12 {
			b.server.Script(feedtest.Step{After: -1, Err: feedtest.Error(codes.Unavailable, "STORE_UNAVAILABLE")})
		}
		o := options()
		o.Backoff = client.Backoff{Min: time.Second, Max: 16 * time.Second}
		b.follow(o)
		b.after(time.Hour)
		b.wantView(1, 2, 3)
		for i, p := range b.diary.pauses {
			most := min(time.Second<<i, 16*time.Second)
			if p > most || p < most/2 {
				t.Errorf("pause %d is %s; want %s to %s", i, p, most/2, most)
			}
		}
	})
}

func TestFollowerErrorTable(t *testing.T) {
	type row struct {
		name         string
		err          error
		least, most  time.Duration
		wantSnapshot bool // the next stream begins with one
		level        slog.Level
	}
	const short, long = 30 * time.Second, time.Minute
	rows := []row{
		{"compacted", feedtest.Error(codes.OutOfRange, "COMPACTED"), 0, 0, true, slog.LevelInfo},
		{"other store", feedtest.Error(codes.FailedPrecondition, "OTHER_STORE"), 0, 0, true, slog.LevelWarn},
		{"history changed", feedtest.Error(codes.FailedPrecondition, "HISTORY_CHANGED"), 0, 0, true, slog.LevelWarn},
		{"future revision", feedtest.Error(codes.FailedPrecondition, "FUTURE_REVISION"), 0, 0, true, slog.LevelWarn},
		{"behind", feedtest.Error(codes.Unavailable, "BEHIND"), 1, short, false, slog.LevelWarn},
		{"slow reader", feedtest.Error(codes.ResourceExhausted, "SLOW_READER"), 1, short, false, slog.LevelWarn},
		{"too many streams", feedtest.Error(codes.ResourceExhausted, "TOO_MANY_STREAMS"), 1, short, false, slog.LevelWarn},
		{"store unavailable", feedtest.Error(codes.Unavailable, "STORE_UNAVAILABLE"), 1, short, false, slog.LevelWarn},
		{"draining", feedtest.Error(codes.Unavailable, "DRAINING"), 1, short, false, slog.LevelWarn},
		{"internal", feedtest.Error(codes.Internal, "INTERNAL"), 1, short, false, slog.LevelWarn},
		{"bad request", feedtest.Error(codes.InvalidArgument, "BAD_REQUEST"), long / 2, long, false, slog.LevelError},
		{"no credential", status.Error(codes.Unauthenticated, "who are you"), long / 2, long, false, slog.LevelError},
		{"wrong credential", status.Error(codes.PermissionDenied, "not you"), long / 2, long, false, slog.LevelError},
		{"a proxy's error", status.Error(codes.Unavailable, "upstream reset"), 1, short, false, slog.LevelWarn},
		{"a reason of another domain", status.Error(codes.Unknown, "odd"), 1, short, false, slog.LevelWarn},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				var levels levelRecorder
				b.server.Script(feedtest.Step{After: -1, Err: r.err})
				o := options()
				o.Logger = slog.New(&levels)
				o.Resume = &bucketv1.ResumePoint{StoreId: storeID}
				b.follow(o)
				b.after(0)
				if got := b.lastPause(); got < r.least || got > r.most {
					t.Errorf("pause is %s; want %s to %s", got, r.least, r.most)
				}
				if got := levels.first(); got != r.level {
					t.Errorf("logged at %s; want %s", got, r.level)
				}
				b.after(2 * time.Minute)
				requests := b.server.Requests()
				if len(requests) != 2 {
					t.Fatalf("%d streams were opened; want 2", len(requests))
				}
				if got := requests[1].GetSnapshot() != nil; got != r.wantSnapshot {
					t.Errorf("the second stream begins with a snapshot: %t; want %t", got, r.wantSnapshot)
				}
				b.wantView(1, 2, 3)
			})
		})
	}
}

func TestFollowerDoesNotAskForSnapshotsWithoutAPause(t *testing.T) {
	inBubble(t, func(b *bench) {
		for range 5 {
			b.server.Script(feedtest.Step{After: 3, Err: feedtest.Error(codes.FailedPrecondition, "HISTORY_CHANGED")})
		}
		b.follow(options())
		b.after(10 * time.Minute)
		for i, p := range b.diary.pauses {
			if (p == 0) != (i == 0) {
				t.Errorf("pauses are %v; only the first may be nothing", b.diary.pauses)
			}
		}
		b.wantView(1, 2, 3)
	})
}

func TestFollowerReopensASilentStream(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.server.Script(feedtest.Step{After: 6, Hang: true})
		b.follow(options())
		b.want(b.after(29*time.Second), "begin", "end 3", "progress 3")
		b.fill(2, 3)
		b.want(b.after(5*time.Second), "lost: "+client.ErrIdle.Error(), "info", "entry 4", "progress 4")
		b.wantView(1, 2, 3, 4)
	})
}

// A handler that takes its time is not a silent server.
func TestFollowerDoesNotCountTheHandlersTime(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.diary.refuse = func(*bucketv1.Entry) error { time.Sleep(time.Minute); return nil }
		b.follow(options())
		b.want(b.after(4*time.Minute), "begin", "end 3", "progress 3")
	})
}

func TestFollowerHandlerError(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.follow(options())
		b.after(time.Second)
		failed := false
		b.diary.refuse = func(e *bucketv1.Entry) error {
			if e.GetRevision() == 4 && !failed {
				failed = true
				return errors.New("no room")
			}
			return nil
		}
		b.fill(2, 4)
		b.want(b.after(time.Minute), "lost: "+client.ErrHandler.Error(), "begin", "end 5", "progress 5")
		b.wantView(1, 2, 3, 4, 5)
	})
}

func TestFollowerHoldsTheServerToTheContract(t *testing.T) {
	type response = bucketv1.WatchBucketsResponse
	entry := func(revision uint64, alter func(*bucketv1.Entry)) func(*response) []*response {
		return func(m *response) []*response {
			if e := m.GetEntry(); e.GetRevision() == revision {
				alter(e)
			}
			return []*response{m}
		}
	}
	cases := map[string]func(*response) []*response{
		"an entry twice": func(m *response) []*response {
			if m.GetEntry().GetRevision() == 4 {
				return []*response{m, m}
			}
			return []*response{m}
		},
		"a lower revision":   entry(5, func(e *bucketv1.Entry) { e.Revision = 2 }),
		"a skipped revision": entry(4, func(e *bucketv1.Entry) { e.Revision = 9 }),
		"an entry left out":  func(m *response) []*response { return dropIf(m, m.GetEntry().GetRevision() == 4) },
		"no chain":           entry(4, func(e *bucketv1.Entry) { e.Chain = nil }),
		"no info":            func(m *response) []*response { return dropIf(m, m.GetInfo() != nil) },
		"info twice":         func(m *response) []*response { return twiceIf(m, m.GetInfo() != nil) },
		"info without store id": func(m *response) []*response {
			if i := m.GetInfo(); i != nil {
				i.StoreId = ""
			}
			return []*response{m}
		},
		"a snapshot bucket left out": func(m *response) []*response {
			return dropIf(m, m.GetEntry().GetRevision() == 2)
		},
		"a snapshot bucket twice": func(m *response) []*response {
			return twiceIf(m, m.GetEntry().GetRevision() == 2)
		},
		"a snapshot that ends twice": func(m *response) []*response { return twiceIf(m, m.GetSnapshotEnd() != nil) },
		"a snapshot that ends before what it holds": func(m *response) []*response {
			if e := m.GetSnapshotEnd(); e != nil {
				e.Point.Revision = 1
			}
			return []*response{m}
		},
		"a snapshot of another store": func(m *response) []*response {
			if e := m.GetSnapshotEnd(); e != nil {
				e.Point.StoreId = "other"
			}
			return []*response{m}
		},
		"progress behind its data": func(m *response) []*response {
			if p := m.GetProgress(); p.GetPoint().GetRevision() >= 4 {
				p.Point.Revision = 3
			}
			return []*response{m}
		},
		"progress ahead of its data": func(m *response) []*response {
			if p := m.GetProgress(); p != nil {
				p.Point.Revision += 10
			}
			return []*response{m}
		},
		"progress of another history": func(m *response) []*response {
			if p := m.GetProgress(); p != nil {
				p.Point.Chain = make([]byte, 16)
			}
			return []*response{m}
		},
		"progress of another store": func(m *response) []*response {
			if p := m.GetProgress(); p != nil {
				p.Point.StoreId = "other"
			}
			return []*response{m}
		},
		"progress inside the snapshot": func(m *response) []*response {
			if m.GetEntry().GetRevision() == 2 {
				return []*response{{Event: &bucketv1.WatchBucketsResponse_Progress{Progress: &bucketv1.Progress{}}}, m}
			}
			return []*response{m}
		},
	}
	for name, alter := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.server.Script(feedtest.Step{Alter: alter})
				b.follow(options())
				b.after(time.Second)
				b.fill(2, 4)
				b.after(time.Minute)
				if len(b.diary.errs) != 1 || !errors.Is(b.diary.errs[0], client.ErrContract) {
					t.Fatalf("streams ended with %v; want one broken contract", b.diary.errs)
				}
				requests := b.server.Requests()
				if len(requests) != 2 || requests[1].GetSnapshot() == nil {
					t.Fatalf("%d streams, the last is %v; want a second one with a snapshot", len(requests), requests[len(requests)-1])
				}
				b.wantView(1, 2, 3, 4, 5)
			})
		})
	}
}

func dropIf(m *bucketv1.WatchBucketsResponse, drop bool) []*bucketv1.WatchBucketsResponse {
	if drop {
		return nil
	}
	return []*bucketv1.WatchBucketsResponse{m}
}

func twiceIf(m *bucketv1.WatchBucketsResponse, twice bool) []*bucketv1.WatchBucketsResponse {
	if twice {
		return []*bucketv1.WatchBucketsResponse{m, m}
	}
	return []*bucketv1.WatchBucketsResponse{m}
}

// levelRecorder is a slog handler that keeps levels.
type levelRecorder struct {
	mu     sync.Mutex
	levels []slog.Level
}

func (l *levelRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (l *levelRecorder) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *levelRecorder) WithGroup(string) slog.Handler            { return l }

func (l *levelRecorder) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.levels = append(l.levels, r.Level)
	return nil
}

func (l *levelRecorder) first() slog.Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.levels[0]
}
