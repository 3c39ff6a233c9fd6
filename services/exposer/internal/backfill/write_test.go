package backfill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// store is a Lister in memory that fails on demand.
type store struct {
	buckets []*bucket.Bucket // ascending
	cut     int              // break each stream after so many messages; 0: never
	err     error            // with which
	once    bool             // cut is counted over all streams: nothing comes after it
	calls   int
	spoil   func(n int, e *bucketv1.Entry) // of the n-th bucket; nil: all are whole
	correct map[int]float64                // added to the values of the n-th bucket by its restatement

	coverage   []*bucketv1.Coverage
	noCoverage error
}

func (s *store) ListScopes(context.Context, *bucketv1.ListScopesRequest, ...grpc.CallOption) (*bucketv1.ListScopesResponse, error) {
	zone := func(n int, name string) *bucketv1.ScopeInfo {
		scope := feedtest.Zone(n)
		return &bucketv1.ScopeInfo{Scope: wire.ProtoScope(scope), Name: name, ZoneLabel: fmt.Sprintf("zone-%s.example", scope.ID[28:]), AccountLabel: "Example"}
	}
	return &bucketv1.ListScopesResponse{Scopes: []*bucketv1.ScopeInfo{zone(0, "one.example"), zone(1, "two.example"), zone(2, "two.example")}}, nil
}

func (s *store) GetCoverage(context.Context, *bucketv1.GetCoverageRequest, ...grpc.CallOption) (*bucketv1.GetCoverageResponse, error) {
	return &bucketv1.GetCoverageResponse{Coverages: s.coverage}, s.noCoverage
}

func (s *store) ListBuckets(_ context.Context, req *bucketv1.ListBucketsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[bucketv1.ListBucketsResponse], error) {
	s.calls++
	l := &listed{s: s, req: req, after: req.GetPageToken(), left: s.cut}
	if s.once && s.calls > 1 {
		l.left = 0
	}
	return l, nil
}

type listed struct {
	grpc.ClientStream
	s     *store
	req   *bucketv1.ListBucketsRequest
	after string
	left  int
	i     int
}

func (l *listed) Recv() (*bucketv1.ListBucketsResponse, error) {
	for ; l.i < len(l.s.buckets); l.i++ {
		b := l.s.buckets[l.i]
		token := b.Key.String()
		if l.after != "" {
			if token == l.after {
				l.after = ""
			}
			continue
		}
		scopes := l.req.GetFilter().GetScopes()
		if b.Dataset != l.req.GetFilter().GetDatasets()[0] || len(scopes) > 0 && !slices.ContainsFunc(scopes, func(s *bucketv1.Scope) bool { return s.GetId() == b.Scope.ID }) ||
			int64(b.Start) < l.req.GetStartUnixSeconds() || int64(b.Window().End) > l.req.GetEndUnixSeconds() {
			continue
		}
		if l.s.cut > 0 {
			if l.left == 0 {
				return nil, l.s.err
			}
			l.left--
		}
		l.i++
		e := &bucketv1.Entry{Revision: uint64(l.i), Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(b)}}
		if names := l.req.GetFamilies(); len(names) > 0 {
			m := e.GetBucket()
			m.Families = slices.DeleteFunc(m.Families, func(f *bucketv1.FamilyRows) bool { return !slices.Contains(names, f.GetFamily()) })
		}
		if by, restated := l.s.correct[l.i]; restated && l.req.GetAsRestated() {
			m := e.GetBucket()
			for _, f := range m.GetFamilies() {
				for i := range f.GetValues() {
					f.Values[i] += by
				}
			}
			e = &bucketv1.Entry{Revision: 1000 + uint64(l.i), Kind: &bucketv1.Entry_Restatement{Restatement: &bucketv1.Restatement{Bucket: m, Actor: "ada", Reason: "why"}}}
		}
		if l.s.spoil != nil {
			l.s.spoil(l.i, e)
		}
		return &bucketv1.ListBucketsResponse{Entry: e, PageToken: token}, nil
	}
	return nil, io.EOF
}

