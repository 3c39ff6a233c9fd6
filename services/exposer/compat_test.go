package exposer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer"
)

// The compatibility page is off by default, answers as /counters does, says what it lacks, and
// shows the same numbers as /counters at the same time.
func TestCompatPage(t *testing.T) {
	testkit.NoLeaks(t)
	const requests = "cloudflare_zone_requests"
	d := feedtest.Definition("http_5m", 1)
	d.Families = []bucket.Family{{Name: requests, Help: "Requests.", Role: bucket.Total, Additive: true}}
	s := scripted()
	s.Append(at(0), feedtest.Entry{Definition: d})
	want := 0.
	for i := range 3 {
		b := feedtest.Bucket("http_5m", feedtest.Zone(0), i)
		b.Families = []bucket.Rows{{Family: requests, Values: b.Families[0].Values}}
		want += b.Families[0].Values[0]
		s.Append(at(i+2), feedtest.Entry{Bucket: b})
		other := feedtest.Bucket("http_5m", feedtest.Zone(1), i)
		other.Families = b.Families
		s.Append(at(i+2), feedtest.Entry{Bucket: other})
	}
	s.SetProgress(at(4))
	c := newCounting(s, "one")
	set := config()
	set.Counters, set.Compat = true, "lablabs"
	now := at(4).Add(2 * time.Minute)
	x := start(t, c.serve(t), set, now)
	if got := x.compat(http.StatusServiceUnavailable, ""); got.header.Get("Retry-After") == "" {
		t.Errorf("headers are %v", got.header)
	}
	c.confirm(now)
	x.await(7)
	x.clock.Advance(30 * time.Minute)
	x.compat(http.StatusServiceUnavailable, "confirmed up to")
	c.confirm(now.Add(30 * time.Minute))
	page := x.compat(http.StatusOK, "weir_compat_missing{family=\"cloudflare_zone_requests_asn\",dataset=\"asns\"} 1\n")
	if line := fmt.Sprintf("\ncloudflare_zone_requests_total{zone=\"zone-a000.example\",account=\"example\"} %g\n", want); !strings.Contains(page.body, line) {
		t.Errorf("no line %q in\n%s", line, page.body)
	}
	if got := page.header; got.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" || got.Get("Cache-Control") != "no-store" || got.Get("X-Weir-Counter-Epoch") != "one" || got.Get("X-Weir-Store") != countedStore {
		t.Errorf("headers are %v", got)
	}
	const path = "/counters/compat/lablabs"
	plain := x.get(path+"?created=true", "Accept", "application/openmetrics-text")
	if zipped := x.get(path+"?created=true", "Accept", "application/openmetrics-text", "Accept-Encoding", "gzip"); !sameZipped(t, zipped.body, plain.body) || !strings.HasSuffix(plain.body, "# EOF\n") || !strings.Contains(plain.body, "_created{") {
		t.Errorf("%v and %v:\n%s", zipped.header, plain.header, plain.body)
	}
	if head := headOf(t, x, path); head.Get("Content-Length") != fmt.Sprint(len(page.body)) {
		t.Errorf("HEAD gives %v, GET %d bytes", head, len(page.body))
	}
	if got := x.get(path + "?creatd=true"); got.code != http.StatusBadRequest || !strings.Contains(got.body, "the parameters of "+path+" are account, created and zone") {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := x.get(path + "?zone=zone-a000.example"); got.code != http.StatusOK || !strings.Contains(got.body, "zone-a000") || strings.Contains(got.body, "zone-a001") {
		t.Errorf("of one zone: %d %s", got.code, got.body)
	}
	own, err := x.ask(x.ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	// All but those of cloudflare_zone_requests: the one family of the definition.
	for _, line := range []string{"weir_exposer_compat_missing_families 42\n", `weir_exposer_compat_pages_total{outcome="refused"} 1`, `weir_exposer_counters_pages_total{outcome="served"} 0`} {
		if !strings.Contains(own.body, line) {
			t.Errorf("own metrics have no %q", line)
		}
	}
	if page := x.get("/").body; !strings.Contains(page, "<code>asns</code>") || !strings.Contains(page, "WEIR_PROFILE=lablabs") || !strings.Contains(page, `href="counters/compat/lablabs"`) {
		t.Errorf("the landing page does not say what is missing:\n%s", page)
	}
}

func TestCompatPageIsOff(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 1)
	x := start(t, s.Serve(t), config(), at(4))
	x.await(3)
	if got := x.get("/counters/compat/lablabs"); got.code != http.StatusNotFound || !strings.Contains(got.body, "WEIR_EXPOSER_COMPAT") {
		t.Errorf("%d %s", got.code, got.body)
	}
	if page := x.get("/").body; strings.Contains(page, "compat") {
		t.Errorf("the landing page names a page that is off:\n%s", page)
	}
	own, err := x.ask(x.ops + "/metrics")
	if err != nil || strings.Contains(own.body, "weir_exposer_compat_missing") {
		t.Errorf("own metrics have families of a page that is off (%v)", err)
	}
}

func TestCompatNeedsCounters(t *testing.T) {
	var c exposer.Config
	cli.Defaults(c.Settings())
	c.Collector.Addresses = []string{"127.0.0.1:9820"}
	c.Compat = "lablabs"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Counters = false
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "WEIR_EXPOSER_COUNTERS must be true") {
		t.Errorf("the page without counters is accepted: %v", err)
	}
}
