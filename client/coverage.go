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
	Detail     string // for people
}

// Report is what a store has of a range, and what it lacks. Each list is ordered
// by dataset, scope and time.
type Report struct {
	// AsOf is the collector's time for which it was made. Windows that were not due
	// then are in no list, nor are those of a time in which a scope was not wanted.
	AsOf time.Time
	// Stored can be listed.
	Stored []Span
	// Lacking should be there and is not: missing, waiting to be believed, lost,
	// accepted as a gap, or stored and not to be read.
	Lacking []Span
	// Refused is what the plan or the token does not allow.
	Refused []Span
}

// Empty reports whether nothing was wanted: of what was asked for the store knows no
// dataset, no scope or no window. A name that is mistyped is known to nobody.
func (r *Report) Empty() bool { return len(r.Stored)+len(r.Lacking)+len(r.Refused) == 0 }

// Whole reports whether everything that should be there is, and anything should.
func (r *Report) Whole() bool { return len(r.Lacking) == 0 && !r.Empty() }

// Coverage asks what the store has of the windows in [start, end). Both zero: from
// the beginning of each scope to now. A nil filter means all; an answer that would
// be too large for a message is refused (BAD_REQUEST): ask for fewer datasets,
// scopes or windows.
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
			default: // also a state of a later release: better one warning too many
				r.Lacking = append(r.Lacking, s)
			}
		}
	}
	return r, nil
}
