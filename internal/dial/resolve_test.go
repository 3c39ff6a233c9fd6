package dial_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// book is a name server with one name.
type book struct {
	mu      sync.Mutex
	hosts   []string
	err     error
	lookups int
}

func (b *book) set(err error, hosts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts, b.err = hosts, err
}

func (b *book) lookup(context.Context, string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lookups++
	return b.hosts, b.err
}

func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lookups
}

// collectorAt serves on an address of loopback with a given port; 0: a free one.
func collectorAt(t *testing.T, host, port string) (stop func(), at string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		testkit.Missing(t, fmt.Sprintf("a second address of loopback is needed: %v", err))
	}
	s := grpc.NewServer()
	bucketv1.RegisterBucketServiceServer(s, server{})
	go func() { _ = s.Serve(l) }() // ends with Stop
	t.Cleanup(s.Stop)
	_, at, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return s.Stop, at
}

func answers(api bucketv1.BucketServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := api.GetStatus(ctx, &bucketv1.GetStatusRequest{})
	return err
}

// A collector that is replaced by one with another address is found within seconds of the
// name's change, however long there was none.
func TestAReplacedCollectorIsFoundSoon(t *testing.T) {
	for name, absent := range map[string]error{
		"the name has no address": &net.DNSError{Err: "no such host", Name: "collector.test", IsNotFound: true},
		"names cannot be found":   &net.DNSError{Err: "server misbehaving", Name: "collector.test", IsTemporary: true},
		"the old address stays":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stop, port := collectorAt(t, "127.0.0.1", "0")
			var names book
			names.set(nil, "127.0.0.1")
			conn, err := dial.OpenWith(dial.Config{Addresses: []string{"collector.test:" + port}}, nil, names.lookup)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			api := bucketv1.NewBucketServiceClient(conn)
			testkit.Eventually(t, func() error { return answers(api) })
			if absent != nil {
				names.set(absent)
			}
			stop()
			for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(100 * time.Millisecond) { // an outage, as callers see it
				if err := answers(api); status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
					t.Fatalf("without a collector the error is %v", err)
				}
			}
			collectorAt(t, "127.0.0.2", port)
			names.set(nil, "127.0.0.2")
			began := time.Now()
			testkit.Eventually(t, func() error { return answers(api) })
			took := time.Since(began)
			t.Logf("found after %s", took)
			if took > 10*time.Second {
				t.Errorf("the new collector was found after %s", took)
			}
		})
	}
}

// The error says what is the matter with the name.
func TestANameWithoutAddressesIsExplained(t *testing.T) {
	for want, b := range map[string]*book{
		"the name collector.test has no address: no collector runs behind it": {err: &net.DNSError{Err: "no such host", IsNotFound: true}},
		"has no address": {},
		"the name collector.test cannot be looked up: lookup": {err: &net.DNSError{Err: "server misbehaving", Name: "collector.test", IsTemporary: true}},
	} {
		conn, err := dial.OpenWith(dial.Config{Addresses: []string{"collector.test:1"}}, nil, b.lookup)
		if err != nil {
			t.Fatal(err)
		}
		err = answers(bucketv1.NewBucketServiceClient(conn))
		if status.Code(err) != codes.Unavailable || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("error is %v, want Unavailable with %q", err, want)
		}
		_ = conn.Close()
	}
}

// Calls that fail do not make the name server's load.
func TestNamesAreLookedUpOnceASecondAtMost(t *testing.T) {
	b := &book{hosts: []string{"127.0.0.1"}}
	l := testkit.Listen(t)
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // nobody is there
	conn, err := dial.OpenWith(dial.Config{Addresses: []string{"collector.test:" + port}}, nil, b.lookup)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := bucketv1.NewBucketServiceClient(conn)
	began := time.Now()
	for time.Since(began) < 3*time.Second {
		if err := answers(api); err == nil {
			t.Fatal("nobody answers")
		}
	}
	if n, most := b.count(), int(time.Since(began)/time.Second)+2; n > most || n < 2 {
		t.Errorf("%d look-ups in %s, want 2 to %d", n, time.Since(began), most)
	}
}
