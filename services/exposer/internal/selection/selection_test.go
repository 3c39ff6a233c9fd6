package selection_test

import (
	"slices"
	"testing"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

func zone(id, name, account string) selection.Owner {
	return selection.Owner{Scope: bucket.Scope{Kind: bucket.Zone, ID: id}, Zone: name, Account: account}
}

func TestMatch(t *testing.T) {
	shop, blog, account := zone("1", "shop.example", "A"), zone("2", "blog.example", "B"), selection.Owner{Scope: bucket.Scope{Kind: bucket.Account, ID: "a"}, Account: "A"}
	nameless := zone("3", "", "")
	all := []selection.Owner{shop, blog, account, nameless}
	for _, test := range []struct {
		what string
		of   selection.Selection
		want []selection.Owner
	}{
		{"everything", selection.Everything, all},
		{"an account and its zones", selection.Of(selection.Set{Accounts: []string{"A"}}), []selection.Owner{shop, account}},
		{"the id of an account is none of a zone", selection.Of(selection.Set{Zones: []string{"a"}, Accounts: []string{"a"}}), nil},
		{"a zone by name", selection.Of(selection.Set{Zones: []string{"blog.example"}}), []selection.Owner{blog}},
		{"a zone by id", selection.Of(selection.Set{Zones: []string{"1", "3"}}), []selection.Owner{shop, nameless}},
		{"an account or a zone", selection.Of(selection.Set{Zones: []string{"2"}, Accounts: []string{"A"}}), []selection.Owner{shop, blog, account}},
		{"what sets have in common", selection.Of(selection.Set{Zones: []string{"2", "1"}}, selection.Set{Accounts: []string{"A"}}), []selection.Owner{shop}},
		{"by parameters", selection.Set{Zones: []string{"2", "1"}, Accounts: []string{"A"}}.Selection(), []selection.Owner{shop}},
		{"nothing in common", selection.Of(selection.Set{Zones: []string{"2"}}).And(selection.Of(selection.Set{Accounts: []string{"A"}})), nil},
		{"a set of nothing", selection.Of(selection.Set{}), nil},
		{"an empty name", selection.Of(selection.Set{Zones: []string{""}, Accounts: []string{""}}), nil},
	} {
		var got []selection.Owner
		for _, o := range all {
			if test.of.Match().Has(o) {
				got = append(got, o)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
	if got := (selection.Set{Zones: []string{"1", "x", "x"}, Accounts: []string{"B", "Z"}}).Unmatched(all); !slices.Equal(got, []selection.Name{{bucket.Account, "Z"}, {bucket.Zone, "x"}}) {
		t.Errorf("unmatched are %v", got)
	}
}

// Selections that select the same by the same names are equal: they share what is kept.
func TestEqual(t *testing.T) {
	a := selection.Of(selection.Set{Zones: []string{"x", "y", "x"}}).And(selection.Of(selection.Set{Accounts: []string{"A\n{}"}}))
	b := selection.Of(selection.Set{Accounts: []string{"A\n{}"}}, selection.Set{Zones: []string{"y", "x"}})
	if a != b || a.And(b) != a || a.And(selection.Everything) != a || selection.Everything.And(a) != a {
		t.Errorf("%q, %q", a, b)
	}
}
