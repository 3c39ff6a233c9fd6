package traffic

import "math"

// Slice is what happened in one span of time: an amount for each template of
// the model, by position, and the clients seen. Slices are shared between
// callers: read only.
type Slice struct {
	Amounts []Amount
	Clients ClientSet
}

// Requests is the sum over all templates.
func (s *Slice) Requests() uint64 {
	var n uint64
	for _, a := range s.Amounts {
		n += a.Requests
	}
	return n
}

// Model is the traffic of one zone, or its firewall events.
type Model struct {
	seed      uint64
	profile   Profile
	templates []Template
	cumulated [2][]float64 // running sums of the weights, ending at 1; [1] is during an incident
	surplus   [2]float64   // all requests for each request of an end user
	silent    func(minute int64) bool
	nothing   *Slice // stands for every span without traffic

	minutes *cache[*Slice]
	hours   *cache[*Slice]
	days    *cache[*Slice]
}

// New returns the HTTP traffic of the zone with this id and name. silent says
// which minutes (Unix time divided by 60) have none because the zone did not
// exist or was paused; nil means never. It must be pure.
func New(seed uint64, id, name string, p Profile, silent func(minute int64) bool) *Model {
	p = p.withDefaults(name)
	s := Hash(seed, HashString(id))
	return newModel(s, p, httpTemplates(s, p), silent)
}

// NewEvents returns the firewall events of the same zone, about one for 250
// requests, with bursts at the same minutes.
func NewEvents(seed uint64, id, name string, p Profile, silent func(minute int64) bool) *Model {
	p = p.withDefaults(name)
	p.RequestsPerMinute /= 250
	if p.Recorded != nil {
		p.Recorded, p.RequestsPerMinute = nil, 0 // nothing was recorded about events
	}
	s := Hash(seed, HashString(id))
	return newModel(s, p, eventTemplates(s, p), silent)
}

// incidentFactor is how much more frequent origin errors are in an incident.
const incidentFactor = 25

func newModel(seed uint64, p Profile, templates []Template, silent func(int64) bool) *Model {
	if silent == nil {
		silent = func(int64) bool { return false }
	}
	size := max(1, len(templates)/512) // large models remember less, so that memory stays bounded
	m := &Model{
		seed: seed, profile: p, templates: templates, silent: silent,
		minutes: newCache[*Slice](max(1500/size, 12)), hours: newCache[*Slice](max(400/size, 4)), days: newCache[*Slice](max(400/size, 4)),
	}
	m.nothing = m.empty()
	for mode := range m.cumulated {
		sums := make([]float64, len(templates))
		var total, eyeballs float64
		for i, t := range templates {
			w := t.weight
			if mode == 1 && t.incident {
				w *= incidentFactor
			}
			total += w
			if t.Eyeball {
				eyeballs += w
			}
			sums[i] = total
		}
		for i := range sums {
			sums[i] /= total
		}
		if len(sums) > 0 {
			sums[len(sums)-1] = 1
		}
		m.cumulated[mode], m.surplus[mode] = sums, total/eyeballs
	}
	return m
}

// Templates are the model's combinations. Read only.
func (m *Model) Templates() []Template { return m.templates }

func (m *Model) empty() *Slice { return &Slice{Amounts: make([]Amount, len(m.templates))} }

// Minute is the traffic of the minute that begins at 60*minute Unix time.
func (m *Model) Minute(minute int64) *Slice {
	return m.minutes.get(minute, func() *Slice { return m.generate(minute) })
}

// Hour is the traffic of the hour that begins at 3600*hour Unix time.
func (m *Model) Hour(hour int64) *Slice {
	return m.hours.get(hour, func() *Slice {
		parts := make([]*Slice, 60)
		for i := range parts {
			parts[i] = m.generate(hour*60 + int64(i)) // not through the minutes' cache: a year of days would flush it
		}
		return m.Sum(parts)
	})
}

// Day is the traffic of the day (UTC) that begins at 86400*day Unix time.
func (m *Model) Day(day int64) *Slice {
	return m.days.get(day, func() *Slice {
		parts := make([]*Slice, 24)
		for i := range parts {
			parts[i] = m.Hour(day*24 + int64(i))
		}
		return m.Sum(parts)
	})
}

// Between is the traffic of the minutes [from, to), from days and hours where
// whole ones are inside.
func (m *Model) Between(from, to int64) *Slice {
	if m.profile.RequestsPerMinute <= 0 && m.profile.Recorded == nil {
		return m.nothing // a parked zone has years of it
	}
	var parts []*Slice
	for at := from; at < to; {
		switch {
		case at%1440 == 0 && at+1440 <= to:
			parts = append(parts, m.Day(at/1440))
			at += 1440
		case at%60 == 0 && at+60 <= to:
			parts = append(parts, m.Hour(at/60))
			at += 60
		default:
			parts = append(parts, m.Minute(at))
			at++
		}
	}
	return m.Sum(parts)
}

// Sum adds slices of the same model up. It may return one of them.
func (m *Model) Sum(parts []*Slice) *Slice {
	if len(parts) == 1 {
		return parts[0]
	}
	out := m.empty()
	clients := make([]ClientSet, len(parts))
	for i, p := range parts {
		if p == m.nothing {
			continue
		}
		clients[i] = p.Clients
		for j := range p.Amounts {
			out.Amounts[j].Add(p.Amounts[j])
		}
	}
	out.Clients = Union(clients...)
	return out
}

// phases are the seconds by which the requests of a minute are shifted, see
// [Amount.Until].
func (m *Model) phase(minute int64, template int) uint64 {
	return Hash(m.seed, 7, uint64(minute), uint64(template))
}

