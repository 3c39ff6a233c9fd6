package feedtest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/feedtest"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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

// What cannot be read has its place in the order and the chain, in a snapshot
// and after it, and is passed: the follower neither stops there nor begins again.
func TestFollowerPassesWhatCannotBeRead(t *testing.T) {
	inBubble(t, func(b *bench) {
		spoiled := func(n int) feedtest.Entry {
			return feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(1), n)}.Spoil([]byte("spoiled"))
		}
		b.server.Append(feedtest.T0.Add(time.Hour), spoiled(2)) // revision 4
		b.follow(options())
		b.want(b.after(time.Second), "begin", "end 4", "progress 4")
		b.server.Append(feedtest.T0.Add(time.Hour), spoiled(3))
		b.fill(4, 5)
		b.want(b.after(time.Second), "entry 5", "entry 6", "progress 6")
		b.server.DropConnections()
		b.server.Append(feedtest.T0.Add(time.Hour), spoiled(5))
		b.after(time.Minute)
		b.wantView(1, 2, 3, 4, 5, 6, 7)
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
			b.Errorf("the third stream asks with %v; want the applied point, revision 6", requests[2])
		}
		b.wantView(1, 2, 3, 4, 5, 6, 7)
	})
}

func TestFollowerErrorTable(t *testing.T) {
	type row struct {
		name         string
		err          error
		least, most  time.Duration
		wantSnapshot bool       // the next stream begins with one
		level        slog.Level // at first
	}
	const short, long = 30 * time.Second, time.Minute
	rows := []row{
		{"compacted", feedtest.Error(codes.OutOfRange, "COMPACTED"), 0, 0, true, slog.LevelInfo},
		{"other store", feedtest.Error(codes.FailedPrecondition, "OTHER_STORE"), 0, 0, true, slog.LevelWarn},
		{"history changed", feedtest.Error(codes.FailedPrecondition, "HISTORY_CHANGED"), 0, 0, true, slog.LevelWarn},
		{"future revision", feedtest.Error(codes.FailedPrecondition, "FUTURE_REVISION"), 0, 0, true, slog.LevelWarn},
		{"behind", feedtest.Error(codes.Unavailable, "BEHIND"), 1, short, false, slog.LevelInfo},
		{"slow reader", feedtest.Error(codes.ResourceExhausted, "SLOW_READER"), 1, short, false, slog.LevelInfo},
		{"too many streams", feedtest.Error(codes.ResourceExhausted, "TOO_MANY_STREAMS"), 1, short, false, slog.LevelInfo},
		{"store unavailable", feedtest.Error(codes.Unavailable, "STORE_UNAVAILABLE"), 1, short, false, slog.LevelInfo},
		{"draining", feedtest.Error(codes.Unavailable, "DRAINING"), 1, short, false, slog.LevelDebug},
		{"internal", feedtest.Error(codes.Internal, "INTERNAL"), 1, short, false, slog.LevelInfo},
		{"bad request", feedtest.Error(codes.InvalidArgument, "BAD_REQUEST"), long / 2, long, false, slog.LevelError},
		{"no credential", status.Error(codes.Unauthenticated, "who are you"), long / 2, long, false, slog.LevelError},
		{"wrong credential", status.Error(codes.PermissionDenied, "not you"), long / 2, long, false, slog.LevelError},
		{"a proxy's error", status.Error(codes.Unavailable, "upstream reset"), 1, short, false, slog.LevelInfo},
		{"a reason of another domain", status.Error(codes.Unknown, "odd"), 1, short, false, slog.LevelInfo},
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
					b.Errorf("pause is %s; want %s to %s", got, r.least, r.most)
				}
				if got := levels.all()[0]; got != r.level {
					b.Errorf("logged at %s; want %s", got, r.level)
				}
				b.after(2 * time.Minute)
				requests := b.server.Requests()
				if len(requests) != 2 {
					b.Fatalf("%d streams were opened; want 2", len(requests))
				}
				if got := requests[1].GetSnapshot() != nil; got != r.wantSnapshot {
					b.Errorf("the second stream begins with a snapshot: %t; want %t", got, r.wantSnapshot)
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
				b.Errorf("pauses are %v; only the first may be nothing", b.diary.pauses)
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
