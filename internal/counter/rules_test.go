package counter_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/sample"
)

// sized is http_5m at another bucket size and delay.
func sized(id string, size, delay time.Duration) *bucket.Definition {
	d := *http5m
	d.Dataset, d.Size, d.Delay = id, size, delay
	return &d
}

// After an outage of any length the windows that are committed together are late, and the
// rate of the live counter over any range is at most a third above the traffic. Both counters
// together have all of it (G10).
func TestAnOutageIsNoPeak(t *testing.T) {
	const name, amount = "cloudflare_zone_requests{shop.example}", 64_500 // 215 a second
	for _, outage := range []time.Duration{10 * time.Minute, 15 * time.Minute, 22 * time.Minute, 3 * time.Hour} {
		f := counter.New()
		back := epoch.Add(2*time.Hour + outage)
		windows := 0
		for start := epoch; start.Before(back.Add(2 * time.Hour)); start = start.Add(http5m.Size) {
			at := start.Add(http5m.Size + http5m.Delay + 3*time.Minute)
			if at.After(epoch.Add(2*time.Hour)) && at.Before(back) {
				at = back
			}
			origin := bucket.Live
			if at.Sub(start) > 25*time.Minute { // as the collector says
				origin = bucket.Repair
			}
			add(t, f, committed(http5m, "shop", start, at, origin, requests(amount)))
			windows++
		}
		peak, before := 0., 0.
		for at := epoch.Add(time.Hour); at.Before(back.Add(4 * time.Hour)); at = at.Add(15 * time.Second) {
			v := values(f, at)[name].Live
			if before > 0 {
				peak = max(peak, (v-before)/15)
			}
			before = v
		}
		if peak > 215*4/3.+1 || peak < 214 {
			t.Errorf("an outage of %s: the rate is up to %.1f; the traffic is 215", outage, peak)
		}
		// The first window is the history with which collecting begins.
		last := values(f, back.Add(4*time.Hour))[name]
		if got, want := last.Live+last.Late, float64((windows-1)*amount); got != want || last.Late == 0 && outage > 10*time.Minute {
			t.Errorf("an outage of %s: the counters end at %v and %v, together not %v", outage, last.Live, last.Late, want)
		}
	}
}

// Cloudflare's data settles as slowly for short buckets and a short delay: they are in time
// all the same (G10).
func TestAShortDelayIsInTime(t *testing.T) {
	d := sized("http_1m", time.Minute, time.Minute)
	if got := counter.Delay(d); got != 10*time.Minute {
		t.Errorf("the delay is %s", got)
	}
	f := counter.New()
	for n := range 30 {
		end := epoch.Add(time.Duration(n+1) * time.Minute)
		add(t, f, committed(d, "shop", end.Add(-time.Minute), end.Add(295*time.Second), bucket.Repair, requests(60)))
	}
	// Those that were due before the first commit are history.
	if got := values(f, epoch.Add(2*time.Hour))["cloudflare_zone_requests{shop.example}"]; got.Live != 26*60 || got.HasLate {
		t.Errorf("the counter is %+v, want 26 windows, none late", got)
	}
}

// A label of another name makes other series, beside those that were there: no entry is
// rejected, also by a reader that begins with totals of both (G10).
func TestOtherLabelsAreOtherSeries(t *testing.T) {
	renamed := *countries1h
	renamed.Version, renamed.Families = 2, slices.Clone(countries1h.Families)
	renamed.Families[0].Labels = []string{"client_country"}
	f := counter.New()
	hour := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }
	row := func(v float64) bucket.Rows {
		return bucket.Rows{Family: "cloudflare_zone_requests_by_country", Labels: []string{"AT"}, Values: []float64{v}}
	}
	for n := range 3 {
		add(t, f, committed(countries1h, "shop", hour(n), hour(n+1).Add(8*time.Minute), bucket.Live, row(100)))
	}
	add(t, f, &bucket.Entry{Kind: bucket.KindDatasetVersion, Definition: &renamed})
	for n := 3; n < 5; n++ {
		add(t, f, committed(&renamed, "shop", hour(n), hour(n+1).Add(8*time.Minute), bucket.Live, row(7)))
	}
	named := func(f *counter.Fold, at time.Time) map[string]float64 {
		out := map[string]float64{}
		for fam := range f.Families {
			for _, s := range fam.Series() {
				if v, shown := s.At(sample.MillisOf(at)); shown {
					out[strings.Join(fam.Labels, ",")+"="+strings.Join(s.Values, ",")] = v.Live
				}
			}
		}
		return out
	}
	want := map[string]float64{"country=AT": 200, "client_country=AT": 14}
	if got := named(f, hour(9)); !cmp.Equal(want, got) {
		t.Errorf("the series are %v, want %v", got, want)
	}
	resumed := counter.New()
	for _, x := range f.Totals(hour(5)) {
		if err := resumed.Load(clone(&x)); err != nil {
			t.Fatal(err)
		}
	}
	if got := named(resumed, hour(9)); !cmp.Equal(want, got) {
		t.Errorf("the series of a reader that began with totals are %v, want %v", got, want)
	}
	// The old ones are retired.
	add(t, f, committed(&renamed, "shop", hour(28), hour(29).Add(8*time.Minute), bucket.Live, row(1)))
	if got := named(f, hour(30)); len(got) != 1 || got["client_country=AT"] != 14 {
		t.Errorf("a day later the series are %v", got)
	}
}

