package inquiry

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/statuspage"
)

// survey is a survey with when it may be made again. The lock of the desk guards it.
type survey struct {
	last   statuspage.Survey
	ended  time.Time     // when the last good one ended; zero: there is none
	next   time.Time     // none begins before
	asking chan struct{} // closed when the one that runs has ended; nil: none does
}

// Survey returns what was found last of all scopes of an answer in a range, and has a new survey
// made if that is due. It waits for it only while there is none that is usable, and if needed
// is false only for a moment. Unserved ranges are as those of Coverage.
func (d *Desk) Survey(ctx context.Context, a statuspage.Answer, r statuspage.Range, old time.Duration, needed bool) statuspage.Survey {
	d.mu.Lock()
	s := d.surveys[r.Name]
	if s == nil {
		s = &survey{}
		d.surveys[r.Name] = s
	}
	if s.asking == nil && a.Err == nil && a.Scopes != nil && !time.Now().Before(s.next) {
		s.asking = make(chan struct{})
		// It goes on for the next reader when this one has left.
		go d.tour(context.WithoutCancel(ctx), s, a, r, old)
	}
	last, asking, usable := s.last, s.asking, !s.ended.IsZero() && time.Since(s.ended) < surveyUsable
	d.mu.Unlock()
	switch {
	case a.Err != nil:
		last.Err = a.Err
		return last
	case asking == nil || usable:
		return last
	}
	wait := glance
	if needed {
		wait = coveragePatience
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-asking:
	case <-timer.C:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if last = s.last; last.Found == nil && last.Err == nil {
		last.Err = errPending
	}
	return last
}

// tour makes a survey.
func (d *Desk) tour(ctx context.Context, s *survey, a statuspage.Answer, r statuspage.Range, old time.Duration) {
	d.touring <- struct{}{}
	defer func() { <-d.touring }()
	ctx, cancel := context.WithTimeout(ctx, surveyPatience)
	defer cancel()
	began := time.Now()
	found, at := statuspage.NewFound(a, r, d.now()), d.now()
	err := d.visit(ctx, found, a.Scopes, &bucketv1.GetCoverageRequest{
		StartUnixSeconds: max(1, r.Start.Unix()), EndUnixSeconds: r.End.Unix(), ServedWithin: durationpb.New(old),
	})
	if err == nil {
		found.End()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	close(s.asking)
	now := time.Now()
	s.asking, s.next = nil, now.Add(max(fresh, surveyShare*now.Sub(began)))
	if s.last.Err = d.calm("survey", err); err == nil {
		s.last, s.ended = statuspage.Survey{At: at, Found: found}, now
	}
}

// visit asks for the coverage of scopes: of all at once, and of halves if that is more than
// fits into a message.
func (d *Desk) visit(ctx context.Context, found *statuspage.Found, scopes []*bucketv1.ScopeInfo, req *bucketv1.GetCoverageRequest) error {
	m, err := d.from.GetCoverage(ctx, req, grpc.MaxCallRecvMsgSize(maxMessage))
	switch {
	case err == nil:
		found.Add(m)
		return nil
	case status.Code(err) != codes.InvalidArgument || len(scopes) < 2:
		return fmt.Errorf("get coverage of all: %w", err)
	}
	for _, half := range [][]*bucketv1.ScopeInfo{scopes[:len(scopes)/2], scopes[len(scopes)/2:]} {
		part := &bucketv1.GetCoverageRequest{
			Filter: &bucketv1.Filter{}, StartUnixSeconds: req.GetStartUnixSeconds(), EndUnixSeconds: req.GetEndUnixSeconds(), ServedWithin: req.GetServedWithin(),
		}
		for _, sc := range half {
			part.Filter.Scopes = append(part.Filter.Scopes, sc.GetScope())
		}
		if err := d.visit(ctx, found, half, part); err != nil {
			return err
		}
	}
	return nil
}