// resized is a store after a change of bucket size: http_5m until 00:15,
// http_15m from then on, both with the families of http_5m.
func resized(t *testing.T) (*store, *recent.State) {
	five := feedtest.Definition("http_5m", 1)
	quarter := feedtest.Definition("http_5m", 1)
	quarter.Dataset, quarter.Size = "http_15m", 15*time.Minute
	s := &store{}
	for n := range 2 {
		for z := range 2 {
			b := feedtest.Bucket("http_5m", feedtest.Zone(z), 3+3*n)
			b.Dataset, b.Size = "http_15m", 15*time.Minute
			s.buckets = append(s.buckets, b)
		}
	}
	for n := range 3 {
		for z := range 2 {
			s.buckets = append(s.buckets, feedtest.Bucket("http_5m", feedtest.Zone(z), n))
		}
	}
	return s, state(t, quarter, five)
}

// clockAt is when these backfills run: 55 minutes after the epoch.
var clockAt = feedtest.T0.Add(55 * time.Minute)

// Write prepares and writes in one.
func Write(ctx context.Context, w io.Writer, from Lister, st *recent.State, r *Request, now time.Time, passed func(uint64, error)) error {
	j, err := Prepare(ctx, from, st, r)
	if err != nil {
		return err
	}
	return j.Write(ctx, w, now, passed)
}

func request(t *testing.T, st *recent.State, query string) *Request {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(q, st, Defaults{Hours: 1}, Bounds{Now: clockAt, MaxHours: 168})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWriteGolden(t *testing.T) {
	for file, query := range map[string]string{
		"plain.om":    "",
		"labels.om":   "label=job=weir&label=instance=a%22b=c&zone=one.example",
		"plain.txt":   "format=text&zone=one.example&family=cloudflare_zone_http_5m_requests",
		"summed.om":   "step_seconds=900",
		"stepped.om":  "step_seconds=300&zone=zone-a001.example&family=cloudflare_zone_http_5m_requests",
		"extended.om": "extend_to_now=1&dataset=http_15m&step_seconds=600&family=cloudflare_zone_http_5m_requests",
	} {
		t.Run(file, func(t *testing.T) {
			s, st := resized(t)
			var out bytes.Buffer
			if err := Write(t.Context(), &out, s, st, request(t, st, query), clockAt, nil); err != nil {
				t.Fatal(err)
			}
			testkit.Golden(t, "testdata/"+file, out.Bytes())
			ascends(t, out.String())
		})
	}
}

// ascends checks what Prometheus needs of a file: times ascend inside each series.
func ascends(t *testing.T, body string) {
	t.Helper()
	last := map[string]string{}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		series, at := fields[0], fields[2]
		if last[series] >= at { // equal length, so that the order of texts is that of numbers
			t.Errorf("%s at %s comes after %s", series, at, last[series])
		}
		last[series] = at
	}
}

func TestCutListingIsContinued(t *testing.T) {
	s, st := resized(t)
	var whole bytes.Buffer
	if err := Write(t.Context(), &whole, s, st, request(t, st, ""), clockAt, nil); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, st := resized(t)
		s.cut, s.err = 1, status.Error(codes.Unavailable, "gone")
		var cut bytes.Buffer
		if err := Write(t.Context(), &cut, s, st, request(t, st, ""), clockAt, nil); err != nil {
			t.Fatal(err)
		}
		if cut.String() != whole.String() {
			t.Errorf("a cut listing gives another body:\n%s", cut.String())
		}
		if s.calls < len(s.buckets) {
			t.Errorf("%d listings: the cuts did not happen", s.calls)
		}
	})
}

func TestBrokenListingIsNotClosed(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		calls int
	}{
		"at once, what will not pass":       {status.Error(codes.Internal, "bug 12"), 1},
		"after some tries, what could have": {status.Error(codes.Unavailable, "gone"), attempts},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, st := resized(t)
				// Three messages come, and from then on nothing but the error.
				s.cut, s.err, s.once = 3, tc.err, true
				var out bytes.Buffer
				err := Write(t.Context(), &out, s, st, request(t, st, "dataset=http_5m"), clockAt, nil)
				if !errors.Is(err, tc.err) {
					t.Errorf("error is %v, want one that wraps %v", err, tc.err)
				}
				if s.calls != tc.calls {
					t.Errorf("%d listings, want %d", s.calls, tc.calls)
				}
				if !strings.Contains(out.String(), "cloudflare_zone_http_5m_requests{") || strings.Contains(out.String(), "# EOF") {
					t.Errorf("a broken body is empty or closed as if it were whole:\n%s", out.String())
				}
			})
		})
	}
}

