// Package inquiry asks a collector for its state on behalf of the readers of the status
// page. However many there are, the collector gets one question at a time, and none that was
// answered, or failed, some seconds ago. The last good answer is kept for the time in which
// there is no newer one.
package inquiry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/statuspage"
)

// Collector is the part of a BucketServiceClient that is asked.
type Collector interface {
	GetStatus(ctx context.Context, in *bucketv1.GetStatusRequest, opts ...grpc.CallOption) (*bucketv1.GetStatusResponse, error)
	ListScopes(ctx context.Context, in *bucketv1.ListScopesRequest, opts ...grpc.CallOption) (*bucketv1.ListScopesResponse, error)
	ListDatasets(ctx context.Context, in *bucketv1.ListDatasetsRequest, opts ...grpc.CallOption) (*bucketv1.ListDatasetsResponse, error)
	GetCoverage(ctx context.Context, in *bucketv1.GetCoverageRequest, opts ...grpc.CallOption) (*bucketv1.GetCoverageResponse, error)
}

const (
	// fresh is how long an answer, or an error, is used before the question is asked again.
	fresh = 10 * time.Second
	// patience and coveragePatience are how long a collector has for an answer. What it says
	// about itself takes seconds where the store has tens of millions of buckets.
	patience         = 20 * time.Second
	coveragePatience = 10 * time.Second
	// pause is the shortest time from one question about coverage to the next: each is
	// about other zones, and costs the store a scan.
	pause = time.Second
	// kept is the number of answers about coverage that are kept, one per page of zones and
	// range, and keptBytes the size of their messages. The newest is kept whatever its size.
	kept      = 32
	keptBytes = 32 << 20
	// A survey is about all zones and accounts, so that it costs the collector a scan of the
	// whole range: seconds for a thousand zones. It is asked in the background, and again no
	// sooner than after this many times as long as the last one took.
	surveyShare = 10
	// surveyPatience is how long the collector has for it, glance and coveragePatience how long
	// a reader waits for one who does not, and who does, need it to know what to show. One that
	// is not older than surveyUsable is not waited for.
	surveyPatience = time.Minute
	glance         = 500 * time.Millisecond
	surveyUsable   = 2 * time.Minute
	// maxMessage is the maximum size of a response, that of the collector's.
	maxMessage = 16 << 20
)

var (
	errBusy    = errors.New("other questions to the collector are waiting for their answer")
	errPending = errors.New("the collector is being asked, and with many zones it needs some seconds: reload the page")
)

// Desk asks one collector. It is safe for concurrent use.
type Desk struct {
	from Collector
	now  func() time.Time
	log  *slog.Logger

	general  *question[general]
	scopes   *question[[]*bucketv1.ScopeInfo]
	covering chan struct{} // a semaphore: one question about coverage at a time
	touring  chan struct{} // a semaphore: one survey at a time

	mu      sync.Mutex         // guards the rest
	covered []*topic           // most recently used first
	resting time.Time          // no question about coverage before
	surveys map[string]*survey // by the name of the range: two
}

type general struct {
	status   *bucketv1.GetStatusResponse
	scopes   []*bucketv1.ScopeInfo
	datasets []*bucketv1.DatasetVersion
}

type topic struct {
	key  string
	size int // of the message
	*question[*bucketv1.GetCoverageResponse]
}

// New returns a desk. now is the calendar time of answers; ages are measured by the machine.
func New(from Collector, now func() time.Time, log *slog.Logger) *Desk {
	return &Desk{
		from: from, now: now, log: log, general: newQuestion[general](make(chan struct{}, 1)),
		scopes: newQuestion[[]*bucketv1.ScopeInfo](make(chan struct{}, 1)), covering: make(chan struct{}, 1),
		touring: make(chan struct{}, 1), surveys: map[string]*survey{},
	}
}

// General returns what the collector says about itself, its scopes and its datasets, at most
// some seconds old; with an error if there is no such answer, beside the last one.
func (d *Desk) General(ctx context.Context) statuspage.Answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got, at, err := d.general.get(ctx, d.now, d.ask)
	return statuspage.Answer{At: at, Err: d.calm("status", err), Status: got.status, Scopes: got.scopes, Datasets: got.datasets}
}

func (d *Desk) ask(ctx context.Context) (general, error) {
	large := grpc.MaxCallRecvMsgSize(maxMessage)
	state, err := d.from.GetStatus(ctx, &bucketv1.GetStatusRequest{}, large)
	if err != nil {
		return general{}, fmt.Errorf("get status: %w", err)
	}
	scopes, err := d.from.ListScopes(ctx, &bucketv1.ListScopesRequest{}, large)
	if err != nil {
		return general{}, fmt.Errorf("list scopes: %w", err)
	}
	datasets, err := d.from.ListDatasets(ctx, &bucketv1.ListDatasetsRequest{}, large)
	if err != nil {
		return general{}, fmt.Errorf("list datasets: %w", err)
	}
	// None is an answer too, unlike nil.
	return general{state, append([]*bucketv1.ScopeInfo{}, scopes.GetScopes()...), datasets.GetDatasets()}, nil
}

// Scopes returns the zones and accounts that the collector knows, at most some seconds old. If it
// does not answer, it returns those that it knew last; the error is why it never has answered.
func (d *Desk) Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, at, err := d.scopes.get(ctx, d.now, func(ctx context.Context) ([]*bucketv1.ScopeInfo, error) {
		m, err := d.from.ListScopes(ctx, &bucketv1.ListScopesRequest{}, grpc.MaxCallRecvMsgSize(maxMessage))
		if err != nil {
			return nil, fmt.Errorf("list scopes: %w", err)
		}
		return m.GetScopes(), nil
	})
	if !at.IsZero() {
		return list, nil
	}
	return nil, d.calm("scopes", err)
}

