package grpcserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/grpcserver"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// patient is a service whose streams say that they began and stay.
func patient() *service {
	return &service{stream: func(ss grpc.ServerStream) error {
		if err := ss.SendMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		<-ss.Context().Done()
		return ss.Context().Err()
	}}
}

// begin opens a stream and waits until it has begun, or for its error.
func begin(ctx context.Context, conn *grpc.ClientConn) (leave func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	ss, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, stream)
	if err == nil {
		err = ss.CloseSend()
	}
	if err == nil {
		err = ss.RecvMsg(&emptypb.Empty{})
	}
	if err != nil {
		cancel()
	}
	return cancel, err
}

func TestCallsOfAllConnectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn, _ := serve(t, grpcserver.Config{Calls: 3}, patient())
		var leave [3]func()
		for i := range leave {
			var err error
			if leave[i], err = begin(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
		}
		for name, err := range map[string]error{"a call": call(t.Context(), conn), "a stream": func() error { _, err := begin(t.Context(), conn); return err }()} {
			if status.Code(err) != codes.ResourceExhausted || client.Reason(err) != "TOO_MANY_STREAMS" {
				t.Errorf("%s beyond the limit: %v; want RESOURCE_EXHAUSTED, TOO_MANY_STREAMS", name, err)
			}
			if !hasRetry(err) {
				t.Errorf("%s beyond the limit is not told when to try again: %v", name, err)
			}
		}
		health(t, conn, "") // fatal if refused: probes are answered all the same
		leave[0]()
		synctest.Wait()
		if err := call(t.Context(), conn); err != nil {
			t.Errorf("a place was not given back: %v", err)
		}
		leave[1]()
		leave[2]()
		_ = conn.Close()
	})
}

func hasRetry(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok && r.GetRetryDelay().AsDuration() > 0 {
			return true
		}
	}
	return false
}

// One client cannot take all calls: HTTP/2 makes it wait on its connection.
func TestCallsOfOneConnectionAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn, _ := serve(t, grpcserver.Config{}, patient())
		var leave []func()
		for range 256 {
			l, err := begin(t.Context(), conn)
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, l)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := call(ctx, conn); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("call 257 on one connection: %v; want it to wait", err)
		}
		leave[0]()
		if err := call(t.Context(), conn); err != nil {
			t.Errorf("a place was not given back: %v", err)
		}
		_ = conn.Close()
	})
}

// crowded is a server and what reaches it by hand.
func crowded(t *testing.T, c grpcserver.Config, s *service) (dialer func(context.Context, string) (net.Conn, error), dials *atomic.Int64) {
	t.Helper()
	_, l, _ := listen(t, c, s)
	dials = &atomic.Int64{}
	return func(ctx context.Context, _ string) (net.Conn, error) {
		dials.Add(1)
		return l.DialContext(ctx)
	}, dials
}

func TestConnectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, logs := testkit.RecordingLogger(t)
		to, _ := crowded(t, grpcserver.Config{Connections: 2, Logger: logger}, &service{})
		first, second := dial(t, to), dial(t, to)
		for _, conn := range []*grpc.ClientConn{first, second} {
			if err := call(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			third := dial(t, to)
			if err := call(t.Context(), third); status.Code(err) != codes.Unavailable {
				t.Errorf("on a third connection: %v; want UNAVAILABLE", err)
			}
			_ = third.Close()
		}
		if n := logs.Count("level=WARN msg=\"gRPC connection limit reached"); n != 1 {
			t.Errorf("it was said %d times within a minute; want once", n)
		}
		_ = first.Close()
		synctest.Wait()
		if err := call(t.Context(), dial(t, to)); err != nil {
			t.Errorf("a place was not given back: %v", err)
		}
	})
}

