package roster

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

const tagA, tagB = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"

func seenZones() []Seen {
	return []Seen{
		{Kind: bucket.Zone, ID: tagA, Name: "shop.example", AccountID: tagB, AccountName: "Acme, Inc."},
		{Kind: bucket.Zone, ID: "1123456789abcdef0123456789abcdef", Name: "xn--bcher-kva.example", AccountID: "a2", AccountName: "Zo\u00eb's  Books"},
		{Kind: bucket.Zone, ID: "2123456789abcdef0123456789abcdef", Name: "straße.example", AccountID: "a2", AccountName: "Zo\u00eb's  Books"},
		{Kind: bucket.Zone, ID: "3123456789abcdef0123456789abcdef", Name: "_odd.example", AccountID: "a3", AccountName: "Third"},
	}
}

// Every spelling of a name selects and excludes the same zones.
func TestSelectionKnowsEverySpelling(t *testing.T) {
	for _, test := range []struct {
		sel  Filter
		want string
	}{
		{Filter{}, "shop bücher straße odd"},
		{Filter{Zones: []string{"Shop.Example"}}, "shop"},
		{Filter{Zones: []string{"shop.example."}}, "shop"},
		{Filter{Zones: []string{"SHOP。example"}}, "shop"},
		{Filter{Zones: []string{strings.ToUpper(tagA)}}, "shop"},
		{Filter{Zones: []string{"bücher.example"}}, "bücher"},
		{Filter{Zones: []string{"BÜCHER.EXAMPLE."}}, "bücher"},
		{Filter{Zones: []string{"bu\u0308cher.example"}}, "bücher"},
		{Filter{Zones: []string{"XN--BCHER-KVA.example"}}, "bücher"},
		{Filter{Zones: []string{"xn--strae-oqa.example"}}, "straße"},
		{Filter{Zones: []string{"_ODD.example."}}, "odd"},
		{Filter{Exclude: []string{"Shop.Example.", "bücher.example"}}, "straße odd"},
		{Filter{Accounts: []string{"acme,  inc."}}, "shop"},
		{Filter{Accounts: []string{" ZOE\u0308'S books", strings.ToUpper(tagB)}}, "shop bücher straße"},
		{Filter{Zones: []string{"."}}, ""},
		{Filter{Zones: []string{"xn--a.example"}}, ""},
	} {
		names := map[string]string{"shop.example": "shop", "xn--bcher-kva.example": "bücher", "straße.example": "straße", "_odd.example": "odd"}
		var got []string
		wanted := test.sel.wanted()
		for _, z := range seenZones() {
			if wanted(z) {
				got = append(got, names[z.Name])
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+q selects %q, want %q", test.sel, got, test.want)
		}
		if found := test.sel.Unmatched(seenZones()); (len(found) > 0) != (test.want == "") {
			t.Errorf("%+q: unmatched are %+v", test.sel, found)
		}
	}
}

// The name that Cloudflare gives stays the label, however the setting spells it.
func TestTheLabelIsCloudflaresName(t *testing.T) {
	r := Roster{}
	changed, err := r.Discover(t.Context(), 1000, bucket.Zone, []List{{At: 1000, Seen: seenZones(), Select: Filter{Zones: []string{"BÜCHER.example."}}}}, time.Hour, func(bucket.Scope) bucket.Time { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	if len(changed) != 1 || changed[0].ZoneLabel != "xn--bcher-kva.example" {
		t.Errorf("got %+v", changed)
	}
}

func TestUnmatchedSaysWhatWouldBeRight(t *testing.T) {
	sel := Filter{
		Zones: []string{
			"shop.exmaple", "www.Shop.example", "https://shop.example/", "a,b", "bücher.example", "1123456789ABCDEF0123456789ABCDEF",
			"nowhere.test", "straße.example", "_odd.example", "Shop.example", ".",
		},
		Exclude:  []string{"2123456789abcdef0123456789abcdef", "shopp.example"},
		Accounts: []string{"acme inc.", "Zo\u00eb's Books", "Acme, Inc.", "nobody"},
	}
	want := []Unmatched{
		{"CF_ZONES", ".", `CF_ZONES names ".", which is none of the 4 zones that the token sees`},
		{"CF_ZONES", "_odd.example", `CF_ZONES names "_odd.example", but this zone belongs to the account "Third", which CF_ACCOUNTS does not name`},
		{"CF_ZONES", "a,b", `CF_ZONES names "a,b", which is none of the 4 zones that the token sees; entries are separated by commas outside double quotes`},
		{"CF_ZONES", "https://shop.example/", `CF_ZONES names "https://shop.example/", which is none of the 4 zones that the token sees; use only the name, as Cloudflare lists it`},
		{"CF_ZONES", "nowhere.test", `CF_ZONES names "nowhere.test", which is none of the 4 zones that the token sees`},
		{"CF_ZONES", "shop.exmaple", `CF_ZONES names "shop.exmaple", which is none of the 4 zones that the token sees; did you mean "shop.example"?`},
		{"CF_ZONES", "www.Shop.example", `CF_ZONES names "www.Shop.example", which is none of the 4 zones that the token sees; it is a host name in the zone "shop.example"`},
		{"CF_ZONES", "straße.example", `CF_ZONES names "straße.example", but CF_EXCLUDE_ZONES excludes this zone as "2123456789abcdef0123456789abcdef"`},
		{"CF_EXCLUDE_ZONES", "shopp.example", `CF_EXCLUDE_ZONES names "shopp.example", which is none of the 4 zones that the token sees; did you mean "shop.example"?`},
		{"CF_ACCOUNTS", "acme inc.", `CF_ACCOUNTS names "acme inc.", which is none of the 3 accounts that the token sees; did you mean "Acme, Inc."?`},
		{"CF_ACCOUNTS", "nobody", `CF_ACCOUNTS names "nobody", which is none of the 3 accounts that the token sees`},
	}
	if diff := cmp.Diff(want, sel.Unmatched(seenZones())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := (Filter{Zones: []string{"a.example"}}).Unmatched(nil); len(got) != 1 || !strings.HasSuffix(got[0].Reason, "but the token sees no zone") {
		t.Errorf("with no zone at all: %+v", got)
	}
}

// A token of another account makes every entry wrong; to search what each might
// mean would hold up the loop.
func TestUnmatchedSearchesForAFew(t *testing.T) {
	var seen []Seen
	var sel Filter
	for i := range 200 {
		seen = append(seen, Seen{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i), Name: fmt.Sprintf("zone-%d.example", i)})
		sel.Zones = append(sel.Zones, fmt.Sprintf("zone-%d.exmaple", i))
	}
	hints := 0
	got := sel.Unmatched(seen)
	for _, u := range got {
		hints += strings.Count(u.Reason, "did you mean")
	}
	if len(got) != 200 || hints != mostHints {
		t.Errorf("%d unmatched with %d hints, want 200 with %d", len(got), hints, mostHints)
	}
}

// distance stops early; it must not change what it says below the limit.
func TestDistance(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	word := func() string {
		b := make([]byte, rng.IntN(8))
		for i := range b {
			b[i] = "abc"[rng.IntN(3)]
		}
		return string(b)
	}
	for range 5000 {
		a, b, limit := word(), word(), rng.IntN(6)
		if got, want := distance(a, b, limit), min(limit, distance(a, b, 100)); got != want {
			t.Fatalf("distance(%q, %q, %d) is %d, want %d", a, b, limit, got, want)
		}
	}
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "acb", 1}, {"abc", "abcd", 1}, {"abc", "xyz", 3}, {"zoen", "zone", 1}} {
		if got := distance(test.a, test.b, 100); got != test.want {
			t.Errorf("distance(%q, %q) is %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
