package poll_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// expected is what one family of a dataset has to be, in the words of Cloudflare's API.
type expected struct {
	Dataset   string         `json:"dataset"`
	Scope     schema.Scope   `json:"scope"`
	Node      string         `json:"node"`
	Filter    map[string]any `json:"filter"`
	Family    string         `json:"family"`
	Labels    []string       `json:"labels"` // dimensions, one of them in class() or path()
	Measure   string         `json:"measure"`
	Weighted  string         `json:"weighted"` // dimension that is averaged, instead of a measure
	Quantiles []string       `json:"quantiles"`
	By        float64        `json:"by"`
	Times     float64        `json:"times"`
	Top       int            `json:"top"`
	Rank      string         `json:"rank"`
	Dropped   bool           `json:"dropped"`  // the rest beyond top, not summed
	Optional  bool           `json:"optional"` // Free has it not
	Integer   bool           `json:"integer"`  // Cloudflare cuts the average to an integer
}

// near is how far a value may be from the truth: Cloudflare rounds averages before they are
// joined.
func (e *expected) near() float64 {
	switch {
	case e.Integer:
		return 1 / cmp.Or(e.By, 1)
	case e.Dropped:
		return 1e-6 / cmp.Or(e.By, 1)
	}
	return 0
}

// expectations are by dataset.
func expectations(t *testing.T) map[string][]expected {
	t.Helper()
	text, err := os.ReadFile("testdata/truth.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]expected{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var e expected
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, s.Text())
		}
		out[e.Dataset] = append(out[e.Dataset], e)
	}
	return out
}

// rows is what the simulator knows of a family in a window, by label values.
func (e *expected) rows(t *testing.T, sim *cfsim.Server, key bucket.Key, size time.Duration) map[string]float64 {
	t.Helper()
	ask := func(measures []string, more ...string) []cfsim.Truth {
		var dims []string
		for _, l := range e.Labels {
			dims = append(dims, dimension(l))
		}
		got, err := sim.Truth(cfsim.Question{
			Scope: e.Scope, Tag: key.Scope.ID, Dataset: e.Node, Start: key.Start.Std(), End: key.Start.Add(size).Std(),
			Filter: e.Filter, Dimensions: append(dims, more...), Measures: measures,
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	values, rank := map[string]float64{}, map[string]float64{}
	put := func(r cfsim.Truth, quantile string, v float64) {
		if e.Dropped && v < 0 {
			return // of no events
		}
		k := e.key(r, quantile)
		values[k] += v * cmp.Or(e.Times, 1) / cmp.Or(e.By, 1)
	}
	switch {
	case e.Weighted != "":
		count := map[string]float64{}
		for _, r := range ask([]string{"count"}, e.Weighted) {
			n := number(r.Values[0])
			put(r, "", n*number(r.Key[len(r.Key)-1]))
			count[e.key(r, "")] += n
		}
		for k := range values {
			values[k] /= count[k]
		}
	case e.Quantiles != nil:
		for _, q := range e.Quantiles {
			digits := strings.TrimPrefix(q, "0.")
			if len(digits) == 1 {
				digits += "0"
			}
			for _, r := range ask([]string{e.Measure + "P" + digits}) {
				put(r, q, number(r.Values[0]))
			}
		}
	default:
		for _, r := range ask([]string{e.Measure}) {
			put(r, "", number(r.Values[0]))
		}
	}
	if e.Top == 0 {
		return values
	}
	own := values
	if e.Rank != "" {
		for _, r := range ask([]string{e.Rank}) {
			rank[e.key(r, "")] += number(r.Values[0])
		}
		own = rank
	}
	return e.capped(values, own)
}

// key is the label values of a group, joined.
func (e *expected) key(r cfsim.Truth, quantile string) string {
	var parts []string
	for i, l := range e.Labels {
		parts = append(parts, labelOf(l, fmt.Sprint(r.Key[i])))
	}
	if quantile != "" {
		parts = append(parts, quantile)
	}
	return strings.Join(parts, "\x00")
}

// capped keeps the rows of the largest ranks.
func (e *expected) capped(values, rank map[string]float64) map[string]float64 {
	best := slices.SortedFunc(maps.Keys(rank), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank[b], rank[a]), slices.Compare(strings.Split(a, "\x00"), strings.Split(b, "\x00")))
	})
	if len(best) <= e.Top {
		return values
	}
	best = best[:e.Top]
	other := strings.Join(slices.Repeat([]string{"other"}, len(e.Labels)), "\x00")
	out := map[string]float64{}
	for k, v := range values {
		set := k
		if e.Quantiles != nil {
			set = k[:strings.LastIndex(k, "\x00")]
		}
		switch {
		case slices.Contains(best, set):
			out[k] = v
		case !e.Dropped:
			out[other] += v
		}
	}
	return out
}

