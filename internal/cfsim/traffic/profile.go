package traffic

// The number of attribute combinations of a zone.
const (
	FewestCells = 12
	UsualCells  = 48
	MostCells   = 200_000
)

// Profile says what kind of site a zone is. The zero value is a zone without
// any traffic.
type Profile struct {
	// RequestsPerMinute is the level of a usual weekday, averaged over the day.
	// Fractions work: 0.2 is one request in five minutes. 0 is no traffic, ever.
	RequestsPerMinute float64
	// DailySwing is how far the curve leaves the level, 0 (flat) to 1; 0 means 0.6.
	// Negative means flat.
	DailySwing float64
	// PeakHour is the hour of the day (UTC, 0-23) with the most traffic.
	PeakHour int
	// Noise is the relative deviation from minute to minute; 0 means 0.05.
	// Negative means none.
	Noise float64
	// SpikesPerDay is how many short bursts a day has on average.
	SpikesPerDay float64
	// IncidentsPerDay is how many spells of origin errors a day has on average.
	IncidentsPerDay float64
	// Cells is the number of attribute combinations, [FewestCells] to [MostCells]; 0 means [UsualCells]. More
	// cells mean more label values and longer answers, and take memory: a few KB each.
	Cells int
	// Variety widens what the combinations differ in.
	Variety Variety
	// Subrequests is the share of worker subrequests beside the visitors'
	// requests, 0 to 1; 0 means 0.08. Negative means none.
	Subrequests float64
	// Plaintext is the share of combinations without TLS, 0 to 1.
	Plaintext float64
	// Hosts are the names that requests ask for. Empty means names made from
	// the zone's own: "", "www.", "api." and "static." before it.
	Hosts []string
	// OddStrings adds combinations with empty, non-ASCII, quoted and very long
	// attribute values.
	OddStrings bool
	// Recorded, when not nil, replaces the curve: requests by minute (Unix time
	// divided by 60). Minutes that are not in it have no traffic.
	Recorded map[int64]uint64

	zone string // its name
}

// withDefaults fills the settings whose zero value means a default.
func (p Profile) withDefaults(zone string) Profile {
	fill := func(v *float64, def float64) {
		switch {
		case *v == 0:
			*v = def
		case *v < 0:
			*v = 0
		}
	}
	fill(&p.DailySwing, 0.6)
	fill(&p.Noise, 0.05)
	fill(&p.Subrequests, 0.08)
	if p.Recorded != nil {
		p.Subrequests = 0 // else the visitors' part would not be what was recorded
	}
	p.zone = zone
	p.DailySwing = min(p.DailySwing, 1)
	if p.Cells == 0 {
		p.Cells = UsualCells
	}
	p.Cells, p.Variety = min(max(p.Cells, FewestCells), MostCells), p.Variety.limited()
	if len(p.Hosts) == 0 {
		p.Hosts = []string{"www." + zone, zone, "api." + zone, "static." + zone}
	}
	return p
}
