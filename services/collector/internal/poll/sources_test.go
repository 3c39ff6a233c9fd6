package poll_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
)

// With all request sources each dataset that counts end users by a filter counts all that
// happened, under other names; what has roll-ups goes on as it was, beside it.
func TestRequestsOfAllSources(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Settling.Stragglers = 0
		a := cfsim.Account{ID: cfsim.Tag("account:a"), Name: "Account", Plan: cfsim.Business, Products: traffic.AllProducts(false)}
		a.Workers = []traffic.Script{{Name: "checkout", RequestsPerMinute: 60, Subrequests: 2, Failing: .05}}
		z := cfsim.Zone{ID: cfsim.Tag("zone:z"), Name: "shop.example", Account: a.ID, Plan: cfsim.Business, Products: traffic.AllProducts(true)}
		z.Traffic = traffic.Profile{RequestsPerMinute: 600, Cells: 128, IncidentsPerDay: 6}
		c.Accounts, c.Zones = []cfsim.Account{a}, []cfsim.Zone{z}
	})
	var err error
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{Profile: catalogue.AllProfile, RequestSource: catalogue.AllSources, Disable: []string{"uniques_1d"}}); err != nil {
		t.Fatal(err)
	}
	w.config.Catalogue = w.catalogue
	w.run(3 * time.Hour)

	known, compared, more := expectations(t), map[string]int{}, 0
	for key, b := range w.stored() {
		d := w.catalogue.Find(key.Dataset)
		if d.Name == "http" {
			truth, err := w.sim.True(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
			if got := value(b, "cloudflare_zone_requests"); err != nil || got != float64(truth.Requests) {
				t.Errorf("%s: %v requests of end users, the truth is %d (%v)", key, got, truth.Requests, err)
			}
		}
		name, all := strings.CutSuffix(d.Name, "_all")
		if !all {
			continue
		}
		list := known[name]
		if name == "http" {
			list = []expected{{Family: "cloudflare_zone_requests", Scope: "zone", Node: "httpRequestsAdaptiveGroups", Measure: "count"}}
		}
		if len(list) == 0 {
			t.Fatalf("nothing is known of what %s should be", key.Dataset)
		}
		want, near := map[string]map[string]float64{}, map[string]float64{}
		for _, e := range list {
			e.Filter = maps.Clone(e.Filter)
			delete(e.Filter, "requestSource")
			family := strings.Replace(strings.Replace(e.Family, "cloudflare_zone_", "cloudflare_zone_all_", 1), "cloudflare_account_", "cloudflare_account_all_", 1)
			want[family], near[family] = e.rows(t, w.sim, key, b.Size), e.near()
		}
		if name == "http" {
			if got := value(b, "cloudflare_zone_all_requests"); got != want["cloudflare_zone_all_requests"][""] {
				t.Errorf("%s: %v requests, the truth is %v", key, got, want)
			}
			truth, err := w.sim.True(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
			if err == nil && value(b, "cloudflare_zone_all_requests") > float64(truth.Requests) {
				more++
			}
		} else if why := differs(b, want, near); why != "" {
			t.Errorf("%s: %s", key, why)
		}
		compared[d.Name]++
	}
	if more == 0 {
		t.Error("all sources are no more than end users: the story has lost its subject")
	}
	for i := range w.catalogue.Datasets {
		if d := &w.catalogue.Datasets[i]; strings.HasSuffix(d.Name, "_all") && compared[d.Name] == 0 && d.ScopeKind == bucket.Zone && d.Variants[0].Plan != "enterprise" {
			t.Errorf("nothing is stored of %s", d.Dataset)
		}
	}
	t.Logf("compared: %v", compared)
}
