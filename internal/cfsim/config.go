package cfsim

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/internal/clock"
)

// Plan is a Cloudflare plan, by its legacy id.
type Plan string

// The plans, in ascending order.
const (
	Free       Plan = "free"
	Pro        Plan = "pro"
	Business   Plan = "business"
	Enterprise Plan = "enterprise"
)

var planOrder = []Plan{Free, Pro, Business, Enterprise}

// Config describes a whole simulated Cloudflare. It is copied by [New] and
// not altered afterwards.
type Config struct {
	// Clock is the simulator's present: settling, age limits, budgets and
	// timeline events follow it. Required.
	Clock clock.Clock
	// Seed determines all traffic and all chance. Equal seeds, equal worlds.
	Seed uint64

	Accounts []Account
	Zones    []Zone
	Tokens   []Token

	Limits   Limits
	Switches Switches
	Settling Settling
	Sampling Sampling
	// Faults are active from the start; more can be added with
	// [Server.Inject].
	Faults []Fault
	// Latency is additional latency of every response, in this machine's time.
	Latency time.Duration
	// LogSize is how many requests the log keeps; 0 means 20,000.
	LogSize int
	// Announce puts [Announcement] into every answer, which Cloudflare never does:
	// for whoever keeps simulated data apart from real data. Tests of a client leave
	// it out.
	Announce bool
	// Logger gets one debug line for each request; nil means none.
	Logger *slog.Logger
}

// Announcement is the header by which a simulator says that it is one.
const Announcement = "Weir-Simulated"

// Account is a Cloudflare account.
type Account struct {
	ID   string // 32 hexadecimal digits
	Name string
	// Plan decides about account datasets. Empty means the highest plan of the
	// account's zones.
	Plan Plan
	// Workers are the scripts that run in the account.
	Workers []traffic.Script
	// Products are what else the account has; see [traffic.AllProducts].
	Products []traffic.Product
	// Listed is when the account begins to be there, Deleted when it is gone from REST
	// and GraphQL; zero means ever since, and never.
	Listed, Deleted time.Time
}

// there reports whether the account exists at now.
func (a *Account) there(now time.Time) bool {
	return !now.Before(a.Listed) && (a.Deleted.IsZero() || now.Before(a.Deleted))
}

// Zone is a zone with its traffic and its history.
type Zone struct {
	ID      string // 32 hexadecimal digits
	Name    string // ends in ".example", so that no simulated number passes for a real one
	Account string // id of the account
	Plan    Plan
	Created time.Time // no traffic before it; zero means ever since
	// Activated is when its name servers are found to be Cloudflare's: until then its
	// status is "pending" and it has no traffic. Zero means when it was created.
	Activated time.Time
	Traffic   traffic.Profile
	// Products are what the zone has beside its HTTP traffic; see [traffic.AllProducts].
	Products []traffic.Product
	// Events change the zone as the clock passes them.
	Events []ZoneEvent
}

// ZoneEvent is one change in the life of a zone. Exactly one of the fields
// besides At is set.
type ZoneEvent struct {
	At      time.Time
	Rename  string // new name, ending in ".example"
	Plan    Plan   // new plan
	Account string // moved to the account with this id
	Pause   bool   // no traffic until resumed
	Leave   bool   // its name servers moved away: status "moved", no traffic until resumed
	Resume  bool
	Delete  bool // gone from REST and GraphQL
}

// changes counts what the event does.
func (e ZoneEvent) changes() int {
	n := 0
	for _, set := range []bool{e.Rename != "", e.Plan != "", e.Account != "", e.Pause, e.Leave, e.Resume, e.Delete} {
		if set {
			n++
		}
	}
	return n
}

// Permission is something that a token may do.
type Permission string

// The permissions that the simulated calls need.
const (
	ZoneAnalytics    Permission = "com.cloudflare.api.account.zone.analytics.read"
	ZoneRead         Permission = "com.cloudflare.api.account.zone.read"
	AccountAnalytics Permission = "com.cloudflare.api.account.analytics.read"
	AccountRead      Permission = "com.cloudflare.api.account.settings.read"

	// Those of single products; how they are called in messages is not published.
	LoadBalancersRead Permission = "com.cloudflare.api.account.load-balancing.read"
	TunnelsRead       Permission = "com.cloudflare.api.account.cloudflare-tunnel.read"
	CertificatesRead  Permission = "com.cloudflare.api.account.zone.ssl.read"
	RulesetsRead      Permission = "com.cloudflare.api.account.zone.waf.read"
)

