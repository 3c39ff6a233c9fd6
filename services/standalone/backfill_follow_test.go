package standalone

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
)

// watched is a collector of one backfill: one stream after another, each of which ends after
// some time.
type watched struct {
	adminv1.AdminServiceClient
	streams []*watchStream
}

type watchStream struct {
	grpc.ServerStreamingClient[adminv1.WatchBackfillResponse]
	ctx   context.Context
	sends []*adminv1.Backfill
	after time.Duration
	end   error
}

var errAway = status.Error(codes.Unavailable, "connection refused")

func (w *watched) WatchBackfill(ctx context.Context, _ *adminv1.WatchBackfillRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminv1.WatchBackfillResponse], error) {
	if len(w.streams) == 0 {
		return nil, errAway
	}
	s := w.streams[0]
	s.ctx, w.streams = ctx, w.streams[1:]
	return s, nil
}

func (s *watchStream) Recv() (*adminv1.WatchBackfillResponse, error) {
	if len(s.sends) > 0 {
		b := s.sends[0]
		s.sends = s.sends[1:]
		return &adminv1.WatchBackfillResponse{Backfill: b}, nil
	}
	select {
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	case <-time.After(s.after):
		return nil, s.end
	}
}

func backfillOf(missing uint64, state adminv1.BackfillState) *adminv1.Backfill {
	return &adminv1.Backfill{Id: "b", State: state, Windows: &adminv1.WindowCounts{Total: 10, Filled: 10 - missing, Missing: missing}}
}

// Whatever is waited for, there is a line a minute that says what and since when.
func TestFollowing(t *testing.T) {
	const running, done = adminv1.BackfillState_BACKFILL_STATE_RUNNING, adminv1.BackfillState_BACKFILL_STATE_DONE
	synctest.Test(t, func(t *testing.T) {
		w := &watched{streams: []*watchStream{
			{sends: []*adminv1.Backfill{backfillOf(10, running), backfillOf(5, running)}, after: 90 * time.Second, end: errAway},
			{after: 2 * time.Minute, end: errAway},
			{sends: []*adminv1.Backfill{backfillOf(0, done)}, end: io.EOF},
		}}
		var b strings.Builder
		f := follower{service: w, id: "b", collectors: "weir:9820", to: &b}
		last, err := f.follow(t.Context())
		if err != nil || last.GetState() != done {
			t.Errorf("%v, %v", last, err)
		}
		const want = `backfill b: 5 of 10 (50%); running, unchanged since 2000-01-01T00:00:00Z
backfill b: 5 of 10 (50%); waiting for a collector at weir:9820 since 2000-01-01T00:01:30Z: connection refused
backfill b: 5 of 10 (50%); waiting for a collector at weir:9820 since 2000-01-01T00:01:30Z: connection refused
`
		if b.String() != want {
			t.Errorf("got\n%swant\n%s", b.String(), want)
		}
	})
	synctest.Test(t, func(t *testing.T) { // there is no collector, and then nobody waits any more
		ctx, cancel := context.WithTimeout(t.Context(), 61*time.Second)
		defer cancel()
		var b strings.Builder
		f := follower{service: &watched{}, id: "b", collectors: "weir:9820", to: &b}
		if _, err := f.follow(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := strings.Count(b.String(), "waiting for a collector at weir:9820 since 2000-01-01T00:00:00Z: connection refused\n"); n != 1 {
			t.Errorf("%d lines in a minute: %s", n, b.String())
		}
	})
}

// A request that was made before is not shown as new.
func TestAnnouncements(t *testing.T) {
	var b strings.Builder
	old := backfillOf(0, adminv1.BackfillState_BACKFILL_STATE_DONE)
	old.Selection = &adminv1.Selection{StartUnixSeconds: 86400, EndUnixSeconds: 172800}
	old.CreatedAt, old.EndedAt = timestamppb.New(time.Unix(200_000, 0)), timestamppb.New(time.Unix(300_000, 0))
	announce(&b, old, false)
	announce(&b, old, true)
	old.EndedAt = nil
	announce(&b, old, false)
	const want = `backfill b, created at 1970-01-03T07:33:20Z, ended at 1970-01-04T11:20:00Z: this is its report; --new creates another
backfill b of 1970-01-02T00:00:00Z to 1970-01-03T00:00:00Z: 10 windows, 0 of them missing
backfill b of 1970-01-02T00:00:00Z to 1970-01-03T00:00:00Z: 10 windows, 0 of them missing
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}
