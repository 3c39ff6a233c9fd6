package cloudflare_test

import (
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// class asks the minute roll-up of the zones and returns the answer or its error.
func (w *world) class(t *testing.T, zones []string, win bucket.Window) (*cloudflare.Response, *cloudflare.Error) {
	t.Helper()
	d := dataset(t, "http_5m")
	a, err := w.client.Query(t.Context(), cloudflare.Query{Zones: zones, Selections: []cloudflare.Selection{selection(d, &d.Variants[0], "a", win)}})
	if err == nil {
		return a, nil
	}
	var e *cloudflare.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T: %v", err, err)
	}
	return nil, e
}

func hourBefore(at time.Time) bucket.Window {
	return bucket.Window{Start: bucket.TimeOf(at.Add(-time.Hour)), End: bucket.TimeOf(at)}
}

// The simulator's faults, each with what the client makes of it.
func TestFaultsOfTheTransport(t *testing.T) {
	w := newWorld(t, nil)
	for _, tc := range []struct {
		fault cfsim.Fault
		want  cloudflare.Class // 0: an answer all the same
	}{
		{cfsim.Fault{Kind: cfsim.FaultSlow, Delay: 10 * time.Millisecond}, 0},
		{cfsim.Fault{Kind: cfsim.FaultReset}, cloudflare.Transient},
		{cfsim.Fault{Kind: cfsim.FaultResetBody}, cloudflare.Transient},
		{cfsim.Fault{Kind: cfsim.FaultShortBody}, cloudflare.Transient},
		{cfsim.Fault{Kind: cfsim.FaultTruncated}, cloudflare.BadResponse},
		{cfsim.Fault{Kind: cfsim.FaultRubbish}, cloudflare.BadResponse},
		{cfsim.Fault{Kind: cfsim.FaultHTML}, cloudflare.Transient},
		{cfsim.Fault{Kind: cfsim.FaultHTML, Status: 524}, cloudflare.Transient},
		{cfsim.Fault{Kind: cfsim.FaultHTML, Status: 200}, cloudflare.BadResponse},
		{cfsim.Fault{Kind: cfsim.FaultChallenge}, cloudflare.Unknown},
		{cfsim.Fault{Kind: cfsim.FaultEmptyBody}, cloudflare.BadResponse},
		{cfsim.Fault{Kind: cfsim.FaultEmptyObject}, cloudflare.BadResponse},
		{cfsim.Fault{Kind: cfsim.FaultNullData}, cloudflare.BadResponse},
		{cfsim.Fault{Kind: cfsim.FaultEmptyErrors}, 0},
		{cfsim.Fault{Kind: cfsim.FaultNoErrors}, 0},
		{cfsim.Fault{Kind: cfsim.FaultBusy}, cloudflare.Transient},
		{cfsim.Fault{Kind: cfsim.FaultInternal}, cloudflare.Transient},
		{cfsim.Fault{Kind: cfsim.FaultBudget}, cloudflare.Budget},
		{cfsim.Fault{Kind: cfsim.FaultPartial}, cloudflare.Transient}, // its data is not touched
	} {
		t.Run(string(tc.fault.Kind), func(t *testing.T) {
			id, err := w.sim.Inject(tc.fault)
			if err != nil {
				t.Fatal(err)
			}
			defer w.sim.Remove(id)
			a, e := w.class(t, []string{zoneTag("shop")}, hourBefore(noon))
			switch {
			case tc.want == 0 && (e != nil || len(a.Zones) != 1):
				t.Errorf("got %v, want an answer", e)
			case tc.want != 0 && e == nil:
				t.Errorf("took it for an answer: %d zones", len(a.Zones))
			case tc.want != 0 && e.Class != tc.want:
				t.Errorf("class %s (%v), want %s", e.Class, e, tc.want)
			}
		})
	}
}

// Faults in the data pass the client, which knows no metrics, and stop at Fold.
func TestFaultsOfTheData(t *testing.T) {
	for _, kind := range []cfsim.FaultKind{cfsim.FaultDuplicate, cfsim.FaultHuge} {
		w := newWorld(t, nil)
		if _, err := w.sim.Inject(cfsim.Fault{Kind: kind}); err != nil {
			t.Fatal(err)
		}
		d := dataset(t, "http_5m")
		for i := range d.Variants {
			v := &d.Variants[i]
			win := hourBefore(noon)
			a, err := w.client.Query(t.Context(), cloudflare.Query{Zones: []string{zoneTag("shop")}, Selections: []cloudflare.Selection{selection(d, v, "a", win)}})
			if err != nil {
				t.Logf("%s %s: refused by the client: %v", kind, v.Name, err)
				continue
			}
			if _, err := d.Fold(v, win, a.Zones[zoneTag("shop")]["a"]); err == nil {
				t.Errorf("%s %s: folded as if nothing were wrong", kind, v.Name)
			}
		}
	}
}