func TestRequestsAreBounded(t *testing.T) {
	_, conn, _ := serve(t, grpcserver.Config{Request: 1000}, &service{})
	for size, want := range map[int]codes.Code{900: codes.OK, 2000: codes.ResourceExhausted} {
		err := conn.Invoke(t.Context(), method, wrapperspb.Bytes(make([]byte, size)), &emptypb.Empty{})
		if status.Code(err) != want {
			t.Errorf("a request of %d bytes: %v; want %s", size, err, want)
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	_, conn, _ := serve(t, grpcserver.Config{}, &service{})
	for size, ok := range map[int]bool{8 << 10: true, 20 << 10: false} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-long", strings.Repeat("x", size))
		if err := call(ctx, conn); (err == nil) != ok {
			t.Errorf("a call with %d bytes of metadata: %v; accepted should be %t", size, err, ok)
		}
	}
	if err := call(t.Context(), conn); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// A connection grows old: calls go on over another one, and what does not end
// in time breaks off, so that a credential that was withdrawn is asked for again.
func TestConnectionsGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, dials := crowded(t, grpcserver.Config{ConnectionAge: time.Hour}, patient())
		conn := dial(t, to)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ss, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, stream)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(ss.CloseSend(), ss.RecvMsg(&emptypb.Empty{})); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 80 {
			if err := call(t.Context(), conn); err != nil {
				t.Fatalf("a call after %s: %v", time.Since(began), err)
			}
			time.Sleep(time.Minute)
		}
		if n := dials.Load(); n != 2 {
			t.Errorf("%d connections in 80 minutes; want 2", n)
		}
		if err := ss.RecvMsg(&emptypb.Empty{}); status.Code(err) != codes.Unavailable {
			t.Errorf("the old stream ended with %v; want UNAVAILABLE", err)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, dials := crowded(t, grpcserver.Config{}, &service{})
		conn := dial(t, to)
		for range 2 {
			if err := call(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			time.Sleep(16 * time.Minute)
		}
		if n := dials.Load(); n != 2 {
			t.Errorf("%d connections; want a new one after a quarter of an hour without calls", n)
		}
	})
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frame is one HTTP/2 frame on stream 0.
func frame(kind byte, payload ...byte) []byte {
	return append([]byte{0, 0, byte(len(payload)), kind, 0, 0, 0, 0, 0}, payload...)
}

const (
	settingsFrame = 4
	pingFrame     = 6
	goAwayFrame   = 7
	enhanceCalm   = 11 // HTTP/2's ENHANCE_YOUR_CALM
)

// silent connects by hand, sends what it is given, and returns after how long the
// server closed the connection, and the code of its GOAWAY, if there was one.
func silent(t *testing.T, first []byte, each []byte, every time.Duration) (open time.Duration, code uint32) {
	t.Helper()
	to, _ := crowded(t, grpcserver.Config{}, &service{})
	conn, err := to(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := conn.Write(first); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for every > 0 {
			select {
			case <-time.After(every):
				if _, err := conn.Write(each); err != nil {
					return
				}
			case <-stop:
				return
			}
		}
	}()
	var header [9]byte
	for {
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			break
		}
		var payload bytes.Buffer
		if _, err := io.CopyN(&payload, conn, int64(binary.BigEndian.Uint32(append([]byte{0}, header[:3]...)))); err != nil {
			break
		}
		if header[3] == goAwayFrame {
			code = binary.BigEndian.Uint32(payload.Bytes()[4:])
		}
	}
	open = time.Since(began)
	close(stop)
	<-done
	_ = conn.Close()
	return open, code
}

func TestConnectionsThatSayNothingAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if open, _ := silent(t, nil, nil, 0); open != 20*time.Second {
			t.Errorf("a connection that never becomes HTTP/2 is open for %s; want 20 s", open)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if open, _ := silent(t, append([]byte(preface), frame(settingsFrame)...), nil, 0); open != 40*time.Second {
			t.Errorf("a peer that answers no ping is connected for %s; want 40 s", open)
		}
	})
}

func TestClientsThatPingTooOftenAreDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, code := silent(t, append([]byte(preface), frame(settingsFrame)...), frame(pingFrame, 1, 2, 3, 4, 5, 6, 7, 8), time.Second)
		if open > 10*time.Second || code != enhanceCalm {
			t.Errorf("a ping a second was suffered for %s, and ended with code %d; want code %d after a few", open, code, enhanceCalm)
		}
	})
}
