package cfsim_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// measures are the flattened numbers of a dataset that has them.
func measures(scope schema.Scope, d *schema.Dataset) []string {
	var out []string
	for _, c := range d.Containers {
		switch c {
		case "count":
			out = append(out, c)
		case "dimensions", "confidence", "raw":
		default:
			for _, f := range d.Fields(scope, c) {
				if f.Type != "" && !f.List {
					out = append(out, c+"_"+f.Name)
				}
			}
		}
	}
	return out
}

// asked is the selection of measures and dimensions in the query language.
func asked(measures, dimensions []string) string {
	byContainer := map[string][]string{}
	for _, m := range measures {
		c, f, _ := strings.Cut(m, "_")
		byContainer[c] = append(byContainer[c], f)
	}
	if len(dimensions) > 0 {
		byContainer["dimensions"] = dimensions
	}
	var b strings.Builder
	for c, fields := range byContainer {
		b.WriteString(c)
		if c != "count" {
			b.WriteString(" { " + strings.Join(fields, " ") + " } ")
		}
		b.WriteString(" ")
	}
	return b.String()
}

// texts are the dimensions of a dataset that the model fills in and that are no times.
func texts(scope schema.Scope, d *schema.Dataset, truth func(...string) []cfsim.Truth) []string {
	var out []string
	for _, f := range d.Fields(scope, "dimensions") {
		if f.Type == "Time" || f.Type == "Date" || f.List || f.Name == "sampleInterval" {
			continue
		}
		for _, g := range truth(f.Name) {
			if g.Key[0] != "" && g.Key[0] != uint64(0) {
				out = append(out, f.Name)
				break
			}
		}
	}
	return out
}

// whereOf are the places of the demo in which a dataset can be asked: a zone of the
// highest plan and its account.
var whereOf = map[schema.Scope]string{schema.Zone: zone("shop"), schema.Account: account("retail")}

// modelled calls f for each dataset that shows something, in each scope.
func modelled(f func(schema.Scope, *schema.Dataset)) {
	for _, scope := range []schema.Scope{schema.Zone, schema.Account} {
		for _, d := range schema.Datasets(scope) {
			if traffic.SourceOf(d.Name) != nil {
				f(scope, d)
			}
		}
	}
}

// Every modelled dataset shows its truth, whatever it is about: each measure, by each
// dimension that the model fills in, in the windows that clients ask for.
func TestEveryDatasetShowsItsTruth(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Limits.Queries = 1 << 30 })
	from, to := epoch.Add(-3*time.Hour), epoch.Add(-2*time.Hour)
	modelled(func(scope schema.Scope, d *schema.Dataset) {
		if d.Raw || d.Name == "httpRequests1dGroups" {
			return
		}
		t.Run(string(scope)+"/"+d.Name, func(t *testing.T) {
			q := cfsim.Question{Scope: scope, Tag: whereOf[scope], Dataset: d.Name, Start: from, End: to}
			truth := func(dims ...string) []cfsim.Truth {
				q.Dimensions = dims
				out, err := w.sim.Truth(q)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			dims := texts(scope, d, truth)
			q.Measures = measures(scope, d)
			if most := 30 - len(q.Measures); scope == schema.Account && len(dims) > most { // of fields in one query
				dims = dims[:max(most, 1)]
			}
			if len(q.Measures) > 29 {
				q.Measures = q.Measures[:29]
			}
			want := truth(dims...)
			if len(want) == 0 {
				t.Fatal("nothing happens")
			}
			node, bound := string(scope)+"s", "datetime"
			if _, ok := d.Field(scope, "dimensions", bound); !ok {
				if bound = "datetimeMinute"; d.Name == "durableObjectsStorageGroups" {
					bound = "datetimeHour"
				}
				if d.Name == "durableObjectsSqlStorageGroups" {
					bound = "datetimeMinute"
				}
			}
			var order []string
			for _, name := range dims {
				order = append(order, name+"_ASC")
			}
			a := w.good(fmt.Sprintf(`{ viewer { %s(filter: {%sTag: $tag}) { rows: %s(limit: 9999, orderBy: $order, filter: {%s_geq: $from, %s_lt: $to}) { %s } } } }`,
				node, scope, d.Name, bound, bound, asked(q.Measures, dims)),
				map[string]any{"tag": q.Tag, "from": stamp(from), "to": stamp(to), "order": order})
			list := dig(t, a.Data, "viewer", node, 0, "rows").([]any)
			if len(list) != len(want) {
				t.Fatalf("%d rows are shown, %d are true", len(list), len(want))
			}
			for i, row := range list {
				for k, name := range dims {
					if got := fmt.Sprint(dig(t, row, "dimensions", name)); got != fmt.Sprint(want[i].Key[k]) {
						t.Fatalf("row %d: %s is %s, want %v", i, name, got, want[i].Key[k])
					}
				}
				for k, flat := range q.Measures {
					c, f, _ := strings.Cut(flat, "_")
					path := []any{c}
					if f != "" {
						path = append(path, f)
					}
					if got := fmt.Sprint(dig(t, row, path...)); !same(got, want[i].Values[k]) {
						t.Fatalf("row %d %v: %s is %s, want %v", i, want[i].Key, flat, got, want[i].Values[k])
					}
				}
			}
		})
	})
}

