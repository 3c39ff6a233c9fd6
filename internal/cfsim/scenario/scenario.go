// Package scenario reads a simulated world from YAML: its clock, accounts, zones,
// products, tokens, sampling, settling, limits and faults.
//
//	seed: 7
//	clock: {at: 2026-11-22T12:00:00Z, speed: 60}   # without it the given clock; without speed it stands still
//	latency: 20ms
//	accounts:
//	  - name: Retail
//	    plan: enterprise                           # empty: the highest of its zones
//	    products: {r2: 40, magicTransit: 6}        # how many things of each; or "all"
//	    workers:
//	      - {name: checkout, requests_per_minute: 600, subrequests: 2, failing: 0.4%}
//	      - {name: "job-{n}", count: 300, requests_per_minute: 2}
//	zones:
//	  - name: shop.example
//	    account: Retail
//	    plan: enterprise
//	    requests_per_minute: 24000
//	    variety: {countries: 220, colos: 180, networks: 900, hosts: 400, paths: 2500, rules: 60}
//	    cells: 6000                                # combinations of them; each takes a few KB
//	    products: all
//	    events: [{at: 2026-11-22T13:00:00Z, plan: business}, {at: 2026-11-22T14:00:00Z, pause: true}]
//	  - name: tenant-{n}.example                   # {n} counts
//	    count: 300
//	    account: Retail
//	    plans: [free, pro, business, enterprise]   # dealt out in turn
//	    requests_per_minute: 200
//	tokens: [{secret: …, accounts: [Retail], expires_on: 2026-11-22T15:00:00Z}]   # without any, the demo's token
//	sampling: {enabled: true, load: 2}
//	settling: {stragglers: 0.004, revisions: 0.01}
//	limits: {queries: 300, zones_per_query: 10}
//	faults: [{kind: html, status: 502, probability: 0.01}, {kind: dataset-empty, zone: shop.example, dataset: httpRequests1mGroups}]
//
// The cardinality of a zone is its variety: how many different values its traffic has. Of a dimension it has
// at most as many as cells, of which each combines one value of every dimension: a zone of 100,000 hosts has
// 100,000 cells or more. That of an account is the number of its products' things and of its workers.
//
// Accounts and zones are named by their names everywhere; their ids follow from these.
// Keys that nobody reads are errors, with their line.
package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/yamldoc"
)

const (
	mostZones    = 100_000 // the sum of all counts
	mostWorkers  = 10_000  // of an account
	mostRequests = 1e9     // a minute of a zone
)

type file struct {
	Seed  uint64 `yaml:"seed"`
	Clock struct {
		At    time.Time `yaml:"at"`
		Speed float64   `yaml:"speed"`
	} `yaml:"clock"`
	Latency  time.Duration `yaml:"latency"`
	Accounts []account     `yaml:"accounts"`
	Zones    []zone        `yaml:"zones"`
	Tokens   []token       `yaml:"tokens"`
	Sampling struct {
		Enabled   bool    `yaml:"enabled"`
		Load      float64 `yaml:"load"`
		Tenth     float64 `yaml:"tenth"`
		Hundredth float64 `yaml:"hundredth"`
	} `yaml:"sampling"`
	Settling struct {
		Off        bool               `yaml:"off"`
		Scale      map[string]float64 `yaml:"scale"`
		Jitter     float64            `yaml:"jitter"`
		Stragglers float64            `yaml:"stragglers"`
		Revisions  float64            `yaml:"revisions"`
		Downward   float64            `yaml:"downward"`
	} `yaml:"settling"`
	Limits struct {
		ZonesPerQuery int           `yaml:"zones_per_query"`
		Queries       int           `yaml:"queries"`
		Window        time.Duration `yaml:"window"`
		ScopesNodes   int           `yaml:"scopes_nodes"`
		RESTCalls     int           `yaml:"rest_calls"`
		PageSize      int           `yaml:"page_size"`
	} `yaml:"limits"`
	Faults []cfsim.Fault `yaml:"faults"`
}

