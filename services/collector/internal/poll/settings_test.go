package poll_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/upstream"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// counted counts the requests for settings.
type counted struct {
	upstream.Client
	settings int
}

func (c *counted) Settings(ctx context.Context, account string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	c.settings++
	return c.Client.Settings(ctx, account, zones, nodes)
}

func (w *world) countSettings() *counted {
	c := &counted{Client: w.config.Credentials[0].Client}
	w.config.Credentials[0].Client = c
	return c
}

// Where hundreds of zones are new, reading their settings takes longer than data may
// wait. Known zones get theirs meanwhile, and an operator hears of the others.
func TestNewZonesKeepNobodysDataBack(t *testing.T) {
	const known, all = 20, 820
	w := newWorld(t, many(all, cfsim.Pro))
	w.only("http_5m")
	w.config.Lookback = 15 * time.Minute
	var err error
	if w.config.Credentials[0].Budget, err = quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Holder: "test", Share: .05}); err != nil {
		t.Fatal(err)
	}
	old, shown := map[string]bool{}, known
	w.stand(&between{
		zones: func(zones []cloudflare.Zone) []cloudflare.Zone {
			for _, z := range zones[:known] {
				old[z.ID] = true
			}
			return zones[:shown]
		},
		settings: func(zone, _ string, s *cloudflare.Settings) { s.Enabled = old[zone] }, // the others have no data to ask
	})
	w.run(25 * time.Minute)
	shown = all
	from := bucket.TimeOf(w.clock.Now())
	said := w.heed()
	w.run(20 * time.Minute)
	if got := w.problems(trouble.BudgetShort); !slices.Contains(got, "settings") {
		t.Errorf("problems with the budget are about %q while settings are read for twenty minutes", got)
	}
	unread := 0
	stored := roster.Read(w.records(roster.KindScope), w.records(roster.KindEntitlements))
	for _, sc := range stored.Roster {
		if sc.Checked == 0 {
			unread++
		}
	}
	if unread < 100 || unread > 700 {
		t.Errorf("settings of %d zones are not read after twenty minutes: the story is too fast or too slow", unread)
	}
	source := &status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return true }}
	coverage, _, err := source.Coverage(t.Context(), store.Filter{}, bucket.Window{})
	if err != nil {
		t.Fatal(err)
	}
	pending := 0
	for _, c := range coverage {
		for _, r := range c.GetRanges() {
			if r.GetState() == bucketv1.CoverageState_COVERAGE_STATE_MISSING && strings.Contains(r.GetDetail(), "settings have not been read yet") {
				pending++
			}
		}
	}
	datasets, err := source.Datasets(t.Context())
	if err != nil || pending != unread || int(datasets[0].GetScopesRefused()) != all-known-unread {
		t.Errorf("%d zones are shown as pending and %v, %v; %d are", pending, datasets, err, unread)
	}
	w.run(time.Hour)
	if got := w.problems(trouble.BudgetShort); len(got) > 0 || said.Count("problem=BUDGET_SHORT") == 0 {
		t.Errorf("problems with the budget are about %q when all settings are read", got)
	}
	late, n, worst := 0, 0, time.Duration(0)
	for key, b := range w.stored() {
		came := b.ReadAt.Sub(b.Window().End)
		if !old[key.Scope.ID] || key.Start < from {
			continue
		}
		if n++; came > 15*time.Minute {
			late, worst = late+1, max(worst, came)
		}
	}
	if late > 0 || n < known*10 {
		t.Errorf("of %d buckets of known zones %d came late, by up to %s", n, late, worst)
	}
}

// Where Cloudflare takes less in a document than is known, that is found out, and
// what does not fit into one document is put together.
func TestALowerCeilingIsFound(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		many(35, cfsim.Pro)(c)
		c.Limits.ScopesNodes = 3
	})
	w.config.Lookback = 10 * time.Minute
	asked := w.countSettings()
	w.run(30 * time.Minute)
	zones := w.records(roster.KindScope)
	for _, r := range zones {
		_, id, _ := strings.Cut(r.Key, "/")
		if s := w.scope(id); s.Checked == 0 || s.Entitled.Node("httpRequests1mGroups").NotOlderThan == 0 || s.Entitled.Node("httpRequests1dGroups").NotOlderThan == 0 {
			t.Fatalf("the settings of zone %s are not known", id)
		}
	}
	if len(zones) != 35 || asked.settings > 35*2+20 {
		t.Errorf("%d requests for the settings of %d zones", asked.settings, len(zones))
	}
	before := asked.settings
	w.run(6 * time.Hour)
	if n := asked.settings - before; n > 35*2+10 {
		t.Errorf("%d requests to read the settings again", n)
	}
}

