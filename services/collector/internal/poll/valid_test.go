package poll_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// heed gives the world's collector a board and a register of its own, as each
// process has, and returns what it logs.
func (w *world) heed() *testkit.Logs {
	log, said := testkit.RecordingLogger(w.t)
	w.config.Logger, w.config.Trouble = log, trouble.New(log, w.clock.Now, nil)
	w.config.Unreadable = unreadable.New(w.config.Trouble, nil)
	return said
}

// One answer with names that no reader accepts costs those names: the labels are
// the tags until they are whole again, everybody's data is stored all the while,
// and an operator hears of it.
func TestNamesThatNoReaderAccepts(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	for what, c := range map[string]struct {
		spoil func(*cloudflare.Zone)
		label func(string) bool
	}{
		"empty":      {func(z *cloudflare.Zone) { z.Name = "" }, func(l string) bool { return l == shop }},
		"NUL":        {func(z *cloudflare.Zone) { z.Name = "shop\x00.example" }, func(l string) bool { return l == shop }},
		"blanks":     {func(z *cloudflare.Zone) { z.Name = "\t \n" }, func(l string) bool { return l == shop }},
		"a megabyte": {func(z *cloudflare.Zone) { z.Name = strings.Repeat("x", 1<<20) }, func(l string) bool { return len(l) == bucket.MaxName && strings.HasPrefix(l, "xxx") }},
		"account, plan": {
			func(z *cloudflare.Zone) {
				z.Account.Name, z.Account.ID, z.Plan.Name = strings.Repeat("\x00", 1<<20), strings.Repeat("y", 1<<20), strings.Repeat("z", 1<<20)
			},
			func(l string) bool { return l == "shop.example" },
		},
		"created in a thousand years": {
			func(z *cloudflare.Zone) { z.Created = began.AddDate(1000, 0, 0); z.Account.Name = "" },
			func(l string) bool { return l == "shop.example" },
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, zones("shop.example", "blog.example"))
			w.only("http_5m")
			said := w.heed()
			whole := false
			w.stand(&between{zones: func(zones []cloudflare.Zone) []cloudflare.Zone {
				for i := range zones {
					if zones[i].ID == shop && !whole {
						c.spoil(&zones[i])
					}
				}
				return zones
			}})
			w.run(30 * time.Minute)
			w.run(30 * time.Minute) // whoever leads next reads what is stored
			stored := w.stored()
			for _, zone := range []string{"shop.example", "blog.example"} {
				if n := w.count("http_5m", cfsim.Tag("zone:"+zone)); n < 9 {
					t.Errorf("%d buckets of %s are stored", n, zone)
				}
			}
			for key, b := range stored {
				if key.Scope.ID == shop && !c.label(b.Zone) {
					t.Fatalf("the zone's label is %.40q, %d bytes", b.Zone, len(b.Zone))
				}
				if len(b.Account) > bucket.MaxName || b.Account == "" {
					t.Fatalf("the account's label is %.40q, %d bytes", b.Account, len(b.Account))
				}
			}
			records, err := w.store.Records(t.Context(), roster.KindScope)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if len(r.Value) > 8000 {
					t.Errorf("the record of %s has %d bytes", r.Key, len(r.Value))
				}
			}
			if got := w.problems(trouble.InvalidValue); !slices.Equal(got, []string{"zone " + shop}) {
				t.Errorf("problems are about %q; want the zone", got)
			}
			if n := said.Count("problem=INVALID_VALUE"); n != 2 { // one a term
				t.Errorf("it was logged %d times in two terms", n)
			}
			whole = true
			w.run(70 * time.Minute)
			if got := w.problems(trouble.InvalidValue); len(got) > 0 {
				t.Errorf("problems are about %q after the names are whole again", got)
			}
			var newest *bucket.Bucket
			for key, b := range w.stored() {
				if key.Scope.ID == shop && (newest == nil || key.Start > newest.Start) {
					newest = b
				}
			}
			if newest.Zone != "shop.example" || newest.Account == "" || len(newest.Account) > 40 {
				t.Errorf("the newest bucket's labels are %q, %q", newest.Zone, newest.Account)
			}
		})
	}
}