// AllPermissions are what a good token has.
var AllPermissions = []Permission{
	ZoneAnalytics, ZoneRead, AccountAnalytics, AccountRead, LoadBalancersRead, TunnelsRead, CertificatesRead, RulesetsRead,
}

// Token is an API token.
type Token struct {
	// Secret is the value that clients send. It is compared, never logged.
	Secret string
	ID     string // 32 hexadecimal digits; appears in messages and in the log
	// User owns the budget. Tokens of one user share it. Empty means the
	// token's id.
	User string
	// Permissions; nil means [AllPermissions].
	Permissions []Permission
	// Zones restricts the token to these zone ids; nil means all.
	Zones []string
	// Accounts restricts the token to these account ids; nil means all.
	Accounts []string
	// Denied are zones that the token can list but not query: asking for them
	// gives an authorization error. (A zone outside Zones is silently absent.)
	Denied   []string
	Disabled bool
	// NotBefore and ExpiresOn bound its life when they are set.
	NotBefore, ExpiresOn time.Time
	// FlapsUntil makes every second request fail with 403 until then, as fresh
	// tokens do for about a minute.
	FlapsUntil time.Time
}

// Limits are the sizes and rates that Cloudflare documents. Zero means the
// documented value.
type Limits struct {
	ZonesPerQuery int           // 10
	Queries       int           // GraphQL queries per user and Window: 300
	Window        time.Duration // 5 minutes
	ScopesNodes   int           // zones (or accounts) times datasets in one request: 50
	RESTCalls     int           // per user and Window: 1200
	PageSize      int           // largest limit: 10000
}

func (l Limits) withDefaults() Limits {
	fill := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&l.ZonesPerQuery, 10)
	fill(&l.Queries, 300)
	fill(&l.ScopesNodes, 50)
	fill(&l.RESTCalls, 1200)
	fill(&l.PageSize, 10000)
	if l.Window == 0 {
		l.Window = 5 * time.Minute
	}
	return l
}

// Switches settle what is not known about the real API. The zero value is the
// likeliest behaviour.
type Switches struct {
	// DocumentedStatus sends the HTTP status that the documentation names for
	// an error instead of 200.
	DocumentedStatus bool
	// BudgetStatus is the HTTP status of budget errors; 0 means 200.
	BudgetStatus int
	// RetryAfter adds that header to budget errors.
	RetryAfter bool
	// MultiplyBudget charges scopes × datasets instead of one per request.
	MultiplyBudget bool
	// FreeSettings leaves the settings of a dataset out of scopes × datasets. Whether
	// they count is not documented; a client that stays under the limit either way
	// works either way.
	FreeSettings bool
	// ExpiredUnauthorized answers an expired token with a GraphQL error of that
	// name instead of the REST envelope. Both have status 401.
	ExpiredUnauthorized bool
	// InvisibleZoneError answers a question for an invisible or deleted zone
	// with an authorization error instead of leaving the zone out.
	InvisibleZoneError bool
	// PartialData answers with data beside errors: only the refused dataset of
	// the refused zone is null.
	PartialData bool
	// ZeroRow answers a query without dimensions and without data with one row
	// of zeros instead of no row.
	ZeroRow bool
	// OpenRange accepts a missing time filter as "everything that may be
	// asked" instead of refusing its range.
	OpenRange bool
	// NumericPath makes list positions in error paths numbers, not strings.
	NumericPath bool
	// RollupSampleInterval is avg.sampleInterval of roll-ups; 0 means 1.
	RollupSampleInterval float64
	// RefusalSuffix follows "from the path" in refusals of a field.
	RefusalSuffix string
	// Refused are fields that settings advertise and that fail nevertheless:
	// by dataset, the flattened name, for example "dimensions_clientAsn".
	Refused map[string]string
	// OldLimits are the limits before October 2026: adaptive datasets of small
	// plans go back 8 days and one day at once.
	OldLimits bool
}

