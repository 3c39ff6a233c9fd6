package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

func define(dataset string, size time.Duration, families ...string) *bucket.Definition {
	d := &bucket.Definition{Dataset: dataset, Version: 1, ScopeKind: bucket.Zone, Size: size}
	for _, name := range families {
		f := bucket.Family{Name: name}
		if name == "interval" {
			f.Labels = []string{DatasetLabel}
		}
		d.Families = append(d.Families, f)
	}
	return d
}

// Datasets that have had a family one after another are one group; a family that tells
// its datasets apart joins none.
func TestGroups(t *testing.T) {
	s := &Store{definitions: map[string][]*bucket.Definition{
		"http_5m":    {define("http_5m", 5*time.Minute, "requests", "bytes", "interval")},
		"http_1h":    {define("http_1h", time.Hour, "requests", "interval")},
		"countries":  {define("countries", time.Hour, "by_country", "interval")},
		"countries2": {define("countries2", time.Hour, "by_country2"), define("countries2", time.Hour, "bytes")},
	}}
	groups, err := s.Groups(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range groups {
		got = append(got, g.String())
	}
	if diff := cmp.Diff([]string{"countries", "countries2, http_1h, http_5m"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if one, err := s.Groups([]string{"countries"}); err != nil || len(one) != 1 {
		t.Errorf("the group of one: %v, %v", one, err)
	}
	if _, err := s.Groups([]string{"http"}); err == nil || err.Error() != `dataset "http" is not in the store; it has countries, countries2, http_1h, http_5m` {
		t.Errorf("an unknown dataset: %v", err)
	}
}

func TestDays(t *testing.T) {
	at := func(text string) bucket.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return bucket.TimeOf(when)
	}
	var got []string
	for _, d := range Days(bucket.Window{Start: at("2026-11-01T18:30:00Z"), End: at("2026-11-03T06:00:00Z")}) {
		got = append(got, d.String())
	}
	want := []string{"[2026-11-01T18:30:00Z, 2026-11-02T00:00:00Z)", "[2026-11-02T00:00:00Z, 2026-11-03T00:00:00Z)", "[2026-11-03T00:00:00Z, 2026-11-03T06:00:00Z)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A chunk has a limited number of scopes, and those of one name are in one.
func TestPlan(t *testing.T) {
	s := &Store{definitions: map[string][]*bucket.Definition{"http_5m": {define("http_5m", 5*time.Minute, "requests")}}}
	for i := range 50 {
		name := fmt.Sprintf("zone-%02d.example", i)
		if i >= 18 && i < 23 {
			name = "again.example"
		}
		s.Scopes = append(s.Scopes, Scope{Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i)}, Names: []string{name}})
	}
	p, err := s.Plan(Selection{Range: bucket.Window{Start: 0, End: 86400 * 2}})
	if err != nil {
		t.Fatal(err)
	}
	seen, last, again := map[string]int{}, 0, map[string]bool{}
	n := 0
	for c := range p.Chunks() {
		n++
		for _, scope := range c.Scopes {
			seen[scope.ID]++
			if scope.Names[0] == "again.example" {
				again[fmt.Sprint(c.Range, c.Scopes[0].ID)] = true
			}
		}
		if c.Last {
			last++
		}
	}
	if n != p.Len() || last != 2 || len(seen) != 50 || len(again) != 2 {
		t.Errorf("%d chunks of %d, %d last ones, %d scopes, one name in %d chunks", n, p.Len(), last, len(seen), len(again))
	}
	for id, times := range seen {
		if times != 2 {
			t.Errorf("scope %s is in %d chunks, want one a day", id, times)
		}
	}
	for _, sel := range []Selection{
		{Range: bucket.Window{Start: 5, End: 5}},
		{Range: bucket.Window{Start: 0, End: 86400}, Zones: []string{"nowhere.example"}},
		{Range: bucket.Window{Start: 0, End: 86400}, Datasets: []string{"x"}},
	} {
		if _, err := s.Plan(sel); err == nil {
			t.Errorf("%+v is a plan", sel)
		}
	}
}