// Second is the part of a minute's amount that falls into its seconds
// [from, to), each 0 to 60. Parts of adjoining spans add up to the whole.
func (m *Model) Second(minute int64, template int, a Amount, from, to int) Amount {
	phase := m.phase(minute, template)
	part := a.Until(to, phase)
	part.Sub(a.Until(from, phase))
	return part
}

// generate makes one minute.
func (m *Model) generate(minute int64) *Slice {
	if minute < 0 || m.silent(minute) {
		return m.nothing
	}
	incident := 0
	if m.Failing(minute) {
		incident = 1
	}
	eyeballs, exact := m.level(minute)
	if eyeballs == 0 {
		return m.nothing
	}
	n := float64(eyeballs)
	if !exact {
		n *= m.surplus[incident]
	}
	h := Hash(m.seed, 1, uint64(minute))
	total := uint64(n + Unit(h))
	if exact {
		total = eyeballs
	}
	if total == 0 {
		return m.nothing
	}
	out := m.empty()
	// Systematic sampling: the requests stand at even distances, shifted by a
	// random phase, on a line that the templates divide by their weights. The
	// parts are whole numbers, their sum is the total, and rare templates get
	// a request now and then however small the zone is.
	phase := Unit(mix(h))
	var before uint64
	base := Hash(m.seed, 5, uint64(minute))
	for i, w := range m.cumulated[incident] {
		upTo := uint64(float64(total)*w + phase)
		if i == len(m.cumulated[incident])-1 {
			upTo = total
		}
		upTo = min(max(upTo, before), total)
		if upTo > before {
			out.Amounts[i] = m.amount(base, i, upTo-before)
		}
		before = upTo
	}
	out.Clients = m.clients(minute, total)
	return out
}

// Failing reports whether the minute is in a spell of failure.
func (m *Model) Failing(minute int64) bool {
	return m.profile.IncidentsPerDay > 0 && m.episode(minute, 11, m.profile.IncidentsPerDay, 12) > 0
}

// level is the number of end users' requests in a minute; exact means that it
// was recorded and is not to be rounded or raised.
func (m *Model) level(minute int64) (n uint64, exact bool) {
	p := m.profile
	if p.Recorded != nil {
		return p.Recorded[minute], true
	}
	if p.RequestsPerMinute <= 0 {
		return 0, false
	}
	hours := float64(minute%1440)/60 - float64(p.PeakHour)
	x := p.RequestsPerMinute * (1 + p.DailySwing*math.Cos(2*math.Pi*hours/24))
	if weekday := (minute/1440 + 4) % 7; weekday == 0 || weekday == 6 { // day 0 was a Thursday
		x *= .8
	}
	if p.SpikesPerDay > 0 {
		x *= 1 + 2.5*m.episode(minute, 12, p.SpikesPerDay, 9)
	}
	x *= 1 + p.Noise*normal(Hash(m.seed, 2, uint64(minute)))
	x += math.Sqrt(max(x, 0)) * .4 * normal(Hash(m.seed, 3, uint64(minute)))
	return uint64(max(x, 0) + Unit(Hash(m.seed, 4, uint64(minute)))), false
}

// episode is how deep the minute is in one of the rare spells of a kind: 0
// outside, up to 1 inside. Each block of half an hour has one with the chance
// perDay/48, at most length minutes long.
func (m *Model) episode(minute int64, kind uint64, perDay float64, length int64) float64 {
	h := Hash(m.seed, kind, uint64(minute/30))
	if Unit(h) >= perDay/48 {
		return 0
	}
	start := int64(mix(h) % uint64(30-length))
	if at := minute%30 - start; at < 0 || at >= length {
		return 0
	}
	return .5 + .5*Unit(Hash(h, uint64(minute)))
}

// amount gives n requests of a template their sizes and times. One hash has
// bits enough for all of them; this is the innermost loop of everything.
func (m *Model) amount(base uint64, template int, n uint64) Amount {
	t := &m.templates[template]
	h := mix(base + uint64(template))
	draw := func(shift int) float64 { return float64(h>>shift&0xfff) / 0x1000 }
	vary := func(mean, spread float64, shift int) uint64 {
		if mean == 0 {
			return 0
		}
		return uint64(float64(n)*mean*(1+spread*(2*draw(shift)-1))) + 1
	}
	a := Amount{
		Requests: n, Bytes: vary(t.bytes, .3, 0), RequestBytes: vary(t.request, .2, 12),
		FirstByteMs: vary(t.ttfb, .35, 24), OriginMs: vary(t.origin, .35, 36),
	}
	if t.visits > 0 {
		a.Visits = min(uint64(float64(n)*t.visits+draw(48)), n)
	}
	return a
}

// clients draws the visitors of a minute: some ranges of a population that is
// about fifty times as large and half of which is new every day.
func (m *Model) clients(minute int64, requests uint64) ClientSet {
	const segments = 5
	n := max(uint64(float64(requests)*(.18+.06*Unit(Hash(m.seed, 6, uint64(minute))))), 1)
	population := uint64(max(m.profile.RequestsPerMinute, 1)*10) + 16
	if m.profile.Recorded != nil {
		population = requests * 10
	}
	base := uint64(minute/1440) * (population / 2)
	var ranges []clientRange
	for i := range uint64(segments) {
		size := n*(i+1)/segments - n*i/segments
		lo := base + Hash(m.seed, 8, uint64(minute), i)%population
		ranges = append(ranges, clientRange{lo, lo + size})
	}
	return ClientSet{merge(ranges)}
}
