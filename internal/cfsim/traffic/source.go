package traffic

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

//go:embed sources.txt
var sourcesText string

// The sources that are written in Go: what they model depends on more than a table.
const (
	HTTP     = "http"     // requests, from [New]
	Firewall = "firewall" // rule matches, from [NewEvents]
	Workers  = "workers"  // invocations, from [NewWorkers]
)

// Source is one kind of event, and the datasets that show it. Sources are shared and
// read only.
type Source struct {
	Name string
	// Product is what a zone or account must have for such events to happen.
	Product string
	// Zone and Account say where they happen.
	Zone, Account bool
	// Union says that accounts show the events of their zones.
	Union bool
	// Things is how many checks, buckets, queues, … there are unless a [Product] says it.
	Things int

	rate  float64 // events of one thing in one minute
	flat  bool    // readings, at the same rate by day and night and of all things
	each  option
	axes  [][]option
	nodes []string
}

// option is one set of attributes and measures that belong together.
type option struct {
	weight   float64
	incident bool
	attrs    map[string]any // texts may have placeholders; numbers with one are texts until filled in
	numbers  map[string]bool
	means    map[string]float64
	exact    map[string]float64
	gauges   map[string]float64
}

// Product is something that a zone or account has and that makes events of its own:
// health checks, R2 buckets, tunnels.
type Product struct {
	Name string
	// Things is how many of them there are; 0 means the table's number.
	Things int
	// Scale multiplies the table's rate of events; 0 means 1.
	Scale float64
}

var (
	sources = mustParseSources(sourcesText)
	byNode  = indexNodes(sources)
)

// SourceOf is the source of a dataset, nil when the dataset is not modelled.
func SourceOf(dataset string) *Source { return byNode[dataset] }

// Sources are those of the table, in its order.
func Sources() []*Source { return slices.Clone(sources) }

// Nodes are the datasets that show the source.
func (s *Source) Nodes() []string { return slices.Clone(s.nodes) }

// ProductNames are the products that zones, or else accounts, may have.
func ProductNames(ofZone bool) []string {
	var out []string
	for _, s := range sources {
		if (ofZone && s.Zone || !ofZone && s.Account) && !slices.Contains(out, s.Product) {
			out = append(out, s.Product)
		}
	}
	extra := []string{"cloudflareTunnels"} // known to REST alone
	if ofZone {
		extra = []string{"certificates", "customHostnames"}
	}
	return append(out, extra...)
}

// AllProducts are all products of zones, or else of accounts, as the table has them.
func AllProducts(ofZone bool) []Product {
	var out []Product
	for _, name := range ProductNames(ofZone) {
		out = append(out, Product{Name: name})
	}
	return out
}

// ThingID is the id of the n-th thing of a product, 32 hexadecimal digits. place is the
// id of the zone or account.
func ThingID(place, product string, n int) string {
	h := Hash(HashString(place), HashString(product), uint64(n))
	return fmt.Sprintf("%016x%016x", h, Hash(h))
}

// UUID is an id of 32 hexadecimal digits in the form of a UUID.
func UUID(id string) string {
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}

// NewSource returns the events of a source of the table in one place: the zone or
// account with this id and name. p says how many things there are; silent is as for
// [New].
func NewSource(seed uint64, id, name string, s *Source, p Product, silent func(minute int64) bool) *Model {
	things, scale := p.Things, p.Scale
	if things == 0 {
		things = s.Things
	}
	if scale == 0 {
		scale = 1
	}
	profile := Profile{
		RequestsPerMinute: s.rate * float64(things) * scale, PeakHour: int(Hash(HashString(id)) % 24), IncidentsPerDay: 1.5, Subrequests: -1,
	}
	if s.flat {
		profile.DailySwing, profile.Noise = -1, -1
	}
	h := Hash(seed, HashString(id), HashString(s.Name))
	return newModel(h, profile.withDefaults(name), s.templates(h, id, name, things), silent)
}

// templates are the combinations of all things and all axes.
func (s *Source) templates(seed uint64, id, name string, things int) []Template {
	axes := s.axes
	if s.Name == "loadBalancing" {
		axes = append(slices.Clip(axes), balancerAxis(id, name))
	}
	var out []Template
	for n := 1; n <= things; n++ {
		fill := filler(id, name, s.Product, n)
		base := Template{Attributes: map[string]any{}, Eyeball: true, weight: 1}
		if !s.flat {
			base.weight = 1 / float64(n)
		}
		combos := []Template{s.each.apply(base, fill)}
		for _, axis := range axes {
			var next []Template
			for _, c := range combos {
				for _, o := range axis {
					next = append(next, o.apply(c, fill))
				}
			}
			combos = next
		}
		out = append(out, combos...)
	}
	for i := range out {
		h := Hash(seed, uint64(i))
		for name, v := range out[i].Values {
			if v > 0 { // whole, so that sums over minutes add up
				v = max(math.Round(v*(.8+.4*Unit(Hash(h, HashString(name))))), 1)
			}
			out[i].Values[name] = v
		}
		for name, v := range out[i].exact {
			out[i].Values = set(out[i].Values, name, v)
		}
	}
	return out
}

// filler replaces placeholders for the n-th thing.
func filler(id, name, product string, n int) func(string) string {
	thing := ThingID(id, product, n)
	return strings.NewReplacer("{n}", strconv.Itoa(n), "{id}", thing, "{uuid}", UUID(thing), "{name}", name).Replace
}

func set[V any](m map[string]V, name string, v V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[name] = v
	return m
}

func extend[V any](a, b map[string]V) map[string]V {
	out := make(map[string]V, len(a)+len(b))
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		out[k] = v
	}
	return out
}

// apply is t with the option's attributes and measures on top.
func (o *option) apply(t Template, fill func(string) string) Template {
	t.Attributes = extend(t.Attributes, o.attrs)
	for name, v := range o.attrs {
		text, ok := v.(string)
		if !ok {
			continue
		}
		text = fill(text)
		t.Attributes[name] = text
		if o.numbers[name] {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				panic(fmt.Sprintf("traffic: %s: %v", name, err)) // the table is compiled in
			}
			t.Attributes[name] = n
		}
	}
	t.Values, t.exact, t.Gauges = extend(t.Values, o.means), extend(t.exact, o.exact), extend(t.Gauges, o.gauges)
	t.weight *= o.weight
	t.incident = t.incident || o.incident
	return t
}

// Exact reports whether every event of the template has the same value of a measure.
func (t *Template) Exact(name string) bool {
	_, ok := t.exact[name]
	return ok
}

// Level is the gauge of that name in the hour that begins at 3600*hour Unix time, and
// whether the template has it.
func (t *Template) Level(name string, hour int64) (float64, bool) {
	base, ok := t.Gauges[name]
	if !ok {
		return 0, false
	}
	const reference = 490_000 // an hour in 2025
	h := HashString(name + t.String("bucketName") + t.String("bucketHash") + t.String("namespaceId") + t.String("databaseId") + t.String("storageClass"))
	grown := 1 + (.5+Unit(h))*2e-5*float64(max(hour-reference, 0))
	wobble := 1 + .01*(2*Unit(Hash(h, uint64(hour)))-1)
	return float64(uint64(base * (.5 + Unit(Hash(h, 1))) * grown * wobble)), true
}
