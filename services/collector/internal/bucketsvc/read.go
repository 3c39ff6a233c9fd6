package bucketsvc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// answer runs one unary call: within the limits of concurrency, time and size, and
// converts its error to a status.
func answer[T proto.Message](ctx context.Context, s *Server, call string, do func(ctx context.Context) (T, error)) (T, error) {
	in, full := s.calls, errManyCalls
	if call == coverageCall {
		in, full = s.lists, errManyLists // it reads what a list reads
	}
	bounded, cancel := context.WithTimeout(ctx, s.c.Limits.Unary)
	defer cancel()
	var m T
	err := s.acquire(bounded, in, full)
	if err == nil {
		defer in.Release()
		m, err = do(bounded)
	}
	if err == nil {
		err = s.fits(m)
	}
	if err != nil {
		var none T
		return none, s.status(ctx, call, err)
	}
	return m, nil
}

// ListDatasets implements bucketv1.BucketServiceServer.
func (s *Server) ListDatasets(ctx context.Context, _ *bucketv1.ListDatasetsRequest) (*bucketv1.ListDatasetsResponse, error) {
	return answer(ctx, s, "ListDatasets", func(ctx context.Context) (*bucketv1.ListDatasetsResponse, error) {
		head, err := s.c.Store.Head(ctx)
		if err != nil {
			return nil, err
		}
		entries, err := s.c.Store.Datasets(ctx)
		if err != nil {
			return nil, err
		}
		newest := map[string]*bucketv1.DatasetVersion{}
		for i := range entries { // ascending by revision: later ones replace
			var v bucketv1.DatasetVersion
			if kind, payload := s.content(&entries[i]); kind == wire.KindNone {
				continue // the newest that can be read is listed
			} else if err := proto.Unmarshal(payload, &v); err != nil {
				return nil, fmt.Errorf("decode the dataset version at revision %d: %w", entries[i].Revision, err)
			}
			newest[v.GetDataset()] = &v
		}
		r := &bucketv1.ListDatasetsResponse{Info: s.info(head.Settings)}
		for _, v := range newest {
			r.Datasets = append(r.Datasets, v)
		}
		slices.SortFunc(r.Datasets, func(a, b *bucketv1.DatasetVersion) int {
			return strings.Compare(a.GetDataset(), b.GetDataset())
		})
		return r, nil
	})
}

// ListScopes implements bucketv1.BucketServiceServer.
func (s *Server) ListScopes(ctx context.Context, _ *bucketv1.ListScopesRequest) (*bucketv1.ListScopesResponse, error) {
	return answer(ctx, s, "ListScopes", func(ctx context.Context) (*bucketv1.ListScopesResponse, error) {
		scopes, err := s.c.Status.Scopes(ctx)
		if err != nil {
			return nil, fmt.Errorf("read scopes: %w", err)
		}
		scopes = slices.Clone(scopes)
		slices.SortFunc(scopes, func(a, b *bucketv1.ScopeInfo) int { return compareScopes(a.GetScope(), b.GetScope()) })
		return &bucketv1.ListScopesResponse{Scopes: scopes}, nil
	})
}

const coverageCall = "GetCoverage"

// GetCoverage implements bucketv1.BucketServiceServer.
func (s *Server) GetCoverage(ctx context.Context, req *bucketv1.GetCoverageRequest) (*bucketv1.GetCoverageResponse, error) {
	return answer(ctx, s, coverageCall, func(ctx context.Context) (*bucketv1.GetCoverageResponse, error) {
		filter, err := parseFilter(req.GetFilter())
		if err != nil {
			return nil, err
		}
		var window bucket.Window
		if req.GetStartUnixSeconds() != 0 || req.GetEndUnixSeconds() != 0 {
			if window, err = parseRange(req.GetStartUnixSeconds(), req.GetEndUnixSeconds()); err != nil {
				return nil, err
			}
		}
		of, _, err := s.stored(ctx, filter)
		if err != nil {
			return nil, err
		}
		coverages, asOf, err := s.c.Status.Coverage(ctx, of, window)
		if err != nil {
			return nil, fmt.Errorf("read coverage: %w", err)
		}
		coverages = slices.Clone(coverages)
		slices.SortFunc(coverages, func(a, b *bucketv1.Coverage) int {
			return cmp.Or(strings.Compare(a.GetDataset(), b.GetDataset()), compareScopes(a.GetScope(), b.GetScope()))
		})
		if d := req.GetServedWithin(); d != nil {
			if err := s.unserved(ctx, coverages, of, window, d); err != nil {
				return nil, err
			}
		}
		return &bucketv1.GetCoverageResponse{Coverages: coverages, AsOf: wire.Timestamp(asOf)}, nil
	})
}

