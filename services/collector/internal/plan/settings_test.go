package plan_test

import (
	"fmt"
	"testing"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// Whatever is asked of however many zones, each node is asked of each zone once,
// no document is above a ceiling, and their number is what was said before.
func TestSettingsAreAskedUnderTheCeilings(t *testing.T) {
	for zones := range 23 {
		for _, nodes := range []int{0, 1, 4, 5, 6, 9, 10, 11, 25, 26, 49, 50, 51, 70, 120} {
			for _, c := range []plan.Ceilings{plan.DefaultCeilings, {Zones: 10, Selections: 10}, {Zones: 10, Selections: 1}, {Zones: 1, Selections: 50}} {
				asked := map[string]int{}
				asks := plan.Settings(scopes(zones), names(nodes), c)
				for _, a := range asks {
					if len(a.Scopes) > c.Zones || len(a.Scopes)*len(a.Nodes) > c.Selections {
						t.Fatalf("%d zones × %d nodes in a document under %+v", len(a.Scopes), len(a.Nodes), c)
					}
					for _, z := range a.Scopes {
						for _, n := range a.Nodes {
							asked[z.ID+n]++
						}
					}
				}
				for what, n := range asked {
					if n != 1 {
						t.Fatalf("%s is asked %d times", what, n)
					}
				}
				if len(asked) != zones*nodes {
					t.Fatalf("%d of %d × %d are asked", len(asked), zones, nodes)
				}
				if n := plan.Asks(bucket.Zone, zones, nodes, c); n != len(asks) {
					t.Fatalf("%d documents for %d × %d were announced, and there are %d", n, zones, nodes, len(asks))
				}
			}
		}
	}
}

func TestSettingsTakeFewDocuments(t *testing.T) {
	for nodes, want := range map[int]int{1: 10, 4: 10, 5: 10, 6: 13, 9: 20, 50: 100, 70: 140} {
		if n := plan.Asks(bucket.Zone, 100, nodes, plan.DefaultCeilings); n != want {
			t.Errorf("%d documents for 100 zones and %d nodes, want %d", n, nodes, want)
		}
	}
	// A zone is known after as few documents as its own question takes.
	first := plan.Settings(scopes(100), names(70), plan.DefaultCeilings)[:7]
	for _, a := range first {
		if len(a.Scopes) != 5 || a.Scopes[0] != first[0].Scopes[0] {
			t.Errorf("among the first documents is one of %d zones from %s on", len(a.Scopes), a.Scopes[0])
		}
	}
}

func scopes(n int) (out []bucket.Scope) {
	for i := range n {
		out = append(out, bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i)})
	}
	return out
}

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("node%d", i))
	}
	return out
}

// A document asks about one account, whatever the ceilings.
func TestSettingsOfAccountsAreAskedOneByOne(t *testing.T) {
	accounts := []bucket.Scope{{Kind: bucket.Account, ID: "a"}, {Kind: bucket.Account, ID: "b"}, {Kind: bucket.Account, ID: "c"}}
	for nodes, each := range map[int]int{1: 1, 50: 1, 51: 2} {
		asks := plan.Settings(accounts, names(nodes), plan.DefaultCeilings)
		if n := plan.Asks(bucket.Account, len(accounts), nodes, plan.DefaultCeilings); n != len(asks) || n != 3*each {
			t.Errorf("%d documents were announced for three accounts and %d nodes, and there are %d; want %d", n, nodes, len(asks), 3*each)
		}
		for _, a := range asks {
			if len(a.Scopes) != 1 || len(a.Nodes) > plan.DefaultCeilings.Selections {
				t.Errorf("a document asks %d nodes of %d accounts", len(a.Nodes), len(a.Scopes))
			}
		}
	}
}
