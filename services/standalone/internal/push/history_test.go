package push

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
)

// streams notes the streams of a connection.
type streams struct {
	grpc.ClientConnInterface
	all []context.Context //nolint:containedctx // their end is looked at
}

func (s *streams) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, o ...grpc.CallOption) (grpc.ClientStream, error) {
	s.all = append(s.all, ctx)
	return s.ClientConnInterface.NewStream(ctx, d, method, o...)
}

// open is how many have not ended.
func (s *streams) open() (n int) {
	for _, ctx := range s.all {
		if ctx.Err() == nil {
			n++
		}
	}
	return n
}

// A push that begins with an age sends through a slow receiver what the store has, each sample
// once, in order, and holds no stream of the collector meanwhile. What is committed meanwhile
// follows, once.
func TestHistoryThroughASlowReceiver(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		s := &streams{ClientConnInterface: g.config.Conn}
		g.config.Conn, g.config.Start = s, Start{Age: 40 * time.Hour}
		g.grow(600)               // 50 h
		const windows = 40*12 - 1 // that end within 40 h before the last commit, 5 min after the last window
		behind := 0
		g.to.answer = func([]deliver.Series) error {
			if g.to.requests <= windows {
				if s.open() > 0 {
					behind++
				}
				if g.cursor() == 0 {
					t.Error("there is no cursor while the history is sent")
				}
			}
			if g.to.requests == 100 {
				g.grow(5)
			}
			time.Sleep(30 * time.Second) // hours in all: longer than any snapshot may take
			return nil
		}
		p, stop := g.start()
		settled(3 * time.Hour)
		if err := p.Ready(); err != nil {
			t.Errorf("not ready while the destination acknowledges: %v", err)
		}
		if remaining := g.metric("weir_push_history_remaining_seconds"); remaining <= 0 || remaining > (40*time.Hour).Seconds() || g.metric("weir_push_acknowledged_revision") != 0 {
			t.Errorf("%v seconds of history remain", remaining)
		}
		settled(3 * time.Hour)
		stop()
		if got, want := g.to.count(), (windows+5)*zones*samplesOf; got != want || g.to.samples != want {
			t.Errorf("%d samples are held, %d were taken; want %d", got, g.to.samples, want)
		}
		if behind > 0 || len(g.to.disorder) > 0 {
			t.Errorf("%d requests held a stream of the collector; out of order: %d", behind, len(g.to.disorder))
		}
		if g.cursor() != g.feed.Head().Revision || g.metric("weir_push_history_remaining_seconds") != 0 {
			t.Errorf("the cursor is at %d, want %d", g.cursor(), g.feed.Head().Revision)
		}
		for _, r := range g.feed.Requests() {
			if r.GetSnapshot().GetMaxAge() != nil {
				t.Errorf("a snapshot with buckets was asked for: %v", r)
			}
		}
	})
}

// Wherever a push ends in the history, the next one goes on there: each end costs a batch.
func TestHistoryGoesOnWhereItEnded(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.config.Start = Start{Age: 40 * time.Hour}
		g.grow(600)
		ends := 0
		for ; ends < 100 && g.cursorAt().History != nil || ends == 0; ends++ {
			left, gone := 37, make(chan struct{})
			g.to.answer = func([]deliver.Series) error {
				if left--; left < 0 {
					return errors.New("the process has ended")
				}
				return nil
			}
			g.to.after = func() error {
				if left == 0 {
					close(gone)
					return errors.New("the process has ended")
				}
				return nil
			}
			_, stop := g.start()
			select {
			case <-gone:
			case <-time.After(10 * time.Second):
			}
			stop()
		}
		if got, want := g.to.count(), 479*zones*samplesOf; got != want {
			t.Errorf("%d samples are held, want %d", got, want)
		}
		if repeated := g.to.samples - g.to.count(); ends < 10 || repeated > ends*zones*samplesOf || len(g.to.disorder) > 0 {
			t.Errorf("%d samples were repeated after %d ends; out of order: %v", repeated, ends, g.to.disorder)
		}
	})
}

// cursorAt is the cursor on the disk.
func (g *rig) cursorAt() *Cursor {
	g.t.Helper()
	c, err := (&CursorFile{path: g.path(), destination: "http://x/api"}).read()
	if err != nil {
		g.t.Fatal(err)
	}
	if c == nil {
		return &Cursor{}
	}
	return c
}

