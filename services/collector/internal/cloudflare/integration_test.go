package cloudflare_test

import (
	"context"
	"maps"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// noon is where the newest windows end; the present is half an hour later, when
// everything has settled.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type world struct {
	sim    *cfsim.Server
	clk    *clock.Manual
	client *cloudflare.Client
}

func newWorld(t *testing.T, change func(*cfsim.Config)) *world {
	t.Helper()
	clk := clock.NewManual(noon.Add(30 * time.Minute))
	conf := cfsim.Demo(clk, 7)
	conf.Settling.Stragglers = 0
	if change != nil {
		change(&conf)
	}
	sim, err := cfsim.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	client, err := cloudflare.New(cloudflare.Config{
		BaseURL: server.URL + "/client/v4",
		Token:   func() (string, error) { return cfsim.DemoToken, nil },
		Timeout: 5 * time.Second, Logger: testkit.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &world{sim: sim, clk: clk, client: client}
}

// dataset is one of those that are collected by default.
func dataset(t *testing.T, id string) *catalogue.Dataset {
	t.Helper()
	c, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Find(id)
}

func zoneTag(name string) string { return cfsim.Tag("zone:" + name + ".example") }

// ask asks variant v of d for one zone, or one account, and folds the answer.
func (w *world) ask(t *testing.T, d *catalogue.Dataset, v *catalogue.Variant, tag string, win bucket.Window) []catalogue.Folded {
	t.Helper()
	q := cloudflare.Query{Zones: []string{tag}, Selections: []cloudflare.Selection{selection(d, v, "a", win)}}
	if d.ScopeKind == bucket.Account {
		q.Zones, q.AccountID = nil, tag
	}
	a, err := w.client.Query(t.Context(), q)
	if err != nil {
		t.Fatalf("%s %s: %v", d.Dataset, v.Name, err)
	}
	groups := a.Zones[tag]["a"]
	if d.ScopeKind == bucket.Account {
		groups = a.Account["a"]
	}
	folded, err := d.Fold(v, win, groups)
	if err != nil {
		t.Fatal(err)
	}
	return folded
}

func selection(d *catalogue.Dataset, v *catalogue.Variant, alias string, win bucket.Window) cloudflare.Selection {
	s := d.Selection(v)
	return cloudflare.Selection{
		Alias: alias, Node: s.Node, FilterField: s.FilterField, Window: win, Filter: s.Filter, Dimensions: s.Dimensions,
		TimeDimension: s.TimeDimension, Fields: s.Fields, Confidence: s.Confidence, Limit: 10000, OrderBy: s.OrderBy,
	}
}

// rowsOf flattens folded rows to family{labels} for comparison.
func rowsOf(f catalogue.Folded) map[string]float64 {
	out := map[string]float64{}
	for _, r := range f.Families {
		for i, v := range r.Values {
			name := r.Family
			if n := r.Width(); n > 0 {
				name += "{" + strings.Join(r.Labels[i*n:(i+1)*n], ",") + "}"
			}
			out[name] = v
		}
	}
	return out
}

// wantRows is what a dataset has to store for a window, from the simulator's
// truth, written down apart from the catalogue.
func wantRows(t *testing.T, sim *cfsim.Server, dataset, variant, zone string, w bucket.Window) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	if dataset == "workers" {
		all, err := sim.TrueWorkers(zone, w.Start.Std(), w.End.Std())
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			labels := "{" + one.Script + "," + one.Status + "}"
			out["cloudflare_account_worker_requests"+labels] = float64(one.Requests)
			out["cloudflare_account_worker_errors"+labels] = float64(one.Errors)
			out["cloudflare_account_worker_subrequests"+labels] = float64(one.Subrequests)
		}
		return out
	}
	// The others are compared by the tests of the loop, which has what it needs.
	if !slices.Contains([]string{"http", "uniques", "uniques_1d", "countries", "content_types"}, dataset) {
		return nil
	}
	truth, err := sim.True(zone, w.Start.Std(), w.End.Std())
	if err != nil {
		t.Fatal(err)
	}
	switch dataset {
	case "http":
		out["cloudflare_zone_requests"] = float64(truth.Requests)
		out["cloudflare_zone_bytes"] = float64(truth.Bytes)
		out["cloudflare_zone_cached_requests"] = float64(truth.CachedRequests)
		out["cloudflare_zone_cached_bytes"] = float64(truth.CachedBytes)
		out["cloudflare_zone_encrypted_requests"] = float64(truth.EncryptedRequests)
		out["cloudflare_zone_encrypted_bytes"] = float64(truth.EncryptedBytes)
		if variant != "adaptive" {
			out["cloudflare_zone_page_views"] = float64(truth.PageViews)
			out["cloudflare_zone_threats"] = float64(truth.Threats)
		}
		for status, n := range truth.Status {
			out["cloudflare_zone_requests_by_status{"+strconv.FormatUint(status, 10)+"}"] = float64(n)
		}
	case "uniques":
		out["cloudflare_zone_unique_visitors"] = float64(truth.Uniques)
	case "uniques_1d":
		out["cloudflare_zone_daily_unique_visitors"] = float64(truth.Uniques)
	case "countries":
		top(out, "country", truth.Countries)
	case "content_types":
		top(out, "content_type", truth.ContentTypes)
	}
	return out
}

