package roster_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// allowing are entitlements on their own.
func allowing(nodes map[string]roster.Node) *roster.Entitlements {
	return roster.NewContents().Of(nodes)
}

// minutes is a plan that allows one node, whose data is kept so long.
func minutes(kept time.Duration) map[string]roster.Node {
	return map[string]roster.Node{"httpRequests1mGroups": {Enabled: true, MaxDuration: time.Hour, NotOlderThan: kept, Fields: []string{"b", "a"}}}
}

var sameEntitlements = cmp.Comparer(func(a, b *roster.Entitlements) bool {
	return (a == nil) == (b == nil) && reflect.DeepEqual(a.Node("httpRequests1mGroups"), b.Node("httpRequests1mGroups"))
})

// table is the records of a store.
type table map[string]store.Record

func (t table) write(records []store.Record) {
	for _, r := range records {
		if t[r.Kind+"/"+r.Key] = r; r.Value == nil {
			delete(t, r.Kind+"/"+r.Key)
		}
	}
}

func (t table) of(kind string) (out []store.Record) {
	for _, r := range t {
		if r.Kind == kind {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b store.Record) int { return strings.Compare(a.Key, b.Key) })
	return out
}

func (t table) read() roster.Stored {
	return roster.Read(append(t.of(roster.KindScope), t.of(roster.KindAccount)...), t.of(roster.KindEntitlements))
}

// two are two zones with the same entitlements, as they are stored.
func two(t *testing.T) (table, roster.Roster, *roster.Contents) {
	t.Helper()
	r, b := roster.Roster{}, zoneA()
	b.ID, b.Name = idB, "b.example"
	discover(t, r, noon, zoneA(), b)
	c := roster.NewContents()
	for _, s := range r {
		s.Entitle(noon, c.Of(minutes(24*time.Hour)))
	}
	records := table{}
	records.write(c.Records(r[scope(idA)], r[scope(idB)]))
	return records, r, c
}

func TestRecordsComeBack(t *testing.T) {
	records, r, c := two(t)
	r[scope(idA)].Refuse(noon, "http_5m", "rollup_1m", roster.Refusal{Reason: "no", Node: "n", Field: "f"})
	r[scope(idA)].Obstacle = roster.Obstacle{Reason: ledger.Unauthorized, Detail: "no", Attempts: 3, Next: noon}
	records.write(c.Records(r[scope(idA)]))
	scopes := records.of(roster.KindScope)
	broken := []store.Record{{Key: "k", Value: []byte("{")}, {Key: "1/" + idA, Value: []byte("{}")}, {Key: "k", Value: scopes[0].Value}}
	back := roster.Read(append(broken, scopes...), records.of(roster.KindEntitlements))
	if len(back.Unreadable) != len(broken) {
		t.Errorf("of %d broken records %d are: %v", len(broken), len(back.Unreadable), back.Unreadable)
	}
	if diff := cmp.Diff(r, back.Roster, sameEntitlements); diff != "" {
		t.Errorf("what was stored differs (-before +after):\n%s", diff)
	}
	if len(back.Old)+len(back.Missing)+len(back.Damaged) > 0 {
		t.Errorf("of what was stored %d are old, %d lack their entitlements, %d are damaged", len(back.Old), len(back.Missing), len(back.Damaged))
	}
	if back.Roster[scope(idA)].Entitled != back.Roster[scope(idB)].Entitled {
		t.Error("two zones with the same entitlements hold them twice")
	}
}

