package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// echoToken is a Cloudflare, or something that stands before it, that repeats
// what it was sent wherever it can.
func echoToken(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	w.Header().Set("CF-Ray", token)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprintf(w, `{"success":false,"errors":[{"code":9109,"message":"Invalid access token %s for Bearer %[1]s"}],"result":null}`, token)
}

// echoTokenAsRefusal repeats it in an answer that is otherwise one to a query
// that the plan of a zone does not allow.
func echoTokenAsRefusal(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"data":null,"errors":[{"message":"%s does not have access to the path","path":["%[1]s","zones","%[1]s"],"extensions":{"code":"%[1]s"}}]}`, token)
}

// echoQueries is the URL of a Cloudflare that says as the simulated one does
// which zones there are and what may be asked, so that something is asked, and
// answers that otherwise.
func echoQueries(t *testing.T, sim *simulated, answer http.HandlerFunc) string {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(sim.url, "/client/v4"))
	if err != nil {
		t.Fatal(err)
	}
	rest := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the collector has gone
		}
		if strings.HasSuffix(r.URL.Path, "/graphql") && !bytes.Contains(body, []byte("settings")) {
			answer(w, r)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		rest.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/client/v4"
}

// refusingPostgres is a database server that knows nobody's password.
func refusingPostgres(t *testing.T) string {
	t.Helper()
	l := testkit.Listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go refuse(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// refuse asks for a password in the clear and refuses it, in Postgres's
// protocol, version 3.
func refuse(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // a dead client fails below
	for {
		message, err := message(conn)
		if err != nil {
			return
		}
		if code := binary.BigEndian.Uint32(message); code>>16 == 3 {
			break
		}
		if _, err := io.WriteString(conn, "N"); err != nil { // TLS or encryption is asked for
			return
		}
	}
	if _, err := conn.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}); err != nil {
		return
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // 'p'
		return
	}
	if _, err := message(conn); err != nil {
		return
	}
	const fields = "SFATAL\x00VFATAL\x00C28P01\x00Mpassword authentication failed for user \"weir\"\x00\x00"
	_, _ = conn.Write(append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(len(fields)+4)), fields...))
}

// message reads one without its type.
func message(conn net.Conn) ([]byte, error) {
	length := make([]byte, 4)
	if _, err := io.ReadFull(conn, length); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length)
	if n < 8 || n > 1<<16 {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	body := make([]byte, n-4)
	_, err := io.ReadFull(conn, body)
	return body, err
}