// While nothing of the history is acknowledged, the push is not ready, and says how far it is.
func TestHistoryWithoutProgressIsNotReady(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.config.Start = Start{Age: 10 * time.Hour}
		g.grow(200)
		g.to.answer = func([]deliver.Series) error {
			if g.to.requests > 10 {
				time.Sleep(3 * time.Hour)
			}
			return nil
		}
		p, stop := g.start()
		settled(time.Minute)
		if err := p.Ready(); err != nil {
			t.Errorf("at the start: %v", err)
		}
		settled(2 * time.Hour)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "history: nothing was acknowledged for 2h") || !strings.Contains(err.Error(), "sent are the windows from ") {
			t.Errorf("after two hours without an acknowledgement: %v", err)
		}
		stop()
	})
}

// If retention has passed the place behind the history, what was committed meanwhile may be gone:
// the push halts.
func TestHistoryThatTookTooLong(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.config.Start = Start{Age: 10 * time.Hour}
		g.grow(200)
		g.to.answer = func([]deliver.Series) error {
			if g.to.requests == 50 {
				g.grow(10)
				g.feed.Retire(bucket.TimeOf(feedtest.T0.Add(1000 * time.Hour)))
			}
			return nil
		}
		p, stop := g.start()
		settled(time.Minute)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "COMPACTED") {
			t.Errorf("readiness is %v", err)
		}
		stop()
	})
}

// refusing fails lists.
type refusing struct {
	grpc.ClientConnInterface
	err error
}

func (r *refusing) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, o ...grpc.CallOption) (grpc.ClientStream, error) {
	if r.err != nil && method == bucketv1.BucketService_ListBuckets_FullMethodName {
		return nil, r.err
	}
	return r.ClientConnInterface.NewStream(ctx, d, method, o...)
}

// A list that fails is tried again; a place in it that is refused is not taken for another.
func TestHistoryThatCannotBeListed(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{feedtest.Error(codes.Unavailable, "STORE_UNAVAILABLE"), "no stream from a collector yet"},
		{feedtest.Error(codes.PermissionDenied, ""), "no stream from a collector yet"},
		{feedtest.Error(codes.InvalidArgument, "BAD_REQUEST"), "CONTRACT"},
	} {
		within(t, func(t *testing.T) {
			g := newRig(t)
			r := &refusing{g.config.Conn, tc.err}
			g.config.Conn, g.config.Start = r, Start{Age: 10 * time.Hour}
			g.grow(50)
			p, stop := g.start()
			settled(5 * time.Minute)
			if err := p.Ready(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v: readiness is %v", tc.err, err)
			}
			r.err = nil
			settled(10 * time.Minute)
			if err := p.Ready(); err != nil || g.to.count() != 50*zones*samplesOf {
				t.Errorf("%v: it is over, and readiness is %v, %d samples are held", tc.err, err, g.to.count())
			}
			stop()
		})
	}
}

// A watch that the collector ends because its reader is slow goes on where it was: nothing that
// was acknowledged is sent again.
func TestASlowWatchGoesOn(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(100)
		slow := feedtest.Error(codes.ResourceExhausted, "SLOW_READER")
		g.feed.Script(feedtest.Step{})
		for range 8 {
			g.feed.Script(feedtest.Step{After: 25, Err: slow})
		}
		g.to.answer = func([]deliver.Series) error {
			time.Sleep(2 * time.Minute)
			return nil
		}
		p, stop := g.start()
		settled(24 * time.Hour)
		if err := p.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		stop()
		if want := 100 * zones * samplesOf; g.to.samples != want || g.to.count() != want || len(g.to.disorder) > 0 {
			t.Errorf("%d samples were taken, %d are held, want %d", g.to.samples, g.to.count(), want)
		}
	})
}

