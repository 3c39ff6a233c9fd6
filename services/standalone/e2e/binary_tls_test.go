package e2e

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// A Cloudflare behind TLS whose authority only a file knows, reached in each of
// the ways that the documentation names: what the exposer then shows is what
// happened.
func TestBinaryReachesCloudflareOverTLS(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name     string
		host     string // in the URL of the API; empty: the listener's address
		store    func(t *testing.T) []string
		settings func(ca string, proxy *connectProxy) []string
	}{
		{
			name:     "WEIR_CLOUDFLARE_CA_FILE",
			settings: func(ca string, _ *connectProxy) []string { return []string{"WEIR_CLOUDFLARE_CA_FILE=" + ca} },
		},
		{
			name: "SSL_CERT_FILE, on Postgres",
			store: func(t *testing.T) []string {
				return []string{"WEIR_DATABASE_URL=" + withPassword(t, pgtest.DSN(t)), "WEIR_MIGRATE=true"}
			},
			settings: func(ca string, _ *connectProxy) []string { return []string{"SSL_CERT_FILE=" + ca} },
		},
		{
			name: "HTTPS_PROXY",
			// A name that only the proxy can resolve: nothing gets past it. (Go
			// uses no proxy for loopback addresses.)
			host: "cf.example",
			settings: func(ca string, proxy *connectProxy) []string {
				return []string{"WEIR_CLOUDFLARE_CA_FILE=" + ca, "HTTPS_PROXY=" + proxy.url(marked)}
			},
		},
		{
			name: "ALL_PROXY",
			host: "cf.example",
			settings: func(ca string, proxy *connectProxy) []string {
				return []string{"WEIR_CLOUDFLARE_CA_FILE=" + ca, "ALL_PROXY=" + proxy.url(marked)}
			},
		},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			var hosts []string
			if way.host != "" {
				hosts = []string{way.host}
			}
			sim, ca := simulateTLS(t, hosts...)
			proxy := startProxy(t, sim.url)
			if way.host != "" {
				sim.url = "https://" + way.host + "/client/v4"
			}
			settings := way.settings(ca, proxy)
			if way.store != nil {
				settings = append(settings, way.store(t)...)
			}
			c := sim.startCollector(t, settings...)
			x := startExposerBinary(t, nil, c)
			sim.showsTruth(t, c, x)

			asked := proxy.targets()
			if way.host == "" && len(asked) > 0 {
				t.Errorf("the proxy was asked for %q, and nobody had set it", asked)
			}
			if want := []string{"cf.example:443"}; way.host != "" && !slices.Equal(asked, want) {
				t.Errorf("the proxy was asked for %q, want %q", asked, want)
			}
			x.stop()
			c.stop()
		})
	}
}

// An authority that the collector does not trust, and a proxy that refuses, are
// faults of the network: said clearly, counted, in the gap ledger, and no
// reason to stop or to be restarted.
func TestBinaryDistrustsAnUnknownAuthority(t *testing.T) {
	t.Parallel()
	sim, right := simulateTLS(t)
	_, wrong := simulateTLS(t)
	c := sim.newCollector(t, "WEIR_CLOUDFLARE_CA_FILE="+wrong)
	c.again()
	c.says("level=WARN", "cannot list zones", "class=transient", "certificate signed by unknown authority")
	if n := c.metric(`weir_collector_upstream_errors_total{class="transient"}`); n < 1 {
		t.Errorf("weir_collector_upstream_errors_total has %v transient errors, want at least 1", n)
	}
	c.unready("Cloudflare has not accepted an API token yet")
	c.stop()

	// With history in the store, the ledger says why its continuation is missing.
	c.again("WEIR_CLOUDFLARE_CA_FILE=" + right)
	c.ready()
	x := startExposerBinary(t, nil, c)
	sim.showsTruth(t, c, x)
	c.stop()
	proxy := startProxy(t, sim.url)
	proxy.refuse = true
	c.again("WEIR_CLOUDFLARE_URL=https://cf.example/client/v4", "HTTPS_PROXY="+proxy.url(marked))
	c.ready()
	c.says("level=WARN", "class=transient", "through the proxy http://"+proxy.address+": Proxy Authentication Required")
	client, _ := api(t, c)
	testkit.Eventually(t, func() error {
		return missing(t, client, bucketv1.GapReason_GAP_REASON_UPSTREAM_ERROR, "Proxy Authentication Required")
	})
	c.ready()
	if code, _, _ := get(t, "http://"+x.data+"/metrics"); code != http.StatusOK {
		t.Errorf("the exposer answers %d while Cloudflare is out of reach, want what it has", code)
	}
}

