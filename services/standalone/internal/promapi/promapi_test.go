package promapi

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/cli"
)

func serve(t *testing.T, handler http.HandlerFunc, change func(*Config)) *Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	config := Config{URL: s.URL}
	if change != nil {
		change(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Samples come back bit for bit, those before the range are dropped (a range is closed
// before Prometheus 3), and the request asks for one second less a millisecond.
func TestRaw(t *testing.T) {
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.FormValue("query")+" "+r.FormValue("time")+" "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Scope-OrgID"))
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"matrix","result":[
{"metric":{"__name__":"x","zone":"a"},"values":[[1795341599.999,"1"],[1795341600,"0.1"],[1795341899.999,"NaN"],[1795342199.999,"+Inf"],[1795342499.999,"4.9e-324"]]},
{"metric":{"__name__":"x","zone":"b"},"values":[[1795341599.999,"1"]]}]}}`))
	}, func(c *Config) { c.Token, c.Headers = cli.NewSecret("marked"), []string{"X-Scope-OrgID: tenant"} })
	series, err := c.Raw(t.Context(), `x{zone=~"a|b"}`, time.Unix(1795341600, 0), time.Unix(1795342500, 0))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`x{zone=~"a|b"}[900s] 1795342499.999 Bearer marked tenant`}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if len(series) != 1 || len(series[0].Samples) != 4 {
		t.Fatalf("got %+v", series)
	}
	got := series[0].Samples
	if got[0] != (Sample{1795341600000, 0.1}) || !math.IsNaN(got[1].Value) || !math.IsInf(got[2].Value, 1) || got[3].Value != math.SmallestNonzeroFloat64 {
		t.Errorf("samples are %v", got)
	}
}

// What the server answers is an error with its text; a server that restarts is asked
// again; what is no sample is refused.
func TestErrors(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch n++; {
		case strings.HasPrefix(r.FormValue("query"), "again") && n < 3:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		case strings.HasPrefix(r.FormValue("query"), "bad"):
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"status":"error","errorType":"bad_data","error":"parse error: unexpected"}`))
		default:
			_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[]}}`))
		}
	}, nil)
	if _, err := c.Vector(t.Context(), "again", time.Unix(1, 0)); err != nil || n != 3 {
		t.Errorf("after a restart: %v, after %d requests", err, n)
	}
	if _, err := c.Vector(t.Context(), "bad", time.Unix(1, 0)); err == nil || !strings.Contains(err.Error(), "parse error: unexpected") {
		t.Errorf("a bad query: %v", err)
	}
	if _, err := c.Raw(t.Context(), "bad", time.Unix(0, 0), time.Unix(60, 0)); err == nil || !strings.Contains(err.Error(), "parse error: unexpected") {
		t.Errorf("a bad query: %v", err)
	}
	if _, err := c.Raw(t.Context(), "x", time.Unix(0, 0), time.Unix(60, 0)); err == nil || !strings.Contains(err.Error(), "want a matrix") {
		t.Errorf("another type: %v", err)
	}
	for _, text := range []string{`[1]`, `["x","1"]`, `[1,"one"]`, `[1,"1e999"]`} {
		var s Sample
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is read as %v", text, s)
		}
	}
}

// A vector may lack series as samples may be lacking; what Prometheus remarks about the
// expression lacks nothing.
func TestPartialVector(t *testing.T) {
	for members, says := range map[string]string{
		`"warnings":["PromQL info: metric might not be a counter","store 2 did not answer"]`: "may lack samples: store 2 did not answer",
		`"isPartial":true`: "the answer is partial",
		`"warnings":["PromQL info: metric might not be a counter"],"isPartial":false`: "",
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"status":"success",` + members + `,"data":{"resultType":"vector","result":[]}}`))
		}, nil)
		c.pause = time.Millisecond
		_, err := c.Vector(t.Context(), "x", time.Unix(1, 0))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: the error is %v, want %q", members, err, says)
		}
	}
}

func TestServer(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		answers := map[string]string{
			"/api/v1/status/runtimeinfo": `{"status":"success","data":{"storageRetention":"15d or 10GiB"}}`,
			"/api/v1/status/config":      `{"status":"success","data":{"yaml":"global:\n  scrape_interval: 1m\nstorage:\n  tsdb:\n    out_of_order_time_window: 1d6h\n"}}`,
			"/api/v1/status/tsdb":        `{"status":"success","data":{"headStats":{"numSeries":1,"minTime":1795341600000,"maxTime":1795345200000}}}`,
			"/flags":                     "-dedup.minScrapeInterval=\"1ms\"\n-retentionPeriod=\"2\"\n",
		}
		_, _ = w.Write([]byte(answers[r.URL.Path]))
	}, nil)
	kept, err := c.Retention(t.Context())
	if err != nil || kept != 15*24*time.Hour {
		t.Errorf("retention is %s, %v", kept, err)
	}
	window, err := c.OutOfOrder(t.Context())
	if err != nil || window != 30*time.Hour {
		t.Errorf("out-of-order window is %s, %v", window, err)
	}
	head, err := c.Head(t.Context())
	if err != nil || head != (Head{1795341600000, 1795345200000}) {
		t.Errorf("head is %v, %v", head, err)
	}
	flags, err := c.Flags(t.Context())
	if diff := cmp.Diff(map[string]string{"dedup.minScrapeInterval": "1ms", "retentionPeriod": "2"}, flags); diff != "" || err != nil {
		t.Errorf("flags: %v\n%s", err, diff)
	}
	none := serve(t, http.NotFound, nil)
	for _, ask := range []func() error{
		func() error { _, err := none.Head(t.Context()); return err },
		func() error { _, err := none.OutOfOrder(t.Context()); return err },
		func() error { _, err := none.Retention(t.Context()); return err },
	} {
		if err := ask(); !IsUnknown(err) {
			t.Errorf("a server that does not tell: %v", err)
		}
	}
}

