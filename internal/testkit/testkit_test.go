package testkit

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "testdata", "story.txt")
	if err := golden(path, []byte("one\n"), false); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("missing file: got error %v, want one that says so", err)
	}
	if err := golden(path, []byte("one\n"), true); err != nil {
		t.Fatal(err)
	}
	if err := golden(path, []byte("one\n"), false); err != nil {
		t.Errorf("equal content: %v", err)
	}
	if err := golden(path, []byte("two\n"), false); err == nil || !strings.Contains(err.Error(), "-update") {
		t.Errorf("other content: got error %v, want a diff and what to do", err)
	}
}

func TestPoll(t *testing.T) {
	calls := 0
	if err := Poll(time.Minute, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil || calls != 3 {
		t.Errorf("got error %v after %d calls, want none after 3", err, calls)
	}
	never := errors.New("never")
	if err := Poll(5*time.Millisecond, func() error { return never }); !errors.Is(err, never) {
		t.Errorf("got error %v, want it to wrap the last one", err)
	}
}

func TestRecordingLogger(t *testing.T) {
	log, logs := RecordingLogger(t)
	log.Debug("collected", "zone", "a.example")
	log.Debug("collected", "zone", "b.example")
	if got := logs.Count("collected"); got != 2 {
		t.Errorf("counted %d records, want 2", got)
	}
	if got := logs.Count("b.example"); got != 1 {
		t.Errorf("counted %d records with the zone, want 1", got)
	}
}

func TestLoggerAfterTheTest(t *testing.T) {
	log := Logger(t)
	t.Run("inner", func(t *testing.T) { log = Logger(t) })
	log.Info("late") // would panic if it reached the ended test
}

func TestNoLeaksSeesALeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	stop := make(chan struct{})
	go func() { <-stop }()
	if err := goleak.Find(before); err == nil {
		t.Error("a goroutine that waits forever was not found")
	}
	close(stop)
	NoLeaks(t)
}

func TestCertificates(t *testing.T) {
	ca, other := NewCA(t, "ours"), NewCA(t, "theirs")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	server.Config.ErrorLog = nil
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t).TLS(t)},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    ca.Pool(),
	}
	server.StartTLS()
	t.Cleanup(server.Close)

	get := func(client tls.Certificate) (string, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{client}}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(server.URL)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	if got, err := get(ca.Client(t, "exposer").TLS(t)); err != nil || got != "exposer" {
		t.Errorf("our client: got %q, error %v", got, err)
	}
	if _, err := get(other.Client(t, "exposer").TLS(t)); err == nil {
		t.Error("another authority's client was let in")
	}
	cert := ca.Client(t, "x")
	certFile, keyFile := cert.Write(t, t.TempDir(), "x")
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Errorf("read the written pair: %v", err)
	}
}

// TestJanitorOutlivesAKill runs itself as a child that starts a janitor, kills
// it the hard way, and expects the janitor to have done its work.
func TestJanitorOutlivesAKill(t *testing.T) {
	if mark := os.Getenv("TESTKIT_JANITOR_MARK"); mark != "" {
		if _, err := StartJanitor(`echo "$1" >"$1.tmp" && mv "$1.tmp" "$1"`, mark); err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("started\n")
		select {}
	}
	mark := filepath.Join(t.TempDir(), "mark")
	child := exec.Command(os.Args[0], "-test.run=^TestJanitorOutlivesAKill$")
	child.Env = append(os.Environ(), "TESTKIT_JANITOR_MARK="+mark)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
		t.Fatalf("child said %q, error %v", line, err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Fatal("the script ran while the process was alive")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // says "signal: killed"
	Eventually(t, 10*time.Second, func() error { _, err := os.Stat(mark); return err })
}

func TestJanitorFinish(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	j, err := StartJanitor(`: >"$1"`, mark)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := j.Finish(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error(err)
	}
}
