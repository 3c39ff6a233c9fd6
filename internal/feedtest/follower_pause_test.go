package feedtest_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/feedtest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func away(n int) []feedtest.Step {
	steps := make([]feedtest.Step, n)
	for i := range steps {
		steps[i] = feedtest.Step{After: -1, Err: feedtest.Error(codes.Unavailable, "STORE_UNAVAILABLE")}
	}
	return steps
}

// Collectors that restart several times in a row, with some seconds of work in
// between, must not add up to a follower that waits half a minute.
func TestFollowerForgetsTroubleOnceAStreamWorks(t *testing.T) {
	inBubble(t, func(b *bench) {
		const restarts = 4
		for range restarts {
			b.server.Script(away(7)...)
			// Some heartbeats, a few seconds in all, and then the next restart.
			b.server.Script(feedtest.Step{After: 8, Err: feedtest.Error(codes.Unavailable, "DRAINING")})
		}
		o := options()
		o.Backoff = client.Backoff{Min: 200 * time.Millisecond, Max: 30 * time.Second}
		b.follow(o)
		b.after(10 * time.Minute)
		b.wantView(1, 2, 3)
		if len(b.diary.pauses) != 8*restarts {
			b.Fatalf("%d streams ended; want %d", len(b.diary.pauses), 8*restarts)
		}
		for i, p := range b.diary.pauses[7:] {
			// After a stream that worked come the first and shortest pauses.
			if most := 200 * time.Millisecond << (i % 8); p > most {
				b.Errorf("pause %d after a stream that worked is %s; want at most %s", i%8, p, most)
			}
		}
	})
}

// Whatever it sends in the moment before, a server that accepts and drops is
// left alone for longer and longer.
func TestFollowerDoesNotHammerAServerThatAcceptsAndDrops(t *testing.T) {
	for name, after := range map[string]int{"after info": 1, "after a whole snapshot": 5, "after progress": 6} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				for range 12 {
					b.server.Script(feedtest.Step{After: after, Err: feedtest.Error(codes.Unavailable, "DRAINING")})
				}
				o := options()
				o.Backoff = client.Backoff{Min: time.Second, Max: 16 * time.Second}
				b.follow(o)
				b.fill(2, 30) // so that each stream has something to bring
				b.after(time.Hour)
				if len(b.diary.pauses) != 12 {
					b.Fatalf("%d streams ended; want 12", len(b.diary.pauses))
				}
				for i, p := range b.diary.pauses {
					if least := min(time.Second<<i, 16*time.Second) / 2; p < least {
						b.Errorf("pause %d is %s; want at least %s", i, p, least)
					}
				}
			})
		})
	}
}

// One end of a stream that worked is routine, and so is a server that is not there
// yet; when nothing works for longer, somebody should know: once, then in growing
// pauses.
func TestFollowerWarnsOfTroubleAndNotOfARestart(t *testing.T) {
	for name, c := range map[string]struct {
		first feedtest.Step
		away  int // streams that are refused after the first
		want  string
	}{
		"a restart, announced":           {feedtest.Step{After: 20, Err: feedtest.Error(codes.Unavailable, "DRAINING")}, 2, ""},
		"a crash":                        {feedtest.Step{After: 20, Drop: true}, 2, "INFO INFO INFO"}, // the stream ended, waiting, following again
		"started before the server":      {feedtest.Step{After: -1, Drop: true}, 2, "INFO INFO INFO"},
		"an outage of a minute":          {feedtest.Step{After: 20, Drop: true}, 9, "INFO INFO WARN INFO"},
		"an outage after announcement":   {feedtest.Step{After: 20, Err: feedtest.Error(codes.Unavailable, "DRAINING")}, 9, "WARN INFO"},
		"an outage of hours":             {feedtest.Step{After: 20, Drop: true}, 600, "INFO INFO WARN WARN WARN WARN WARN WARN WARN WARN WARN INFO"},
		"a credential that is refused":   {feedtest.Step{After: -1, Err: status.Error(codes.Unauthenticated, "who are you")}, 0, "ERROR INFO"},
		"a stream that becomes silent":   {feedtest.Step{After: 20, Hang: true}, 0, "WARN INFO"},
		"a server that never was silent": {feedtest.Step{After: 20, Drop: true}, 0, "INFO INFO"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				var levels levelRecorder
				b.server.Script(c.first)
				b.server.Script(away(c.away)...)
				o := options()
				o.Logger = slog.New(&levels)
				b.follow(o)
				b.after(6 * time.Hour)
				got := slices.DeleteFunc(levels.all(), func(l slog.Level) bool { return l == slog.LevelDebug })
				if said := strings.Trim(fmt.Sprint(got), "[]"); said != c.want {
					b.Errorf("logged at %s; want %s", said, c.want)
				}
			})
		})
	}
}

// A credential that stays wrong is not said every minute for ever.
func TestFollowerSaysWhatLastsSeldom(t *testing.T) {
	inBubble(t, func(b *bench) {
		var levels levelRecorder
		for range 2000 {
			b.server.Script(feedtest.Step{After: -1, Err: status.Error(codes.PermissionDenied, "not you")})
		}
		o := options()
		o.Logger = slog.New(&levels)
		b.follow(o)
		b.after(24 * time.Hour)
		loud := 0
		for _, l := range levels.all() {
			if l > slog.LevelDebug {
				loud++
			}
		}
		if all := len(levels.all()); all < 1000 || loud < 25 || loud > 32 {
			b.Errorf("%d of %d ends in a day were said; want about 30 of a thousand and more", loud, all)
		}
	})
}

// A server that says when to come back is believed, within reason.
func TestFollowerWaitsAsLongAsItIsAsked(t *testing.T) {
	for asked, want := range map[time.Duration][2]time.Duration{
		7 * time.Second:  {7 * time.Second, 10500 * time.Millisecond},
		time.Hour:        {30 * time.Second, 30 * time.Second},
		-time.Hour:       {0, 200 * time.Millisecond},
		time.Millisecond: {0, 200 * time.Millisecond},
	} {
		t.Run(asked.String(), func(t *testing.T) {
			inBubble(t, func(b *bench) {
				st, err := status.New(codes.ResourceExhausted, "later").WithDetails(
					&errdetails.ErrorInfo{Reason: "TOO_MANY_STREAMS", Domain: client.Domain},
					&errdetails.RetryInfo{RetryDelay: durationpb.New(asked)})
				if err != nil {
					b.Fatal(err)
				}
				b.server.Script(feedtest.Step{After: -1, Err: st.Err()})
				b.follow(options())
				b.after(time.Minute)
				if got := b.diary.pauses[0]; got < want[0] || got > want[1] {
					b.Errorf("asked for %s, the pause is %s; want %s to %s", asked, got, want[0], want[1])
				}
				b.wantView(1, 2, 3)
			})
		})
	}
}