type account struct {
	Name     string    `yaml:"name"`
	Plan     string    `yaml:"plan"`
	Products products  `yaml:"products"`
	Workers  []worker  `yaml:"workers"`
	Listed   time.Time `yaml:"listed"`
	Deleted  time.Time `yaml:"deleted"`
}

type worker struct {
	Name              string  `yaml:"name"`
	Count             int     `yaml:"count"`
	RequestsPerMinute float64 `yaml:"requests_per_minute"`
	Subrequests       uint64  `yaml:"subrequests"`
	Failing           share   `yaml:"failing"`
}

type zone struct {
	Name              string    `yaml:"name"`
	Count             int       `yaml:"count"`
	Account           string    `yaml:"account"`
	Plan              string    `yaml:"plan"`
	Plans             []string  `yaml:"plans"`
	Created           time.Time `yaml:"created"`
	Activated         time.Time `yaml:"activated"`
	RequestsPerMinute float64   `yaml:"requests_per_minute"`
	DailySwing        float64   `yaml:"daily_swing"`
	PeakHour          int       `yaml:"peak_hour"`
	Noise             float64   `yaml:"noise"`
	SpikesPerDay      float64   `yaml:"spikes_per_day"`
	IncidentsPerDay   float64   `yaml:"incidents_per_day"`
	Cells             int       `yaml:"cells"`
	Subrequests       share     `yaml:"subrequests"`
	Plaintext         share     `yaml:"plaintext"`
	Hosts             []string  `yaml:"hosts"`
	OddStrings        bool      `yaml:"odd_strings"`
	Variety           struct {
		Countries int `yaml:"countries"`
		Colos     int `yaml:"colos"`
		Networks  int `yaml:"networks"`
		Hosts     int `yaml:"hosts"`
		Paths     int `yaml:"paths"`
		Rules     int `yaml:"rules"`
	} `yaml:"variety"`
	Products products `yaml:"products"`
	Events   []event  `yaml:"events"`
}

type event struct {
	At      time.Time `yaml:"at"`
	Rename  string    `yaml:"rename"`
	Plan    string    `yaml:"plan"`
	Account string    `yaml:"account"`
	Pause   bool      `yaml:"pause"`
	Leave   bool      `yaml:"leave"`
	Resume  bool      `yaml:"resume"`
	Delete  bool      `yaml:"delete"`
}

type token struct {
	Secret      string    `yaml:"secret"`
	User        string    `yaml:"user"`
	Permissions []string  `yaml:"permissions"`
	Accounts    []string  `yaml:"accounts"`
	Zones       []string  `yaml:"zones"`
	Denied      []string  `yaml:"denied"`
	Disabled    bool      `yaml:"disabled"`
	NotBefore   time.Time `yaml:"not_before"`
	ExpiresOn   time.Time `yaml:"expires_on"`
	FlapsUntil  time.Time `yaml:"flaps_until"`
}

// Read makes the configuration of a simulator. clk is its clock unless the scenario has
// one of its own. The error names every mistake in what the scenario says.
func Read(text []byte, clk clock.Clock) (cfsim.Config, error) {
	if _, err := yamldoc.Parse(text); err != nil { // within bounds, before anything is expanded
		return cfsim.Config{}, fmt.Errorf("scenario: %w", err)
	}
	var f file
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		return cfsim.Config{}, fmt.Errorf("scenario: %w", err)
	}
	w := &world{accounts: map[string]string{}, zones: map[string]string{}}
	c := cfsim.Config{
		Clock: clk, Seed: f.Seed, Latency: f.Latency,
		Sampling: cfsim.Sampling(f.Sampling), Settling: cfsim.Settling(f.Settling), Limits: cfsim.Limits(f.Limits),
	}
	switch at, speed := f.Clock.At, f.Clock.Speed; {
	case speed < 0 || speed > 0 && at.IsZero():
		w.bad("clock: speed %g must not be negative and must have a time at which the clock begins", speed)
	case speed > 0:
		c.Clock = clock.Chasing(at, speed)
	case !at.IsZero():
		c.Clock = clock.NewManual(at)
	}
	for _, a := range f.Accounts {
		c.Accounts = append(c.Accounts, w.account(a))
	}
	for _, z := range f.Zones {
		c.Zones = append(c.Zones, w.expand(z)...)
	}
	for i := range f.Tokens {
		c.Tokens = append(c.Tokens, w.token(&f.Tokens[i]))
	}
	if len(c.Tokens) == 0 {
		c.Tokens = []cfsim.Token{cfsim.GoodToken(cfsim.DemoToken)}
	}
	for _, fault := range f.Faults {
		c.Faults = append(c.Faults, w.fault(fault))
	}
	if len(w.errs) > 0 {
		return cfsim.Config{}, fmt.Errorf("scenario: %w", errors.Join(w.errs...))
	}
	if err := c.Check(); err != nil {
		return cfsim.Config{}, fmt.Errorf("scenario: %w", err)
	}
	return c, nil
}

