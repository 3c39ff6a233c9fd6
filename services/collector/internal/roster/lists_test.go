package roster_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// What a zone is depends on what all credentials see, in the order of the
// configuration.
func TestAZoneBelongsToTheFirstThatSelectsIt(t *testing.T) {
	a, later := zoneA(), noon.Add(time.Hour)
	renamed := a
	renamed.Name = "renamed.example"
	list := func(credential string, at bucket.Time, seen ...roster.Seen) roster.List {
		return roster.List{Credential: credential, At: at, Seen: seen}
	}
	picky := func(l roster.List) roster.List { l.Select.Zones = []string{"other.example"}; return l }
	doubtful := func(l roster.List) roster.List { l.Incomplete = true; return l }
	for name, test := range map[string]struct {
		had    string // credential that the zone belonged to before; empty: it is new
		lists  []roster.List
		of     string
		state  roster.State
		called string
	}{
		"both see it":                           {"", []roster.List{list("x", later, a), list("y", later, a)}, "x", roster.Active, a.Name},
		"the first does not select it":          {"", []roster.List{picky(list("x", later, a)), list("y", later, a)}, "y", roster.Active, a.Name},
		"the first sees it as well":             {"y", []roster.List{list("x", later, a), list("y", later, a)}, "x", roster.Active, a.Name},
		"the newer list has another name":       {"x", []roster.List{list("x", noon, a), list("y", later, renamed)}, "x", roster.Active, renamed.Name},
		"the other alone sees it":               {"x", []roster.List{list("x", later), list("y", later, a)}, "y", roster.Active, a.Name},
		"its own list is unknown":               {"x", []roster.List{list("x", 0), list("y", later, a)}, "x", roster.Active, a.Name},
		"nobody selects it":                     {"y", []roster.List{picky(list("x", later, a)), picky(list("y", later, a))}, "y", roster.Excluded, a.Name},
		"nobody sees it":                        {"x", []roster.List{list("x", later), list("y", later)}, "x", roster.Gone, a.Name},
		"its own list is empty, which is odd":   {"x", []roster.List{doubtful(list("x", later)), list("y", later)}, "x", roster.Active, a.Name},
		"its credential is not configured":      {"z", []roster.List{list("x", later), list("y", later, a)}, "y", roster.Active, a.Name},
		"nor does anybody see it":               {"z", []roster.List{list("x", later), list("y", later)}, "z", roster.Gone, a.Name},
		"nor is there a list to go by":          {"z", []roster.List{doubtful(list("x", later)), doubtful(list("y", later))}, "z", roster.Active, a.Name},
		"the other is unknown and selects less": {"x", []roster.List{list("x", later), picky(list("y", 0))}, "x", roster.Gone, a.Name},
	} {
		r := roster.Roster{}
		none := func(bucket.Scope) bucket.Time { return 0 }
		if test.had != "" {
			if _, err := r.Discover(t.Context(), noon, bucket.Zone, []roster.List{list(test.had, noon, a)}, time.Hour, none); err != nil {
				t.Fatal(err)
			}
			r[scope(idA)].Entitle(noon, allowing(nil))
			r[scope(idA)].Obstacle.Reason = ledger.Unauthorized
		}
		if _, err := r.Discover(t.Context(), later, bucket.Zone, test.lists, time.Hour, none); err != nil {
			t.Fatal(err)
		}
		s := r[scope(idA)]
		if s.Credential != test.of || s.State != test.state || s.Name != test.called {
			t.Errorf("%s: the zone %s is %s of %s, want %s, %s of %s", name, s.Name, s.State, s.Credential, test.called, test.state, test.of)
		}
		if moved := test.had != test.of; moved != (s.Checked == 0) {
			t.Errorf("%s: entitlements are to be read again: %t, want %t", name, s.Checked == 0, moved)
		} else if moved != (s.Obstacle.Reason == "") {
			t.Errorf("%s: what kept another credential from the settings keeps this one, too: %t, want %t", name, moved, !moved)
		}
	}
}

// A list that is not known may hold the zone.
func TestAZoneStaysWhileAListIsUnknown(t *testing.T) {
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	lists := listed(noon.Add(time.Hour), nil, roster.Filter{})
	lists = append(lists, roster.List{Credential: "other"})
	for _, want := range []roster.State{roster.Active, roster.Gone} {
		if _, err := r.Discover(t.Context(), noon.Add(time.Hour), bucket.Zone, lists, time.Hour, func(bucket.Scope) bucket.Time { return 0 }); err != nil {
			t.Fatal(err)
		}
		if got := r[scope(idA)].State; got != want {
			t.Errorf("the zone is %s, want %s", got, want)
		}
		lists[1].At = noon.Add(time.Hour)
	}
}

// Records of the one credential are those of builds that knew no other.
func TestTheCredentialIsStored(t *testing.T) {
	for _, credential := range []string{roster.DefaultCredential, "retail"} {
		r := roster.Roster{}
		if _, err := r.Discover(t.Context(), noon, bucket.Zone, []roster.List{{Credential: credential, At: noon, Seen: []roster.Seen{zoneA()}}}, time.Hour, func(bucket.Scope) bucket.Time { return 0 }); err != nil {
			t.Fatal(err)
		}
		records := roster.NewContents().Records(r[scope(idA)])
		stored := roster.Read(records, nil)
		if got := stored.Roster[scope(idA)].Credential; got != credential {
			t.Errorf("the record of a zone of %s is read as that of %q", credential, got)
		}
	}
}