// same compares a number as it was sent with its truth: fractions are sent with seven
// digits.
func same(sent string, v any) bool {
	if f, ok := v.(float64); ok {
		var g float64
		_, err := fmt.Sscan(sent, &g)
		return err == nil && g-f < 1e-6 && f-g < 1e-6
	}
	return sent == fmt.Sprint(v)
}

// No measure of a modelled dataset is 0 for want of a model.
func TestEveryMeasureIsModelled(t *testing.T) {
	w := newWorld(t, nil)
	zero := []string{"avg_crossZoneSubrequests", "sum_crossZoneSubrequests"} // no zone asks another
	modelled(func(scope schema.Scope, d *schema.Dataset) {
		if d.Raw {
			return
		}
		q := cfsim.Question{Scope: scope, Tag: whereOf[scope], Dataset: d.Name, Start: epoch.Add(-36 * time.Hour), End: epoch.Add(-12 * time.Hour), Measures: measures(scope, d)}
		all, err := w.sim.Truth(q)
		if err != nil || len(all) != 1 {
			t.Fatalf("%s below a %s: %d groups (%v)", d.Name, scope, len(all), err)
		}
		for i, m := range q.Measures {
			if v := all[0].Values[i]; (v == uint64(0) || v == 0.0) && !slices.Contains(zero, m) && !strings.HasPrefix(m, "min_") {
				t.Errorf("%s below a %s: %s is 0", d.Name, scope, m)
			}
		}
	})
}

// What the table names exists in the schema: in a dataset of the source, or in one of
// another source of the product, which may be like it.
func TestSourcesFitTheSchema(t *testing.T) {
	scopeOf := func(s *traffic.Source) schema.Scope {
		if s.Zone {
			return schema.Zone
		}
		return schema.Account
	}
	known := map[string]bool{} // product and field
	for _, s := range traffic.Sources() {
		for _, node := range s.Nodes() {
			d := schema.Lookup(scopeOf(s), node)
			if d == nil {
				t.Fatalf("source %s: dataset %s is not in the schema", s.Name, node)
			}
			for _, c := range d.Containers {
				for _, f := range d.Fields(scopeOf(s), c) {
					known[s.Product+"."+f.Name] = true
					if at := strings.LastIndexByte(f.Name, 'P'); c == "quantiles" {
						known[s.Product+"."+f.Name[:at]] = true
					}
				}
			}
		}
	}
	for _, s := range traffic.Sources() {
		m := traffic.NewSource(1, whereOf[scopeOf(s)], "name.example", s, traffic.Product{}, nil)
		for _, tpl := range m.Templates() {
			for _, names := range [][]string{
				slices.Collect(maps.Keys(tpl.Attributes)), slices.Collect(maps.Keys(tpl.Values)), slices.Collect(maps.Keys(tpl.Gauges)),
			} {
				for _, name := range names {
					if !known[s.Product+"."+name] {
						t.Fatalf("source %s: %s is a field of none of its product's datasets", s.Name, name)
					}
				}
			}
		}
	}
}

// Sums and counts of minutes add up to those of the hour, in every dataset.
func TestMinutesAddUpInEveryDataset(t *testing.T) {
	w := newWorld(t, nil)
	from := epoch.Add(-5 * time.Hour)
	modelled(func(scope schema.Scope, d *schema.Dataset) {
		if d.Raw || strings.HasPrefix(d.Name, "httpRequests1h") || strings.HasPrefix(d.Name, "httpRequests1d") || d.Name == "durableObjectsStorageGroups" {
			return
		}
		q := cfsim.Question{Scope: scope, Tag: whereOf[scope], Dataset: d.Name, Start: from, End: from.Add(time.Hour)}
		for _, m := range measures(scope, d) {
			if m == "count" || strings.HasPrefix(m, "sum_") {
				q.Measures = append(q.Measures, m)
			}
		}
		whole, err := w.sim.Truth(q)
		if err != nil {
			t.Fatal(err)
		}
		sums := make([]float64, len(q.Measures))
		for i := range 12 {
			part := q
			part.Start = from.Add(time.Duration(i) * 5 * time.Minute)
			part.End = part.Start.Add(5 * time.Minute)
			groups, err := w.sim.Truth(part)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				for k, v := range g.Values {
					sums[k] += number(v)
				}
			}
		}
		for k, m := range q.Measures {
			if want := number(whole[0].Values[k]); sums[k] < want*(1-1e-9) || sums[k] > want*(1+1e-9) {
				t.Errorf("%s below a %s: the parts of an hour have %s %v, the hour %v", d.Name, scope, m, sums[k], want)
			}
		}
	})
}

func number(v any) float64 {
	switch x := v.(type) {
	case uint64:
		return float64(x)
	case float64:
		return x
	}
	return 0
}
