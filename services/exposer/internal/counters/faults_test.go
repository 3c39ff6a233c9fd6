package counters_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Whatever the clock of an exposer does, no page is of an earlier time than one before: while it
// is behind by no more than 90 s the counters stand still, and beyond there is no page, with the
// reason (G10).
func TestAClockThatGoesBack(t *testing.T) {
	r := served(t)
	const name = `cloudflare_zone_requests_total{zone="sh\"op",account="Acme"`
	late := entry(zone(1), `sh"op`, minute(15), minute(27), bucket.Live, requests(300)) // plays from 29 to 34
	late.Revision = 7
	r.follow(minute(30), late)
	show := func(now time.Time) float64 {
		t.Helper()
		page, err := r.page(now, open)
		if err != nil {
			t.Fatal(err)
		}
		return values(t, page)[name]
	}
	had := show(minute(31))
	if had != 150+120 {
		t.Fatalf("the counter is %v", had)
	}
	for _, back := range []time.Duration{10 * time.Second, 60 * time.Second, 85 * time.Second, 90 * time.Second} {
		if got := show(minute(31).Add(-back)); got != had {
			t.Errorf("%s back the counter is %v, and was %v", back, got, had)
		}
	}
	for _, back := range []time.Duration{90*time.Second + time.Millisecond, time.Hour} {
		_, err := r.page(minute(31).Add(-back), open)
		if got := r.reason(minute(31).Add(-back)); got != "clock" || !strings.Contains(err.Error(), "went back") {
			t.Errorf("%s back the reason is %q: %v", back, got, err)
		}
		if state := r.board.State(); state.Err == nil {
			t.Errorf("%s back the state has no error", back)
		}
	}
	if got := show(minute(31.5)); got != had+30 {
		t.Errorf("when the clock is right the counter is %v", got)
	}
}

// A family whose label has another name is one family on the page, with both kinds of series;
// totals of one that cannot be continued take no other away (G10).
func TestOneFamilyTakesNoOtherAway(t *testing.T) {
	r := served(t)
	renamed := *http5m
	renamed.Version, renamed.Families = 2, slices.Clone(http5m.Families)
	renamed.Families[3].Labels = []string{"code"}
	log := []*bucketv1.Entry{defined(&renamed)}
	for n := range 2 {
		e := entry(zone(1), `sh"op`, minute(float64(15+5*n)), minute(float64(27+5*n)), bucket.Live, requests(50),
			bucket.Rows{Family: "cloudflare_zone_requests_by_status_total", Labels: []string{"200"}, Values: []float64{5}})
		e.GetBucket().DatasetVersion = 2
		log = append(log, e)
	}
	for i, e := range log {
		e.Revision = uint64(i) + 7
	}
	r.follow(minute(40), log...)
	page, err := r.page(minute(40), open)
	if err != nil || r.rejected.Load() != 0 {
		t.Fatalf("%v; %d rejected", err, r.rejected.Load())
	}
	for _, want := range []string{`{zone="sh\"op",account="Acme",status="200"} 90`, `{zone="sh\"op",account="Acme",code="200"} 10`} {
		if want = "cloudflare_zone_requests_by_status_total" + want; strings.Count(page, want) != 1 {
			t.Errorf("%s is not on the page once:\n%s", want, page)
		}
	}
	if got := strings.Count(page, "# TYPE cloudflare_zone_requests_by_status counter"); got != 1 {
		t.Errorf("the family has %d headers", got)
	}
	// Totals of which a family is wrong, and one message has no scope.
	fold := counter.New()
	for n := range 2 {
		e, err := wire.Entry(entry(zone(1), "shop", minute(float64(5*n)), minute(float64(5*n+12)), bucket.Live, requests(50),
			bucket.Rows{Family: "cloudflare_zone_bytes", Values: []float64{5}}))
		e.Definition = http5m
		if err == nil {
			err = fold.Add(&e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	totals := fold.Totals(minute(15))
	if totals[0].Series[0].Family != "cloudflare_zone_bytes" {
		t.Fatalf("%+v", totals)
	}
	totals[0].Series[0].Live = -1
	fresh := newReader(t, minute(30))
	if err := fresh.begin(first, append(totals, counter.Totals{})...); err != nil {
		t.Fatal(err)
	}
	fresh.follow(minute(30))
	page, err = fresh.page(minute(30), open)
	if err != nil || strings.Contains(page, "cloudflare_zone_bytes_total{") || !strings.Contains(page, "cloudflare_zone_requests_total{") {
		t.Errorf("%v:\n%s", err, page)
	}
	if got := fresh.rejected.Load(); got != 2 {
		t.Errorf("%d faults were counted, want 2", got)
	}
	// Totals of other rules are none.
	other := first
	other.Rules--
	if err := fresh.begin(other); err == nil || !strings.Contains(err.Error(), "counts by version") {
		t.Errorf("totals of other rules: %v", err)
	} else if fresh.in.Disconnected(fmt.Errorf("%w: %w", client.ErrHandler, err), time.Second); fresh.reason(minute(40)) == "" {
		t.Error("totals of other rules are served")
	}
}
