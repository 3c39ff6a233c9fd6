package plan

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Ask is one document that requests entitlements: each node for each scope. A node in
// it counts as a selection.
type Ask struct {
	Scopes []bucket.Scope // of one kind; accounts come one at a time
	Nodes  []string
}

// Settings packs the request for the settings of nodes of scopes of one kind into as few
// documents as the ceilings allow. The documents of one scope are adjacent, so that its
// settings are known early.
func Settings(scopes []bucket.Scope, nodes []string, c Ceilings) (asks []Ask) {
	if len(scopes) == 0 || len(nodes) == 0 {
		return nil
	}
	together, each := c.of(scopes[0].Kind).tile(len(nodes))
	for some := range slices.Chunk(scopes, together) {
		for part := range slices.Chunk(nodes, each) {
			asks = append(asks, Ask{Scopes: some, Nodes: part})
		}
	}
	return asks
}

// Asks is the number of documents for that.
func Asks(kind bucket.ScopeKind, scopes, nodes int, c Ceilings) int {
	if nodes == 0 {
		return 0
	}
	together, each := c.of(kind).tile(nodes)
	return parts(scopes, together) * parts(nodes, each)
}

// of are the ceilings of documents about scopes of a kind: a document is about one account
// only.
func (c Ceilings) of(kind bucket.ScopeKind) Ceilings {
	if kind == bucket.Account {
		c.Zones = 1
	}
	return c
}

// tile is how many zones and nodes a document holds: what takes the fewest
// documents a zone, and of those the fewest zones.
func (c Ceilings) tile(nodes int) (zones, each int) {
	zones, each = 1, max(1, min(nodes, c.Selections))
	for n := 2; n <= min(c.Zones, c.Selections); n++ {
		of := min(nodes, c.Selections/n)
		if parts(nodes, of)*zones < parts(nodes, each)*n {
			zones, each = n, of
		}
	}
	return zones, each
}

func parts(of, size int) int { return (of + size - 1) / size }
