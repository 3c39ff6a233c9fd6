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

// Status says what a collector knows of itself; a BucketServiceClient does.
type Status interface {
	GetStatus(ctx context.Context, in *bucketv1.GetStatusRequest, opts ...grpc.CallOption) (*bucketv1.GetStatusResponse, error)
}

// The collector is asked on behalf of people who look at a page: they wait for
// statusPatience at most, and however many look, it is asked once in statusFor.
const (
	statusPatience = 2 * time.Second
	statusFor      = 10 * time.Second
)

// problems are what the collector says that somebody has to mend.
type problems struct {
	from   Status
	asking chan struct{} // held by whoever asks

	mu   sync.Mutex // guards the rest
	at   time.Time  // of the answer
	list []problem
	err  error
}

// problem is what the page shows of one.
type problem struct{ Code, About, Message, Since string }

var errNotAsked = errors.New("another page waits for the answer")

func newProblems(from Status) *problems {
	return &problems{from: from, asking: make(chan struct{}, 1)}
}

// get returns the problems as of the last seconds, or why they are not known. A
// collector that is older than the question has none to tell.
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
	if list, err, fresh := p.known(); fresh { // whoever asked before has told
		return list, err
	}
	answer, err := p.from.GetStatus(ctx, &bucketv1.GetStatusRequest{})
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, err // this page's reader is gone, which says nothing to others
	}
	if status.Code(err) == codes.Unimplemented {
		err = nil // it is older than the question
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.list, p.err = time.Now(), show(answer.GetProblems()), err
	return p.list, p.err
}

// mostShown is how many problems of one code the page shows: a hundred names with
// the same mistake hide what else there is.
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
			shown = append(shown, problem{Code: code, Message: fmt.Sprintf("%d more like it; the collector's log has all", more)})
		}
	}
	return shown
}

func (p *problems) known() (list []problem, err error, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list, p.err, !p.at.IsZero() && time.Since(p.at) < statusFor
}