// unserved sets the unserved ranges of coverages.
func (s *Server) unserved(ctx context.Context, coverages []*bucketv1.Coverage, f store.Filter, asked bucket.Window, within *durationpb.Duration) error {
	age := within.AsDuration()
	if within.CheckValid() != nil || age <= 0 {
		return badRequest("served_within is %s; it must be a positive duration", age)
	}
	runs, err := s.c.Store.Unserved(ctx, f, asked.Start, age)
	if err != nil {
		return fmt.Errorf("read unserved ranges: %w", err)
	}
	type series struct {
		dataset string
		scope   bucket.Scope
	}
	of := map[series][]bucket.Window{}
	for _, r := range runs {
		k := series{r.Dataset, r.Scope}
		of[k] = append(of[k], r.Window)
	}
	for _, c := range coverages {
		scope, err := wire.Scope(c.GetScope())
		if err != nil {
			return err
		}
		for _, w := range of[series{c.GetDataset(), scope}] {
			if asked != (bucket.Window{}) {
				w = w.Intersect(asked)
			}
			if !w.Empty() {
				c.Unserved = append(c.Unserved, &bucketv1.UnservedRange{StartUnixSeconds: int64(w.Start), EndUnixSeconds: int64(w.End)})
			}
		}
	}
	return nil
}

// GetStatus implements bucketv1.BucketServiceServer.
func (s *Server) GetStatus(ctx context.Context, _ *bucketv1.GetStatusRequest) (*bucketv1.GetStatusResponse, error) {
	return answer(ctx, s, "GetStatus", func(ctx context.Context) (*bucketv1.GetStatusResponse, error) {
		head, err := s.c.Store.Head(ctx)
		if err != nil {
			return nil, err
		}
		datasets, err := s.datasets(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the state of datasets: %w", err)
		}
		problems, err := s.c.Status.Problems(ctx)
		if err != nil {
			return nil, err
		}
		r := &bucketv1.GetStatusResponse{
			Info:              s.info(head.Settings),
			Head:              wire.ResumePoint(head.StoreID, head.Position),
			CompactedRevision: uint64(head.Floor),
			ProgressTime:      wire.Timestamp(head.ProgressAt),
			Role:              s.c.Status.Role(),
			Version:           s.c.Version,
			Datasets:          slices.Clone(datasets),
			Problems:          problems,
		}
		if head.ExpiresAt.After(head.Now) { // both by the database's clock
			r.Leader = head.Holder
		}
		slices.SortFunc(r.Datasets, func(a, b *bucketv1.DatasetStatus) int {
			return strings.Compare(a.GetDataset(), b.GetDataset())
		})
		return r, nil
	})
}

// summaryAge is how long the status of datasets is cached. Computing it reads the
// coverage of the whole store.
const summaryAge = 5 * time.Second

// datasets returns the status of datasets, which one call at a time computes; calls
// that wait get its result.
func (s *Server) datasets(ctx context.Context) ([]*bucketv1.DatasetStatus, error) {
	if err := s.acquire(ctx, s.summing, errManyCalls); err != nil {
		return nil, err
	}
	defer s.summing.Release()
	if !s.summed.IsZero() && time.Since(s.summed) < summaryAge {
		return s.summary, nil
	}
	summary, err := s.c.Status.Datasets(ctx)
	if err != nil {
		return nil, err
	}
	s.summary, s.summed = summary, time.Now() // an age, not calendar time
	return summary, nil
}

func compareScopes(a, b *bucketv1.Scope) int {
	return cmp.Or(cmp.Compare(a.GetKind(), b.GetKind()), strings.Compare(a.GetId(), b.GetId()))
}
