package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// shelf is a server of some buckets, whose lists are cut.
type shelf struct {
	bucketv1.UnimplementedBucketServiceServer
	buckets []*bucketv1.Bucket // nil: one that cannot be read
	cut     int                // messages of a stream before its end; 0: all
	with    error              // the end; nil: silence
	alter   func(n int, m *bucketv1.ListBucketsResponse)
	streams int
}

func (s *shelf) ListBuckets(req *bucketv1.ListBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.ListBucketsResponse]) error {
	s.streams++
	from := 0
	for i := range s.buckets {
		if token(i) == req.GetPageToken() {
			from = i + 1
		}
	}
	for i, b := range s.buckets[from:] {
		if s.cut > 0 && i == s.cut {
			if s.with == nil {
				<-ss.Context().Done()
				return ss.Context().Err()
			}
			return s.with
		}
		e := &bucketv1.Entry{Revision: uint64(from + i + 1)}
		if b != nil {
			e.Kind = &bucketv1.Entry_Bucket{Bucket: b}
		}
		m := &bucketv1.ListBucketsResponse{Entry: e, PageToken: token(from + i)}
		if s.alter != nil {
			s.alter(from+i, m)
		}
		if err := ss.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func token(n int) string { return strings.Repeat("t", n+1) }

func (s *shelf) WatchBuckets(req *bucketv1.WatchBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]) error {
	if req.GetSnapshot().GetMaxAge() != nil {
		return status.Error(codes.InvalidArgument, "more than definitions were asked for")
	}
	for _, m := range []*bucketv1.WatchBucketsResponse{
		{Event: &bucketv1.WatchBucketsResponse_Info{Info: &bucketv1.StoreInfo{StoreId: "shelf", SampleTimestamp: bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END}}},
		{Event: &bucketv1.WatchBucketsResponse_Entry{Entry: &bucketv1.Entry{Revision: 1, Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: definition(1)}}}},
		{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{SnapshotEnd: &bucketv1.SnapshotEnd{Point: &bucketv1.ResumePoint{StoreId: "shelf", Revision: 1}}}},
	} {
		if err := ss.Send(m); err != nil {
			return err
		}
	}
	<-ss.Context().Done() // a stream never ends on its own
	return ss.Context().Err()
}

func (s *shelf) GetCoverage(_ context.Context, req *bucketv1.GetCoverageRequest) (*bucketv1.GetCoverageResponse, error) {
	state := func(s bucketv1.CoverageState, from, to int64) *bucketv1.CoverageRange {
		return &bucketv1.CoverageRange{State: s, StartUnixSeconds: from, EndUnixSeconds: to, Reason: bucketv1.GapReason_GAP_REASON_TOO_BIG, Detail: "why"}
	}
	return &bucketv1.GetCoverageResponse{
		AsOf: timestamppb.New(time.Unix(req.GetEndUnixSeconds(), 0)),
		Coverages: []*bucketv1.Coverage{{Dataset: "http_5m", Scope: zone, Ranges: []*bucketv1.CoverageRange{
			state(bucketv1.CoverageState_COVERAGE_STATE_FINAL, 300, 600), state(bucketv1.CoverageState_COVERAGE_STATE_LOST, 600, 900),
			state(bucketv1.CoverageState_COVERAGE_STATE_REFUSED, 900, 1200), state(99, 1200, 1500),
		}}},
	}, nil
}

var zone = &bucketv1.Scope{Kind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, Id: "0123456789abcdef0123456789abcdef"}

func definition(number uint32) *bucketv1.DatasetVersion {
	return &bucketv1.DatasetVersion{Dataset: "http_5m", Version: number, SizeSeconds: 300, Families: []*bucketv1.FamilyDefinition{
		{Name: "requests"}, {Name: "requests_by_status", Labels: []string{"status", "method"}},
	}}
}

func stored(n int) *bucketv1.Bucket {
	return &bucketv1.Bucket{
		Dataset: "http_5m", DatasetVersion: 1, Scope: zone, StartUnixSeconds: int64(300 * (n + 1)), SizeSeconds: 300, Zone: "shop.example",
		Families: []*bucketv1.FamilyRows{
			{Family: "requests", Values: []float64{3}},
			{Family: "requests_by_status", LabelValues: []string{"200", "GET", "404", "GET"}, Values: []float64{2, 1}},
		},
	}
}

func request() *bucketv1.ListBucketsRequest {
	return &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: 10_000, Filter: &bucketv1.Filter{Datasets: []string{"http_5m"}}}
}