// The order of fields is Cloudflare's whim, and what one zone is found to be allowed
// says nothing about another.
func TestEntitlementsAreStoredOnceAndChangeForOne(t *testing.T) {
	records, r, c := two(t)
	if n := len(records.of(roster.KindEntitlements)); n != 1 {
		t.Fatalf("entitlements of two zones with the same plan are %d records", n)
	}
	other := minutes(24 * time.Hour)
	slices.Reverse(other["httpRequests1mGroups"].Fields)
	if c.Of(other) != r[scope(idA)].Entitled {
		t.Error("the same fields in another order are other entitlements")
	}
	r[scope(idA)].Correct(c, "httpRequests1mGroups", func(n *roster.Node) { n.NotOlderThan = time.Hour })
	records.write(c.Records(r[scope(idA)]))
	back := records.read().Roster
	for id, want := range map[string]time.Duration{idA: time.Hour, idB: 24 * time.Hour} {
		if got := back[scope(id)].Entitled.Node("httpRequests1mGroups").NotOlderThan; got != want {
			t.Errorf("zone %s keeps %s, want %s", id, got, want)
		}
	}
	empty := roster.Roster{}
	discover(t, empty, noon, zoneA())
	empty[scope(idA)].Correct(c, "httpRequests1mGroups", func(n *roster.Node) { n.NotOlderThan = time.Hour })
}

// What no scope refers to goes, once a reader that was under way is done; what one
// refers to again stays.
func TestUnusedEntitlementsGo(t *testing.T) {
	records, r, c := two(t)
	drop := func() int {
		records.write(c.Drop(r))
		return len(records.of(roster.KindEntitlements))
	}
	first := r[scope(idA)].Entitled
	entitle := func(kept time.Duration, ids ...string) {
		for _, id := range ids {
			r[scope(id)].Entitle(noon, c.Of(minutes(kept)))
			records.write(c.Records(r[scope(id)]))
		}
	}
	if n := drop() + drop(); n != 2 {
		t.Error("entitlements that are in use were dropped")
	}
	entitle(time.Hour, idA, idB)
	if n := drop(); n != 2 {
		t.Errorf("%d contents are stored at once after the last zone left one, want 2", n)
	}
	entitle(24*time.Hour, idA)
	if drop(); drop() != 2 || r[scope(idA)].Entitled != first {
		t.Error("entitlements that are in use again were dropped")
	}
	entitle(time.Hour, idA)
	if drop(); drop() != 1 {
		t.Error("entitlements that nobody has any more are still stored")
	}
	// A new leader finds them too.
	entitle(24*time.Hour, idB)
	entitle(time.Hour, idB)
	stored := records.read()
	r, c = stored.Roster, stored.Contents
	drop()
	drop()
	if n := len(records.of(roster.KindEntitlements)); n != 1 || len(records.read().Missing) > 0 {
		t.Errorf("%d contents are stored, want 1; %d zones lack theirs", n, len(records.read().Missing))
	}
	// What was dropped is written anew.
	entitle(24*time.Hour, idB)
	if missing := records.read().Missing; len(missing) > 0 {
		t.Errorf("%d zones refer to entitlements that are not stored", len(missing))
	}
}

// Entitlements that are gone or damaged are read from Cloudflare again. The zone was
// never to blame for it.
func TestLostEntitlementsAreNotKnown(t *testing.T) {
	for name, harm := range map[string]func(table, store.Record){
		"gone": func(t table, r store.Record) { r.Value = nil; t.write([]store.Record{r}) },
		"altered": func(t table, r store.Record) {
			r.Value = []byte(`{"httpRequests1mGroups":{"enabled":true}}`)
			t.write([]store.Record{r})
		},
		"null":    func(t table, r store.Record) { r.Value = []byte(`null`); t.write([]store.Record{r}) },
		"no JSON": func(t table, r store.Record) { r.Value = []byte(`{`); t.write([]store.Record{r}) },
	} {
		t.Run(name, func(t *testing.T) {
			records, _, _ := two(t)
			harm(records, records.of(roster.KindEntitlements)[0])
			for range 2 { // also after it was written again as it was read
				back := records.read()
				if len(back.Unreadable) > 0 || len(back.Roster) != 2 || (len(back.Damaged) > 0) != (name != "gone") {
					t.Fatalf("%d zones; unreadable: %v, damaged: %v", len(back.Roster), back.Unreadable, back.Damaged)
				}
				for _, s := range back.Roster {
					if s.Checked != 0 || s.Entitled == nil || !s.Stale(noon, time.Hour) {
						t.Errorf("zone %s: checked at %s; its settings should be read", s.Name, s.Checked)
					}
					records.write(back.Contents.Records(s))
				}
			}
		})
	}
}