func country(name string, requests int) map[string]any {
	n := json.Number(fmt.Sprint(requests))
	return map[string]any{"clientCountryName": name, "requests": n, "bytes": n, "threats": n}
}

// Settings with names of fields that no record can hold are no reason to stop.
func TestSettingsThatNoRecordHolds(t *testing.T) {
	w := newWorld(t, zones("shop.example", "blog.example"))
	w.only("http_5m")
	w.stand(&between{settings: func(_, _ string, s *cloudflare.Settings) {
		s.Available = append(slices.Clone(s.Available), "sum_\x00", strings.Repeat("f", 1<<20), "sum_\xff")
	}})
	w.run(30 * time.Minute)
	for _, r := range append(w.records(roster.KindScope), w.records(roster.KindEntitlements)...) {
		if len(r.Value) > 100<<10 {
			t.Errorf("the record of %s has %d bytes", r.Key, len(r.Value))
		}
	}
	if n := w.count("http_5m", cfsim.Tag("zone:shop.example")); n < 30 {
		t.Errorf("%d buckets are stored", n)
	}
}

// spoilCountries changes the map of countries of every group of a zone.
func spoilCountries(a *cloudflare.Response, zone string, change func(at string, list []any) []any) {
	for _, groups := range a.Zones[zone] {
		for _, g := range groups {
			sum, _ := g["sum"].(map[string]any)
			if list, ok := sum["countryMap"].([]any); ok {
				at, _ := g["dimensions"].(map[string]any)["datetime"].(string)
				sum["countryMap"] = change(at, list)
			}
		}
	}
}

