package client

import (
	"context"
	"fmt"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
)

// Span is a range of windows of one dataset and scope that are in one state.
type Span struct {
	Dataset    string
	Scope      *bucketv1.Scope
	Start, End time.Time // [Start, End)
	State      bucketv1.CoverageState
	Reason     bucketv1.GapReason
	Detail     string // human-readable
}

// Report is the coverage of a range: what is stored, missing and refused. Each list
// is ordered by dataset, scope and time.
type Report struct {
	// AsOf is the collector's time of the report. Windows that were not due by then
	// are in no list, nor are windows outside the time for which a scope is collected.
	AsOf time.Time
	// Stored windows can be listed.
	Stored []Span
	// Lacking windows should be stored and are not readable: missing, waiting to
	// settle, lost, accepted as a gap, or unreadable.
	Lacking []Span
	// Refused windows are those that the plan or the token does not allow.
	Refused []Span
}

// Empty reports whether the report has no window: the request matches no dataset,
// no scope or no window of the store, for instance because a name is misspelt.
func (r *Report) Empty() bool { return len(r.Stored)+len(r.Lacking)+len(r.Refused) == 0 }

// Whole reports whether no window is missing and the report is not empty.
func (r *Report) Whole() bool { return len(r.Lacking) == 0 && !r.Empty() }

// Coverage requests the coverage of the windows in [start, end). Both zero: from the
// beginning of each scope to now. A nil filter means all. A response that would
// exceed the message size is rejected (BAD_REQUEST): request fewer datasets, scopes
// or windows.
func Coverage(ctx context.Context, conn grpc.ClientConnInterface, filter *bucketv1.Filter, start, end time.Time) (*Report, error) {
	req := &bucketv1.GetCoverageRequest{Filter: filter}
	if !start.IsZero() || !end.IsZero() {
		req.StartUnixSeconds, req.EndUnixSeconds = start.Unix(), end.Unix()
	}
	answer, err := bucketv1.NewBucketServiceClient(conn).GetCoverage(ctx, req, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return nil, fmt.Errorf("get coverage: %w", err)
	}
	r := &Report{AsOf: moment(answer.GetAsOf())}
	for _, c := range answer.GetCoverages() {
		for _, part := range c.GetRanges() {
			s := Span{
				Dataset: c.GetDataset(), Scope: c.GetScope(),
				Start: time.Unix(part.GetStartUnixSeconds(), 0).UTC(), End: time.Unix(part.GetEndUnixSeconds(), 0).UTC(),
				State: part.GetState(), Reason: part.GetReason(), Detail: part.GetDetail(),
			}
			switch s.State {
			case bucketv1.CoverageState_COVERAGE_STATE_FINAL:
				r.Stored = append(r.Stored, s)
			case bucketv1.CoverageState_COVERAGE_STATE_REFUSED:
				r.Refused = append(r.Refused, s)
			default: // including states of later releases: a false warning is the safer error
				r.Lacking = append(r.Lacking, s)
			}
		}
	}
	return r, nil
}