// Coverage returns the coverage of scopes in a range, and of a dataset if it is not empty.
// Without scopes it asks nothing. Unserved ranges are those of buckets that were this old
// when they were stored.
func (d *Desk) Coverage(ctx context.Context, scopes []*bucketv1.ScopeInfo, dataset string, r statuspage.Range, old time.Duration) statuspage.Coverage {
	if len(scopes) == 0 {
		return statuspage.Coverage{}
	}
	req := &bucketv1.GetCoverageRequest{
		Filter: &bucketv1.Filter{}, StartUnixSeconds: max(1, r.Start.Unix()), EndUnixSeconds: r.End.Unix(), ServedWithin: durationpb.New(old),
	}
	key := fmt.Sprint(req.StartUnixSeconds, " ", req.EndUnixSeconds, " ", old, " ", dataset)
	for _, sc := range scopes {
		req.Filter.Scopes = append(req.Filter.Scopes, sc.GetScope())
		key += " " + sc.GetScope().GetId()
	}
	if dataset != "" {
		req.Filter.Datasets = []string{dataset}
	}
	waiting, cancel := context.WithTimeout(ctx, coveragePatience)
	defer cancel()
	t := d.topic(key)
	got, at, err := t.get(waiting, d.now, func(waiting context.Context) (*bucketv1.GetCoverageResponse, error) {
		if err := d.rest(waiting); err != nil {
			return nil, err
		}
		// The time of the collector begins when it is asked, however long the reader has waited.
		ctx, cancel := context.WithTimeout(ctx, coveragePatience)
		defer cancel()
		began := time.Now()
		m, err := d.from.GetCoverage(ctx, req, grpc.MaxCallRecvMsgSize(maxMessage))
		d.tire(max(pause, time.Since(began)))
		if err != nil {
			return nil, fmt.Errorf("get coverage: %w", err)
		}
		d.weigh(t, proto.Size(m))
		return m, nil
	})
	return statuspage.Coverage{At: at, Err: d.calm("coverage", err), Response: got}
}

// rest waits until the next question about coverage may be asked.
func (d *Desk) rest(ctx context.Context) error {
	d.mu.Lock()
	wait := time.Until(d.resting)
	d.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errBusy
	}
}

func (d *Desk) tire(rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resting = time.Now().Add(rest)
}

func (d *Desk) topic(key string) *topic {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.covered, func(t *topic) bool { return t.key == key })
	found := &topic{key: key, question: newQuestion[*bucketv1.GetCoverageResponse](d.covering)}
	if i >= 0 {
		found = d.covered[i]
		d.covered = slices.Delete(d.covered, i, i+1)
	}
	d.covered = slices.Insert(d.covered, 0, found)
	d.forget()
	return found
}

// weigh notes the size of a topic's answer.
func (d *Desk) weigh(t *topic, size int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.size = size
	d.forget()
}

// forget drops the topics that are too many or too large, the least recently used first. The
// caller holds the lock.
func (d *Desk) forget() {
	size, n := 0, 0
	for ; n < min(len(d.covered), kept); n++ {
		if size += d.covered[n].size; n > 0 && size > keptBytes {
			break
		}
	}
	d.covered = slices.Delete(d.covered, n, len(d.covered))
}

// calm logs an error, and returns what readers may see of it: its kind, and no address.
func (d *Desk) calm(what string, err error) error {
	if err == nil || errors.Is(err, errBusy) {
		return err
	}
	d.log.Debug("the collector did not answer for the status page", "about", what, "err", err)
	switch code := status.Code(errors.Unwrap(err)); code {
	case codes.Unavailable:
		return errors.New("it cannot be reached, or its store cannot")
	case codes.DeadlineExceeded:
		return errors.New("it did not answer in time")
	case codes.Unimplemented:
		return errors.New("it is of a release that cannot answer this: upgrade it")
	case codes.Unauthenticated, codes.PermissionDenied:
		return errors.New("it refuses this exposer's credential")
	default:
		return fmt.Errorf("it answered with the code %s; its log has the reason", code)
	}
}

// question is a question with its last answer.
type question[T any] struct {
	asking chan struct{} // a semaphore, which questions may share

	mu    sync.Mutex
	tried time.Time // when the last attempt ended
	at    time.Time // when it was answered, by the calendar
	value T
	err   error // of the last attempt
}

func newQuestion[T any](asking chan struct{}) *question[T] { return &question[T]{asking: asking} }

func (q *question[T]) known() (value T, at time.Time, err error, recent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.value, q.at, q.err, !q.tried.IsZero() && time.Since(q.tried) < fresh
}

// get returns the last answer if it is fresh, else asks. The error is why the answer is not
// fresh.
func (q *question[T]) get(ctx context.Context, now func() time.Time, ask func(context.Context) (T, error)) (T, time.Time, error) {
	if value, at, err, recent := q.known(); recent {
		return value, at, err
	}
	select {
	case q.asking <- struct{}{}:
		defer func() { <-q.asking }()
	case <-ctx.Done():
		value, at, _, _ := q.known()
		return value, at, errBusy
	}
	if value, at, err, recent := q.known(); recent { // another reader has got the answer meanwhile
		return value, at, err
	}
	answer, err := ask(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	// A reader that left, or that only waited, says nothing about the collector.
	if errors.Is(err, errBusy) || err != nil && (errors.Is(ctx.Err(), context.Canceled) || status.Code(err) == codes.Canceled) {
		return q.value, q.at, errBusy
	}
	q.tried, q.err = time.Now(), err
	if err == nil {
		q.value, q.at = answer, now()
	}
	return q.value, q.at, q.err
}
