package poll_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// watched is what stood in metrics and problems before each list of zones.
type watched struct {
	at       []time.Duration // since began
	problems []map[trouble.Code]string
	metrics  []map[string]float64
}

// watch notes what the leader tells each time that it lists zones. list alters
// what Cloudflare says, by the time since began.
func (w *world) watch(list func(at time.Duration, zones []cloudflare.Zone) []cloudflare.Zone) (*watched, *testkit.Logs) {
	log, said := testkit.RecordingLogger(w.t)
	w.config.Logger = log
	w.config.Trouble = trouble.New(log, w.clock.Now, w.registry)
	seen := &watched{}
	w.stand(&between{zones: func(zones []cloudflare.Zone) []cloudflare.Zone {
		at := w.clock.Now().Sub(began)
		seen.at = append(seen.at, at)
		problems := map[trouble.Code]string{}
		for _, p := range w.config.Trouble.List(true) {
			problems[p.Code] += p.About + ": " + p.Message + "\n"
		}
		seen.problems = append(seen.problems, problems)
		seen.metrics = append(seen.metrics, w.gauges())
		return list(at, zones)
	}})
	return seen, said
}

// unaltered is what Cloudflare says.
func unaltered(_ time.Duration, zones []cloudflare.Zone) []cloudflare.Zone { return zones }

// gauges are the world's gauges, by name and label values.
func (w *world) gauges() map[string]float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetGauge() == nil {
				continue
			}
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetGauge().GetValue()
		}
	}
	return out
}

// An entry that matches nothing is told for as long as it does, in the log once;
// the zone is collected minutes after Cloudflare has it, though the others are
// listed once an hour.
func TestAnEntryThatMatchesNothingIsTold(t *testing.T) {
	w := newWorld(t, nil)
	w.only("http_5m")
	w.config.Credentials[0].Select.Zones = []string{"Shop.Example.", "newshop.example"}
	w.config.Credentials[0].Select.Exclude = []string{"nowhere.test"}
	created := 42 * time.Minute
	seen, said := w.watch(func(at time.Duration, zones []cloudflare.Zone) []cloudflare.Zone {
		for i := range zones {
			if zones[i].Name == "media.example" && at >= created {
				zones[i].Name = "newshop.example"
			}
		}
		return zones
	})
	w.run(3 * time.Hour)

	first := seen.problems[1][trouble.SelectionUnmatched]
	for _, want := range []string{"CF_ZONES newshop.example: ", `CF_EXCLUDE_ZONES nowhere.test: `, "that the token sees"} {
		if !strings.Contains(first, want) {
			t.Errorf("told is %q; want %q in it", first, want)
		}
	}
	for name, want := range map[string]float64{
		"weir_collector_selection_unmatched CF_ZONES": 1, "weir_collector_selection_unmatched CF_EXCLUDE_ZONES": 1, "weir_collector_selection_unmatched CF_ACCOUNTS": 0,
		"weir_collector_selected_zones": 1, "weir_collector_problems SELECTION_UNMATCHED": 2, "weir_collector_problems NO_ZONES": 0,
	} {
		if got, there := seen.metrics[1][name]; !there || got != want {
			t.Errorf("%s is %v (there: %t), want %v", name, got, there, want)
		}
	}
	if n := said.Count(`level=WARN msg="CF_ZONES names`); n != 1 {
		t.Errorf("said %d times within the hour", n)
	}
	scope := w.scope(cfsim.Tag("zone:media.example"))
	if since := scope.FirstSeen.Std().Sub(began); since < created || since > created+6*time.Minute {
		t.Errorf("collected since %s, want soon after %s", since, created)
	}
	if w.count("http_5m", scope.ID) == 0 || w.scope(cfsim.Tag("zone:shop.example")).ZoneLabel != "shop.example" {
		t.Error("a zone that is named in another spelling, or came later, is not collected")
	}
}

// No zone at all is an error that says why, and no metric pretends that anything
// is complete; it is looked at again within minutes.
func TestNoZoneAtAllIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		list    func([]cloudflare.Zone) []cloudflare.Zone
		zones   []string
		says    string
		visible float64
	}{
		"none seen":     {list: func([]cloudflare.Zone) []cloudflare.Zone { return nil }, says: "Zone Read"},
		"none selected": {zones: []string{"nowhere.test"}, says: "select none of them", visible: 1},
		"all paused": {
			list: func(zones []cloudflare.Zone) []cloudflare.Zone {
				zones[0].Paused = true
				return zones
			}, says: "are paused", visible: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zones("shop.example"))
			w.only("http_5m")
			w.config.Credentials[0].Select.Zones, w.config.Interval = test.zones, 30*time.Minute
			mended := 31 * time.Minute
			seen, said := w.watch(func(at time.Duration, zones []cloudflare.Zone) []cloudflare.Zone {
				if test.list != nil && at < mended {
					return test.list(zones)
				}
				return zones
			})
			w.run(59 * time.Minute)
			if got := seen.problems[1][trouble.NoZones]; !strings.Contains(got, test.says) {
				t.Errorf("told is %q; want %q in it", got, test.says)
			}
			if said.Count(`level=ERROR msg="no zone is collected`) != 1 {
				t.Error("the log must say it once in the first hour")
			}
			for name, want := range map[string]float64{
				"weir_collector_selected_zones": 0, "weir_collector_visible_zones": test.visible, "weir_collector_problems NO_ZONES": 1, "weir_collector_leader": 1,
			} {
				if got, there := seen.metrics[1][name]; !there || got != want {
					t.Errorf("%s is %v (there: %t), want %v", name, got, there, want)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(seen.metrics[1])) {
				if strings.HasPrefix(name, "weir_collector_complete_until") {
					t.Errorf("%s is there without a zone", name)
				}
			}
			if n := len(seen.at); n < 6 || n > 14 {
				t.Errorf("looked %d times: %v", n, seen.at)
			}
			if test.list != nil {
				if n := w.count("http_5m", cfsim.Tag("zone:shop.example")); n == 0 {
					t.Error("nothing is collected after it was mended")
				}
			}
		})
	}
}