// top keeps the twenty with most requests and sums the rest.
func top(out map[string]float64, label string, shares map[string]cfsim.Share) {
	names := slices.SortedFunc(maps.Keys(shares), func(a, b string) int {
		if shares[a].Requests != shares[b].Requests {
			if shares[a].Requests > shares[b].Requests {
				return -1
			}
			return 1
		}
		if a < b {
			return -1
		}
		return 1
	})
	for i, name := range names {
		s := shares[name]
		if i >= 20 {
			name = "other"
		}
		out["cloudflare_zone_requests_by_"+label+"{"+name+"}"] += float64(s.Requests)
		out["cloudflare_zone_bytes_by_"+label+"{"+name+"}"] += float64(s.Bytes)
	}
}

// Every dataset at every size that it can have, through every variant, is answered
// and folds; the default ones are exactly what happened, window by window.
func TestDatasetsAgainstTheSimulator(t *testing.T) {
	w := newWorld(t, nil)
	zone := zoneTag("shop")
	known, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	asked := map[time.Duration]int{}
	for _, size := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 24 * time.Hour} {
		options := catalogue.Options{HTTPSize: size}
		for _, d := range known.Available {
			if d.Name != "http" && d.Name != "uniques_1d" && slices.Contains(d.Sizes, size) {
				options.Enable = append(options.Enable, d.Name+"_"+bucket.SizeName(size))
			}
		}
		w.clk.Set(w.clk.Now().Add(6 * time.Minute)) // the budget of the next size
		c, err := catalogue.Load(nil, options)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.Datasets {
			d := &c.Datasets[i]
			// Products are asked at one size, what the HTTP nodes answer at all.
			usual, err := known.Lookup(d.Name)
			if err != nil {
				t.Fatal(err)
			}
			if d.Size != size || !strings.HasPrefix(d.Variants[0].Node, "httpRequests") && usual.Size != size {
				continue
			}
			asked[size]++
			end := bucket.TimeOf(noon).Floor(d.Size)
			if d.Size < time.Hour {
				end = end.Add(-time.Hour)
			}
			win := bucket.Window{Start: end.Add(-2 * d.Size), End: end}
			for j := range d.Variants {
				v := &d.Variants[j]
				t.Run(d.Dataset+"/"+v.Name, func(t *testing.T) {
					zone := zone
					if d.ScopeKind == bucket.Account {
						zone = cfsim.Tag("account:retail")
					}
					if d.State {
						w.checkState(t, d, zone)
						return
					}
					folded := w.ask(t, d, v, zone, win)
					if len(folded) != 2 {
						t.Fatalf("%d windows, want 2", len(folded))
					}
					for k, f := range folded {
						one := bucket.Window{Start: win.Start.Add(time.Duration(k) * d.Size), End: win.Start.Add(time.Duration(k+1) * d.Size)}
						want := wantRows(t, w.sim, d.Name, v.Name, zone, one)
						if diff := cmp.Diff(want, rowsOf(f)); diff != "" && len(want) > 0 {
							t.Errorf("window %s (-truth +stored):\n%s", one, diff)
						}
						traffic := strings.HasPrefix(v.Node, "httpRequests1") || len(want) > 0
						if f.SampleInterval > 1 || traffic && (f.SampleInterval != 1 || f.Empty || f.Level == 0) {
							t.Errorf("window %s: interval %v, empty %v, level %v; want unsampled traffic", one, f.SampleInterval, f.Empty, f.Level)
						}
					}
				})
			}
		}
	}
	for size, n := range asked {
		if n < 15 {
			t.Errorf("%d datasets at %s; all but the day's uniques have every size, and those of the day have a dataset of their own", n, size)
		}
	}
}