func TestZones(t *testing.T) {
	s, st := resized(t)
	for zone, want := range map[string]string{
		"nowhere.example": `parameter zone is "nowhere.example"; it must be the name or the id of a zone`,
		"two.example":     "several zones have this name",
	} {
		r := request(t, st, "zone="+zone)
		var out bytes.Buffer
		err := Write(t.Context(), &out, s, st, r, clockAt, nil)
		var refused *ParamError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%s: %v after %d bytes, want %q", zone, err, out.Len(), want)
		}
	}
	for _, zone := range []string{"one.example", feedtest.Zone(0).ID, "zone-a000.example"} {
		var out bytes.Buffer
		if err := Write(t.Context(), &out, s, st, request(t, st, "zone="+zone), clockAt, nil); err != nil {
			t.Errorf("%s: %v", zone, err)
		}
		if strings.Contains(out.String(), "a001") || !strings.Contains(out.String(), "a000") {
			t.Errorf("%s: other zones are shown:\n%s", zone, out.String())
		}
	}
}

// lives is a store whose first two zones have one label.
type lives struct {
	*store
	accounts [2]string
}

func (l *lives) ListScopes(context.Context, *bucketv1.ListScopesRequest, ...grpc.CallOption) (*bucketv1.ListScopesResponse, error) {
	var out bucketv1.ListScopesResponse
	for n, account := range l.accounts {
		out.Scopes = append(out.Scopes, &bucketv1.ScopeInfo{Scope: wire.ProtoScope(feedtest.Zone(n)), Name: "shop.example", ZoneLabel: "shop.example", AccountLabel: account})
	}
	return &out, nil
}

// A zone that was deleted and added again has the samples of both of its lives;
// two of one name in two accounts are not one.
func TestAZoneWithTwoLives(t *testing.T) {
	s, st := resized(t)
	var out bytes.Buffer
	if err := Write(t.Context(), &out, &lives{s, [2]string{"Example", "Example"}}, st, request(t, st, "zone=shop.example"), clockAt, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "a000") || !strings.Contains(out.String(), "a001") {
		t.Errorf("a life is missing:\n%s", out.String())
	}
	// While the other had the name, the first bore it with digits.
	out.Reset()
	if err := Write(t.Context(), &out, &lives{s, [2]string{"Example", "Example"}}, st, request(t, st, "zone=shop.example%23"+feedtest.Zone(0).ID[:8]), clockAt, nil); err == nil {
		if strings.Contains(out.String(), "a001") == strings.Contains(out.String(), "a000") {
			t.Errorf("by digits:\n%s", out.String())
		}
	} else {
		t.Errorf("by digits: %v", err)
	}
	err := Write(t.Context(), &out, &lives{s, [2]string{"Example", "Other"}}, st, request(t, st, "zone=shop.example"), clockAt, nil)
	if err == nil || !strings.Contains(err.Error(), "several zones have this name") {
		t.Errorf("zones of two accounts: %v", err)
	}
}

// What the collector must never send, and what a sample must never carry.
func TestImplausible(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*store, *Request)
		want  string
	}{
		"future": {func(s *store, r *Request) {
			s.buckets[3].Start = bucket.TimeOf(clockAt).Floor(15 * time.Minute)
			r.Range.End += 7200 // as if the check of the parameters had a hole
		}, "it must be before now"},
		"order":           {func(s *store, _ *Request) { s.buckets[0], s.buckets[2] = s.buckets[2], s.buckets[0] }, "keys must ascend"},
		"unknown version": {func(s *store, _ *Request) { s.buckets[0].Version = 7 }, "version 7 of its dataset has not reached"},
	} {
		t.Run(name, func(t *testing.T) {
			s, st := resized(t)
			r := request(t, st, "")
			tc.spoil(s, r)
			var out bytes.Buffer
			err := Write(t.Context(), &out, s, st, r, clockAt, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
			if strings.Contains(out.String(), "# EOF") {
				t.Error("the body is closed")
			}
		})
	}
}