var (
	tagPattern  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	errNilClock = errors.New("cfsim: clock is missing")
)

// mostThings bounds the combinations of a product.
const mostThings = 2000

// Check returns every mistake in the configuration, as [New] does.
func (c Config) Check() error { return c.check() }

// check returns every mistake in the configuration.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("cfsim: "+format, args...)) }
	if c.Clock == nil {
		errs = append(errs, errNilClock)
	}
	if c.Latency < 0 {
		bad("latency %s must not be negative", c.Latency)
	}
	have := func(whose string, products []traffic.Product, ofZone bool) {
		known := traffic.ProductNames(ofZone)
		for i, p := range products {
			if !slices.Contains(known, p.Name) || slices.ContainsFunc(products[:i], func(o traffic.Product) bool { return o.Name == p.Name }) {
				bad("%s: product %q must be one of %q, each at most once", whose, p.Name, known)
			}
			if p.Things < 0 || p.Things > mostThings || p.Scale < 0 {
				bad("%s: product %s: %d things at the scale %g must be 0 to %d at 0 or more", whose, p.Name, p.Things, p.Scale, mostThings)
			}
		}
	}
	accounts := map[string]bool{}
	for _, a := range c.Accounts {
		have("account "+a.Name, a.Products, false)
		if a.Plan != "" && !slices.Contains(planOrder, a.Plan) {
			bad("account %q: plan %q must be free, pro, business, enterprise or empty", a.Name, a.Plan)
		}
		if !tagPattern.MatchString(a.ID) || accounts[a.ID] {
			bad("account %q: id %q must be 32 hexadecimal digits and unique", a.Name, a.ID)
		}
		accounts[a.ID] = true
		for i, script := range a.Workers {
			if script.Name == "" || slices.ContainsFunc(a.Workers[:i], func(o traffic.Script) bool { return o.Name == script.Name }) {
				bad("account %q: script %q must have a name that no other has", a.Name, script.Name)
			}
			if script.RequestsPerMinute < 0 || script.Failing < 0 || script.Failing > 1 {
				bad("account %q: script %q has %v requests a minute, of which %v fail; they must not be negative, and at most 1 of 1 fails", a.Name, script.Name, script.RequestsPerMinute, script.Failing)
			}
		}
	}
	zones := map[string]bool{}
	simulated := func(id, name string) {
		if !strings.HasSuffix(name, ".example") {
			bad("zone %s: name %q must end in .example", id, name)
		}
	}
	planned := func(id string, p Plan) {
		if !slices.Contains(planOrder, p) {
			bad("zone %s: plan %q must be free, pro, business or enterprise", id, p)
		}
	}
	for _, z := range c.Zones {
		if !tagPattern.MatchString(z.ID) || zones[z.ID] {
			bad("zone %q: id %q must be 32 hexadecimal digits and unique", z.Name, z.ID)
		}
		zones[z.ID] = true
		have("zone "+z.Name, z.Products, true)
		simulated(z.ID, z.Name)
		planned(z.ID, z.Plan)
		if !accounts[z.Account] {
			bad("zone %s: account %q is not configured", z.ID, z.Account)
		}
		for _, e := range z.Events {
			if n := e.changes(); n != 1 {
				bad("zone %s: event at %s makes %d changes, want one", z.ID, e.At.Format(time.RFC3339), n)
			}
			if e.Rename != "" {
				simulated(z.ID, e.Rename)
			}
			if e.Plan != "" {
				planned(z.ID, e.Plan)
			}
			if e.Account != "" && !accounts[e.Account] {
				bad("zone %s: moves to account %q, which is not configured", z.ID, e.Account)
			}
		}
	}
	secrets := map[string]bool{}
	for i, t := range c.Tokens {
		if secrets[t.Secret] {
			bad("token %d: has the secret of another one", i)
		}
		secrets[t.Secret] = true
		if t.Secret == "" || !tagPattern.MatchString(t.ID) {
			bad("token %d: needs a secret and an id of 32 hexadecimal digits", i)
		}
	}
	for _, f := range c.Faults {
		if err := f.check(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
