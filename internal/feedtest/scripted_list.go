package feedtest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// ListBuckets implements bucketv1.BucketServiceServer.
func (s *Scripted) ListBuckets(req *bucketv1.ListBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.ListBucketsResponse]) error {
	if err := checkFilter(req.GetFilter()); err != nil {
		return err
	}
	start, end := req.GetStartUnixSeconds(), req.GetEndUnixSeconds()
	if start == 0 {
		return badRequest("start_unix_seconds is missing; it must be")
	}
	if err := checkRange(start, end); err != nil {
		return err
	}
	if len(req.GetFamilies()) > 100 || slices.Contains(req.GetFamilies(), "") {
		return badRequest("families has too many elements or an empty one")
	}
	s.mu.Lock()
	var found []logged
	for i := range s.log {
		l := &s.log[i]
		if l.kind == bucket.KindBucket && !l.dropped && matches(req.GetFilter(), l) && int64(l.key.Start) >= start && int64(l.end) <= end {
			found = append(found, *l)
		}
	}
	if req.GetAsRestated() {
		for i := range found {
			for j := range s.log { // the last one counts
				if l := &s.log[j]; l.kind == bucket.KindRestatement && !l.dropped && l.key == found[i].key && l.at.Revision > found[i].at.Revision {
					found[i] = *l
				}
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(found, func(a, b logged) int { return a.key.Compare(b.key) })

	skip := 0
	if req.GetPageToken() != "" {
		i := slices.IndexFunc(found, func(l logged) bool { return pageToken(req, l.key.String()) == req.GetPageToken() })
		if i < 0 {
			return badRequest("page_token does not belong to this request")
		}
		skip = i + 1
	}
	for _, l := range found[skip:] {
		e := l.entry
		if b := cmp.Or(e.GetBucket(), e.GetRestatement().GetBucket()); len(req.GetFamilies()) > 0 && b != nil {
			e = clone(e)
			b := cmp.Or(e.GetBucket(), e.GetRestatement().GetBucket())
			b.Families = slices.DeleteFunc(b.Families, func(f *bucketv1.FamilyRows) bool { return !slices.Contains(req.GetFamilies(), f.GetFamily()) })
		}
		if err := ss.Send(&bucketv1.ListBucketsResponse{Entry: e, PageToken: pageToken(req, l.key.String())}); err != nil {
			return err
		}
	}
	return nil
}

// pageToken names a bucket within a request: nothing can be read from it, so it
// is found again by comparing.
func pageToken(req *bucketv1.ListBucketsRequest, key string) string {
	bare := clone(req)
	bare.PageToken = ""
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		panic(err) // a request that arrived can be encoded
	}
	sum := sha256.Sum256(append(b, key...))
	return hex.EncodeToString(sum[:12])
}

// ListDatasets implements bucketv1.BucketServiceServer.
func (s *Scripted) ListDatasets(context.Context, *bucketv1.ListDatasetsRequest) (*bucketv1.ListDatasetsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := map[string]*bucketv1.DatasetVersion{}
	for i := range s.log {
		if v := s.log[i].entry.GetDatasetVersion(); v != nil {
			newest[v.GetDataset()] = v
		}
	}
	r := &bucketv1.ListDatasetsResponse{Info: s.info()}
	for _, name := range sortedKeys(newest) {
		r.Datasets = append(r.Datasets, newest[name])
	}
	return r, nil
}

// ListScopes implements bucketv1.BucketServiceServer: the scopes that have buckets.
func (s *Scripted) ListScopes(context.Context, *bucketv1.ListScopesRequest) (*bucketv1.ListScopesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]*bucketv1.ScopeInfo{}
	for i := range s.log {
		if b := s.log[i].entry.GetBucket(); b != nil {
			seen[s.log[i].key.Scope.String()] = &bucketv1.ScopeInfo{
				Scope: b.GetScope(), Name: b.GetZone(), ZoneLabel: b.GetZone(), AccountLabel: b.GetAccount(),
				State: bucketv1.ScopeState_SCOPE_STATE_ACTIVE,
			}
		}
	}
	r := &bucketv1.ListScopesResponse{}
	for _, k := range sortedKeys(seen) {
		r.Scopes = append(r.Scopes, seen[k])
	}
	return r, nil
}

// GetCoverage implements bucketv1.BucketServiceServer: it knows of no scope and
// so has nothing to say about any.
func (s *Scripted) GetCoverage(_ context.Context, req *bucketv1.GetCoverageRequest) (*bucketv1.GetCoverageResponse, error) {
	if err := checkFilter(req.GetFilter()); err != nil {
		return nil, err
	}
	if req.GetStartUnixSeconds() != 0 || req.GetEndUnixSeconds() != 0 {
		if err := checkRange(req.GetStartUnixSeconds(), req.GetEndUnixSeconds()); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &bucketv1.GetCoverageResponse{AsOf: wire.Timestamp(s.progress)}, nil
}

// GetStatus implements bucketv1.BucketServiceServer.
func (s *Scripted) GetStatus(context.Context, *bucketv1.GetStatusRequest) (*bucketv1.GetStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &bucketv1.GetStatusResponse{
		Info: s.info(), Head: wire.ResumePoint(s.storeID, s.head()), CompactedRevision: uint64(s.floor),
		ProgressTime: wire.Timestamp(s.progress), Role: bucketv1.Role_ROLE_LEADER, Leader: "scripted", Version: "scripted",
	}, nil
}

func matches(f *bucketv1.Filter, l *logged) bool {
	if len(f.GetDatasets()) > 0 && l.key.Dataset != "" && !slices.Contains(f.GetDatasets(), l.key.Dataset) {
		return false
	}
	if len(f.GetScopes())+len(f.GetZones()) == 0 || l.key.Scope.ID == "" {
		return true
	}
	if zone := cmp.Or(l.entry.GetBucket().GetZone(), l.entry.GetState().GetZone()); zone != "" && slices.Contains(f.GetZones(), zone) {
		return true
	}
	return slices.ContainsFunc(f.GetScopes(), func(s *bucketv1.Scope) bool { return s.GetId() == l.key.Scope.ID })
}

func checkFilter(f *bucketv1.Filter) error {
	if len(f.GetDatasets()) > 1000 || len(f.GetScopes()) > 1000 || len(f.GetZones()) > 1000 {
		return badRequest("filter has more than 1000 elements")
	}
	for _, d := range f.GetDatasets() {
		if err := wire.CheckDataset(d); err != nil {
			return badRequest("filter.datasets: " + err.Error())
		}
	}
	for _, name := range f.GetZones() {
		if name == "" || len(name) > bucket.MaxName {
			return badRequest("filter.zones: a name has 1 to 512 bytes")
		}
	}
	for _, sc := range f.GetScopes() {
		if _, err := wire.Scope(sc); err != nil {
			return badRequest("filter.scopes: " + err.Error())
		}
	}
	return nil
}

func checkRange(start, end int64) error {
	if start < 0 || end <= start || end > 253402300799 {
		return badRequest("the range is empty or beyond time")
	}
	return nil
}

func badRequest(text string) error {
	st, err := status.New(codes.InvalidArgument, strings.ToValidUTF8(text, "?")).
		WithDetails(&errdetails.ErrorInfo{Reason: "BAD_REQUEST", Domain: "weir.bucket.v1"})
	if err != nil {
		panic(err) // only for codes.OK
	}
	return st.Err()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