// A request whose answer says neither yes nor no is not sent again by this process.
func TestAnAnswerThatIsNoneHalts(t *testing.T) {
	for _, start := range []Start{{Beginning: true}, {Age: time.Hour}} {
		within(t, func(t *testing.T) {
			g := newRig(t)
			g.config.Start, g.config.Repeatable = start, false
			g.grow(5)
			g.to.answer = func([]deliver.Series) error {
				if g.to.requests == 3 {
					return &deliver.AnswerError{Status: 200, Type: "text/plain", Text: "ok", Once: true}
				}
				return nil
			}
			p, stop := g.start()
			settled(5 * time.Hour)
			if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "ANSWER") || g.to.requests != 3 || g.metric("weir_push_halted") != 1 {
				t.Errorf("after %d requests the readiness is %v", g.to.requests, err)
			}
			stop()
			_, stop = g.start()
			settled(time.Minute)
			stop()
			if want := 5 * zones * samplesOf; g.to.samples != want {
				t.Errorf("%d samples were taken after a new start, want %d", g.to.samples, want)
			}
		})
	}
}

// A page in place of an answer leaves the cursor where it was, and readiness says so.
func TestAPageBlocks(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(5)
		g.to.answer = func([]deliver.Series) error {
			return &deliver.AnswerError{Status: 200, Type: "text/html", Text: "<html>login</html>"}
		}
		p, stop := g.start()
		settled(time.Hour)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "a login or a proxy") || g.cursor() > 1 || g.metric("weir_push_blocked") != 1 {
			t.Errorf("the readiness is %v, the cursor at %d", err, g.cursor())
		}
		g.to.look(func() { g.to.answer = nil })
		settled(2 * time.Minute)
		if err := p.Ready(); err != nil || g.cursor() != g.feed.Head().Revision {
			t.Errorf("it is over: %v", err)
		}
		stop()
	})
}

// Words about samples of a destination that refuses everything move no cursor.
func TestKnownWordsAboutEverythingStopTheCursor(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(5)
		g.to.answer = func([]deliver.Series) error { return rejected("too old sample") }
		p, stop := g.start()
		settled(time.Hour)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "refuses everything") || g.cursor() > 1 {
			t.Errorf("the readiness is %v, the cursor at %d", err, g.cursor())
		}
		// It takes what is fresh, and the rest is too old.
		g.to.look(func() {
			g.to.answer = func(series []deliver.Series) error {
				if strings.HasPrefix(name(&series[0]), "__name__=weir_push_control,job=weir,") {
					return nil
				}
				return rejected("too old sample")
			}
		})
		settled(2 * time.Minute)
		stop()
		if g.cursor() != g.feed.Head().Revision || g.metric("weir_push_samples_refused_total") != 5*zones*samplesOf {
			t.Errorf("the cursor is at %d, %v samples were refused", g.cursor(), g.metric("weir_push_samples_refused_total"))
		}
	})
}

// A cursor of the future is no reason to be ready for years.
func TestACursorOfTheFuture(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(12)
		g.config.Clock = ahead{clock.System(), time.Until(feedtest.T0.Add(70 * time.Minute))}
		_, stop := g.start()
		settled(time.Second)
		stop()
		file, c, err := OpenCursor(g.path(), "http://x/api")
		if err != nil {
			t.Fatal(err)
		}
		c.Until = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
		if err := errors.Join(file.Save(c), file.Close()); err != nil {
			t.Fatal(err)
		}
		p, stop := g.start()
		settled(2 * time.Hour)
		if err := p.Ready(); err == nil || p.Lag() < time.Hour {
			t.Errorf("with a lag of %s the readiness is %v", p.Lag(), err)
		}
		// Nor is a collector whose clock was ahead.
		p.seen(c.Until)
		p.seen(g.config.Clock.Now().Add(-2 * time.Hour))
		if p.Lag() < time.Hour {
			t.Errorf("after a collector of the future the lag is %s", p.Lag())
		}
		stop()
	})
}

// A disk that was full blocks the push no longer than it is.
func TestACursorThatCouldNotBeWritten(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(5)
		g.config.Start = Start{}
		if err := os.Mkdir(g.path()+nextSuffix, 0o755); err != nil {
			t.Fatal(err)
		}
		p, stop := g.start()
		settled(time.Minute)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "cannot be written") {
			t.Errorf("readiness is %v", err)
		}
		if err := os.Remove(g.path() + nextSuffix); err != nil {
			t.Fatal(err)
		}
		settled(2 * time.Minute) // nothing is committed, so no batch follows
		if err := p.Ready(); err != nil || g.metric("weir_push_blocked") != 0 {
			t.Errorf("it is over, and readiness is %v", err)
		}
		stop()
	})
}
