package counters_test

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// curve is a zone's traffic in requests per second: a day's shape with waves of an hour.
func curve(t time.Time) float64 {
	hours := t.Sub(noon).Hours()
	return 60 + 30*math.Sin(2*math.Pi*hours/24) + 20*math.Sin(2*math.Pi*hours)
}

// amount is its integral over a bucket, in whole requests.
func amount(start time.Time) float64 {
	sum := 0.
	for s := range 300 {
		sum += curve(start.Add(time.Duration(s)*time.Second + time.Second/2))
	}
	return math.Round(sum)
}

// Half a day of scrapes every 15 s that alternate between two exposers, of which one is
// always behind, is restarted, and is cut off for a while, stored by a real Prometheus: a
// rate over two minutes is the traffic a delay before, within the error of interpolation;
// nothing is a reset; an outage of three hours is no traffic and no peak afterwards, and all
// of it is in the late counter (G10).
func TestRatesFollowTheTraffic(t *testing.T) {
	const hours = 12
	end := noon.Add(hours * time.Hour)
	outage, mended := noon.Add(4*time.Hour), noon.Add(7*time.Hour)
	away := func(window time.Time) bool { return !window.Before(outage) && window.Before(mended) }
	log := []*bucketv1.Entry{defined(http5m)}
	whole, late := 0., 0.
	for start := noon; start.Before(end); start = start.Add(http5m.Size) {
		if away(start) {
			continue
		}
		if start.Equal(mended) { // what was missed comes at once
			for w := outage; w.Before(mended); w = w.Add(http5m.Size) {
				log = append(log, entry(zone(1), "shop", w, mended.Add(10*time.Minute), bucket.Repair, requests(amount(w))))
				late += amount(w)
			}
		}
		jitter := time.Duration(int(start.Sub(noon)/http5m.Size)%5) * 30 * time.Second
		log = append(log, entry(zone(1), "shop", start, start.Add(10*time.Minute+jitter), bucket.Live, requests(amount(start))))
		whole += amount(start)
	}
	for i, e := range log {
		e.Revision = uint64(i) + 1
	}
	begin := func(now time.Time, totals ...counter.Totals) *reader {
		r := newReader(t, now)
		if err := r.begin(first, totals...); err != nil {
			t.Fatal(err)
		}
		return r
	}
	prompt, behind := begin(noon), begin(noon)
	var file bytes.Buffer
	pages, refused, cutoff := 0, 0, noon.Add(9*time.Hour)
	last := end.Add(40 * time.Minute)
	for now := noon; now.Before(last); now = now.Add(15 * time.Second) {
		if now.Equal(noon.Add(5 * time.Hour)) { // restarted, with totals of half an hour ago
			totals, n := settled(t, log, now.Add(-30*time.Minute))
			behind = begin(now, totals...)
			behind.given = n
		}
		if now.Equal(cutoff.Add(10 * time.Minute)) { // the other restarts while this one is away
			totals, n := settled(t, log, now.Add(-time.Hour))
			prompt = begin(now, totals...)
			prompt.given = n
		}
		advance(prompt, log, now)
		if now.Before(cutoff) || now.After(cutoff.Add(20*time.Minute)) {
			advance(behind, log, now.Add(-85*time.Second))
		}
		asked, skew := prompt, time.Second
		if pages++; pages%2 == 0 {
			asked, skew = behind, -time.Second
		}
		page, err := asked.page(now.Add(skew), open)
		if err != nil {
			refused++
			continue
		}
		for line := range strings.Lines(page) {
			if strings.Contains(line, "_total{") {
				fmt.Fprintf(&file, "%s %d\n", strings.TrimSuffix(line, "\n"), now.Unix())
			}
		}
	}
	file.WriteString("# EOF\n")
	// From 90 s after the beginning of the cut, every other scrape of 20 minutes.
	if want := (20*60 - 5) / 30; refused < want-2 || refused > want+2 {
		t.Errorf("%d pages were refused, want about %d", refused, want)
	}

	p := promtest.Start(t, "{}", "--storage.tsdb.retention.time=100y")
	p.Stop()
	path := filepath.Join(t.TempDir(), "pages.om")
	testkit.WriteFile(t, path, file.Bytes())
	if _, stderr, err := promtest.Promtool(t, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h", path, p.DataDir()); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	p.Start()

	const live, repaired = "cloudflare_zone_requests_total", "cloudflare_zone_requests_late_total"
	for _, name := range []string{live, repaired} {
		if got := p.Value("resets("+name+"[1d])", last); got != 0 {
			t.Errorf("%s has %g resets", name, got)
		}
	}
	// Of the first hour too: the series begins at 0 before the first amount.
	if got := p.Value(live, last.Add(-time.Minute)); got != whole {
		t.Errorf("the counter ends at %v, the truth is %v", got, whole)
	}
	if got := p.Value("min_over_time("+live+"[1d])", last); got != 0 {
		t.Errorf("the counter begins at %v", got)
	}
	if got := p.Value(repaired, last.Add(-time.Minute)); got != late {
		t.Errorf("the late counter ends at %v, the truth is %v", got, late)
	}
	if got := p.Value("max_over_time("+repaired+"[1d]) - min_over_time("+repaired+"[1d])", last); got != late {
		t.Errorf("the late counter grows by %v, the truth is %v", got, late)
	}

	traffic := func(at time.Time) float64 { // what a live counter has of it
		if window := at.Truncate(http5m.Size); away(window) || window.Before(noon) {
			return 0
		}
		return curve(at)
	}
	points := 0
	for _, series := range p.Range("rate("+live+"[2m])", noon.Add(20*time.Minute), end, 15*time.Second) {
		for _, got := range series.Samples {
			points++
			at := got.Time.Add(-counter.Delay(http5m))
			// Inside a bucket nothing is known but its sum.
			low, high := math.Inf(1), 0.
			for x := at.Add(-2*time.Minute - http5m.Size); !x.After(at.Add(http5m.Size)); x = x.Add(10 * time.Second) {
				low, high = min(low, traffic(x)), max(high, traffic(x))
			}
			// Clocks that are 2 s apart in 105 s, and whole requests.
			if again := got.Time.Sub(cutoff.Add(20 * time.Minute)); again >= 0 && again < 2*time.Minute {
				low *= 0.8 // Prometheus does not extrapolate to where scrapes were twice as far apart
			}
			if got.Value < low*0.98-0.05 || got.Value > high*1.02+0.05 {
				t.Errorf("at %s the rate is %.2f; the traffic %s before was %.2f, and from %.2f to %.2f around it", got.Time, got.Value, counter.Delay(http5m), traffic(at), low, high)
			}
		}
	}
	if points < hours*4*60*9/10 {
		t.Errorf("only %d points", points)
	}
	if t.Failed() {
		t.Logf("%d pages, %d refused", pages, refused)
	}
}

// advance delivers what was committed before a time, and confirms it.
func advance(r *reader, log []*bucketv1.Entry, until time.Time) {
	n := r.given
	for n < len(log) && log[n].GetCommittedAt().AsTime().Before(until) {
		n++
	}
	r.follow(until, log[r.given:n]...)
}
