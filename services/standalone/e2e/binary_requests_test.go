package e2e

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Bad requests get an answer that names what is wrong with them, from a
// collector and an exposer that go on as if nothing had been.
func TestBinaryAnswersBadRequests(t *testing.T) {
	t.Parallel()
	sim := simulate(t, nil)
	c := sim.startCollector(t)
	x := startExposerBinary(t, []string{"CF_METRICS_REPLAY_HOURS=12", "CF_BACKFILL_MAX_HOURS=72"}, c)
	sim.showsTruth(t, c, x)
	asked := len(sim.Requests())

	t.Run("HTTP", func(t *testing.T) { // services/exposer: TestBadRequests has the others
		code, header, body := get(t, "http://"+x.data+"/metrics?replay_hours=13")
		if code != http.StatusBadRequest || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") || !strings.Contains(string(body), "to 12 (CF_METRICS_REPLAY_HOURS)") {
			t.Errorf("too many hours: %d %s %s", code, header.Get("Content-Type"), body)
		}
	})
	t.Run("gRPC", func(t *testing.T) { badCalls(t, c) })
	t.Run("grpcurl", func(t *testing.T) { grpcurl(t, c) })

	if now := len(sim.Requests()); now > asked+10 { // the loop's own, if a window fell due meanwhile
		t.Errorf("answering requests caused %d questions to Cloudflare", now-asked)
	}
	for _, s := range []*service{c, x} {
		if err := s.running(); err != nil {
			t.Error(err)
		}
		for _, path := range []string{"/", "/metrics", "/-/ready"} {
			body, err := page("http://" + s.ops + path)
			if err != nil {
				t.Error(err)
			}
			discreet(t, s.name+path, body)
		}
		if hasLine(s.log.String(), "level=ERROR") {
			t.Errorf("bad requests are the clients' mistakes, not errors of the %s", s.name)
		}
	}
}

func badCalls(t *testing.T, c *service) {
	rpc, _ := api(t, c)
	answer, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	head := answer.GetHead()
	watch := func(r *bucketv1.WatchBucketsRequest) func() error {
		return func() error {
			return watchUntil(t, c, r, func(*bucketv1.WatchBucketsResponse) bool { return false })
		}
	}
	resume := func(store string, revision uint64, chain []byte) func() error {
		return watch(&bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{
			Resume: &bucketv1.ResumePoint{StoreId: store, Revision: revision, Chain: chain},
		}})
	}
	listing := func(r *bucketv1.ListBucketsRequest) func() error {
		return func() error {
			s, err := rpc.ListBuckets(t.Context(), r)
			for err == nil {
				_, err = s.Recv()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
	zone := func(id string) *bucketv1.Filter {
		return &bucketv1.Filter{Scopes: []*bucketv1.Scope{{Kind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, Id: id}}}
	}
	day := time.Now().Unix()
	for _, test := range []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
		says   string
	}{
		{"another store", resume("0123456789abcdef0123456789abcdef", 1, head.GetChain()), codes.FailedPrecondition, client.ReasonOtherStore, "another store"},
		{"another history", resume(head.GetStoreId(), 1, make([]byte, len(head.GetChain()))), codes.FailedPrecondition, client.ReasonHistoryChanged, "history"},
		{"another history at the head", resume(head.GetStoreId(), head.GetRevision(), make([]byte, len(head.GetChain()))), codes.FailedPrecondition, client.ReasonHistoryChanged, "history"},
		{"the future", resume(head.GetStoreId(), head.GetRevision()+1_000_000, head.GetChain()), codes.FailedPrecondition, client.ReasonFutureRevision, "beyond the head"},
		{"a chain too short", resume(head.GetStoreId(), 1, []byte("short")), codes.InvalidArgument, client.ReasonBadRequest, "chain has 5 bytes"},
		{"no store", resume("", 1, head.GetChain()), codes.InvalidArgument, client.ReasonBadRequest, "store id has 0 characters"},
		{"no start", watch(&bucketv1.WatchBucketsRequest{}), codes.InvalidArgument, client.ReasonBadRequest, "start is missing"},
		{"a scope that is none", watch(&bucketv1.WatchBucketsRequest{
			Filter: zone("shop.example"), Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{}},
		}), codes.InvalidArgument, client.ReasonBadRequest, "filter.scopes[0]"},
		{"a page token that is none", listing(&bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: day, PageToken: "bogus"}), codes.InvalidArgument, client.ReasonBadRequest, "page_token"},
		{"a range backwards", listing(&bucketv1.ListBucketsRequest{StartUnixSeconds: day, EndUnixSeconds: day - 1}), codes.InvalidArgument, client.ReasonBadRequest, "end_unix_seconds"},
		{"no range", listing(&bucketv1.ListBucketsRequest{}), codes.InvalidArgument, client.ReasonBadRequest, "start_unix_seconds is missing; it must be"},
		{"a dataset that is none", listing(&bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: day, Filter: &bucketv1.Filter{Datasets: []string{"DROP TABLE"}}}), codes.InvalidArgument, client.ReasonBadRequest, "filter.datasets[0]"},
		{"coverage backwards", func() error {
			_, err := rpc.GetCoverage(t.Context(), &bucketv1.GetCoverageRequest{StartUnixSeconds: 9, EndUnixSeconds: 3})
			return err
		}, codes.InvalidArgument, client.ReasonBadRequest, "greater than start_unix_seconds, 9"},
		{"a request too large", listing(&bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: day, PageToken: strings.Repeat("x", 2<<20)}), codes.ResourceExhausted, "", "larger than max"},
	} {
		err := test.call()
		if status.Code(err) != test.code || client.Reason(err) != test.reason || !strings.Contains(status.Convert(err).Message(), test.says) {
			t.Errorf("%s: %v with reason %q, want code %s, reason %q and %q in the message", test.name, err, client.Reason(err), test.code, test.reason, test.says)
		}
	}
	// Ids that the store does not know match nothing, and a token of one request
	// is none of another.
	if got := list(t, rpc, &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: day, Filter: zone(strings.Repeat("ab", 16))}); len(got) != 0 {
		t.Errorf("an unknown zone has %d buckets", len(got))
	}
	s, err := rpc.ListBuckets(t.Context(), &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: day})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	err = listing(&bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: day - 300, PageToken: first.GetPageToken()})()
	if client.Reason(err) != client.ReasonBadRequest {
		t.Errorf("with the token of another request: %v, want reason %s", err, client.ReasonBadRequest)
	}
}

