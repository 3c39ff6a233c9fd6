package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// asked is the compatibility page as it was read between two times.
type asked struct {
	from, to time.Time
	values   map[string]float64 // by family and labels, as truth.Point has them
	late     map[string]float64 // the late counters of /counters, in the same way
	missing  []string
}

// lablabs are families of lablabs/cloudflare-exporter that are families of the truth, with the
// label of theirs that has the value.
var lablabs = map[string]struct{ ours, label string }{
	"cloudflare_zone_requests_total":          {"cloudflare_zone_requests", ""},
	"cloudflare_zone_requests_cached":         {"cloudflare_zone_cached_requests", ""},
	"cloudflare_zone_requests_ssl_encrypted":  {"cloudflare_zone_encrypted_requests", ""},
	"cloudflare_zone_bandwidth_total":         {"cloudflare_zone_bytes", ""},
	"cloudflare_zone_bandwidth_cached":        {"cloudflare_zone_cached_bytes", ""},
	"cloudflare_zone_bandwidth_ssl_encrypted": {"cloudflare_zone_encrypted_bytes", ""},
	"cloudflare_zone_pageviews_total":         {"cloudflare_zone_page_views", ""},
	"cloudflare_zone_threats_total":           {"cloudflare_zone_threats", ""},
	"cloudflare_zone_requests_status":         {"cloudflare_zone_requests_by_status", "status"},
	"cloudflare_zone_requests_country":        {"cloudflare_zone_requests_by_country", "country"},
	"cloudflare_zone_bandwidth_content_type":  {"cloudflare_zone_bytes_by_content_type", "content_type"},
}

// "weir run" with the profile and the page of lablabs: what the counters of its page grow by in
// two hours is what the simulated Cloudflare knows to have happened a delay before, and the page
// names the families that are not collected (G10).
func TestCompatPageTellsTheTruth(t *testing.T) {
	t.Parallel()
	const back = 5 * time.Hour
	w := newWorld(t, back, 2*speed, nil)
	c := w.collectorConfig("all-in-one", "")
	c.Profile = "lablabs"
	x := exposerConfig("127.0.0.1:9820")
	x.Compat = "lablabs"
	x.Listen, x.OpsListen, c.OpsListen = address(t), address(t), address(t)
	startActor(t, "weir run", func(ctx context.Context) error {
		return standalone.Run(ctx, c, x, standalone.Deps{Clock: w.clock, Logger: testkit.Logger(t)})
	})
	accounts := map[string]string{} // as theirs writes them
	for _, z := range w.zones {
		accounts[strings.ToLower(strings.ReplaceAll(z.AccountName, " ", "-"))] = z.AccountName
	}
	ask := func() asked {
		t.Helper()
		var got asked
		testkit.Eventually(t, func() error {
			got = asked{from: w.clock.Now(), values: map[string]float64{}, late: map[string]float64{}}
			err := pageSamples("http://"+x.Listen+"/counters/compat/lablabs", func(name string, labels map[string]string, v float64) {
				if name == "weir_compat_missing" {
					got.missing = append(got.missing, labels["dataset"])
				}
				if of, known := lablabs[name]; known {
					got.values[truth.Of(of.ours, labels["zone"], accounts[labels["account"]], labels[of.label], time.Time{}).Series] = v
				}
			})
			if err != nil {
				return err
			}
			got.to = w.clock.Now()
			return pageSamples("http://"+x.Listen+"/counters", func(name string, labels map[string]string, v float64) {
				if name, late := strings.CutSuffix(name, "_late_total"); late {
					got.late[truth.Of(name, labels["zone"], labels["account"], labels[truth.Families[name].Label], time.Time{}).Series] = v
				}
			})
		})
		return got
	}
	w.until(back / 2)
	one := ask()
	w.until(back)
	two := ask()
	if len(two.missing) != 1 || two.missing[0] != "error_paths" {
		t.Errorf("missing are families of %v, want those of error_paths, which the profile does not have", two.missing)
	}
	buckets := map[string][]truth.Point{}
	want := w.expected(w.clock.Now())
	for p := range want.May {
		buckets[p.Series] = append(buckets[p.Series], p)
	}
	compared, grew := 0, 0
	for series, after := range two.values {
		before, shown := one.values[series]
		if !shown {
			continue // of a zone that was created meanwhile
		}
		family, _, _ := strings.Cut(series, "{")
		size := truth.Families[family].Size()
		// sum is the traffic of a delay before, evenly inside a bucket from a share of it on: one
		// that is stored a little later is played out in what is left of its turn.
		sum := func(at time.Time, begins float64) (sum float64) {
			until := at.Add(-size - 5*time.Minute - 4*time.Minute)
			for _, p := range buckets[series] {
				part := float64(until.Sub(p.End().Add(-size))) / float64(size)
				sum += want.May[p] * min(1, max(0, (part-begins)/(1-begins)))
			}
			return sum
		}
		// What came late is in the late counter instead, or in neither for as long as a window.
		most, late := 0., two.late[series]-one.late[series]
		for _, p := range buckets[series] {
			most = max(most, want.May[p])
		}
		// Each page is of a time between two. Whole numbers stay whole.
		low, high := sum(two.from, .25)-sum(one.to, 0)-1-late-most, sum(two.to, 0)-sum(one.from, .25)+1-late
		if late > 0 { // on a busy machine: a second is sixteen minutes of this world
			low, high = low-2*most, high+most
		}
		if after > before {
			grew++
		}
		if after-before < low || after-before > high {
			t.Errorf("%s grew by %v from %s to %s, want from %v to %v", series, after-before, one.from, two.to, low, high)
		}
		compared++
	}
	t.Logf("%d series compared, of which %d grew; a page takes %s of the world's time", compared, grew, two.to.Sub(two.from))
	if compared < 60 || grew < 40 {
		t.Errorf("only %d series are compared, and %d grew", compared, grew)
	}
}

// pageSamples calls take for each sample of a page in text.
func pageSamples(url string, take func(name string, labels map[string]string, v float64)) error {
	status, _, body, err := fetch(url)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("%s: %d %s (%w)", url, status, body, err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			take(name, labels, max(m.GetCounter().GetValue(), m.GetGauge().GetValue()))
		}
	}
	return nil
}
