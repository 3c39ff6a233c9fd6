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
	"github.com/weir-metrics/weir/internal/feedtest"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
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

func (l *levelRecorder) all() []slog.Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.levels)
}
