package plan

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Ask is one document that requests entitlements: each node for each zone. A node in it
// counts as a selection.
type Ask struct {
	Zones []bucket.Scope
	Nodes []string
}

// Settings packs the request for the settings of nodes of zones into as few documents as
// the ceilings allow. The documents of one zone are adjacent, so that its settings are
// known early.
func Settings(zones []bucket.Scope, nodes []string, c Ceilings) (asks []Ask) {
	if len(nodes) == 0 {
		return nil
	}
	together, each := c.tile(len(nodes))
	for some := range slices.Chunk(zones, together) {
		for part := range slices.Chunk(nodes, each) {
			asks = append(asks, Ask{Zones: some, Nodes: part})
		}
	}
	return asks
}

// Asks is the number of documents for that.
func Asks(zones, nodes int, c Ceilings) int {
	if nodes == 0 {
		return 0
	}
	together, each := c.tile(nodes)
	return parts(zones, together) * parts(nodes, each)
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
