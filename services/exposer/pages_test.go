package exposer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer"
)

func TestBadRequests(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 2)
	x := start(t, s.Serve(t), config(), at(4))
	x.await(5)
	for path, want := range map[string]string{
		"/metrics?replay_hours=25":                      `replay_hours is "25"; it must be a whole number from 0`,
		"/metrics?replay_hours=-1":                      "to 24 (CF_METRICS_REPLAY_HOURS)",
		"/metrics?replay_hours=":                        `replay_hours is ""`,
		"/metrics?replay_hours=1&replay_hours=1":        "given 2 times",
		"/metrics?replay_hours=2.5":                     `replay_hours is "2.5"; it must be a whole number`,
		"/metrics?hours=1":                              `"hours" is unknown`,
		"/metrics?%zz":                                  "malformed",
		"/backfill?hours=0":                             `hours is "0"`,
		"/backfill?zone=nowhere.example":                `zone is "nowhere.example"`,
		"/backfill?dataset=uniques_1h":                  "one of http_5m",
		"/backfill?nonsense=1":                          "removed: the parameters are",
		"/cloudflare/backfill?step_seconds=0":           "1 to 86400",
		"/cloudflare/backfill?hours=169":                "1 to 168 (CF_BACKFILL_MAX_HOURS)",
		"/cloudflare/backfill?extend_to_now=perhaps":    "0 or 1",
		"/cloudflare/backfill?hours=1&hours=2":          "given once",
		"/cloudflare/backfill?start=1795341300000":      "looks like milliseconds",
		"/cloudflare/backfill?hours=99999999999999999":  "1 to 168",
		"/cloudflare/backfill?family=cloudflare_nobody": "one of cloudflare_zone_http_5m_requests",
	} {
		got := x.get(path)
		if got.code != http.StatusBadRequest || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") || !strings.Contains(got.body, want) || strings.Count(got.body, "\n") != 1 {
			t.Errorf("%s: %d %q, want 400 and one line of text with %q", path, got.code, got.body, want)
		}
	}
	if got := x.get("/nothing"); got.code != http.StatusNotFound {
		t.Errorf("an unknown path is %d", got.code)
	}
	resp, err := x.http.Post(x.data+"/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
		t.Errorf("POST is %d, Allow %q", resp.StatusCode, resp.Header.Get("Allow"))
	}
}

// A Prometheus that does not store what it scrapes looks healthy, so the page says
// where to look; in the words that a real one was found to use.
func TestLandingSaysHowToSeeWhatIsStored(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 3)
	x := start(t, s.Serve(t), config(), at(6))
	page := x.get("/")
	for _, want := range []string{
		"out_of_order_time_window: 30h", "prometheus_target_scrapes_sample_out_of_order_total", "prometheus_target_scrapes_sample_out_of_bounds_total",
		"too old sample", "shorter than 24 h", "label=job=weir",
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the landing page does not show %q", want)
		}
	}
}

func TestLandingPageAndOwnMetrics(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 3)
	daily := feedtest.Definition("uniques_1d", 1)
	daily.Size = 24 * time.Hour
	minutes := feedtest.Definition("status_1m", 1)
	minutes.Size, minutes.Depth = time.Minute, 10
	minute := feedtest.Bucket("status_1m", feedtest.Zone(0), 1)
	minute.Size = time.Minute
	s.Append(at(5), feedtest.Entry{Definition: daily})
	s.Append(at(5), feedtest.Entry{Definition: minutes}, feedtest.Entry{Bucket: minute})
	c := config()
	c.ReplayHours = 12
	x := start(t, s.Serve(t), c, at(6))
	x.await(10)
	page := x.get("/")
	for _, want := range []string{
		"ready", "revision 10", "http_5m", "sum_over_time(cloudflare_zone_http_5m_requests[1d])", "uniques_1d needs at least 13",
		"the depth of status_1m is 10 buckets of 1m, so older ones never come round", `<td class="n">5h20m0s</td>`,
		"is empty most of the time", "Split a long range at midnight UTC",
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the landing page does not show %q", want)
		}
	}
	own, err := x.ask(x.ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"weir_exposer_ready 1\n", "weir_exposer_revision 10\n", "weir_exposer_replay_samples 21\n", "weir_exposer_replay_series 9\n",
		`weir_exposer_replay_windows{dataset="http_5m",role="total"} 3`, `weir_exposer_replay_short{dataset="uniques_1d"} 1`,
		`weir_exposer_replay_short{dataset="http_5m"} 0`, `weir_exposer_replay_span_seconds{dataset="http_5m"} 19200`,
		`weir_exposer_replay_short{dataset="status_1m"} 1`, `weir_exposer_replay_span_seconds{dataset="status_1m"} 600`,
		fmt.Sprintf(`weir_exposer_newest_bucket_end_timestamp_seconds{dataset="http_5m"} %g`, float64(at(3).Unix())),
		"weir_simulated 0\n", `weir_exposer_store_info{sample_timestamp="end",store_id="11112222333344445555666677778888"} 1`,
		"weir_exposer_stream_connected 1\n", `weir_exposer_backfills_total{outcome="whole"} 0`,
	} {
		if !strings.Contains(own.body, want) {
			t.Errorf("own metrics lack %q", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(own.body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "weir_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	c := config()
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	c.Collector.Addresses = []string{"collector", "other:9820"}
	c.Collector.CertFile = "cert.pem"
	c.Collector.Token = cli.NewSecret("hush")
	c.SoftSamples = c.HardSamples + 1
	err := c.Validate()
	if err == nil {
		t.Fatal("nothing is wrong?")
	}
	for _, want := range []string{`"collector" must be host:port`, "WEIR_COLLECTOR_KEY_FILE", "sent in plain text", "WEIR_REPLAY_SOFT_SAMPLES"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Error("the error shows the token")
	}
}

func TestAddressInUse(t *testing.T) {
	taken := testkit.Listen(t)
	c := config()
	c.Listen, c.OpsListen = "127.0.0.1:0", taken.Addr().String()
	x, err := exposer.New(c, exposer.Deps{Conn: scripted().Serve(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "operations listener") {
		t.Errorf("error is %v, want one that names the operations listener", err)
	}
}

// What became final when it was too old for the replay is counted and named, and a backfill
// has it. A zero is often confirmed late and is not.
func TestWhatIsFinalTooLateIsTold(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 3)
	x := start(t, s.Serve(t), config(), at(300))
	x.await(int(s.Head().Revision))
	silent := feedtest.Bucket("http_5m", feedtest.Zone(1), 3)
	for _, rows := range silent.Families {
		clear(rows.Values)
	}
	s.Append(at(300), feedtest.Entry{Bucket: silent})
	s.Append(at(300), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 4)})
	s.Append(at(300), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 6)})
	s.Append(at(300), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 200)}) // late, and in time for a page
	s.SetProgress(at(300))
	x.await(int(s.Head().Revision))
	page := x.get("/").body
	if want := "never shown: 2 buckets that were older than 24 h when they became final, of windows from 2026-03-01T00:20:00Z to 2026-03-01T00:35:00Z"; !strings.Contains(page, want) {
		t.Errorf("the landing page does not show %q:\n%s", want, page)
	}
	own, err := x.ask(x.ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`weir_exposer_unserved_buckets_total{dataset="http_5m"} 2`, `weir_exposer_late_commit_timestamp_seconds{dataset="http_5m"} `} {
		if !strings.Contains(own.body, want) {
			t.Errorf("own metrics lack %q", want)
		}
	}
}