func dimension(label string) string {
	if _, inner, ok := strings.Cut(label, "("); ok {
		return strings.TrimSuffix(inner, ")")
	}
	return label
}

var (
	number36 = regexp.MustCompile(`/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(/|$)`)
	digits   = regexp.MustCompile(`/[0-9]+(/|$)`)
	hexes    = regexp.MustCompile(`/[0-9a-fA-F]{16,}(/|$)`)
)

// labelOf is the label value that the documents of the datasets promise.
func labelOf(label, text string) string {
	switch {
	case strings.HasPrefix(label, "class("):
		text = text[:1] + "xx"
	case strings.HasPrefix(label, "path("):
		text, _, _ = strings.Cut(text, "?")
		for range 2 { // neighbours share a slash
			text = number36.ReplaceAllString(text, "/:uuid$1")
			text = digits.ReplaceAllString(text, "/:id$1")
			text = hexes.ReplaceAllString(text, "/:hex$1")
		}
	case label == "botScore":
		score, _ := strconv.Atoi(text)
		switch {
		case score == 0:
			return "not_computed"
		case score == 1:
			return "automated"
		case score < 30:
			return "likely_automated"
		case score < 100:
			return "likely_human"
		}
	}
	if text == "" {
		return "unknown"
	}
	fitted, _ := bucket.FitLabel(text)
	return fitted
}

func number(v any) float64 {
	switch v := v.(type) {
	case uint64:
		return float64(v)
	case float64:
		return v
	}
	panic(fmt.Sprintf("%T is no number", v))
}

// Every dataset of the catalogue, of a zone and an account of every plan: what is stored is
// what happened, and what a plan does not include is refused with a reason.
func TestEveryDatasetOnEveryPlan(t *testing.T) {
	plans := []cfsim.Plan{cfsim.Free, cfsim.Pro, cfsim.Business, cfsim.Enterprise}
	planOf := map[string]cfsim.Plan{}
	w := newWorld(t, func(c *cfsim.Config) {
		c.Settling.Stragglers = 0
		c.Zones, c.Accounts = nil, nil
		for _, p := range plans {
			a := cfsim.Account{ID: cfsim.Tag("account:" + string(p)), Name: "Account " + string(p), Plan: p, Products: traffic.AllProducts(false)}
			a.Workers = []traffic.Script{{Name: "checkout", RequestsPerMinute: 60, Subrequests: 2, Failing: .05}}
			z := cfsim.Zone{ID: cfsim.Tag("zone:" + string(p)), Name: string(p) + ".example", Account: a.ID, Plan: p, Products: traffic.AllProducts(true)}
			z.Traffic = traffic.Profile{RequestsPerMinute: 1200, Cells: 128, IncidentsPerDay: 6}
			c.Accounts, c.Zones = append(c.Accounts, a), append(c.Zones, z)
			planOf[a.ID], planOf[z.ID] = p, p
		}
	})
	var err error
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{Profile: catalogue.AllProfile, Disable: []string{"uniques_1d"}}); err != nil {
		t.Fatal(err)
	}
	w.config.Catalogue = w.catalogue
	w.run(3 * time.Hour)

	known := expectations(t)
	stored := map[string]int{} // by dataset and plan
	for key, b := range w.stored() {
		d := w.catalogue.Find(key.Dataset)
		plan := planOf[key.Scope.ID]
		want, near := map[string]map[string]float64{}, map[string]float64{}
		for _, e := range known[d.Name] {
			if !e.Optional || plan != cfsim.Free {
				want[e.Family], near[e.Family] = e.rows(t, w.sim, key, b.Size), e.near()
			}
		}
		switch {
		case d.State:
			want, _ = stateAt(t, w, b)
		case known[d.Name] == nil:
			totals, err := w.sim.True(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range d.Families {
				if of := rollups[f.Name]; of != nil && (b.Variant != "adaptive" || f.Name != "cloudflare_zone_page_views" && f.Name != "cloudflare_zone_threats") {
					want[f.Name] = of(totals)
				}
			}
		default:
		}
		if len(want) == 0 {
			t.Fatalf("nothing is known of what %s should be", key.Dataset)
		}
		if why := differs(b, want, near); why != "" {
			t.Errorf("%s %s through %s: %s", plan, key, b.Variant, why)
		}
		stored[d.Name+" "+string(plan)]++
	}
	checkEveryPlan(t, w, planOf, stored)
}