// A series goes on when its family is collected at another bucket size, from the first window
// of the new size on. A family that joins a dataset counts from its first window too (G10).
func TestAnotherBucketSizeContinues(t *testing.T) {
	const name = "cloudflare_zone_requests{shop.example}"
	http1d := sized("http_1d", 24*time.Hour, 5*time.Minute)
	more := *http1d
	more.Version = 2
	more.Families = append(slices.Clone(http1d.Families), bucket.Family{Name: "cloudflare_zone_threats", Role: bucket.Total, Additive: true})
	f := counter.New()
	commit := func(d *bucket.Definition, start time.Time, rows ...bucket.Rows) {
		add(t, f, committed(d, "shop", start, start.Add(d.Size+d.Delay+3*time.Minute), bucket.Live, rows...))
	}
	midnight := epoch.Add(12 * time.Hour)
	for start := epoch; start.Before(midnight); start = start.Add(http5m.Size) {
		commit(http5m, start, requests(1))
	}
	commit(http1d, midnight, requests(1000))
	commit(&more, midnight.Add(24*time.Hour), requests(1000), bucket.Rows{Family: "cloudflare_zone_threats", Values: []float64{50}})
	began := sample.MillisOf(epoch.Add(18 * time.Minute))
	if got := values(f, midnight.Add(50*time.Hour))[name]; got.Began != began || got.Live < 1143 {
		t.Errorf("the counter is %+v: it does not go on", got)
	}
	end := midnight.Add(3*24*time.Hour + time.Hour)
	want := map[string]float64{name: 143 + 2000, "cloudflare_zone_threats{shop.example}": 50}
	got := map[string]float64{}
	for key, v := range values(f, end) {
		got[key] = v.Live
	}
	if !cmp.Equal(want, got) {
		t.Errorf("at %s the counters are %v, want %v", end, got, want)
	}
}

// Totals of one family that cannot be continued leave that family out, also of what follows:
// a sum that begins later than those of other readers would be wrong. All else is there (G10).
func TestTotalsOfOneFamilyThatCannotBeContinued(t *testing.T) {
	status := bucket.Rows{Family: "cloudflare_zone_seconds_by_status", Labels: []string{"200"}, Values: []float64{2}}
	bucketAt := func(n int) *bucket.Entry {
		start := epoch.Add(time.Duration(n) * http5m.Size)
		return committed(http5m, "shop", start, start.Add(12*time.Minute), bucket.Live, requests(10), status)
	}
	whole := counter.New()
	for n := range 5 {
		add(t, whole, bucketAt(n))
	}
	want := values(whole, epoch.Add(2*time.Hour))
	delete(want, "cloudflare_zone_seconds_by_status{shop.example,200}")
	writer := counter.New()
	add(t, writer, bucketAt(0), bucketAt(1), bucketAt(2))
	for name, spoil := range map[string]func(*counter.Totals){
		"value":  func(x *counter.Totals) { x.Series[1].Live = -1 },
		"labels": func(x *counter.Totals) { x.Series[1].Values = nil },
		"times":  func(x *counter.Totals) { x.Series[1].Until = 1 },
		"twice":  func(x *counter.Totals) { x.Series = append(x.Series, x.Series[1]) },
	} {
		totals := clone(&writer.Totals(epoch.Add(20 * time.Minute))[0])
		spoil(totals)
		f := counter.New()
		if err := f.Load(totals); err == nil || !strings.Contains(err.Error(), "family cloudflare_zone_seconds_by_status has") {
			t.Errorf("%s: %v", name, err)
		}
		add(t, f, bucketAt(3), bucketAt(4))
		if got := values(f, epoch.Add(2*time.Hour)); len(got) != 1 || !cmp.Equal(want, got) {
			t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(want, got))
		}
	}
}
