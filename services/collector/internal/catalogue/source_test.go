package catalogue

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

// found is the dataset of that name; nil if there is none.
func found(c *Catalogue, name string) *Dataset {
	d, _ := c.Lookup(name)
	return d
}

// The setting changes no dataset: what counts requests of all sources has names of its own, so
// that no family, stored or counted, ever changes its meaning.
func TestAllSourcesHaveNamesOfTheirOwn(t *testing.T) {
	usual, err := Load(nil, Options{Profile: AllProfile})
	if err != nil {
		t.Fatal(err)
	}
	changed, err := Load(nil, Options{Profile: AllProfile, RequestSource: AllSources})
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]bool{}
	for i := range usual.Available {
		d := &usual.Available[i]
		same := found(changed, d.Name)
		if same == nil || !cmp.Equal(d.Definition, same.Definition) || !cmp.Equal(d.Variants, same.Variants) {
			t.Errorf("%s is another dataset with the setting", d.Dataset)
			continue
		}
		for _, f := range d.Families {
			families[f.Name] = true
		}
		filters := 0
		for _, v := range d.Variants {
			if v.Filter["requestSource"] == "eyeball" {
				filters++
			}
		}
		all := found(changed, d.Name+"_all")
		if (all != nil) != (filters > 0) {
			t.Errorf("%s has %d variants with the filter, and %s_all: %t", d.Name, filters, d.Name, all != nil)
			continue
		}
		if want := filters == 0 || filters < len(d.Variants); same.Enabled != want {
			t.Errorf("%s is collected: %t, want %t", d.Name, same.Enabled, want)
		}
		if all != nil && (!all.Enabled || all.Size != d.Size || all.Depth != d.Depth || len(all.Variants) != filters) {
			t.Errorf("%s is %+v", all.Dataset, all)
		}
	}
	n := 0
	for i := range changed.Available {
		d := &changed.Available[i]
		if !strings.HasSuffix(d.Name, "_all") {
			continue
		}
		n++
		for _, f := range d.Families {
			if f.Name != SampleInterval && (families[f.Name] || !strings.Contains(f.Name, "_all_") || !strings.HasSuffix(f.Help, "Of all sources: also subrequests of Workers, health checks and the like.")) {
				t.Errorf("%s has the family %s: %s", d.Dataset, f.Name, f.Help)
			}
		}
		for _, v := range d.Variants {
			if _, there := v.Filter["requestSource"]; there {
				t.Errorf("%s filters by the source", d.Dataset)
			}
		}
		for name, l := range d.Limits {
			named := func(f bucket.Family) bool { return f.Name == name }
			if !slices.ContainsFunc(d.Families, named) || l.By != "" && !strings.Contains(l.By, "_all_") {
				t.Errorf("%s limits %s by %q", d.Dataset, name, l.By)
			}
		}
	}
	if n < 15 {
		t.Errorf("%d datasets count all sources", n)
	}
	if http := found(changed, "http_all"); http == nil || slices.ContainsFunc(http.Families, func(f bucket.Family) bool { return strings.Contains(f.Name, "page_views") }) {
		t.Errorf("http_all is %+v; it must have no family that only roll-ups feed", http)
	}
}

// By default nothing is added; other files' datasets say themselves what they count; what is
// changed of a dataset holds for its twin, and both can be named.
func TestRequestSourceOfSettings(t *testing.T) {
	usual, err := Load(nil, Options{})
	if err != nil || found(usual, "http_all") != nil {
		t.Fatal(err)
	}
	user := []byte(`
datasets:
  - name: colos
    limits: {cloudflare_zone_requests_by_colo: {top: 7}}
  - name: mine
    description: Mine
    scope: zone
    size: 1h
    level: cloudflare_zone_mine_requests
    families: [{name: cloudflare_zone_mine_requests, help: Mine.}]
    measures: [{family: cloudflare_zone_mine_requests, field: count}]
    variants: [{name: a, node: httpRequestsAdaptiveGroups, filter: {requestSource: eyeball}, rows: 1}]
`)
	c, err := Load(user, Options{RequestSource: AllSources, Enable: []string{"colos_all", "asns"}, Disable: []string{"http_all"}})
	if err != nil {
		t.Fatal(err)
	}
	if found(c, "mine_all") != nil || !found(c, "mine").Enabled {
		t.Error("a dataset of the user's file is changed")
	}
	if got := c.Find("colos_all_1h"); got == nil || got.Limits["cloudflare_zone_all_requests_by_colo"].Top != 7 {
		t.Errorf("colos_all is %+v", got)
	}
	if c.Find("asns_1h") == nil || c.Find("asns_all_1h") != nil || found(c, "http_all").Enabled || c.Find("http_5m") == nil {
		t.Error("a name does not mean what it says")
	}
	_, err = Load(nil, Options{RequestSource: "edgeWorkerFetch"})
	if want := `settings: the request source is "edgeWorkerFetch"; it must be one of eyeball, all`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %s", err, want)
	}
	_, err = Load(nil, Options{Enable: []string{"colos_all"}})
	if err == nil || !strings.Contains(err.Error(), `dataset "colos_all" is not in the catalogue`) {
		t.Errorf("%v", err)
	}
}