// differs compares the rows of a bucket.
func differs(b *bucket.Bucket, want map[string]map[string]float64, near map[string]float64) string {
	have := map[string]map[string]float64{}
	for _, r := range b.Families {
		if r.Family == catalogue.SampleInterval {
			continue
		}
		rows := map[string]float64{}
		for i, v := range r.Values {
			rows[strings.Join(r.Labels[i*r.Width():(i+1)*r.Width()], "\x00")] = v
		}
		have[r.Family] = rows
	}
	for family, rows := range want {
		for k, v := range rows {
			got, ok := have[family][k]
			if (!ok && v != 0) || math.Abs(got-v) > max(near[family], 1e-12*math.Abs(v)) {
				return fmt.Sprintf("%s{%s} is %v, the truth is %v", family, strings.ReplaceAll(k, "\x00", ","), got, v)
			}
		}
	}
	for family, rows := range have {
		for k, v := range rows {
			if _, ok := want[family][k]; !ok && v != 0 {
				return fmt.Sprintf("%s{%s} is %v, the truth does not have it", family, strings.ReplaceAll(k, "\x00", ","), v)
			}
		}
	}
	return ""
}

// checkEveryPlan checks that each dataset is stored for each plan, or refused with a reason.
func checkEveryPlan(t *testing.T, w *world, planOf map[string]cfsim.Plan, stored map[string]int) {
	t.Helper()
	read := roster.Read(append(w.records(roster.KindScope), w.records(roster.KindAccount)...), w.records(roster.KindEntitlements))
	claims := read.Roster.Claims(bucket.TimeOf(w.clock.Now()), w.catalogue.Datasets, roster.Terms{})
	refused := 0
	for _, c := range claims {
		plan := planOf[c.Scope.ID]
		n := stored[c.Dataset.Name+" "+string(plan)]
		switch {
		case c.Refused != "" && n > 0, c.Refused == "" && n < 2:
			t.Errorf("%s on %s: %d buckets are stored, and it is refused because %q", c.Dataset.Dataset, plan, n, c.Refused)
		case c.Refused != "":
			refused++
			if lowest := c.Dataset.Variants[0].Plan; lowest == string(cfsim.Free) || lowest == string(plan) {
				t.Errorf("%s is documented for %s, and refused because %q", c.Dataset.Dataset, plan, c.Refused)
			}
		}
	}
	if len(claims) < 4*len(w.catalogue.Datasets) || refused < 20 {
		t.Errorf("%d claims of %d datasets, of which %d are refused", len(claims), len(w.catalogue.Datasets), refused)
	}
	t.Logf("%d datasets on 4 plans: %d are refused by a plan", len(w.catalogue.Datasets), refused)
}
