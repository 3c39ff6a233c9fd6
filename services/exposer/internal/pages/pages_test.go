package pages_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer/internal/pages"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

type meter struct{ whole, failed, rejected atomic.Int64 }

func (m *meter) Rejected() { m.rejected.Add(1) }
func (m *meter) PageFetched(whole bool) {
	if whole {
		m.whole.Add(1)
	} else {
		m.failed.Add(1)
	}
}

// line is a connection that can be down, or hang.
type line struct {
	grpc.ClientConnInterface
	down, hangs atomic.Bool
	lists       atomic.Int64
}

func (l *line) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, o ...grpc.CallOption) (grpc.ClientStream, error) {
	l.lists.Add(1)
	if l.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l.down.Load() {
		return nil, status.Error(codes.Unavailable, "down")
	}
	return l.ClientConnInterface.NewStream(ctx, d, method, o...)
}

// fetching is a Fetcher at work, on a store with windows 0 to 59 of two zones.
func fetching(t *testing.T) (*pages.Fetcher, *line, *meter) {
	t.Helper()
	s := feedtest.NewScripted("11112222333344445555666677778888")
	s.Append(feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)}, feedtest.Entry{Definition: feedtest.Definition("dns_5m", 1)})
	for n := range 60 {
		for z := range 2 {
			s.Append(feedtest.T0, feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(z), n)}, feedtest.Entry{Bucket: feedtest.Bucket("dns_5m", feedtest.Zone(z), n)})
		}
	}
	l, m := &line{ClientConnInterface: s.Serve(t)}, &meter{}
	f := pages.New(l, m, testkit.Logger(t))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f, l, m
}

// page has windows from n on.
func page(n int) recent.Page {
	start := bucket.TimeOf(feedtest.T0).Add(time.Duration(n) * 5 * time.Minute)
	return recent.Page{Dataset: "http_5m", Number: int64(n), Windows: bucket.Window{Start: start, End: start.Add(2 * time.Hour)}}
}

// take waits for so many pages of an owner.
func take(t *testing.T, f *pages.Fetcher, owner any, n int) (all []recent.Fetched) {
	t.Helper()
	testkit.Eventually(t, func() error {
		got, _ := f.Take(owner)
		if all = append(all, got...); len(all) < n {
			return fmt.Errorf("%d pages are there, want %d", len(all), n)
		}
		return nil
	})
	return all
}

// What is wanted is fetched in order, each page whole and nothing else.
func TestPagesAreFetchedInOrder(t *testing.T) {
	f, l, m := fetching(t)
	owner := new(int)
	f.Want(owner, []recent.Page{page(24), page(0)})
	got := take(t, f, owner, 2)
	for i, want := range []recent.Page{page(24), page(0)} {
		var keys []string
		for _, e := range got[i].Entries {
			keys = append(keys, fmt.Sprint(e.Bucket.Dataset, e.Bucket.Start))
			if e.Revision == 0 || e.Bucket.Start < want.Windows.Start || e.Bucket.Window().End > want.Windows.End {
				t.Errorf("page %d has %s at revision %d", i, e.Bucket.Key, e.Revision)
			}
		}
		if got[i].Page != want || len(keys) != 48 || len(slices.Compact(keys)) != 24 {
			t.Errorf("page %d is %v with %d buckets, want %v with 48", i, got[i].Page, len(got[i].Entries), want)
		}
	}
	f.Want(owner, nil)
	if more, err := f.Take(owner); len(more) > 0 || err != nil || m.whole.Load() != 2 || m.rejected.Load() > 0 || l.lists.Load() != 2 {
		t.Errorf("%d pages more, %v, %d lists", len(more), err, l.lists.Load())
	}
}

// A failure is told to the owner and tried again while the page is wanted.
func TestAFailedPageIsTriedAgain(t *testing.T) {
	f, l, m := fetching(t)
	l.down.Store(true)
	owner := new(int)
	f.Want(owner, []recent.Page{page(0)})
	testkit.Eventually(t, func() error {
		if _, err := f.Take(owner); err == nil {
			return errors.New("no failure is told")
		}
		return nil
	})
	l.down.Store(false)
	got := take(t, f, owner, 1)
	if _, err := f.Take(owner); err != nil || len(got[0].Entries) != 48 || m.failed.Load() == 0 || m.whole.Load() != 1 {
		t.Errorf("%d buckets after %d failures: %v", len(got[0].Entries), m.failed.Load(), err)
	}
}

// A collector that restarts is no warning; one that stays away is, and once.
func TestAPageThatKeepsFailingIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := testkit.RecordingLogger(t)
		l := &line{}
		l.down.Store(true)
		f := pages.New(l, &meter{}, log)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		f.Want(new(int), []recent.Page{page(0)})
		for _, at := range []struct {
			after time.Duration
			lines int
		}{{9 * time.Second, 0}, {20 * time.Second, 1}, {20 * time.Second, 1}} {
			time.Sleep(at.after)
			synctest.Wait()
			if n := logs.Count("level=WARN"); n != at.lines {
				t.Errorf("%d warnings %s later, want %d", n, at.after, at.lines)
			}
		}
		cancel()
		if err := <-done; err != nil || l.lists.Load() < 5 {
			t.Errorf("%d attempts, and Run returned %v", l.lists.Load(), err)
		}
	})
}

// A list that hangs holds up neither other pages nor another owner, who does not get what
// was fetched for the one before.
func TestAnotherOwnerIsServedAtOnce(t *testing.T) {
	f, l, _ := fetching(t)
	l.hangs.Store(true)
	first, second := new(int), new(int)
	f.Want(first, []recent.Page{page(0)})
	testkit.Eventually(t, func() error {
		if l.lists.Load() == 0 {
			return errors.New("nothing is listed")
		}
		return nil
	})
	l.hangs.Store(false)
	f.Want(second, []recent.Page{page(24)})
	if got := take(t, f, second, 1); got[0].Page != page(24) {
		t.Errorf("the second owner got %v", got[0].Page)
	}
	f.Want(second, []recent.Page{page(1)})
	take(t, f, second, 1)
	if got, err := f.Take(first); len(got) > 0 || err != nil {
		t.Errorf("the first owner got %d pages of the second: %v", len(got), err)
	}
}
