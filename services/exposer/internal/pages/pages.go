// Package pages fetches pages of older windows from a collector before an exposer shows
// them.
package pages

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// The pauses after a failure: a page is shown for five minutes, and wanted for as long
// before.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// patience is how long every attempt may fail before a warning is logged: a collector
	// that restarts is back by then, and a page is fetched minutes before it is shown.
	patience = 10 * time.Second
)

// Meter counts events; package meter implements it.
type Meter interface {
	PageFetched(whole bool)
	Rejected()
}

// Fetcher fetches pages, one after another, in the order in which they are wanted. It is
// safe for concurrent use.
type Fetcher struct {
	conn  grpc.ClientConnInterface
	meter Meter
	often *quiet.Log
	wake  chan struct{} // has one element if the wanted pages have changed

	mu      sync.Mutex
	owner   any
	want    []recent.Page
	fetched []recent.Fetched
	err     error              // of the last attempt, if it failed
	failing time.Time          // of the first attempt since the last that succeeded; zero: none has failed
	now     *recent.Page       // being fetched
	cancel  context.CancelFunc // of that
}

// New returns a Fetcher that lists buckets on a connection, which the caller closes.
func New(conn grpc.ClientConnInterface, meter Meter, log *slog.Logger) *Fetcher {
	return &Fetcher{conn: conn, meter: meter, often: quiet.New(log, time.Minute), wake: make(chan struct{}, 1)}
}

// Want replaces the pages to be fetched. What was fetched for another owner, and not
// taken, is dropped.
func (f *Fetcher) Want(owner any, want []recent.Page) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if owner == f.owner && slices.Equal(want, f.want) {
		return
	}
	if owner != f.owner {
		f.owner, f.fetched, f.err = owner, nil, nil
		f.abandon()
	}
	f.want = slices.Clone(want)
	if f.now != nil && !slices.Contains(f.want, *f.now) {
		f.abandon()
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// abandon ends the list in progress. The caller holds the lock.
func (f *Fetcher) abandon() {
	if f.cancel != nil {
		f.cancel()
	}
	f.now, f.cancel = nil, nil
}

// Take returns what was fetched for an owner since it was asked last, which is wanted no
// longer then, and the error if the last page could not be fetched. That one is tried again
// while it is wanted.
func (f *Fetcher) Take(owner any) ([]recent.Fetched, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if owner != f.owner {
		return nil, nil
	}
	fetched := f.fetched
	f.fetched = nil
	f.want = slices.DeleteFunc(f.want, func(p recent.Page) bool { return has(fetched, p) })
	return fetched, f.err
}

func has(fetched []recent.Fetched, p recent.Page) bool {
	return slices.ContainsFunc(fetched, func(f recent.Fetched) bool { return f.Page == p })
}

// Run fetches what is wanted until ctx ends. It returns nil.
func (f *Fetcher) Run(ctx context.Context) error {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		switch tried, err := f.next(ctx); {
		case err != nil:
			pause = min(max(firstPause, 2*pause), longestPause)
			f.rest(ctx, pause)
		case !tried:
			f.rest(ctx, 0)
			pause = 0
		default:
			pause = 0
		}
	}
	return nil
}

// rest waits until other pages are wanted, or a pause is over; 0: there is none.
func (f *Fetcher) rest(ctx context.Context, pause time.Duration) {
	var over <-chan time.Time
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-f.wake:
	case <-over:
	case <-ctx.Done():
	}
}

// next fetches the first page that is wanted and not there yet, if there is one.
func (f *Fetcher) next(ctx context.Context) (tried bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	owner := f.owner
	i := slices.IndexFunc(f.want, func(p recent.Page) bool { return !has(f.fetched, p) })
	if i < 0 {
		f.mu.Unlock()
		return false, nil
	}
	page := f.want[i]
	f.now, f.cancel = &page, cancel
	f.mu.Unlock()

	entries, err := f.list(ctx, page)

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now != &page || f.owner != owner {
		return true, nil // it is no longer wanted
	}
	f.now, f.cancel, f.err = nil, nil, err
	if ctx.Err() != nil {
		return true, nil // shutdown
	}
	f.meter.PageFetched(err == nil)
	if err != nil {
		if f.failing.IsZero() {
			f.failing = time.Now() // a duration of this machine, not calendar time
		}
		level := slog.LevelDebug
		if time.Since(f.failing) >= patience {
			level = slog.LevelWarn
		}
		f.often.Log(ctx, level, "", "page of older windows could not be fetched; /metrics lacks it in its turn until it is", "dataset", page.Dataset, "windows", page.Windows, "err", err)
		return true, err
	}
	f.failing = time.Time{}
	f.fetched = append(f.fetched, recent.Fetched{Page: page, Entries: entries})
	return true, nil
}

// list reads the buckets of a page. Those that cannot be read are left out: the stream
// would not have delivered them either.
func (f *Fetcher) list(ctx context.Context, page recent.Page) (entries []bucket.Entry, err error) {
	request := &bucketv1.ListBucketsRequest{
		Filter:           &bucketv1.Filter{Datasets: []string{page.Dataset}},
		StartUnixSeconds: int64(page.Windows.Start), EndUnixSeconds: int64(page.Windows.End),
	}
	for m, err := range client.List(ctx, f.conn, request, client.ListOptions{Attempts: 1}) {
		if err != nil {
			return nil, err
		}
		e, err := wire.Entry(m)
		switch {
		case err != nil:
			f.meter.Rejected()
			f.often.Error(quiet.Cause(err), "entry rejected; other entries are not affected", "revision", m.GetRevision(), "err", err)
		case e.Kind == bucket.KindBucket:
			entries = append(entries, e)
		case m.GetKind() != nil:
			return nil, fmt.Errorf("list buckets: received %T", m.GetKind())
		}
	}
	return entries, nil
}
