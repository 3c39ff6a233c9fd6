package feedtest

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc/codes"
)

func listRequest(from, to int) *bucketv1.ListBucketsRequest {
	return &bucketv1.ListBucketsRequest{
		StartUnixSeconds: T0.Add(time.Duration(from) * 5 * time.Minute).Unix(),
		EndUnixSeconds:   T0.Add(time.Duration(to) * 5 * time.Minute).Unix(),
	}
}

func (x *exam) list(req *bucketv1.ListBucketsRequest) (entries []*bucketv1.Entry, tokens []string, err error) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	s, err := x.rpc.ListBuckets(ctx, req)
	for err == nil {
		var m *bucketv1.ListBucketsResponse
		if m, err = s.Recv(); err == nil {
			entries, tokens = append(entries, m.GetEntry()), append(tokens, m.GetPageToken())
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return entries, tokens, err
}

func (x *exam) listed(req *bucketv1.ListBucketsRequest) ([]*bucketv1.Entry, []string) {
	x.Helper()
	entries, tokens, err := x.list(req)
	if err != nil {
		x.Fatalf("ListBuckets: %v", err)
	}
	return entries, tokens
}

func between(from, to int) func(*bucketv1.Bucket) bool {
	r := listRequest(from, to)
	return func(b *bucketv1.Bucket) bool {
		return b.GetStartUnixSeconds() >= r.GetStartUnixSeconds() &&
			b.GetStartUnixSeconds()+int64(b.GetSizeSeconds()) <= r.GetEndUnixSeconds()
	}
}

func listWindow(x *exam) {
	x.fill(5)
	for _, r := range [][2]int{{0, 5}, {1, 3}, {4, 5}, {5, 9}, {0, 1}} {
		got, _ := x.listed(listRequest(r[0], r[1]))
		x.wantEntries(got, x.buckets(between(r[0], r[1])))
	}
	// A window that only half lies in the range is not in it.
	half := listRequest(1, 3)
	half.StartUnixSeconds++
	got, _ := x.listed(half)
	x.wantEntries(got, x.buckets(between(2, 3)))
}

func listTokens(x *exam) {
	x.fill(3)
	req := listRequest(0, 3)
	all, tokens := x.listed(req)
	if len(all) != 12 {
		x.Fatalf("list has %d buckets; want 12", len(all))
	}
	for i, token := range tokens {
		next := clone(req)
		next.PageToken = token
		got, more := x.listed(next)
		x.wantEntries(got, all[i+1:])
		if !slices.Equal(more, tokens[i+1:]) {
			x.Fatalf("the tokens after bucket %d differ from those of the first list", i)
		}
	}
}

// listRestated: a list as restated has the newest restatement in its bucket's place, filtered
// and continued like the bucket; any other list has the first value.
func listRestated(x *exam) {
	x.fill(3)
	corrected := func(n int, by float64) *bucket.Bucket {
		b := Bucket("http_5m", Zone(1), n)
		b.Families[0].Values[0] += by
		return b
	}
	plain := listRequest(0, 3)
	first, _ := x.listed(plain)
	before := x.head()
	x.append(T0.Add(time.Hour), Entry{Restated: corrected(0, 1)}, Entry{Restated: corrected(2, 1)}, Entry{Audit: Audit("http_5m", Zone(1), 0, 3)})
	x.append(T0.Add(2*time.Hour), Entry{Restated: corrected(0, 2)})
	again, _ := x.listed(plain)
	x.wantEntries(again, first)

	newest := map[int64]*bucketv1.Entry{}
	for _, e := range x.log[before:] {
		if b := e.GetRestatement().GetBucket(); b != nil {
			newest[b.GetStartUnixSeconds()] = e
		}
	}
	var want []*bucketv1.Entry
	for _, e := range first {
		b := e.GetBucket()
		if r := newest[b.GetStartUnixSeconds()]; r != nil && b.GetDataset() == "http_5m" && b.GetScope().GetId() == Zone(1).ID {
			e = r
		}
		want = append(want, e)
	}
	req := clone(plain)
	req.AsRestated = true
	got, tokens := x.listed(req)
	x.wantEntries(got, want)
	for i, token := range tokens {
		next := clone(req)
		next.PageToken = token
		rest, _ := x.listed(next)
		x.wantEntries(rest, want[i+1:])
	}
	other := clone(plain)
	other.PageToken = tokens[0]
	if _, _, err := x.list(other); err == nil {
		x.Fatal("the token of a list as restated continues one that is not")
	}
	one := clone(req)
	one.Families = []string{Total("http_5m")}
	one.Filter = &bucketv1.Filter{Datasets: []string{"http_5m"}, Scopes: []*bucketv1.Scope{wire.ProtoScope(Zone(1))}}
	some, _ := x.listed(one)
	for _, e := range some {
		b := e.GetBucket()
		if r := e.GetRestatement(); r != nil {
			if b = r.GetBucket(); r.GetActor() != "ada" || r.GetReason() == "" {
				x.Fatalf("a restatement with one family is %v", r)
			}
		}
		if len(b.GetFamilies()) != 1 || b.GetFamilies()[0].GetFamily() != Total("http_5m") {
			x.Fatalf("asked for one family, got %v", b)
		}
	}
	if len(some) != 3 {
		x.Fatalf("%d entries of one zone, want 3", len(some))
	}
}

func listFilters(x *exam) {
	x.fill(3)
	req := listRequest(0, 3)
	req.Filter = &bucketv1.Filter{Datasets: []string{"dns_5m"}}
	got, _ := x.listed(req)
	x.wantEntries(got, x.buckets(func(b *bucketv1.Bucket) bool { return b.GetDataset() == "dns_5m" }))

	req.Filter = &bucketv1.Filter{Scopes: []*bucketv1.Scope{wire.ProtoScope(Zone(2))}}
	got, _ = x.listed(req)
	x.wantEntries(got, x.buckets(func(b *bucketv1.Bucket) bool { return b.GetScope().GetId() == Zone(2).ID }))

	// A zone that is renamed is found under each name with the buckets of its time.
	renamed := Bucket("http_5m", Zone(1), 3)
	renamed.Zone = "new.example"
	x.append(T0.Add(time.Hour), Entry{Bucket: renamed})
	old := x.buckets(nil)[0].GetBucket().GetZone()
	for _, names := range [][]string{{old}, {"new.example"}, {old, "new.example"}, {"never.example"}} {
		all := listRequest(0, 4)
		all.Filter = &bucketv1.Filter{Zones: names}
		got, tokens := x.listed(all)
		want := x.buckets(func(b *bucketv1.Bucket) bool { return slices.Contains(names, b.GetZone()) })
		x.wantEntries(got, want)
		if len(tokens) > 1 {
			all.PageToken = tokens[0]
			got, _ = x.listed(all)
			x.wantEntries(got, want[1:])
		}
		// Zones and scopes are one restriction.
		all = listRequest(0, 4)
		all.Filter = &bucketv1.Filter{Zones: names, Scopes: []*bucketv1.Scope{wire.ProtoScope(Zone(2))}}
		got, _ = x.listed(all)
		x.wantEntries(got, x.buckets(func(b *bucketv1.Bucket) bool {
			return slices.Contains(names, b.GetZone()) || b.GetScope().GetId() == Zone(2).ID
		}))
	}

	req.Filter = &bucketv1.Filter{Datasets: []string{"never_1h"}}
	got, _ = x.listed(req)
	x.wantEntries(got, nil)

	// Families: the other rows are gone, buckets without any are still there.
	req = listRequest(0, 4)
	req.Families = []string{Breakdown("http_5m")}
	want := x.buckets(nil)
	for i := range want {
		want[i] = clone(want[i])
		b := want[i].GetBucket()
		b.Families = slices.DeleteFunc(b.Families, func(f *bucketv1.FamilyRows) bool { return f.GetFamily() != Breakdown("http_5m") })
	}
	got, _ = x.listed(req)
	x.wantEntries(got, want)
	// With all families nothing is gone.
	req.Families = []string{Breakdown("http_5m"), "of_another_dataset", Total("http_5m"), Total("dns_5m"), Breakdown("dns_5m")}
	got, _ = x.listed(req)
	x.wantEntries(got, x.buckets(nil))
}

func listBadRequests(x *exam) {
	x.fill(1)
	requests := map[string]*bucketv1.ListBucketsRequest{
		"no range":            {},
		"no start":            {EndUnixSeconds: 600},
		"no end":              {StartUnixSeconds: 300},
		"an end before start": {StartUnixSeconds: 600, EndUnixSeconds: 300},
		"an empty range":      {StartUnixSeconds: 300, EndUnixSeconds: 300},
		"a negative start":    {StartUnixSeconds: -300, EndUnixSeconds: 300},
		"an end beyond time":  {StartUnixSeconds: 300, EndUnixSeconds: 1 << 60},
		"101 families":        {StartUnixSeconds: 300, EndUnixSeconds: 600, Families: slices.Repeat([]string{"a"}, 101)},
		"an empty family":     {StartUnixSeconds: 300, EndUnixSeconds: 600, Families: []string{""}},
	}
	for name, f := range badFilters() {
		r := listRequest(0, 1)
		r.Filter = f
		requests[name] = r
	}
	for name, req := range requests {
		x.Logf("request with %s", name)
		_, _, err := x.list(req)
		x.wantError(err, codes.InvalidArgument, "BAD_REQUEST")
	}
}

func listBadTokens(x *exam) {
	x.fill(2)
	req := listRequest(0, 2)
	_, tokens := x.listed(req)
	token := tokens[3]
	refused := func(what string, r *bucketv1.ListBucketsRequest, token string) {
		x.Helper()
		r = clone(r)
		r.PageToken = token
		if _, _, err := x.list(r); err == nil {
			x.Fatalf("%s was accepted", what)
		} else {
			x.wantError(err, codes.InvalidArgument, "BAD_REQUEST")
		}
	}
	// Every character counts.
	for i := range len(token) {
		c := byte('A')
		if token[i] == c {
			c = 'B'
		}
		refused("an altered token", req, token[:i]+string(c)+token[i+1:])
	}
	refused("a cut token", req, token[:len(token)-1])
	refused("a lengthened token", req, token+"A")
	refused("a word", req, "next")

	wider := clone(req)
	wider.EndUnixSeconds += 300
	refused("a token of another range", wider, token)
	filtered := clone(req)
	filtered.Filter = &bucketv1.Filter{Datasets: []string{"http_5m"}}
	refused("a token of another filter", filtered, token)
	families := clone(req)
	families.Families = []string{Total("http_5m")}
	refused("a token of other families", families, token)
}

func unary(x *exam) {
	x.fill(1)
	x.append(T0.Add(time.Hour), Entry{Definition: Definition("http_5m", 2)})
	ds, err := x.rpc.ListDatasets(x.Context(), &bucketv1.ListDatasetsRequest{})
	if err != nil {
		x.Fatalf("ListDatasets: %v", err)
	}
	var got []string
	for _, d := range ds.GetDatasets() {
		got = append(got, d.GetDataset())
		if want := map[string]uint32{"http_5m": 2, "dns_5m": 1}[d.GetDataset()]; d.GetVersion() != want {
			x.Errorf("dataset %s is listed with version %d; want %d", d.GetDataset(), d.GetVersion(), want)
		}
	}
	if want := []string{"dns_5m", "http_5m"}; !slices.Equal(got, want) {
		x.Errorf("datasets are %v; want %v", got, want)
	}
	st := x.status()
	if st.GetHead().GetRevision() != x.head() || st.GetInfo().GetStoreId() == "" || ds.GetInfo().GetStoreId() != st.GetInfo().GetStoreId() {
		x.Errorf("status is %v; want head %d and the store of ListDatasets, %v", st, x.head(), ds.GetInfo())
	}
	if want := T0.Add(3 * 5 * time.Minute); !st.GetProgressTime().AsTime().Equal(want) {
		x.Errorf("progress time is %s; want %s", st.GetProgressTime().AsTime(), want)
	}
	if _, err := x.rpc.ListScopes(x.Context(), &bucketv1.ListScopesRequest{}); err != nil {
		x.Errorf("ListScopes: %v", err)
	}
	if _, err := x.rpc.GetCoverage(x.Context(), &bucketv1.GetCoverageRequest{}); err != nil {
		x.Errorf("GetCoverage: %v", err)
	}
	_, err = x.rpc.GetCoverage(x.Context(), &bucketv1.GetCoverageRequest{StartUnixSeconds: 600, EndUnixSeconds: 300})
	x.wantError(err, codes.InvalidArgument, "BAD_REQUEST")
	for name, f := range badFilters() {
		x.Logf("coverage with %s", name)
		_, err = x.rpc.GetCoverage(x.Context(), &bucketv1.GetCoverageRequest{Filter: f})
		x.wantError(err, codes.InvalidArgument, "BAD_REQUEST")
	}
}