// What cannot be read costs itself: a backfill goes on behind it, also across a
// cut of the stream at any place, has all the rest, and tells of each once.
func TestWhatCannotBeReadIsPassed(t *testing.T) {
	s, st := resized(t)
	var whole bytes.Buffer
	if err := Write(t.Context(), &whole, s, st, request(t, st, ""), clockAt, nil); err != nil {
		t.Fatal(err)
	}
	st.Position.Revision = 100 // everything that the buckets need has come
	for what, spoil := range map[string]func(*bucketv1.Entry){
		"no content":               func(e *bucketv1.Entry) { e.Kind = nil },
		"no zone":                  func(e *bucketv1.Entry) { e.GetBucket().Zone = "" },
		"a version never heard of": func(e *bucketv1.Entry) { e.GetBucket().DatasetVersion = 77 },
		"rows that do not fit": func(e *bucketv1.Entry) {
			for _, f := range e.GetBucket().GetFamilies() {
				if len(f.GetLabelValues()) == 0 {
					f.LabelValues = []string{"x"}
				} else {
					f.LabelValues = nil
					f.Values = f.Values[:1]
				}
			}
		},
	} {
		for _, spoiled := range []int{1, 4, 6, len(s.buckets)} {
			s.spoil = func(n int, e *bucketv1.Entry) {
				if n == spoiled {
					spoil(e)
				}
			}
			for cut := range 4 {
				s.cut, s.err = cut, status.Error(codes.Unavailable, "cut")
				var out bytes.Buffer
				told := map[uint64]int{}
				synctest.Test(t, func(t *testing.T) {
					if err := Write(t.Context(), &out, s, st, request(t, st, ""), clockAt, func(revision uint64, err error) { told[revision]++ }); err != nil {
						t.Errorf("%s, bucket %d, cut after %d: %v", what, spoiled, cut, err)
					}
				})
				if len(told) != 1 || told[uint64(spoiled)] != 1 {
					t.Errorf("%s, bucket %d, cut after %d: told of %v", what, spoiled, cut, told)
				}
				b := s.buckets[spoiled-1]
				var want strings.Builder
				for line := range strings.Lines(whole.String()) {
					if !strings.Contains(line, b.Zone) || !strings.Contains(line, fmt.Sprintf(" %d.999", int64(b.Window().End)-1)) {
						want.WriteString(line)
					}
				}
				if out.String() != want.String() {
					t.Errorf("%s, bucket %d, cut after %d: the output is\n%s\nwant\n%s", what, spoiled, cut, out.String(), want.String())
				}
			}
		}
	}
	// A version that may yet come is waited for: to leave its bucket out would be silence.
	st.Position.Revision = 0
	s.cut, s.spoil = 0, func(_ int, e *bucketv1.Entry) { e.GetBucket().DatasetVersion = 77 }
	if err := Write(t.Context(), io.Discard, s, st, request(t, st, ""), clockAt, nil); err == nil {
		t.Error("buckets of a version that has not arrived were left out")
	}
}

// A file of restated history has the newest value of each bucket, and everything else as
// another file has it; a restatement that cannot be read is passed like a bucket.
func TestRestatedHistory(t *testing.T) {
	st, state := resized(t)
	st.correct = map[int]float64{len(st.buckets): 1000}
	file := func(query string) (lines []string, passed int) {
		t.Helper()
		var out bytes.Buffer
		if err := Write(t.Context(), &out, st, state, request(t, state, query), clockAt, func(uint64, error) { passed++ }); err != nil {
			t.Fatal(err)
		}
		return strings.Split(out.String(), "\n"), passed
	}
	const query = "hours=1&dataset=http_5m&family="
	family := feedtest.Total("http_5m")
	first, _ := file(query + family)
	stored, _ := file(query + family + "&as=stored")
	restated, passed := file(query + family + "&as=restated")
	if !slices.Equal(first, stored) {
		t.Error("as=stored is another file than the one without it")
	}
	differ := 0
	for i := range first {
		if first[i] != restated[i] {
			differ++
		}
	}
	if len(restated) != len(first) || differ != 1 || passed != 0 {
		t.Errorf("%d lines of %d differ, %d entries were passed; want the one sample of the restated bucket", differ, len(restated), passed)
	}
	st.spoil = func(_ int, e *bucketv1.Entry) {
		if e.GetRestatement() != nil {
			e.GetRestatement().Bucket.SizeSeconds = 7
		}
	}
	if spoilt, passed := file(query + family + "&as=restated"); passed != 1 || len(spoilt) >= len(restated) {
		t.Errorf("a restatement that cannot be read: %d entries were passed", passed)
	}
}
