package web

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Status returns a collector's status; a BucketServiceClient implements it.
type Status interface {
	GetStatus(ctx context.Context, in *bucketv1.GetStatusRequest, opts ...grpc.CallOption) (*bucketv1.GetStatusResponse, error)
}

// A request for the landing page waits for the collector's status for at most
// statusPatience. The answer is cached for statusFor.
const (
	statusPatience = 2 * time.Second
	statusFor      = 10 * time.Second
)

// problems caches the problems that the collector reports to its operator.
type problems struct {
	from   Status
	asking chan struct{} // a semaphore: one request at a time

	mu   sync.Mutex // guards the rest
	at   time.Time  // of the answer
	list []problem
	err  error
}

// problem is one problem as the page shows it.
type problem struct{ Code, About, Message, Since string }

var errNotAsked = errors.New("another request is waiting for the collector's status")

func newProblems(from Status) *problems {
	return &problems{from: from, asking: make(chan struct{}, 1)}
}

// get returns the problems, at most statusFor old, or why they are unknown. A
// collector of a release without GetStatus has none.
func (p *problems) get(ctx context.Context) ([]problem, error) {
	if p.from == nil {
		return nil, nil
	}
	if list, err, fresh := p.known(); fresh {
		return list, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return nil, errNotAsked
	}
	if list, err, fresh := p.known(); fresh { // another request has got the answer meanwhile
		return list, err
	}
	answer, err := p.from.GetStatus(ctx, &bucketv1.GetStatusRequest{})
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, err // this client disconnected, which says nothing about the collector
	}
	if status.Code(err) == codes.Unimplemented {
		err = nil // a release without GetStatus
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.list, p.err = time.Now(), show(answer.GetProblems()), err
	return p.list, p.err
}

// mostShown is how many problems of one code the page shows, so that a hundred
// zones with the same mistake do not hide other problems.
const mostShown = 10

func show(list []*bucketv1.Problem) (shown []problem) {
	of := map[string]int{}
	for _, one := range list {
		if of[one.GetCode()]++; of[one.GetCode()] > mostShown {
			continue
		}
		p := problem{Code: one.GetCode(), About: one.GetAbout(), Message: one.GetMessage()}
		if since := one.GetSince(); since.IsValid() {
			p.Since = since.AsTime().Format(time.RFC3339)
		}
		shown = append(shown, p)
	}
	for _, code := range slices.Sorted(maps.Keys(of)) {
		if more := of[code] - mostShown; more > 0 {
			shown = append(shown, problem{Code: code, Message: fmt.Sprintf("%d more with this code; the collector's log has all of them", more)})
		}
	}
	return shown
}

func (p *problems) known() (list []problem, err error, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list, p.err, !p.at.IsZero() && time.Since(p.at) < statusFor
}