// Refusals name their zone and what they refuse, in all the ways that the
// simulator knows to say it.
func TestRefusals(t *testing.T) {
	for name, change := range map[string]func(*cfsim.Config){
		"status 200":        nil,
		"documented status": func(c *cfsim.Config) { c.Switches.DocumentedStatus = true },
		"numeric path":      func(c *cfsim.Config) { c.Switches.NumericPath = true },
		"partial data":      func(c *cfsim.Config) { c.Switches.PartialData = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, change)
			_, e := w.class(t, []string{zoneTag("shop"), zoneTag("blog"), zoneTag("media")}, hourBefore(noon))
			if e == nil || e.Class != cloudflare.Entitlement || e.Zone != zoneTag("blog") || e.Node != "httpRequests1mGroups" {
				t.Errorf("Free zone: %+v, want an entitlement error about it", e)
			}
			_, e = w.class(t, []string{zoneTag("media")}, hourBefore(noon.Add(-72*time.Hour)))
			if e == nil || e.Class != cloudflare.Range || e.Limit != 24*time.Hour || !e.Age || e.Zone != zoneTag("media") {
				t.Errorf("too old: %+v, want a range error with Pro's day", e)
			}
			_, e = w.class(t, []string{zoneTag("media")}, bucket.Window{Start: bucket.TimeOf(noon.Add(-36 * time.Hour)), End: bucket.TimeOf(noon.Add(24 * time.Hour))})
			if e == nil || e.Class != cloudflare.Range || e.Limit != 24*time.Hour {
				t.Errorf("too wide: %+v, want a range error with Pro's day", e)
			}
			a, e := w.class(t, []string{zoneTag("shop"), zoneTag("nowhere")}, hourBefore(noon))
			if e != nil || len(a.Zones) != 1 {
				t.Errorf("invisible zone: %v; want an answer without it", e)
			}
		})
	}
}

func TestBudgetRunsOut(t *testing.T) {
	for name, change := range map[string]func(*cfsim.Config){
		"status 200":  nil,
		"status 429":  func(c *cfsim.Config) { c.Switches.BudgetStatus = 429 },
		"retry after": func(c *cfsim.Config) { c.Switches.BudgetStatus, c.Switches.RetryAfter = 429, true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *cfsim.Config) {
				c.Limits.Queries = 3
				if change != nil {
					change(c)
				}
			})
			for range 3 {
				if _, e := w.class(t, []string{zoneTag("shop")}, hourBefore(noon)); e != nil {
					t.Fatal(e)
				}
			}
			_, e := w.class(t, []string{zoneTag("shop")}, hourBefore(noon))
			if e == nil || e.Class != cloudflare.Budget || e.RetryAfter <= 0 || e.RetryAfter > 5*time.Minute {
				t.Fatalf("got %+v, want a budget error with a pause of up to five minutes", e)
			}
			w.clk.Advance(e.RetryAfter)
			if _, e := w.class(t, []string{zoneTag("shop")}, hourBefore(noon)); e != nil {
				t.Errorf("after the pause: %v", e)
			}
		})
	}
}

// Odd strings and numbers are no reason to refuse a whole reply, which has other
// zones too: they arrive as they were sent, a name of nine megabytes included. What
// becomes of them is for whoever stores them to say.
func TestOddValuesArrive(t *testing.T) {
	w := newWorld(t, nil)
	shop := zoneTag("shop")
	inject := func(f cfsim.Fault) {
		t.Helper()
		w.sim.ClearFaults()
		if _, err := w.sim.Inject(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, odd := range cfsim.OddStrings() {
		inject(cfsim.Fault{Kind: cfsim.FaultZoneName, Zone: shop, Odd: []string{odd}})
		zones, err := w.client.Zones(t.Context())
		if err != nil || len(zones) != 8 {
			t.Errorf("a zone with a name that is odd (%s): %d zones, %v", odd, len(zones), err)
			continue
		}
		for _, z := range zones {
			if z.ID == shop && z.Name == "shop.example" || !utf8.ValidString(z.Name) {
				t.Errorf("%s: zone %s is called %.40q", odd, z.ID, z.Name)
			}
		}
	}
	d, win := dataset(t, "countries_1h"), hourBefore(noon)
	ask := func() (*cloudflare.Response, error) {
		return w.client.Query(t.Context(), cloudflare.Query{Zones: []string{shop}, Selections: []cloudflare.Selection{selection(d, &d.Variants[0], "a", win)}})
	}
	// One country's name has a megabyte, or is odd in a smaller way.
	for _, odd := range cfsim.OddStrings()[:10] {
		inject(cfsim.Fault{Kind: cfsim.FaultDimension, Odd: []string{odd}, Probability: .05})
		if a, err := ask(); err != nil || len(a.Zones[shop]["a"]) != 1 {
			t.Errorf("a country whose name is odd (%s): %v", odd, err)
		}
	}
	for _, odd := range cfsim.OddNumbers() {
		inject(cfsim.Fault{Kind: cfsim.FaultNumber, Odd: []string{odd}})
		if a, err := ask(); err != nil || len(a.Zones[shop]["a"]) != 1 {
			t.Errorf("odd numbers (%s): %v", odd, err)
		}
	}
}