// rewrite replaces records, as whoever leads might.
func (w *world) rewrite(records ...store.Record) {
	w.t.Helper()
	won, err := w.store.Acquire(w.t.Context(), "test", 15*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Append(w.t.Context(), won.Term, won.Head.Position, store.Batch{CommittedAt: w.clock.Now(), Records: records}); err != nil {
		w.t.Fatal(err)
	}
}

// earlier is what a build that keeps entitlements in the records of scopes makes of
// a store: it reads the settings of all zones, and writes them.
func (w *world) earlier() (out []store.Record) {
	w.t.Helper()
	contents := map[string]json.RawMessage{}
	for _, r := range w.records(roster.KindEntitlements) {
		contents[r.Key] = r.Value
	}
	for _, r := range w.records(roster.KindScope) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(r.Value, &fields); err != nil {
			w.t.Fatal(err)
		}
		if string(fields["checked"]) != "0" || string(fields["nodes"]) != "{}" {
			w.t.Errorf("an earlier build reads nodes %s, checked at %s", fields["nodes"], fields["checked"])
		}
		fields["nodes"], fields["checked"] = contents[strings.Trim(string(fields["entitled"]), `"`)], fields["entitled_at"]
		delete(fields, "entitled")
		delete(fields, "entitled_at")
		text, err := json.Marshal(fields)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, store.Record{Kind: r.Kind, Key: r.Key, Value: text})
	}
	return out
}

// What an earlier build wrote is known without asking, and written in the form that
// takes each content once. What the two leave each other loses nothing.
func TestAStoreOfAnEarlierBuildIsGoneOnWith(t *testing.T) {
	w := newWorld(t, nil)
	w.only("http_5m")
	w.run(30 * time.Minute)
	w.rewrite(w.earlier()...)
	asked := w.countSettings()
	w.run(time.Hour)
	if asked.settings > 0 {
		t.Errorf("settings that an earlier build stored were asked for %d times", asked.settings)
	}
	w.earlier() // which looks at the form
	if scopes, contents := len(w.records(roster.KindScope)), len(w.records(roster.KindEntitlements)); contents >= scopes {
		t.Errorf("%d contents of %d zones are stored", contents, scopes)
	}
	if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows are missing", n)
	}
}

// Entitlements that are missing in the store are said once, and read again at once;
// no zone is refused or to blame for it.
func TestMissingEntitlementsAreReadAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.only("http_5m")
	w.run(2 * time.Hour)
	var gone []store.Record
	for i, r := range w.records(roster.KindEntitlements) {
		if r.Value = nil; i == 0 {
			r.Value = []byte(`{"damaged":{}}`)
		}
		gone = append(gone, r)
	}
	w.rewrite(gone...)
	said := w.heed()
	w.run(2 * time.Minute)
	for _, r := range w.records(roster.KindScope) {
		_, id, _ := strings.Cut(r.Key, "/")
		if s := w.scope(id); s.Checked == 0 && s.Listed() {
			t.Errorf("the settings of zone %s are not known after two minutes", s.Name)
		}
	}
	w.run(time.Hour)
	if n := said.Count("entitlements of scopes are missing"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	if n := said.Count("problem=STORE_UNREADABLE"); n != 2 { // it begins and ends
		t.Errorf("the damaged record was told %d times", n)
	}
	if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows are missing", n)
	}
}

// What no zone is entitled to any more leaves the store.
func TestEntitlementsThatNobodyHasAreDropped(t *testing.T) {
	w := newWorld(t, nil)
	w.only("http_5m")
	pages := 1000
	w.stand(&between{settings: func(_, _ string, s *cloudflare.Settings) { s.MaxPageSize = pages }})
	w.run(time.Hour)
	before := w.records(roster.KindEntitlements)
	pages = 2000
	w.run(9 * time.Hour)
	for _, r := range w.records(roster.KindEntitlements) {
		if slices.ContainsFunc(before, func(o store.Record) bool { return o.Key == r.Key }) {
			t.Errorf("entitlements of nobody are still stored: %.100s", r.Value)
		}
	}
	if len(before) == 0 {
		t.Error("nothing was stored")
	}
}

// While the settings of a zone are not known, what the ledger says of its windows
// goes on to hold: one that was suspect is so for good.
func TestWhatIsSuspectStaysSoWhileSettingsAreUnread(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	w := newWorld(t, zones("shop.example", "blog.example", "media.example", "api.example"))
	w.only("http_5m")
	silent := false
	w.stand(&between{answer: func(a *cloudflare.Response) {
		for alias := range a.Zones[shop] {
			if silent {
				a.Zones[shop][alias] = nil
			}
		}
	}})
	s := &sick{Client: w.config.Credentials[0].Client}
	w.config.Credentials[0].Client = s
	w.run(time.Hour)
	silent = true
	w.run(30 * time.Minute)
	before := w.gaps("http_5m", shop)[ledger.Suspect]
	var gone []store.Record
	for _, r := range w.records(roster.KindEntitlements) {
		gone = append(gone, store.Record{Kind: r.Kind, Key: r.Key})
	}
	w.rewrite(gone...)
	s.class = cloudflare.Transient
	w.run(10 * time.Minute)
	if after := w.gaps("http_5m", shop)[ledger.Suspect]; before < 3 || after != before {
		t.Errorf("%d windows were suspect, and %d are while settings cannot be read", before, after)
	}
}
