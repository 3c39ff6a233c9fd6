package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// A thousand watch streams, a third of them with a snapshot, a third of people
// who do not read, with lists, calls and HTTP floods beside them: as many as
// the collector has room for are served, all others are told so, small calls
// are answered all along, and afterwards nothing is left of it.
func TestBinaryCollectorUnderOverload(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory and the sockets of another process are read from /proc")
	}
	sim := simulate(t, nil)
	s := sim.startCollector(t)
	rpc, _ := api(t, s)
	head := something(t, rpc)
	idle, sockets, goroutines := s.memory("VmRSS"), s.sockets(), s.metric("go_goroutines ")

	c := newCrowd(t)
	const streams, perConn = 1000, 100
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	began := make(chan struct{}, streams) // one for each stream that was admitted or refused
	for n := range streams / perConn {
		conn, err := grpc.NewClient("passthrough:///"+s.data, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(4<<20))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		rpc := bucketv1.NewBucketServiceClient(conn)
		for i := range perConn {
			c.all.Go(func() { c.stream(ctx, rpc, head, (n*perConn+i)%3, began) })
		}
	}
	for range 4 {
		c.member(func() { c.list(ctx, rpc) })
	}
	c.member(func() {
		began := time.Now()
		_, err := rpc.GetStatus(ctx, &bucketv1.GetStatusRequest{})
		if err != nil && ctx.Err() == nil {
			t.Errorf("GetStatus: %v", err)
		}
		c.saw("GetStatus", status.Code(err).String(), time.Since(began))
		time.Sleep(50 * time.Millisecond) // a pace, not a wait for anything
	})
	ops := "http://" + s.ops
	for _, path := range []string{"/-/ready", "/-/healthy", "/metrics"} {
		from := c.caller()
		c.member(func() {
			c.probe(from, "operations"+path, ops+path)
			time.Sleep(50 * time.Millisecond) // as above
		})
	}
	for range 10 {
		c.member(func() { c.raw(s.data, "", "", 0) })                             // says nothing
		c.member(func() { c.raw(s.data, "GET / HTTP/1.1\r\n", "x: y\r\n", 100) }) // speaks another language
		c.member(func() { c.raw(s.ops, "GET /metrics HTTP/1.1\r\nX-Slow: ", "a", 0) })
	}
	for range streams {
		select {
		case <-began:
		case <-time.After(60 * time.Second):
			t.Fatal("streams were neither admitted nor refused within a minute")
		}
	}
	open := s.metric("weir_collector_streams ")
	go func() { <-time.After(2 * time.Second); leave() }() // ends with the crowd
	c.end(2 * time.Second)
	c.report()
	admitted, refused := c.count("watch", "OK"), c.count("watch", codes.ResourceExhausted.String())
	if admitted+refused != streams || admitted == 0 {
		t.Errorf("%d streams were admitted and %d refused, want %d in all", admitted, refused, streams)
	}
	if c.count("GetStatus", "OK") == 0 || c.count("ListBuckets", "OK") == 0 {
		t.Error("nobody else was served")
	}
	testkit.Eventually(t, func() error {
		if open := s.metric("weir_collector_streams "); open != 0 {
			return fmt.Errorf("%v streams are left", open)
		}
		return nil
	})
	testkit.Eventually(t, func() error {
		// The ten connections stay open until the test ends.
		if now, open := s.metric("go_goroutines "), s.sockets(); open > sockets+streams/perConn+4 || now > goroutines+100 {
			return fmt.Errorf("%d sockets and %v goroutines are left; before there were %d and %v", open, now, sockets, goroutines)
		}
		return nil
	})
	if err := s.running(); err != nil {
		t.Fatal(err)
	}
	if hasLine(s.log.String(), "level=ERROR") {
		t.Error("clients that ask for too much are not errors of the collector")
	}
	peak := s.memory("VmHWM")
	t.Logf("collector: %.0f MiB idle, %.0f MiB at most, %.0f MiB afterwards; %v streams at one time", idle, peak, s.memory("VmRSS"), open)
	if peak > mostMemory {
		t.Errorf("the collector used %.0f MiB, want at most %d", peak, mostMemory)
	}
}

// something waits until a collector has something to give, and returns its head.
func something(t *testing.T, rpc bucketv1.BucketServiceClient) (head *bucketv1.ResumePoint) {
	t.Helper()
	testkit.Eventually(t, func() error {
		answer, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		if head = answer.GetHead(); head.GetRevision() < 100 {
			return fmt.Errorf("the collector is at revision %d", head.GetRevision())
		}
		return nil
	})
	return head
}

// stream watches until ctx ends: from now on, with a snapshot, or without
// reading after the first message.
func (c *crowd) stream(ctx context.Context, rpc bucketv1.BucketServiceClient, head *bucketv1.ResumePoint, kind int, began chan<- struct{}) {
	req := &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{Resume: head}}
	if kind > 0 {
		req.Start = &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(24 * time.Hour)}}
	}
	from := time.Now()
	watch, err := rpc.WatchBuckets(ctx, req)
	if err == nil {
		_, err = watch.Recv()
	}
	c.saw("watch", status.Code(err).String(), time.Since(from))
	began <- struct{}{}
	if err != nil {
		if reason := client.Reason(err); reason != client.ReasonTooManyStreams {
			c.t.Errorf("watch: %v with reason %q, want %s", err, reason, client.ReasonTooManyStreams)
		}
		return
	}
	if kind == 2 {
		<-ctx.Done()
		return
	}
	for err == nil {
		_, err = watch.Recv()
	}
	if ctx.Err() == nil && client.Reason(err) == "" {
		c.t.Errorf("a watch ended without a reason: %v", err)
	}
}

// list reads a day; it is whole, or refused with the reason.
func (c *crowd) list(ctx context.Context, rpc bucketv1.BucketServiceClient) {
	began := time.Now()
	stream, err := rpc.ListBuckets(ctx, &bucketv1.ListBucketsRequest{StartUnixSeconds: began.Add(-24 * time.Hour).Unix(), EndUnixSeconds: began.Unix()})
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil && ctx.Err() == nil && client.Reason(err) != client.ReasonTooManyStreams && !strings.Contains(err.Error(), "stall") {
		c.t.Errorf("list: %v with reason %q", err, client.Reason(err))
	}
	if ctx.Err() == nil {
		c.saw("ListBuckets", status.Code(err).String(), time.Since(began))
	}
}
