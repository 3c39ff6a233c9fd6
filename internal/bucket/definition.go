package bucket

import (
	"slices"
	"time"
)

// Role decides what a bounded view drops first.
type Role uint8

// The roles, with the contract's numbers.
const (
	Total     Role = 1 // one series per scope; dropped last
	Breakdown Role = 2 // several series per scope; dropped first
)

// Family describes one metric family: a gauge that holds the amount in one bucket.
type Family struct {
	Name     string   // "cloudflare_zone_requests"
	Help     string   // one sentence, no line breaks
	Unit     string   // Prometheus base unit, or empty
	Labels   []string // the family's own labels, after zone and account
	Role     Role
	Additive bool // values of disjoint windows may be added; false for distinct counts
}

// Definition is one version of a dataset as readers need it: what its buckets
// hold and how they become samples. How Cloudflare is asked is the catalogue's
// business.
type Definition struct {
	Dataset     string // id, size included
	Version     uint32 // 1, 2, … per dataset; 0 while not yet given
	ScopeKind   ScopeKind
	Size        time.Duration
	Delay       time.Duration // age of a window's end at which it is first asked for
	Depth       int           // most windows that one scrape shows, 1 to 30
	Families    []Family
	Description string
}

// Same reports whether two definitions say the same, versions apart.
func (d *Definition) Same(o *Definition) bool {
	return d.Dataset == o.Dataset && d.ScopeKind == o.ScopeKind && d.Size == o.Size &&
		d.Delay == o.Delay && d.Depth == o.Depth && d.Description == o.Description &&
		slices.EqualFunc(d.Families, o.Families, func(a, b Family) bool {
			return a.Name == b.Name && a.Help == b.Help && a.Unit == b.Unit &&
				slices.Equal(a.Labels, b.Labels) && a.Role == b.Role && a.Additive == b.Additive
		})
}