// What was complete stops being told when its last zone goes, and the zones are
// back soon after Cloudflare lists them.
func TestTheLastZoneGoes(t *testing.T) {
	w := newWorld(t, zones("shop.example", "media.example"))
	w.only("http_5m")
	w.config.Credentials[0].Select.Zones = []string{"shop.example"}
	lastSeen := 0
	seen, _ := w.watch(func(at time.Duration, zones []cloudflare.Zone) []cloudflare.Zone {
		switch {
		case at > 90*time.Minute && at < 3*time.Hour+7*time.Minute:
			return slices.DeleteFunc(zones, func(z cloudflare.Zone) bool { return z.Name == "shop.example" })
		default:
			lastSeen++
			return zones
		}
	})
	w.run(4 * time.Hour)
	const complete = "weir_collector_complete_until_timestamp_seconds http_5m"
	gone := 0
	for i, at := range seen.at {
		_, there := seen.metrics[i][complete]
		switch {
		case at > 30*time.Minute && at <= 2*time.Hour && !there:
			t.Errorf("after %s nothing is complete, though a zone is collected", at)
		case at > 2*time.Hour+time.Minute && at < 3*time.Hour+7*time.Minute:
			gone++
			if there {
				t.Errorf("after %s http_5m is complete of no zone", at)
			}
		}
	}
	if gone < 10 || lastSeen != 3 {
		t.Errorf("looked at %v", seen.at)
	}
	if sc := w.scope(cfsim.Tag("zone:shop.example")); sc.State != roster.Active || len(sc.Away) != 1 {
		t.Errorf("the zone came back and is %s, away %v", sc.State, sc.Away)
	}
}

// An empty list ends no scope: it may mean that a permission is gone. It is told.
func TestZonesThatAreListedNoMore(t *testing.T) {
	w := newWorld(t, zones("shop.example"))
	w.only("http_5m")
	seen, said := w.watch(func(at time.Duration, zones []cloudflare.Zone) []cloudflare.Zone {
		if at > 30*time.Minute && at < 100*time.Minute {
			return nil
		}
		return zones
	})
	w.run(2 * time.Hour)
	told := 0
	for _, p := range seen.problems {
		if strings.Contains(p[trouble.ZonesUnlisted], "Zone Read") {
			told++
		}
		if p[trouble.NoZones] != "" {
			t.Errorf("told is %q, though the known zone is collected", p[trouble.NoZones])
		}
	}
	if told < 5 || said.Count("lists no zones any more") != 1 || said.Count("problem is over") != 1 {
		t.Errorf("told %d times, looked at %v", told, seen.at)
	}
	if missing := w.missing(cfsim.Tag("zone:shop.example"), began); missing > 0 {
		t.Errorf("%d windows are missing", missing)
	}
}

// A list of zones that cannot be had finds no new zones, whatever the reason, and
// everything else may go well. It is told after minutes, until the list is there.
func TestAListOfZonesThatCannotBeHadIsTold(t *testing.T) {
	for name, f := range map[string]cfsim.Fault{
		"too large":       {Kind: cfsim.FaultAccountName, Odd: []string{"9MB"}},
		"damaged":         {Kind: cfsim.FaultRubbish, Path: "/zones"},
		"Cloudflare errs": {Kind: cfsim.FaultHTML, Status: 502, Path: "/zones"},
	} {
		t.Run(name, func(t *testing.T) {
			f.From, f.To = began.Add(40*time.Minute), began.Add(60*time.Minute)
			w := newWorld(t, func(c *cfsim.Config) {
				zones("shop.example", "blog.example", "api.example", "docs.example")(c)
				c.Faults = []cfsim.Fault{f}
			})
			w.only("http_5m")
			said := w.heed()
			w.run(40 * time.Minute)
			if told := w.problems(trouble.UpstreamFailing); len(told) > 0 {
				t.Errorf("told before it begins: %v", told)
			}
			w.run(15 * time.Minute)
			if told := w.problems(trouble.UpstreamFailing); !slices.Equal(told, []string{"list of zones"}) {
				t.Errorf("told after a quarter of an hour: %v", told)
			}
			w.run(10 * time.Minute)
			if told := w.problems(trouble.UpstreamFailing); len(told) > 0 {
				t.Errorf("told when the list is there again: %v", told)
			}
			if n := said.Count("problem=UPSTREAM_FAILING"); n != 3 {
				t.Errorf("its beginning under two leaders and its end are %d lines; want 3", n)
			}
			if missing := w.missing(cfsim.Tag("zone:shop.example"), began); missing > 0 {
				t.Errorf("%d windows are missing", missing)
			}
		})
	}
}