// with runs a test in virtual time against a shelf of six buckets.
func with(t *testing.T, s *shelf, run func(t *testing.T, conn *grpc.ClientConn)) {
	t.Helper()
	if s.buckets == nil {
		for n := range 6 {
			s.buckets = append(s.buckets, stored(n))
		}
	}
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		bucketv1.RegisterBucketServiceServer(server, s)
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		conn, err := grpc.NewClient("passthrough:///shelf", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		run(t, conn)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func listed(t *testing.T, conn *grpc.ClientConn, o ListOptions) (revisions []uint64, last error) {
	t.Helper()
	for e, err := range List(t.Context(), conn, request(), o) {
		if err != nil {
			if last != nil || e != nil {
				t.Errorf("%v after the last pair, with %v", err, e)
			}
			last = err
			continue
		}
		revisions = append(revisions, e.GetRevision())
	}
	return revisions, last
}

// Wherever a list is cut, each bucket comes once.
func TestListGoesOnAfterCuts(t *testing.T) {
	gone := status.Error(codes.Unavailable, "gone")
	for name, s := range map[string]*shelf{
		"never":           {},
		"after each":      {cut: 1, with: gone},
		"after two":       {cut: 2, with: gone},
		"by silence":      {cut: 4},
		"with unreadable": {cut: 2, with: gone, buckets: []*bucketv1.Bucket{stored(0), nil, stored(2), nil, nil, stored(5)}},
	} {
		t.Run(name, func(t *testing.T) {
			with(t, s, func(t *testing.T, conn *grpc.ClientConn) {
				got, err := listed(t, conn, ListOptions{})
				if err != nil || len(got) != 6 {
					t.Fatalf("%d buckets, %v", len(got), err)
				}
				for i, revision := range got {
					if revision != uint64(i+1) {
						t.Errorf("revisions are %v", got)
					}
				}
			})
		})
	}
}

func TestListEndsWithOneError(t *testing.T) {
	swap := func(n int, m *bucketv1.ListBucketsResponse) {
		if n == 3 {
			m.Entry.GetBucket().StartUnixSeconds = 300
		}
	}
	for name, tc := range map[string]struct {
		s       *shelf
		buckets int
		streams int
		want    func(error) bool
	}{
		"what does not pass": {&shelf{cut: 2, with: status.Error(codes.InvalidArgument, "wrong")}, 2, 1, func(err error) bool { return status.Code(err) == codes.InvalidArgument }},
		"a token that is lost": {
			&shelf{alter: func(n int, m *bucketv1.ListBucketsResponse) { m.PageToken = "?" }, cut: 1, with: status.Error(codes.Unavailable, "gone")},
			1, 2, func(err error) bool { return errors.Is(err, ErrContract) },
		}, // the same bucket again
		"order":      {&shelf{alter: swap}, 3, 1, func(err error) bool { return errors.Is(err, ErrContract) }},
		"no token":   {&shelf{alter: func(_ int, m *bucketv1.ListBucketsResponse) { m.PageToken = "" }}, 0, 1, func(err error) bool { return errors.Is(err, ErrContract) }},
		"not asked":  {&shelf{alter: func(_ int, m *bucketv1.ListBucketsResponse) { m.Entry.GetBucket().Dataset = "dns_5m" }}, 0, 1, func(err error) bool { return errors.Is(err, ErrContract) }},
		"wrong time": {&shelf{alter: func(_ int, m *bucketv1.ListBucketsResponse) { m.Entry.GetBucket().SizeSeconds = 86400 }}, 0, 1, func(err error) bool { return errors.Is(err, ErrContract) }},
	} {
		t.Run(name, func(t *testing.T) {
			with(t, tc.s, func(t *testing.T, conn *grpc.ClientConn) {
				got, err := listed(t, conn, ListOptions{})
				if err == nil || !tc.want(err) || len(got) != tc.buckets || tc.s.streams != tc.streams {
					t.Errorf("%d buckets of %d streams, %v", len(got), tc.s.streams, err)
				}
			})
		})
	}
	t.Run("a server that is gone", func(t *testing.T) {
		s := &shelf{buckets: []*bucketv1.Bucket{stored(0)}}
		with(t, s, func(t *testing.T, conn *grpc.ClientConn) {
			broken := &refusing{ClientConnInterface: conn}
			began := time.Now()
			var last error
			for _, err := range List(t.Context(), broken, request(), ListOptions{}) {
				last = err
			}
			if status.Code(last) != codes.Unavailable || broken.calls != 8 || time.Since(began) < 10*time.Second {
				t.Errorf("%d calls in %s: %v", broken.calls, time.Since(began), last)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for _, err := range List(ctx, broken, request(), ListOptions{Attempts: 1000}) {
				last = err
			}
			if !errors.Is(last, context.DeadlineExceeded) {
				t.Errorf("a list whose time is over ends with %v", last)
			}
		})
	})
	t.Run("whoever wants no more", func(t *testing.T) {
		with(t, &shelf{}, func(t *testing.T, conn *grpc.ClientConn) {
			r := request()
			n := 0
			for range List(t.Context(), conn, r, ListOptions{}) {
				if n++; n == 2 {
					break
				}
			}
			if n != 2 || !proto.Equal(r, request()) {
				t.Errorf("%d buckets, and the request is now %v", n, r)
			}
		})
	})
}

// refusing is a connection that has none.
type refusing struct {
	grpc.ClientConnInterface
	calls int
}

func (r *refusing) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	r.calls++
	return nil, status.Error(codes.Unavailable, "no connection")
}

func TestRows(t *testing.T) {
	with(t, &shelf{}, func(t *testing.T, conn *grpc.ClientConn) {
		d, err := LoadDefinitions(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for row, err := range d.Rows(stored(0)) {
			if err != nil {
				t.Fatal(err)
			}
			line := row.Family.GetName()
			for _, l := range row.Labels {
				line += " " + l.Name + "=" + l.Value
			}
			got = append(got, line)
			if row.Get("zone") != "shop.example" || row.Get("nothing") != "" {
				t.Errorf("zone is %q", row.Get("zone"))
			}
		}
		if want := "requests zone=shop.example\nrequests_by_status zone=shop.example status=200 method=GET\nrequests_by_status zone=shop.example status=404 method=GET"; strings.Join(got, "\n") != want {
			t.Errorf("rows are\n%s\nwant\n%s", strings.Join(got, "\n"), want)
		}
		if at := SampleTime(d.Info, stored(0)).UnixMilli(); at != 599_999 {
			t.Errorf("the sample stands at %d", at)
		}
		if at := SampleTime(&bucketv1.StoreInfo{SampleTimestamp: bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START}, stored(0)).Unix(); at != 300 {
			t.Errorf("the sample stands at %d", at)
		}
		for want, spoil := range map[string]func(*bucketv1.Bucket){
			"version 2 of the dataset is unknown":           func(b *bucketv1.Bucket) { b.DatasetVersion = 2 },
			`has no family "cats"`:                          func(b *bucketv1.Bucket) { b.Families[0].Family = "cats" },
			"has 3 label values for 2 rows, want 2 per row": func(b *bucketv1.Bucket) { b.Families[1].LabelValues = b.Families[1].LabelValues[1:] },
		} {
			b := stored(0)
			spoil(b)
			var last error
			for _, err := range d.Rows(b) {
				last = err
			}
			if last == nil || !strings.Contains(last.Error(), want) {
				t.Errorf("error is %v, want %q", last, want)
			}
		}
	})
}

func TestCoverage(t *testing.T) {
	with(t, &shelf{}, func(t *testing.T, conn *grpc.ClientConn) {
		r, err := Coverage(t.Context(), conn, nil, time.Unix(300, 0), time.Unix(1500, 0))
		if err != nil {
			t.Fatal(err)
		}
		if r.Whole() || len(r.Stored) != 1 || len(r.Lacking) != 2 || len(r.Refused) != 1 || !r.AsOf.Equal(time.Unix(1500, 0)) {
			t.Errorf("report is %+v", r)
		}
		if lost := r.Lacking[0]; lost.Start.Unix() != 600 || lost.End.Unix() != 900 || lost.Detail != "why" || lost.Scope.GetId() != zone.GetId() || lost.Dataset != "http_5m" {
			t.Errorf("the lost range is %+v", lost)
		}
	})
}

// What nobody knows is not whole.
func TestAnEmptyReportIsNotWhole(t *testing.T) {
	if r := (&Report{}); r.Whole() || !r.Empty() {
		t.Error("a report of nothing is whole")
	}
	if r := (&Report{Stored: []Span{{}}}); !r.Whole() || r.Empty() {
		t.Error("a report without a gap is not whole")
	}
}

// nothing is a handler that wants nothing.
type nothing struct{ done func() }

func (nothing) SnapshotBegin(*bucketv1.StoreInfo)              {}
func (nothing) Info(*bucketv1.StoreInfo)                       {}
func (nothing) Entry(*bucketv1.Entry) error                    { return nil }
func (n nothing) SnapshotEnd(*bucketv1.ResumePoint, time.Time) { n.done() }
func (nothing) Progress(*bucketv1.ResumePoint, time.Time)      {}
func (nothing) Disconnected(err error, _ time.Duration)        { _ = err }

// Whoever runs a follower for some time can tell that the time was over from
// that it was enough.
func TestRunTellsATimeOutFromAnEnd(t *testing.T) {
	with(t, &shelf{}, func(t *testing.T, conn *grpc.ClientConn) {
		run := func(done func(context.CancelFunc)) error {
			f, err := New(conn, Options{Snapshot: &bucketv1.SnapshotRequest{}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return f.Run(ctx, nothing{func() { done(cancel) }})
		}
		if err := run(func(cancel context.CancelFunc) { cancel() }); err != nil {
			t.Errorf("a follower that was stopped ends with %v", err)
		}
		if err := run(func(context.CancelFunc) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a follower whose time is over ends with %v", err)
		}
	})
}