// The records of a build that kept entitlements in them, as it wrote them.
const (
	oldA = `{"kind":1,"id":"` + idA + `","name":"a.example","account_id":"acc","account_name":"Acme","zone_label":"a.example","account_label":"Acme",` +
		`"plan":"Pro Website","state":"active","first_seen":1795262400,"start":1795258800,"end":0,"nodes":{"httpRequests1mGroups":` +
		`{"enabled":true,"max_duration":86400000000000,"max_fields":30,"max_page_size":10000,"not_older_than":86400000000000,"fields":["sum_requests","count"]}},` +
		`"refusals":{"http_5m/rollup_1m":{"reason":"no","until":1795263000,"tries":1,"node":"httpRequests1mGroups"}},"checked":1795262401}`
	// Its settings were never read.
	oldB = `{"kind":1,"id":"` + idB + `","name":"b.example","account_id":"acc","account_name":"Acme","zone_label":"b.example","account_label":"Acme",` +
		`"plan":"Pro Website","state":"active","first_seen":1795262400,"start":1795258800,"end":0,"checked":0}`
)

// oldScope is what such a build reads of a record.
type oldScope struct {
	Nodes    map[string]roster.Node    `json:"nodes,omitempty"`
	Refusals map[string]roster.Refusal `json:"refusals,omitempty"`
	Checked  int64                     `json:"checked"`
}

// Either build goes on with what the other wrote: this one knows the entitlements
// that an earlier one stored; an earlier one, on what this one stored, asks for them
// at once, since it takes the zone for one whose settings were to be had. What no
// settings say is kept by both.
func TestEarlierBuildsAndThisOneReadEachOther(t *testing.T) {
	records := table{}
	records.write([]store.Record{
		{Kind: roster.KindScope, Key: "1/" + idA, Value: []byte(oldA)}, {Kind: roster.KindScope, Key: "1/" + idB, Value: []byte(oldB)},
	})
	stored := records.read()
	a, b := stored.Roster[scope(idA)], stored.Roster[scope(idB)]
	if len(stored.Old) != 1 || stored.Old[0] != a || a.Checked != 1795262401 || a.Entitled.Node("httpRequests1mGroups").MaxFields != 30 || len(a.Refusals) != 1 {
		t.Errorf("an earlier build's zone: %+v; %d records are old", a, len(stored.Old))
	}
	if b.Entitled != nil || b.Checked != 0 {
		t.Errorf("a zone whose settings were never read: %+v", b)
	}
	records.write(stored.Contents.Records(a, b))
	var old oldScope
	for id, known := range map[string]bool{idA: true, idB: false} {
		old = oldScope{}
		if err := json.Unmarshal(records[roster.KindScope+"/1/"+id].Value, &old); err != nil {
			t.Fatal(err)
		}
		if old.Checked != 0 || len(old.Nodes) > 0 || (old.Nodes != nil) != known || (len(old.Refusals) == 1) != known {
			t.Errorf("an earlier build reads %+v of zone %s", old, id)
		}
	}
	again := records.read()
	if s := again.Roster[scope(idA)]; len(again.Old) > 0 || s.Checked != a.Checked || s.Entitled.Node("httpRequests1mGroups").MaxFields != 30 {
		t.Errorf("read again: %+v; %d records are old", s, len(again.Old))
	}
	// It has been back, and written the record as it was, or with entitlements of its own.
	for _, nodes := range []string{``, `"nodes":{"httpRequests1mGroups":{"enabled":true,"max_fields":31}},`} {
		text := strings.Replace(oldB, `"checked":0`, nodes+`"checked":1795262500`, 1)
		if nodes == "" {
			text = oldB
		}
		records.write([]store.Record{{Kind: roster.KindScope, Key: "1/" + idB, Value: []byte(text)}})
		s := records.read().Roster[scope(idB)]
		if known := nodes != ""; (s.Checked != 0) != known || (s.Entitled != nil) != known || known && s.Entitled.Node("httpRequests1mGroups").MaxFields != 31 {
			t.Errorf("after an earlier build was back: %+v", s)
		}
	}
}
