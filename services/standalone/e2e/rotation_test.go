package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/tlsconf"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Every secret of a running system is replaced while Cloudflare is asked,
// exposers and other readers follow, and scrapes come twenty times a second:
// nobody with a valid credential notices, nothing is lost, no process is
// restarted, and what was withdrawn is refused. Every file is emptied before it
// is written, as careless tools do.
func TestBinarySecretsRotateUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, content string) string {
		testkit.WriteFile(t, file(name), []byte(content))
		return file(name)
	}

	const renewed = marked + "-renewed-0123456789abcdef0123456789abcdef"
	sim := simulate(t, nil, cfsim.GoodToken(renewed))
	front := &revoker{next: sim.Server, used: map[string]int{}}
	api := httptest.NewServer(front)
	t.Cleanup(api.Close)
	sim.url = api.URL + "/client/v4"

	oldCA, newCA := testkit.NewCA(t, "old"), testkit.NewCA(t, "new")
	bothCAs := string(oldCA.PEM) + string(newCA.PEM)
	oldCA.Server(t).Write(t, dir, "server")
	oldCA.Client(t, "exposer").Write(t, dir, "client")
	oldCA.Server(t).Write(t, dir, "web")
	web := func(users ...string) string {
		config := "tls_server_config: {cert_file: web.crt, key_file: web.key}\nbasic_auth_users:\n"
		for _, user := range users {
			config += fmt.Sprintf("  %s: %s\n", user, hashes[user])
		}
		return config
	}

	c := sim.startCollector(t, "CF_API_TOKEN=", "CF_API_TOKEN_FILE="+put("cloudflare", apiToken), "CF_COLLECTION_INTERVAL_SECONDS=1",
		"WEIR_GRPC_CERT_FILE="+file("server.crt"), "WEIR_GRPC_KEY_FILE="+file("server.key"), "WEIR_GRPC_CLIENT_CA_FILE="+put("clients.ca", string(oldCA.PEM)),
		"WEIR_GRPC_TOKEN_FILE="+put("tokens", marked+"-first\n"), "WEIR_LOG_LEVEL=debug")
	line := newProxy(t, c.data, 1) // to cut the exposer's connection
	x := startExposerBinary(t, []string{
		"WEIR_COLLECTOR_ADDRESS=" + line.addr(), "WEIR_COLLECTOR_TLS=true", "WEIR_COLLECTOR_CA_FILE=" + put("collector.ca", string(oldCA.PEM)),
		"WEIR_COLLECTOR_CERT_FILE=" + file("client.crt"), "WEIR_COLLECTOR_KEY_FILE=" + file("client.key"),
		"WEIR_COLLECTOR_TOKEN_FILE=" + put("token", marked+"-first\n"), "WEIR_LOG_LEVEL=debug",
		"WEIR_EXPOSER_WEB_CONFIG_FILE=" + put("web.yml", web("old")),
	}, c)
	x.ready()
	pids := []int{c.cmd.Process.Pid, x.cmd.Process.Pid}

	// connect is a reader of its own, with the certificates of an authority.
	connect := func(ca *testkit.CA, roots string, bearer *token) *grpc.ClientConn {
		t.Helper()
		folder := t.TempDir()
		cert, key := ca.Client(t, "reader").Write(t, folder, "reader")
		trust := filepath.Join(folder, "roots.ca")
		testkit.WriteFile(t, trust, []byte(roots))
		secure, err := tlsconf.Client{CAFile: trust, CertFile: cert, KeyFile: key}.Credentials(nil, "")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient("passthrough:///"+c.data, grpc.WithTransportCredentials(secure), grpc.WithPerRPCCredentials(bearer))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	getStatus := func(conn *grpc.ClientConn) error {
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		_, err := bucketv1.NewBucketServiceClient(conn).GetStatus(ctx, &bucketv1.GetStatusRequest{})
		return err
	}
	first, second, renewing := newToken(marked+"-first"), newToken(marked+"-second"), newToken(marked+"-first")
	watches := []*recorder{record(t, connect(oldCA, string(oldCA.PEM), renewing)), record(t, connect(oldCA, string(oldCA.PEM), renewing))}
	before := connect(oldCA, string(oldCA.PEM), first)
	left, err := bucketv1.NewBucketServiceClient(before).WatchBuckets(t.Context(), &bucketv1.WatchBucketsRequest{
		Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error { return reached(1, watches...) })
	scrapes := scrape(t, x.data, "old", oldCA, newCA)

	// replace empties a file, waits until the process has noticed and goes on
	// with what it had, and writes the new content.
	replace := func(s *service, setting, name, content string) {
		t.Helper()
		usable := fmt.Sprintf("weir_secret_usable{secret=%q}", setting)
		changed := fmt.Sprintf("weir_secret_changed_timestamp_seconds{secret=%q}", setting)
		since := s.metric(changed)
		if since == 0 {
			t.Fatalf("%s shows no metric %s", s.name, changed)
		}
		if err := os.WriteFile(file(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, func() error { return isMetric(s, usable, 0) })
		testkit.WriteFile(t, file(name), []byte(content))
		testkit.Eventually(t, func() error {
			if s.metric(changed) == since {
				return constError(s.name + " has not taken the new " + setting + " into use")
			}
			return isMetric(s, usable, 1)
		})
	}
	// reconnects does what ends the exposer's stream and waits until it follows again.
	reconnects := func(after func()) {
		t.Helper()
		disconnects := x.metric("weir_exposer_stream_disconnects_total")
		after()
		testkit.Eventually(t, func() error {
			if x.metric("weir_exposer_stream_disconnects_total") == disconnects {
				return constError("the exposer has not noticed that its stream ended")
			}
			return isMetric(x, "weir_exposer_stream_connected", 1)
		})
	}

	t.Log("Cloudflare's token")
	replace(c, "CF_API_TOKEN_FILE", "cloudflare", renewed+"\n")
	testkit.Eventually(t, func() error { return front.asked(renewed) })
	front.revoke(apiToken)

	t.Log("the bearer token")
	replace(c, "WEIR_GRPC_TOKEN_FILE", "tokens", marked+"-first\n"+marked+"-second\n")
	replace(x, "WEIR_COLLECTOR_TOKEN_FILE", "token", marked+"-second\n")
	renewing.Store(second.Load())
	reconnects(func() { replace(c, "WEIR_GRPC_TOKEN_FILE", "tokens", marked+"-second\n") })
	for err = nil; err == nil; {
		_, err = left.Recv()
	}
	if client.Reason(err) != client.ReasonCredentialWithdrawn {
		t.Errorf("a stream whose bearer token was withdrawn ended with %v", err)
	}
	if err := getStatus(before); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the bearer token that was withdrawn: %v, want UNAUTHENTICATED", err)
	}

	t.Log("certificates and authorities")
	replace(x, "WEIR_COLLECTOR_TLS", "collector.ca", bothCAs)
	replace(c, "WEIR_GRPC_CERT_FILE", "clients.ca", bothCAs)
	for name, s := range map[string]*service{"server": c, "client": x} {
		pair := newCA.Server(t)
		setting := "WEIR_GRPC_CERT_FILE"
		if s == x {
			pair, setting = newCA.Client(t, "exposer"), "WEIR_COLLECTOR_TLS"
		}
		testkit.WriteFile(t, file(name+".key"), pair.KeyPEM) // and so not the certificate's
		replace(s, setting, name+".crt", string(pair.PEM))
	}
	replace(x, "WEIR_COLLECTOR_TLS", "collector.ca", string(newCA.PEM))
	replace(c, "WEIR_GRPC_CERT_FILE", "clients.ca", string(newCA.PEM))
	reconnects(line.cut)
	if err := getStatus(connect(oldCA, bothCAs, second)); status.Code(err) != codes.Unavailable {
		t.Errorf("a certificate of the authority that was withdrawn: %v, want UNAVAILABLE", err)
	}
	if err := getStatus(connect(newCA, string(oldCA.PEM), second)); status.Code(err) != codes.Unavailable {
		t.Errorf("the collector still shows its old certificate: %v", err)
	}
	if err := getStatus(connect(newCA, string(newCA.PEM), second)); err != nil {
		t.Errorf("with everything new: %v", err)
	}

	t.Log("the web configuration")
	replace(x, "WEIR_EXPOSER_WEB_CONFIG_FILE", "web.yml", web("old", "new"))
	scrapes.as(t, "new")
	replace(x, "WEIR_EXPOSER_WEB_CONFIG_FILE", "web.yml", web("new"))
	pair := newCA.Server(t)
	testkit.WriteFile(t, file("web.key"), pair.KeyPEM)
	replace(x, "WEIR_EXPOSER_WEB_CONFIG_FILE", "web.crt", string(pair.PEM))
	if code, err := scrapes.once("old"); code != http.StatusUnauthorized {
		t.Errorf("the password that was withdrawn gets %d, %v; want 401", code, err)
	}

	// Nothing was lost, and nobody was kept out.
	head := uint64(c.metric("weir_collector_feed_revision"))
	testkit.Eventually(t, func() error {
		return errors.Join(reached(head, watches...), isMetric(x, "weir_exposer_revision", float64(max(head, watches[0].revision()))))
	})
	n, failed := scrapes.stop()
	if n < 20 || len(failed) > 0 {
		t.Errorf("of %d scrapes %d failed, first: %v", n, len(failed), failed[:min(3, len(failed))])
	}
	for _, refused := range []struct {
		s      *service
		metric string
	}{
		{c, `weir_collector_upstream_errors_total{class="auth"}`},
		{x, `weir_exposer_stream_disconnects_total{reason="UNAUTHENTICATED"}`},
	} {
		if got := refused.s.metric(refused.metric); got != 0 {
			t.Errorf("%s of the %s is %g, want 0", refused.metric, refused.s.name, got)
		}
	}
	if got := front.refused(); got != 0 {
		t.Errorf("Cloudflare refused %d requests with the token that was revoked", got)
	}
	for i, s := range []*service{c, x} {
		if err := s.running(); err != nil || s.cmd.Process.Pid != pids[i] {
			t.Errorf("%s was restarted or has ended: %v", s.name, err)
		}
	}
	t.Logf("%d scrapes, %d entries", n, head)
}

// reached is nil when all recorders have come to a revision.
func reached(revision uint64, watches ...*recorder) error {
	for i, w := range watches {
		if got := w.revision(); got < revision {
			return fmt.Errorf("watch %d is at revision %d, want %d", i, got, revision)
		}
	}
	return nil
}

func isMetric(s *service, name string, want float64) error {
	if got := s.metric(name); got != want {
		return fmt.Errorf("%s of the %s is %g, want %g", name, s.name, got, want)
	}
	return nil
}

// hashes are bcrypt's at the least cost, of the passwords of [scraper.once].
var hashes = map[string]string{
	"old": "$2a$04$PGDnY3FlxvQIif/DYmJ0eev4PyvcBWmB.Ri7V5odd2JGJGKwDCjnK",
	"new": "$2a$04$x/sEDm/L8h3WKAne4LoTOuyT3HMPlehLtgzk8aS6hacWTJsI7C2n2",
}

// token is a bearer token, which its owner may replace.
type token struct{ atomic.Pointer[string] }

func newToken(text string) *token {
	c := &token{}
	c.Store(&text)
	return c
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (c *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + *c.Load()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (*token) RequireTransportSecurity() bool { return true }

// revoker stands before a simulated Cloudflare and revokes tokens. It is slow,
// so that there is something to ask for during the whole of a test.
type revoker struct {
	next http.Handler

	mu      sync.Mutex
	used    map[string]int // requests by token
	revoked string
	no      int // requests that were refused
}

func (r *revoker) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	token := strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer ")
	r.mu.Lock()
	r.used[token]++
	if token != "" && token == r.revoked {
		r.no++
		q.Header.Set("Authorization", "Bearer revoked")
	}
	r.mu.Unlock()
	select {
	case <-time.After(200 * time.Millisecond):
	case <-q.Context().Done():
	}
	r.next.ServeHTTP(w, q)
}

func (r *revoker) revoke(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked = token
}

func (r *revoker) refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.no
}

// asked is nil when a token was used.
func (r *revoker) asked(token string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used[token] == 0 {
		return constError("Cloudflare has not been asked with the new token")
	}
	return nil
}

// scraper scrapes over a new connection every 50 ms.
type scraper struct {
	url    string
	client *http.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	user   string
	n      int
	failed []error
}

// scrape begins to scrape as a user, trusting these authorities.
func scrape(t *testing.T, address, user string, trusted ...*testkit.CA) *scraper {
	t.Helper()
	roots := x509.NewCertPool()
	for _, ca := range trusted {
		roots.AppendCertsFromPEM(ca.PEM)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &scraper{
		url: "https://" + address + "/metrics", user: user, cancel: cancel, done: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}, Timeout: 10 * time.Second},
	}
	go func() {
		defer close(s.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.note(s.once(s.who()))
			}
		}
	}()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *scraper) once(user string) (int, error) {
	q, err := http.NewRequest(http.MethodGet, s.url, nil)
	if err != nil {
		return 0, err
	}
	q.SetBasicAuth(user, marked+"-"+user)
	response, err := s.client.Do(q)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func (s *scraper) note(code int, err error) {
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if err != nil {
		s.failed = append(s.failed, fmt.Errorf("scrape %d as %s: %w", s.n, s.user, err))
	}
}

func (s *scraper) who() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user
}

func (s *scraper) as(t *testing.T, user string) {
	t.Helper()
	s.mu.Lock()
	s.user = user
	before := s.n
	s.mu.Unlock()
	testkit.Eventually(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.n == before {
			return errors.New("a scrape as the user before may be on its way")
		}
		return nil
	})
}

// stop ends the scrapes and says how many there were, and which failed.
func (s *scraper) stop() (int, []error) {
	s.cancel()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.failed
}