// checkState reads a state, which folds and has rows.
func (w *world) checkState(t *testing.T, d *catalogue.Dataset, id string) {
	t.Helper()
	v := &d.Variants[0]
	groups, err := w.client.State(t.Context(), v.Node, bucket.Scope{Kind: d.ScopeKind, ID: id}, func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	win := bucket.Window{Start: bucket.TimeOf(noon).Floor(d.Size), End: bucket.TimeOf(noon).Floor(d.Size).Add(d.Size)}
	folded, err := d.Fold(v, win, v.Placed(groups, win.Start))
	if err != nil {
		t.Fatal(err)
	}
	if len(folded) != 1 || len(folded[0].Families) == 0 && d.ScopeKind == bucket.Account {
		t.Errorf("%d windows with %d families", len(folded), len(folded[0].Families))
	}
}

// A zone without traffic answers with an empty list: totals of zero, marked as
// empty, for the caller to confirm (G3).
func TestParkedZoneIsEmpty(t *testing.T) {
	w := newWorld(t, nil)
	d := dataset(t, "http_5m")
	end := bucket.TimeOf(noon.Add(-time.Hour))
	for _, f := range w.ask(t, d, &d.Variants[0], zoneTag("parked"), bucket.Window{Start: end.Add(-15 * time.Minute), End: end}) {
		rows := rowsOf(f)
		if v, ok := rows["cloudflare_zone_requests"]; !f.Empty || !ok || v != 0 || len(rows) != 8 {
			t.Errorf("window %s: empty %v, rows %v; want eight totals of 0", f.Start, f.Empty, rows)
		}
	}
}

// One question with ten zones' worth of scopes, nested below their account.
func TestNestedZonesAndSeveralSelections(t *testing.T) {
	w := newWorld(t, nil)
	d := dataset(t, "uniques_1h")
	end := bucket.TimeOf(noon)
	q := cloudflare.Query{AccountID: cfsim.Tag("account:retail"), Zones: []string{zoneTag("shop"), zoneTag("media"), zoneTag("checkout")}}
	for i := range 3 {
		from := end.Add(time.Duration(-i-1) * time.Hour)
		q.Selections = append(q.Selections, selection(d, &d.Variants[0], "a"+strconv.Itoa(i), bucket.Window{Start: from, End: from.Add(time.Hour)}))
	}
	a, err := w.client.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range q.Zones {
		for _, s := range q.Selections {
			if len(a.Zones[z][s.Alias]) != 1 {
				t.Errorf("zone %s %s has %d groups, want 1", z, s.Alias, len(a.Zones[z][s.Alias]))
			}
		}
	}
	if a.Ray == "" || a.Date.IsZero() {
		t.Errorf("ray %q and date %s; want both", a.Ray, a.Date)
	}
}