func TestMatchers(t *testing.T) {
	got := Selector(Matcher("zone", `a"b`), Matcher("__name__", "x", "y.z"), Not("zone", "c.d", "e"))
	if want := `{zone="a\"b",__name__=~"x|y\\.z",zone!~"c\\.d|e"}`; got != want {
		t.Errorf("selector is %s, want %s", got, want)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"15d": 360 * time.Hour, "1h30m": 90 * time.Minute, "2w": 336 * time.Hour, "1y": 8760 * time.Hour, "250ms": 250 * time.Millisecond, "0s": 0} {
		if got, err := Duration(text); err != nil || got != want {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "10GiB", "1", "-1d", "d"} {
		if got, err := Duration(text); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{
		{Access: Access{User: "me"}},
		{Access: Access{Password: cli.NewSecret("x")}},
		{Access: Access{User: "me", Password: cli.NewSecret("x"), Token: cli.NewSecret("y")}},
		{Access: Access{Headers: []string{"X-Scope-OrgID"}}},
		{Access: Access{Headers: []string{"Authorization: Basic x"}}},
		{Access: Access{Headers: []string{"proxy-authorization: Basic x"}}},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "WEIR_PROMETHEUS_") {
			t.Errorf("%+v: %v", c, err)
		}
		if err := c.ValidateRemoteWrite(); err == nil || strings.Contains(err.Error(), "WEIR_PROMETHEUS_") {
			t.Errorf("%+v of a receiver of remote write: %v", c, err)
		}
	}
}

// Headers that no request may have, or that would be left out without a word, are errors of the
// settings and not of each request.
func TestHeadersThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"Host: mimir.example":                     "must not have Host: the host is that of the URL",
		"content-type: text/plain":                "must not have Content-Type",
		"Content-Encoding: gzip":                  "must not have Content-Encoding",
		"Content-Length: 5":                       "must not have Content-Length",
		"x-prometheus-remote-write-version: 9":    "must not have X-Prometheus-Remote-Write-Version",
		"X Scope: a":                              "must be Name: value",
		"X-Scöpe: a":                              "must be Name: value",
		"X-Scope(1): a":                           "must be Name: value",
		"X-Scope: a\x00b":                         "must be Name: value",
		"X-Scope: a\x7f":                          "must be Name: value",
		"X-Scope-OrgID":                           "must be Name: value",
		"X-Scope-OrgID: ":                         "must be Name: value",
		"X-Scope-OrgID: tenant|other\tand a word": "",
		"x_under.score: münchen":                  "",
	} {
		err := (&Config{Access: Access{Headers: []string{text}}}).ValidateRemoteWrite()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

// A redirect to another server is an error that names both, at once. Neither the credential
// nor a header leaves the server that they are for.
func TestRedirectsStay(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the other server is asked for %s with %q", r.URL, r.Header)
	}))
	defer other.Close()
	asked := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/api/v1/status/runtimeinfo":
			http.Redirect(w, r, "/moved", http.StatusTemporaryRedirect)
		case "/moved":
			_, _ = w.Write([]byte(`{"status":"success","data":{"storageRetention":"15d"}}`))
		default:
			http.Redirect(w, r, other.URL+r.URL.Path+"?state=secret", http.StatusTemporaryRedirect)
		}
		if r.Header.Get("Authorization") != "Bearer marked" {
			t.Errorf("%s has the headers %q", r.URL, r.Header)
		}
	}, func(c *Config) { c.Token, c.Headers = cli.NewSecret("marked"), []string{"X-Scope-OrgID: tenant"} })
	if kept, err := c.Retention(t.Context()); err != nil || kept != 15*24*time.Hour {
		t.Errorf("a redirect to the same server: %s, %v", kept, err)
	}
	asked = 0
	var redirect *RedirectError
	if _, err := c.Vector(t.Context(), "x", time.Unix(1, 0)); !errors.As(err, &redirect) || redirect.From != c.URL() || redirect.To != other.URL || asked != 1 || strings.Contains(err.Error(), "secret") {
		t.Errorf("after %d requests: %v", asked, err)
	}
	if _, err := c.HTTP().Post(c.URL()+"/api/v1/import", "", strings.NewReader("x")); !errors.As(err, &redirect) {
		t.Errorf("an import: %v", err)
	}
	if _, err := Over(c.URL(), c.HTTP()).Page(t.Context(), "/metrics"); !errors.As(err, &redirect) {
		t.Errorf("a page: %v", err)
	}
}

// Another server gets no credential, whatever it is asked with.
func TestCredentialsAreForOneServer(t *testing.T) {
	var got http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer other.Close()
	c := serve(t, http.NotFound, func(c *Config) { c.Token, c.Headers = cli.NewSecret("marked"), []string{"X-Scope-OrgID: tenant"} })
	resp, err := c.HTTP().Get(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got.Get("Authorization") != "" || got.Get("X-Scope-OrgID") != "" {
		t.Errorf("the other server got %q", got)
	}
	for target, want := range map[string]bool{"http://a/x": true, "HTTP://A:80": true, "https://a": false, "http://a:81": false, "http://a.b": false} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Client{base: "http://a/prometheus"}).Serves(u); got != want {
			t.Errorf("%s is of the server: %t", target, got)
		}
	}
}