// world is what names stand for.
type world struct {
	accounts, zones map[string]string // ids by name
	errs            []error
}

func (w *world) bad(format string, args ...any) { w.errs = append(w.errs, fmt.Errorf(format, args...)) }

func (w *world) account(a account) cfsim.Account {
	if a.Name == "" {
		w.bad("account %d has no name", len(w.accounts)+1)
	}
	id := cfsim.Tag("account:" + a.Name)
	w.accounts[a.Name] = id
	out := cfsim.Account{ID: id, Name: a.Name, Plan: cfsim.Plan(a.Plan), Products: w.products("account "+a.Name, a.Products, false), Listed: a.Listed, Deleted: a.Deleted}
	for _, s := range a.Workers {
		for _, name := range w.names("account "+a.Name+": worker "+strconv.Quote(s.Name), s.Name, s.Count, mostWorkers-len(out.Workers)) {
			out.Workers = append(out.Workers, traffic.Script{Name: name, RequestsPerMinute: s.RequestsPerMinute, Subrequests: s.Subrequests, Failing: float64(s.Failing)})
		}
	}
	return out
}

// names are those that one entry stands for: as many as count says, 1 if it says nothing, and at most so many.
func (w *world) names(whose, name string, count, most int) (names []string) {
	switch {
	case count < 0 || max(count, 1) > most:
		w.bad("%s: count %d must be from 1 to %d", whose, count, max(most, 0))
		return nil
	case count > 1 && !strings.Contains(name, "{n}"):
		w.bad("%s: the name must have {n} in it, since there are %d of them", whose, count)
		return nil
	}
	for n := 1; n <= max(count, 1); n++ {
		names = append(names, strings.ReplaceAll(name, "{n}", strconv.Itoa(n)))
	}
	return names
}

// expand makes the zones that one entry stands for.
func (w *world) expand(z zone) []cfsim.Zone {
	whose := fmt.Sprintf("zone %q", z.Name)
	names := w.names(whose, z.Name, z.Count, mostZones-len(w.zones))
	w.checkTraffic(whose, &z)
	switch {
	case z.Plan != "" && len(z.Plans) > 0:
		w.bad("zone %q: must have plan or plans, not both", z.Name)
	case z.Plan != "":
		z.Plans = []string{z.Plan}
	case len(z.Plans) == 0:
		z.Plans = []string{string(cfsim.Free)}
	}
	var out []cfsim.Zone
	for n, name := range names {
		id := cfsim.Tag("zone:" + name)
		w.zones[name] = id
		one := cfsim.Zone{
			ID: id, Name: name, Account: w.id(w.accounts, "zone "+name, "account", z.Account), Plan: cfsim.Plan(z.Plans[n%len(z.Plans)]),
			Created: z.Created, Activated: z.Activated, Products: w.products("zone "+name, z.Products, true), Traffic: z.profile(),
		}
		for _, e := range z.Events {
			change := cfsim.ZoneEvent{At: e.At, Rename: e.Rename, Plan: cfsim.Plan(e.Plan), Pause: e.Pause, Leave: e.Leave, Resume: e.Resume, Delete: e.Delete}
			if e.Account != "" {
				change.Account = w.id(w.accounts, "zone "+name, "event: account", e.Account)
			}
			one.Events = append(one.Events, change)
		}
		out = append(out, one)
	}
	return out
}