// A label of megabytes is cut, and counted; two that differ at their end stay two.
func TestALabelOfMegabytesIsCut(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	w := newWorld(t, zones("shop.example"))
	w.only("countries_1h")
	w.heed()
	long := strings.Repeat("long", 9<<18)
	w.stand(&between{answer: func(a *cloudflare.Response) {
		spoilCountries(a, shop, func(_ string, list []any) []any {
			return append(slices.Clone(list), country(long, 1<<20), country(long+"er", 1<<21))
		})
	}})
	w.run(3 * time.Hour)
	n := 0
	for _, e := range w.entries(bucket.KindBucket) {
		n++
		if len(e.Payload) > 8<<10 {
			t.Fatalf("an entry has %d bytes", len(e.Payload))
		}
		b, err := wire.DecodeBucket(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		var cut []string
		for i, l := range b.Families[0].Labels {
			if len(l) > 100 {
				cut = append(cut, l)
				if len(l) > bucket.MaxLabel || b.Families[0].Values[i] < 1<<20 {
					t.Fatalf("label of %d bytes with value %v", len(l), b.Families[0].Values[i])
				}
			}
		}
		if len(cut) != 2 || cut[0] == cut[1] {
			t.Fatalf("labels are %.20q", cut)
		}
	}
	if n < 3 {
		t.Fatalf("%d buckets are stored", n)
	}
	if got := w.metric("weir_collector_labels_cut_total", ""); got < float64(n)*2 {
		t.Errorf("%v labels were counted as cut, of %d buckets", got, n)
	}
}

// What cannot be made into a bucket that readers accept costs its own window: a
// gap with its reason, asked for again after a while; the rest of the very
// answer is stored.
func TestWhatCannotBeStoredCostsItsOwnWindow(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	w := newWorld(t, zones("shop.example", "blog.example"))
	w.only("countries_1h", "http_5m")
	w.heed()
	odd := began.Truncate(time.Hour).Add(-time.Hour).Format(time.RFC3339)
	hash, _ := bucket.FitLabel("a\x00b")
	spoilt, asked := true, 0
	w.stand(&between{answer: func(a *cloudflare.Response) {
		spoilCountries(a, shop, func(at string, list []any) []any {
			if at != odd || !spoilt {
				return list
			}
			asked++ // two countries become one row
			return append(slices.Clone(list), country("a\x00b", 1<<20), country(hash, 1<<21))
		})
	}})
	w.run(3 * time.Hour)
	if got := w.gaps("countries_1h", shop); len(got) != 1 || got[ledger.Invalid] != 1 {
		t.Errorf("gaps by reason are %v; want one window of %s", got, ledger.Invalid)
	}
	if n := w.count("countries_1h", shop); n < 3 {
		t.Errorf("%d other hours of the zone are stored", n)
	}
	if n := w.missing(shop, began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows of the zone's other dataset are missing", n)
	}
	if asked > 25 {
		t.Errorf("the window was asked for %d times in three hours", asked)
	}
	about := "countries_1h zone " + shop
	if got := w.problems(trouble.InvalidValue); !slices.Equal(got, []string{about}) {
		t.Errorf("problems are about %q; want %q", got, about)
	}
	if w.metric("weir_collector_invalid_buckets_total", "") == 0 {
		t.Error("the metric says nothing")
	}
	spoilt = false
	w.run(time.Hour)
	if got := w.gaps("countries_1h", shop); got[ledger.Invalid] != 0 {
		t.Errorf("gaps by reason are %v after Cloudflare's answer is sound again", got)
	}
	if got := w.problems(trouble.InvalidValue); len(got) != 0 {
		t.Errorf("problems are about %q after Cloudflare's answer is sound again", got)
	}
}

// poison appends what a release stored that did not look at it: to the newest
// windows of a zone, to the versions of a dataset, to every kind of record.
func (w *world) poison(zone string) (windows []bucket.Window) {
	w.t.Helper()
	won, err := w.store.Acquire(w.t.Context(), "test", 15*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	var newest *bucket.Bucket
	for key, b := range w.stored() {
		if key.Dataset == "http_5m" && key.Scope.ID == zone && (newest == nil || key.Start > newest.Start) {
			newest = b
		}
	}
	batch := store.Batch{CommittedAt: w.clock.Now()}
	spoil := func(payload func(*bucket.Bucket) []byte) {
		b := *newest
		b.Start = b.Start.Add(b.Size)
		newest = &b
		other := b
		windows = append(windows, b.Window())
		batch.Entries = append(batch.Entries, store.NewEntry{
			Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant, Payload: payload(&other),
		})
	}
	spoil(func(b *bucket.Bucket) []byte { b.Zone = ""; return wire.EncodeBucket(b) })
	spoil(func(*bucket.Bucket) []byte { return []byte("no message at all") })
	spoil(func(b *bucket.Bucket) []byte { b.Start = 0; return wire.EncodeBucket(b) })
	spoil(func(b *bucket.Bucket) []byte {
		b.Families = []bucket.Rows{{Family: "cloudflare_zone_requests_by_status", Labels: []string{strings.Repeat("9", 17<<20)}, Values: []float64{1}}}
		return wire.EncodeBucket(b)
	})
	batch.Entries = append(batch.Entries, store.NewEntry{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: "http_5m"}, Payload: []byte("damaged")})
	for _, kind := range []string{roster.KindScope, roster.KindEntitlements, ledger.KindGap, ledger.KindDecided, ledger.KindRetired, ledger.KindUnreadable, audit.KindLane, audit.KindDrift, trouble.KindProblems} {
		keys := []string{"of/another/kind"}
		for _, r := range w.records(kind) {
			keys = append(keys, r.Key)
		}
		for i, key := range keys {
			batch.Records = append(batch.Records, store.Record{Kind: kind, Key: key, Value: []byte([]string{`{}`, `"damaged"`, `{"spans":7}`}[i%3])})
		}
	}
	if _, err := w.store.Append(w.t.Context(), won.Term, won.Head.Position, batch); err != nil {
		w.t.Fatal(err)
	}
	return windows
}

func (w *world) records(kind string) []store.Record {
	w.t.Helper()
	records, err := w.store.Records(w.t.Context(), kind)
	if err != nil {
		w.t.Fatal(err)
	}
	return records
}

// A store that an older release has poisoned, or that was damaged, is opened and
// worked with: one leader after the other goes on for everything else, what
// cannot be read is never asked for again, and coverage says which it is.
func TestAPoisonedStoreIsWorkedWith(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	w := newWorld(t, zones("shop.example", "blog.example"))
	w.only("http_5m")
	w.run(time.Hour)
	windows := w.poison(shop)
	began := w.clock.Now()
	said := w.heed()
	asked := map[string]bool{}
	w.stand(&between{query: func(q cloudflare.Query) error {
		for _, s := range q.Selections {
			for _, spoiled := range windows {
				if slices.Contains(q.Zones, shop) && len(q.Zones) == 1 && s.Window == spoiled {
					asked[spoiled.String()] = true
				}
			}
		}
		return nil
	}})
	for range 3 {
		w.run(30 * time.Minute)
	}
	if len(asked) > 0 {
		t.Errorf("windows that are stored were asked for: %v", asked)
	}
	// Everything else is there, under a version that was never used.
	readable, spoiled := map[bucket.Time]bool{}, 0
	for _, e := range w.entries(bucket.KindBucket) {
		b, err := unreadable.Bucket(&e)
		if err != nil {
			spoiled++
			continue
		}
		if b.Scope.ID == shop {
			readable[b.Start] = true
		}
		if e.CommittedAt.After(began) && b.Version != 3 {
			t.Fatalf("bucket %s has version %d; 1 is known, 2 cannot be read, 3 is free", b.Key, b.Version)
		}
	}
	if spoiled != len(windows) {
		t.Errorf("%d entries cannot be read; want %d", spoiled, len(windows))
	}
	for at := windows[3].End; at < bucket.TimeOf(w.clock.Now().Add(-30*time.Minute)); at = at.Add(5 * time.Minute) {
		if !readable[at] {
			t.Errorf("window %s is not stored", at)
		}
	}
	// A standby says the same, and tells it too.
	standby := unreadable.New(trouble.New(testkit.Logger(t), w.clock.Now, nil), nil)
	source := &status.Source{
		Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return false }, Unreadable: standby,
	}
	coverage, _, err := source.Coverage(t.Context(), store.Filter{Scopes: []bucket.Scope{{Kind: bucket.Zone, ID: shop}}}, bucket.Window{Start: windows[0].Start.Add(-5 * time.Minute), End: windows[3].End.Add(5 * time.Minute)})
	if err != nil || len(coverage) != 1 {
		t.Fatalf("coverage: %v, %v", coverage, err)
	}
	var states []string
	for _, r := range coverage[0].GetRanges() {
		states = append(states, fmt.Sprintf("%d %s", (r.GetEndUnixSeconds()-r.GetStartUnixSeconds())/300, strings.TrimPrefix(r.GetState().String(), "COVERAGE_STATE_")))
	}
	if want := []string{"1 FINAL", "4 UNREADABLE", "1 FINAL"}; !slices.Equal(states, want) {
		t.Errorf("coverage is %v, want %v", states, want)
	}
	datasets, err := source.Datasets(t.Context())
	if err != nil || len(datasets) != 1 || datasets[0].GetWindowsUnreadable() != 4 {
		t.Errorf("the dataset's summary is %v, %v; want 4 windows unreadable", datasets, err)
	}
	if n := standby.Len(); n == 0 {
		t.Error("the standby has not noticed the damaged records that are left")
	}
	// Each is told once a process, loudly.
	if n := said.Count("level=ERROR"); n == 0 || n > 25 {
		t.Errorf("%d lines at ERROR", n)
	}
	if n := said.Count("about=\"http_5m zone " + shop + "\""); n == 0 || n > 4 {
		t.Errorf("the unreadable buckets were told %d times", n)
	}
}
