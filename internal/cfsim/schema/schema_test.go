package schema

import (
	"slices"
	"testing"
)

func TestDatasets(t *testing.T) {
	for _, scope := range []Scope{Zone, Account} {
		all := Datasets(scope)
		if len(all) < 15 {
			t.Errorf("%s has %d datasets", scope, len(all))
		}
		for _, d := range all {
			if Lookup(scope, d.Name) != d {
				t.Errorf("%s is not found by its name", d.Name)
			}
			if !d.Raw && !d.Has("dimensions") {
				t.Errorf("%s has no dimensions", d.Name)
			}
			seen := map[string]bool{}
			for _, name := range d.Flat(scope) {
				if seen[name] {
					t.Errorf("%s has %s twice", d.Name, name)
				}
				seen[name] = true
			}
			for _, c := range d.Containers {
				for _, f := range d.Fields(scope, c) {
					if c != "confidence" && f.Type == "" && f.Fields == nil {
						t.Errorf("%s: %s_%s has no type", d.Name, c, f.Name)
					}
				}
			}
		}
	}
}

func TestFields(t *testing.T) {
	d := Lookup(Zone, "httpRequests1mGroups")
	if f, ok := d.Field(Zone, "sum", "countryMap"); !ok || len(f.Fields) != 4 || f.Fields[0].Name != "bytes" || f.Fields[0].Type != "uint64" {
		t.Errorf("countryMap is %+v", f)
	}
	if !slices.Contains(d.Flat(Zone), "sum_countryMap_requests") || !slices.Contains(d.Flat(Zone), "sum_countryMap") || !slices.Contains(d.Flat(Zone), "uniq_uniques") {
		t.Errorf("flattened names are %v", d.Flat(Zone))
	}
	a := Lookup(Account, "httpRequestsAdaptiveGroups")
	if _, ok := a.Field(Account, "dimensions", "zoneTag"); !ok {
		t.Error("accounts have no dimension zoneTag")
	}
	if _, ok := a.Field(Zone, "dimensions", "zoneTag"); ok {
		t.Error("zones have a dimension zoneTag")
	}
	if f, ok := a.Field(Zone, "dimensions", "botDetectionIds"); !ok || !f.List || f.Type != "uint32" {
		t.Errorf("botDetectionIds is %+v", f)
	}
	if _, ok := a.Filterable(Zone, "rayName"); !ok {
		t.Error("rayName is no filter")
	}
	if Lookup(Zone, "workersInvocationsAdaptive") != nil || Lookup(Zone, "ipFlows1mGroups") != nil {
		t.Error("a dataset of another scope, or a removed one, was found")
	}
}
