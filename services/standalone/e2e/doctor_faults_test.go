package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// Faults of installations of their own beside the clinic's, which they would leave their
// traces in. All ask the clinic's Cloudflare.

// alone has the doctor ask nothing but what these settings give.
func (c *clinic) alone(settings ...string) {
	c.as(append([]string{
		"CF_API_TOKEN=", "WEIR_DATABASE_URL=", "WEIR_COLLECTOR_ADDRESS=", "WEIR_EXPOSER_URLS=", "WEIR_OPERATIONS_URLS=", "WEIR_PROMETHEUS_URL=",
	}, settings...)...)()
}

// abandoned is an installation whose collector ends at once, so that what it leaves is old
// when it is looked at.
func (c *clinic) abandoned() realFault {
	file := filepath.Join(c.t.TempDir(), "weir.db")
	collector := c.sim.startCollector(c.t, "WEIR_SQLITE_FILE="+file, "CF_ZONES=shop.example")
	exposer := startExposerBinary(c.t, nil, collector)
	exposer.ready()
	testkit.Eventually(c.t, func() error {
		if collector.metric("weir_collector_buckets_total") == 0 {
			return constError("nothing is stored yet")
		}
		return nil
	})
	collector.stop()
	return realFault{
		"an abandoned installation", []string{"collector.stream", "collector.leader", "exposer.age"}, "the stream time is ", func() {
			c.alone("WEIR_SQLITE_FILE="+file, "WEIR_EXPOSER_URLS=http://"+exposer.data)
		}, c.as(),
	}
}

// proxied is a Prometheus of which a proxy lets through what one path does not begin with.
func (c *clinic) proxied(without string) string {
	to, err := url.Parse(c.prometheus.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, without) {
			http.Error(w, "not for you", http.StatusForbidden)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	c.t.Cleanup(s.Close)
	return s.URL
}

// listless stands before a collector and passes on every call but those that list buckets,
// which a load balancer with a limit on the length of a response would do.
func (c *clinic) listless(collector *service) *service {
	var both http.Protocols
	both.SetUnencryptedHTTP2(true)
	pass := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: collector.data}) },
		Transport:     &http.Transport{Protocols: &both},
		FlushInterval: -1,
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/ListBuckets") {
			http.Error(w, "not for you", http.StatusBadGateway)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	s.Config.Protocols = &both
	s.Start()
	c.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return &service{t: c.t, name: "collector", data: s.Listener.Addr().String()}
}

// damaged is a collector on a database of its own with a bucket that was damaged while it
// was down.
func (c *clinic) damaged() {
	pgtest.Exec(c.t, c.admin, "CREATE DATABASE damaged")
	u, err := url.Parse(c.admin)
	if err != nil {
		c.t.Fatal(err)
	}
	u.Path = "/damaged"
	dsn := u.String()
	other := c.sim.startCollector(c.t, "WEIR_DATABASE_URL="+dsn, "WEIR_MIGRATE=true", "CF_ZONES=shop.example", "WEIR_GRPC_ADMIN_TOKEN="+adminToken)
	testkit.Eventually(c.t, func() error {
		if pgtest.Exec(c.t, dsn, "SELECT 1 FROM bucket LIMIT 1") == "" {
			return constError("nothing is stored yet")
		}
		return nil
	})
	other.stop()
	pgtest.Exec(c.t, dsn, `SET session_replication_role = replica; UPDATE bucket SET payload = payload || '\x00' WHERE revision = (SELECT max(revision) FROM bucket)`)
	other.again()
	other.ready()
	c.alone("WEIR_COLLECTOR_ADDRESS=" + other.data)
}

// apart are faults of installations of their own.
func (c *clinic) apart() []realFault {
	t, given := c.t, c.as()
	return []realFault{
		{"nothing is selected", []string{"collector.entitlements", "collector.coverage", "collector.problems", "delayed_collection", "durability", "backfill_path"}, "no active zone or account", func() {
			other := c.sim.startCollector(t, "CF_ZONES=nowhere.example", "WEIR_GRPC_ADMIN_TOKEN="+adminToken)
			c.alone("WEIR_COLLECTOR_ADDRESS="+other.data, "WEIR_OPERATIONS_URLS=http://"+other.ops)
		}, given},
		{"a damaged bucket", []string{"collector.coverage", "collector.problems"}, "1 windows cannot be read", c.damaged, given},
	}
}

// restricted is a token of a collector that Cloudflare answers without one dataset.
const restricted = marked + "-restricted-0123456789abcdef0123456789abcdef"

// hints are warnings of installations of their own.
func (c *clinic) hints() []realFault {
	t, given := c.t, c.as()
	return []realFault{
		{"a Prometheus whose version is hidden", []string{"prometheus.version"}, "", c.as("WEIR_PROMETHEUS_URL=" + c.proxied("/api/v1/status/buildinfo")), given},
		{"lists do not arrive", []string{"exposer.pages"}, "are in turn and not on /metrics", func() {
			x := startExposerBinary(t, nil, c.listless(c.collector))
			x.ready()
			c.alone("WEIR_EXPOSER_URLS=http://" + x.data)
		}, given},
		{"a dataset that is not answered", []string{"collector.coverage"}, "http_5m: ", func() {
			c.inject(restricted, cfsim.Fault{Kind: cfsim.FaultPartial, Dataset: "httpRequests1mGroups"})()
			other := c.sim.startCollector(t, "CF_API_TOKEN="+restricted, "WEIR_GRPC_ADMIN_TOKEN="+adminToken)
			testkit.Eventually(t, func() error {
				if other.metric("weir_collector_buckets_total") == 0 {
					return constError("nothing is stored yet")
				}
				return nil
			})
			c.alone("WEIR_COLLECTOR_ADDRESS=" + other.data)
		}, func() { c.sim.ClearFaults(); given() }},
	}
}