// grpcurl asks with a tool that knows nothing of the contract but what
// reflection tells it.
func grpcurl(t *testing.T, c *service) {
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	// Builds the pinned version on first use and says where it is.
	find := exec.Command("go", "tool", "-modfile=tools/grpcurl.mod", "-n", "grpcurl")
	find.Dir, find.Env = root, append(os.Environ(), "GOWORK=off")
	var trouble bytes.Buffer
	find.Stderr = &trouble
	path, err := find.Output()
	if err != nil {
		t.Fatalf("find grpcurl: %v\n%s", err, &trouble)
	}
	const service = "weir.bucket.v1.BucketService"
	for _, test := range []struct {
		name  string
		flags []string
		args  []string // after the address
		has   []string
		fails bool
	}{
		{name: "list", args: []string{"list"}, has: []string{service, "grpc.health.v1.Health"}},
		{name: "describe", args: []string{"describe", service}, has: []string{"rpc WatchBuckets", "rpc GetCoverage", "stream .weir.bucket.v1.ListBucketsResponse"}},
		{name: "health", args: []string{"grpc.health.v1.Health/Check"}, has: []string{`"SERVING"`}},
		{name: "ListDatasets", args: []string{service + "/ListDatasets"}, has: []string{`"http_5m"`, `"cloudflare_zone_requests"`, `"SAMPLE_TIMESTAMP_END"`}},
		{name: "ListScopes", args: []string{service + "/ListScopes"}, has: []string{`"shop.example"`, `"Example Retail"`, `"SCOPE_STATE_ACTIVE"`, `"dataset": "uniques_1h"`}},
		{
			name: "GetCoverage", flags: []string{"-d", `{"filter":{"datasets":["http_5m"]}}`}, args: []string{service + "/GetCoverage"},
			has: []string{`"COVERAGE_STATE_FINAL"`, `"COVERAGE_STATE_WAITING"`, `"GAP_REASON_SUSPECT"`, `"asOf"`}, // parked.example is silent
		},
		{name: "GetStatus", args: []string{service + "/GetStatus"}, has: []string{`"ROLE_LEADER"`, `"collector-0~`, `"` + binaryVersion + `"`, `"completeUntilUnixSeconds"`}},
		{
			// A watch never ends by itself; the time-out is the client's.
			name: "WatchBuckets", flags: []string{"-max-time", "1", "-d", `{"snapshot":{"max_age":"3600s"},"filter":{"datasets":["http_5m"]}}`},
			args: []string{service + "/WatchBuckets"}, fails: true,
			has: []string{`"storeId"`, `"datasetVersion"`, `"bucket"`, `"snapshotEnd"`, `"progress"`, "DeadlineExceeded"},
		},
		{
			name: "an error", flags: []string{"-d", `{"start_unix_seconds":5,"end_unix_seconds":1}`}, args: []string{service + "/ListBuckets"}, fails: true,
			has: []string{"InvalidArgument", "end_unix_seconds is 1", "google.rpc.ErrorInfo", `"BAD_REQUEST"`},
		},
	} {
		args := append(append([]string{"-plaintext"}, test.flags...), c.data)
		o := complete(t, command(t, strings.TrimSpace(string(path)), nil, append(args, test.args...)...))
		if test.fails == (o.code == 0) {
			t.Errorf("%s: grpcurl's exit code is %d", test.name, o.code)
		}
		for _, part := range test.has {
			if !strings.Contains(o.stdout+o.stderr, part) {
				t.Errorf("%s: the answer does not have %s:\n%.2000s%s", test.name, part, o.stdout, o.stderr)
			}
		}
	}
}