// checkTraffic refuses what the simulator would cut.
func (w *world) checkTraffic(whose string, z *zone) {
	between := func(key string, v, least, most float64) {
		if v < least || v > most {
			w.bad("%s: %s %g must be from %g to %g", whose, key, v, least, most)
		}
	}
	between("requests_per_minute", z.RequestsPerMinute, 0, mostRequests)
	between("daily_swing", z.DailySwing, -1, 1)
	between("peak_hour", float64(z.PeakHour), 0, 23)
	between("spikes_per_day", z.SpikesPerDay, 0, 24*60)
	between("incidents_per_day", z.IncidentsPerDay, 0, 24*60)
	cells := cmp.Or(z.Cells, traffic.UsualCells)
	between("cells", float64(cells), traffic.FewestCells, traffic.MostCells)
	for _, of := range []struct {
		key     string
		n, most int
	}{
		{"countries", z.Variety.Countries, traffic.MostCountries},
		{"colos", z.Variety.Colos, traffic.MostColos},
		{"networks", z.Variety.Networks, traffic.MostCells},
		{"hosts", z.Variety.Hosts, traffic.MostCells},
		{"paths", z.Variety.Paths, traffic.MostCells},
		{"rules", z.Variety.Rules, traffic.MostCells},
	} {
		between("variety: "+of.key, float64(of.n), 0, float64(of.most))
		if of.n > cells && of.n <= of.most {
			w.bad("%s: variety: %s %d is more than the zone has combinations; cells is %d and must be at least as many", whose, of.key, of.n, cells)
		}
	}
}

func (z *zone) profile() traffic.Profile {
	return traffic.Profile{
		RequestsPerMinute: z.RequestsPerMinute, DailySwing: z.DailySwing, PeakHour: z.PeakHour, Noise: z.Noise, SpikesPerDay: z.SpikesPerDay,
		IncidentsPerDay: z.IncidentsPerDay, Cells: z.Cells, Subrequests: float64(z.Subrequests), Plaintext: float64(z.Plaintext), Hosts: z.Hosts,
		OddStrings: z.OddStrings, Variety: traffic.Variety(z.Variety),
	}
}

// id is what a name stands for.
func (w *world) id(known map[string]string, whose, what, name string) string {
	id, ok := known[name]
	if !ok {
		names := make([]string, 0, len(known))
		for n := range known {
			names = append(names, n)
		}
		slices.Sort(names)
		w.bad("%s: %s %q is not in the scenario; it has %q", whose, what, name, names[:min(len(names), 10)])
	}
	return id
}

func (w *world) ids(known map[string]string, whose, what string, names []string) []string {
	var out []string
	for _, name := range names {
		out = append(out, w.id(known, whose, what, name))
	}
	return out
}

func (w *world) token(t *token) cfsim.Token {
	if t.Secret == "" {
		w.bad("a token has no secret")
	}
	out := cfsim.GoodToken(t.Secret)
	whose := "token of user " + t.User
	if t.User != "" {
		out.User = cfsim.Tag("user:" + t.User)
	}
	out.Accounts, out.Zones = w.ids(w.accounts, whose, "account", t.Accounts), w.ids(w.zones, whose, "zone", t.Zones)
	out.Denied, out.Disabled = w.ids(w.zones, whose, "denied zone", t.Denied), t.Disabled
	out.NotBefore, out.ExpiresOn, out.FlapsUntil = t.NotBefore, t.ExpiresOn, t.FlapsUntil
	for _, p := range t.Permissions {
		if !slices.Contains(cfsim.AllPermissions, cfsim.Permission(p)) {
			w.bad("%s: permission %q must be one of %q", whose, p, cfsim.AllPermissions)
		}
		out.Permissions = append(out.Permissions, cfsim.Permission(p))
	}
	return out
}

// fault names zones by name, where the simulator has ids.
func (w *world) fault(f cfsim.Fault) cfsim.Fault {
	if f.Zone != "" {
		known := w.zones
		if f.Kind == cfsim.FaultAccountName {
			known = w.accounts
		}
		f.Zone = w.id(known, "fault "+string(f.Kind), "zone", f.Zone)
	}
	f.Zones = w.ids(w.zones, "fault "+string(f.Kind), "zone", f.Zones)
	return f
}
