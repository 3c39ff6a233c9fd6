package ops

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// crowded serves with room for a few connections.
func crowded(t *testing.T, most int, handler http.Handler) (address string, logs *testkit.Logs) {
	t.Helper()
	logger, logs := testkit.RecordingLogger(t)
	l := testkit.Listen(t)
	server := &http.Server{Handler: handler, ConnState: newConnections(most, logger).track, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String(), logs
}

func dial(t *testing.T, address, begin string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, begin); err != nil {
		t.Fatal(err)
	}
	return conn
}

// gone waits until the other side has closed a connection without a word.
func gone(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the connection is still open: %d bytes, %v", n, err)
	}
}

// Connections that send nothing, or a header that never ends, give way to those
// that ask, the oldest first; connections that are being answered do not.
func TestSilentConnectionsGiveWay(t *testing.T) {
	const most = 4
	begun, finish := make(chan struct{}, most), make(chan struct{})
	address, logs := crowded(t, most, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			<-finish
		}
		_, _ = io.WriteString(w, "whole")
	}))
	busy := dial(t, address, "GET /slow HTTP/1.1\r\nHost: weir\r\n\r\n")
	<-begun
	silent := dial(t, address, "")
	letters := dial(t, address, "GET / HTTP/1.1\r\nX-Slow: a")
	others := []net.Conn{dial(t, address, "")}
	// One more than there is room for, again and again.
	for range 20 {
		transport := &http.Transport{DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: transport}).Get("http://" + address + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "whole" {
			t.Fatalf("someone who asks got %q, %v", body, err)
		}
		others = append(others, dial(t, address, "POST"))
	}
	gone(t, silent)
	gone(t, letters)
	for _, conn := range others[:len(others)-most] {
		gone(t, conn)
	}
	close(finish)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatalf("someone who was being answered: %v", err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "whole" {
		t.Errorf("someone who was being answered got %q, %v", body, err)
	}
	if n := logs.Count("level=WARN msg=\"connection limit reached"); n != 1 {
		t.Errorf("the log says so %d times, want once a minute", n)
	}
}

// When every connection is being answered, the newest has to go.
func TestFullOfRequests(t *testing.T) {
	const most = 3
	begun, finish := make(chan struct{}, most), make(chan struct{})
	address, _ := crowded(t, most, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-finish
	}))
	defer close(finish)
	for range most {
		dial(t, address, "GET / HTTP/1.1\r\nHost: weir\r\n\r\n")
	}
	for range most {
		<-begun
	}
	gone(t, dial(t, address, ""))
}

// A client that sends request after request and reads no answer is cut by the
// time that an answer may take, even where the handler sets none.
func TestPipelinesThatNobodyReadsEnd(t *testing.T) {
	testkit.NoLeaks(t)
	answer := strings.Repeat("x", 64<<10)
	l := testkit.Listen(t)
	server := &http.Server{WriteTimeout: 200 * time.Millisecond, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, answer)
	})}
	if writeTimeout <= 0 || writeTimeout > time.Minute {
		t.Fatalf("the listeners' own limit is %s", writeTimeout)
	}
	closed := make(chan struct{})
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Close
	conn := dial(t, l.Addr().String(), "")
	go func() {
		for { // ends when the connection does
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: weir\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("it is still served")
	}
	_ = conn.Close()
	_ = server.Close()
	<-done
}

// Over TLS one connection may carry many requests: so many and no more, which
// HTTP/2 servers say first of all.
func TestStreamsOfOneConnection(t *testing.T) {
	dir := t.TempDir()
	ca := testkit.NewCA(t, "ca")
	certFile, keyFile := ca.Server(t).Write(t, dir, "server")
	file := filepath.Join(dir, "web.yml")
	testkit.WriteFile(t, file, fmt.Appendf(nil, "tls_server_config:\n  cert_file: %s\n  key_file: %s\n", certFile, keyFile))
	l := testkit.Listen(t)
	stop := serve(t, ServerConfig{Listener: l, WebConfigFile: file}, http.NotFoundHandler())
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	// The preface of a client, with settings of which none is changed.
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	var header [9]byte // of a frame: length, type, flags, stream
	if _, err := io.ReadFull(conn, header[:]); err != nil || header[3] != 4 {
		t.Fatalf("the first frame is %v, want settings; error %v", header, err)
	}
	settings := make([]byte, int(header[1])<<8|int(header[2]))
	if _, err := io.ReadFull(conn, settings); err != nil {
		t.Fatal(err)
	}
	streams := uint32(0)
	for one := range slices.Chunk(settings, 6) {
		if binary.BigEndian.Uint16(one) == 3 { // SETTINGS_MAX_CONCURRENT_STREAMS
			streams = binary.BigEndian.Uint32(one[2:])
		}
	}
	if streams != streamsPerConnection {
		t.Errorf("a connection may carry %d requests at once, want %d", streams, streamsPerConnection)
	}
	_ = conn.Close()
	if err := stop(); err != nil {
		t.Error(err)
	}
}