// An exposer goes past the proxies of its environment, to one collector as to several.
func TestBinaryExposerUsesNoProxy(t *testing.T) {
	t.Parallel()
	sim := simulate(t, nil)
	c := sim.startCollector(t)
	proxy := startProxy(t, "http://"+c.data)
	_, port, err := net.SplitHostPort(c.data)
	if err != nil {
		t.Fatal(err)
	}
	// This machine, and not loopback to those who use no proxy for that.
	name := "0.0.0.0:" + port
	for _, addresses := range []string{name, name + "," + c.data} {
		x := startExposerBinary(t, []string{
			"HTTPS_PROXY=" + proxy.url(marked), "HTTP_PROXY=" + proxy.url(marked), "ALL_PROXY=" + proxy.url(marked),
			"WEIR_COLLECTOR_ADDRESS=" + addresses,
		}, c)
		x.ready()
		x.stop()
		if asked := proxy.targets(); len(asked) > 0 {
			t.Errorf("to %s through the proxy, which was asked for %q", addresses, asked)
		}
	}
}

// missing is nil when some range is missing for that reason, with that detail.
func missing(t *testing.T, client bucketv1.BucketServiceClient, reason bucketv1.GapReason, detail string) error {
	t.Helper()
	answer, err := client.GetCoverage(t.Context(), &bucketv1.GetCoverageRequest{})
	if err != nil {
		return err
	}
	for _, c := range answer.GetCoverages() {
		for _, r := range c.GetRanges() {
			if r.GetState() == bucketv1.CoverageState_COVERAGE_STATE_MISSING && r.GetReason() == reason && strings.Contains(r.GetDetail(), detail) {
				return nil
			}
		}
	}
	return constError("no range is missing for " + reason.String() + " with " + detail)
}

// simulateTLS starts a simulated Cloudflare on HTTPS and returns the file of
// the authority that vouches for it.
func simulateTLS(t *testing.T, hosts ...string) (*simulated, string) {
	t.Helper()
	conf, ca, err := cfsim.ThrowawayTLS(hosts...)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	testkit.WriteFile(t, file, ca)
	return simulate(t, conf), file
}

// withPassword puts a password into a database's URL. The test's server asks
// for none and ignores it.
func withPassword(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, has := u.User.Password(); !has { // a foreign server may want its own
		u.User = url.UserPassword(u.User.Username(), marked)
	}
	return u.String()
}

// connectProxy is an HTTP proxy that knows CONNECT alone. Whatever name it is
// asked for, it connects to one target.
type connectProxy struct {
	address, target string
	refuse          bool // with 407, whatever the credential

	mu    sync.Mutex
	asked []string
}

// startProxy starts a proxy to the host of a URL.
func startProxy(t *testing.T, target string) *connectProxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l := testkit.Listen(t)
	p := &connectProxy{address: l.Addr().String(), target: u.Host}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })
	return p
}

func (p *connectProxy) url(password string) string {
	return "http://weir:" + password + "@" + p.address
}

// targets are the different names that the proxy was asked for.
func (p *connectProxy) targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(p.asked)))
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	credential := "Basic " + base64.StdEncoding.EncodeToString([]byte("weir:"+marked))
	if p.refuse || r.Header.Get("Proxy-Authorization") != credential {
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Host)
	p.mu.Unlock()
	upstream, err := net.Dial("tcp", p.target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer upstream.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// Each direction ends the other by closing both.
	go func() {
		_, _ = io.Copy(client, upstream)
		_ = client.Close()
	}()
	_, _ = io.Copy(upstream, buffered)
}
