package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// The follower's behaviour on streams is tested against a scripted server that
// passes the same exam as the collector's, in internal/feedtest of the main
// module; this module imports nothing of it. Here is what needs no server.

func TestNewRefusesMisuse(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := New(nil, Options{}); err == nil {
		t.Error("a follower without a connection was made")
	}
	for name, o := range map[string]Options{
		"negative minimum":           {Backoff: Backoff{Min: -1}},
		"minimum above maximum":      {Backoff: Backoff{Min: 2, Max: 1}},
		"maximum above long":         {Backoff: Backoff{Max: 2 * time.Hour, Long: time.Hour}},
		"negative idle":              {Idle: -1},
		"resume point without store": {Resume: &bucketv1.ResumePoint{Revision: 1}},
		"counters of some datasets":  {Counters: true, Filter: &bucketv1.Filter{Datasets: []string{"http_5m"}}},
		"counters from a point":      {Counters: true, Resume: &bucketv1.ResumePoint{StoreId: "a", Revision: 1}},
	} {
		if _, err := New(conn, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	f, err := New(conn, Options{Backoff: Backoff{Min: time.Hour}})
	if err != nil {
		t.Fatalf("a minimum above the default maximum: %v", err)
	}
	if err := f.Run(t.Context(), nil); err == nil {
		t.Error("Run accepted a nil handler")
	}
	if f, err = New(conn, Options{Counters: true}); err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context(), plain{}); err == nil {
		t.Error("Run accepted a handler that takes no counters")
	}
}

// plain is a handler of buckets only.
type plain struct{ Handler }

func TestPauses(t *testing.T) {
	p := pauses{Backoff: Backoff{Min: 200 * time.Millisecond, Max: 30 * time.Second, Long: time.Minute}, rng: rand.New(rand.NewPCG(1, 1))}
	for i := range 100 {
		most := p.Max
		if i < 8 { // 200 ms × 2^7 is the last below 30 s
			most = p.Min << i
		}
		if got := p.next(); got > most || got < most/2 {
			t.Fatalf("pause %d is %s; want %s to %s", i, got, most/2, most)
		}
	}
	p.reset()
	if got := p.next(); got > p.Min {
		t.Errorf("after a reset the pause is %s; want at most %s", got, p.Min)
	}
	if got := p.long(); got > time.Minute || got < 30*time.Second {
		t.Errorf("a long pause is %s", got)
	}
}

// Two followers with one seed pause alike (tests), with two seeds they do not
// (everything else).
func TestPausesAreSeeded(t *testing.T) {
	draw := func(seed uint64) string {
		p := pauses{Backoff: Backoff{Min: time.Second, Max: time.Minute, Long: time.Minute}, rng: rand.New(rand.NewPCG(seed, seed))}
		return fmt.Sprint(p.next(), p.next(), p.next())
	}
	once, again, other := draw(1), draw(1), draw(2)
	if once != again || once == other {
		t.Errorf("seed 1: %s and %s, seed 2: %s", once, again, other)
	}
}

func TestReason(t *testing.T) {
	with := func(domain string) error {
		s, err := status.New(codes.Unavailable, "x").WithDetails(&errdetails.RetryInfo{}, &errdetails.ErrorInfo{Reason: ReasonBehind, Domain: domain})
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"of this contract":   {with(Domain), ReasonBehind},
		"wrapped":            {fmt.Errorf("watch: %w", with(Domain)), ReasonBehind},
		"of another domain":  {with("elsewhere"), ""},
		"without details":    {status.Error(codes.Unavailable, "x"), ""},
		"no status":          {errors.New("x"), ""},
		"no error at all":    {nil, ""},
		"the follower's own": {violation("x"), ""},
	} {
		if got := Reason(c.err); got != c.want {
			t.Errorf("%s: reason is %q; want %q", name, got, c.want)
		}
	}
}
