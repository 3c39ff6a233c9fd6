package collector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// TokenStatus is what Cloudflare says about a token.
type TokenStatus = cloudflare.TokenStatus

// CredentialReport is what Cloudflare says about one credential.
type CredentialReport struct {
	Name string `json:"name"`
	User string `json:"user"` // of the budget

	Token    TokenStatus `json:"token"`
	TokenErr error       `json:"-"`
	// Refused: Cloudflare does not accept the token at all.
	Refused bool `json:"refused"`

	Zones     []ZoneReport `json:"zones"`
	ZonesErr  error        `json:"-"`
	Unmatched []string     `json:"unmatched"` // sentences about the selection

	// Settings of the first zones that are collected, as a sample: what the plan
	// allows. Empty with SettingsErr or SettingsSkipped.
	Settings        []ZoneSettings `json:"settings"`
	SettingsErr     error          `json:"-"`
	SettingsSkipped string         `json:"settings_skipped,omitempty"`
	SettingsDenied  bool           `json:"settings_denied"` // the permission is missing

	// Skew is Cloudflare's clock minus ours, within Uncertain.
	Skew      time.Duration `json:"skew"`
	Uncertain time.Duration `json:"uncertain"` // 0: no response had a date
	Requests  int           `json:"requests"`
}

// ZoneReport is a zone as Cloudflare lists it.
type ZoneReport struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Status   string `json:"status"`
	Paused   bool   `json:"paused"`
	Selected bool   `json:"selected"`
}

// ZoneSettings is which nodes a zone's plan allows.
type ZoneSettings struct {
	Zone    string   `json:"zone"`
	Allowed []string `json:"allowed"` // nodes
	Refused []string `json:"refused"`
}

// settingsUseBy limits the request to its permit: the client's timeout is shorter.
const settingsUseBy = time.Minute

// AskCloudflare asks Cloudflare about each configured credential: whether the token is
// valid, which zones it sees, and with a permit of the shared budget what the plans of
// the first zones allow. It sends the list of zones and at most three other requests a
// credential. The permit needs Postgres, where every process shares one budget; without,
// the request about plans is not sent.
func AskCloudflare(ctx context.Context, c Config, clk clock.Clock) (reports []CredentialReport, err error) {
	if clk == nil {
		clk = clock.System()
	}
	quiet := slog.New(slog.DiscardHandler)
	datasets, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	all, err := c.credentials()
	if err != nil {
		return nil, err
	}
	watch := reload.NewWatch(quiet, clk.Now)
	transport, err := c.transport(watch)
	if err != nil {
		return nil, err
	}
	var permits store.Store
	if !c.DatabaseURL.IsZero() {
		if permits, err = openBeside(ctx, c, clk); err != nil {
			permits = nil // what is about the store is reported elsewhere
		} else {
			defer func() { err = errors.Join(err, permits.Close()) }()
		}
	}
	for i := range all {
		meter := &clockmeter{base: transport, clock: clk}
		clients, err := c.clients(Deps{Transport: meter, Logger: quiet}, watch, all[i:i+1])
		if err != nil {
			return nil, err
		}
		r := CredentialReport{Name: all[i].name, User: all[i].user}
		ask(ctx, &r, clients[0], all[i], datasets, func(ctx context.Context) error { return c.permit(ctx, permits, all[i], clk) })
		r.Skew, r.Uncertain, r.Requests = meter.skew, meter.uncertain, meter.requests
		reports = append(reports, r)
	}
	return reports, nil
}

func ask(ctx context.Context, r *CredentialReport, client *cloudflare.Client, c credential, datasets *catalogue.Catalogue, permit func(context.Context) error) {
	r.Token, r.TokenErr = client.VerifyToken(ctx)
	zones, err := client.Zones(ctx)
	r.ZonesErr = err
	seen := make([]roster.Seen, len(zones))
	for i, z := range zones {
		seen[i] = roster.Seen{Kind: bucket.Zone, ID: z.ID, Name: z.Name, AccountID: z.Account.ID, AccountName: z.Account.Name, State: roster.Active}
	}
	if r.TokenErr != nil && err == nil && len(zones) > 0 { // works, so it may be an account's
		if status, err := client.VerifyAccountToken(ctx, zones[0].Account.ID); err == nil {
			r.Token, r.TokenErr = status, nil
		}
	}
	r.Refused = classOf(r.TokenErr) == cloudflare.Auth && classOf(err) == cloudflare.Auth
	if err == nil {
		for _, u := range c.choice.Unmatched(seen) {
			r.Unmatched = append(r.Unmatched, fmt.Sprintf("%s %q %s", u.Setting, u.Entry, u.Reason))
		}
	}
	var collected []bucket.Scope
	names := map[string]string{}
	for i, z := range zones {
		selected := c.choice.Wants(seen[i])
		r.Zones = append(r.Zones, ZoneReport{ID: z.ID, Name: z.Name, Status: z.Status, Paused: z.Paused, Selected: selected})
		if selected && z.Status == "active" && !z.Paused {
			collected, names[z.ID] = append(collected, seen[i].Scope()), z.Name
		}
	}
	if len(collected) == 0 {
		r.SettingsSkipped = "no zone is collected"
		return
	}
	var skip noPermit
	if err := permit(ctx); errors.As(err, &skip) {
		r.SettingsSkipped = string(skip)
		return
	} else if err != nil {
		r.SettingsErr = err
		return
	}
	r.Settings, r.SettingsErr = plans(ctx, client, collected, nodesOf(datasets), names)
	r.SettingsDenied = classOf(r.SettingsErr) == cloudflare.Denied
}

// plans asks for the settings of as many zones as one document holds.
func plans(ctx context.Context, client *cloudflare.Client, zones []bucket.Scope, nodes []string, names map[string]string) (out []ZoneSettings, err error) {
	asks := plan.Settings(zones, nodes, plan.DefaultCeilings)
	if len(asks) == 0 {
		return nil, nil
	}
	var ids []string
	for _, s := range asks[0].Scopes {
		ids = append(ids, s.ID)
	}
	found, err := client.Settings(ctx, "", ids, asks[0].Nodes)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		of, visible := found[id]
		if !visible {
			continue
		}
		z := ZoneSettings{Zone: names[id]}
		for _, n := range asks[0].Nodes {
			if s, ok := of[n]; ok && s.Enabled {
				z.Allowed = append(z.Allowed, n)
			} else {
				z.Refused = append(z.Refused, n)
			}
		}
		out = append(out, z)
	}
	return out, nil
}

func nodesOf(c *catalogue.Catalogue) (nodes []string) {
	for _, d := range c.Datasets {
		if d.ScopeKind != bucket.Zone || d.State {
			continue
		}
		for _, v := range d.Variants {
			if !slices.Contains(nodes, v.Node) {
				nodes = append(nodes, v.Node)
			}
		}
	}
	return nodes
}

func classOf(err error) cloudflare.Class {
	var e *cloudflare.Error
	if errors.As(err, &e) {
		return e.Class
	}
	return 0
}

// noPermit is the reason why a request is not sent.
type noPermit string

func (n noPermit) Error() string { return string(n) }

// permit reserves one request of the budget that the collectors on the store share (G7).
func (c *Config) permit(ctx context.Context, s store.Store, of credential, clk clock.Clock) error {
	if s == nil {
		return noPermit("a query of the GraphQL API needs a permit, which only a Postgres store grants beside its collector (WEIR_DATABASE_URL)")
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	now := clk.Now()
	grant, err := s.Reserve(ctx, store.Permits{
		User: of.user, Want: 1, Limit: int(of.share * queriesPerSpan), Now: now, UseBy: now.Add(settingsUseBy), Span: 5 * time.Minute,
		Holder: "doctor", Block: "doctor-" + hex.EncodeToString(id),
	})
	switch {
	case errors.Is(err, store.ErrDenied):
		return noPermit("this role may not reserve a permit of the budget; connect as the collector's role")
	case err != nil:
		return fmt.Errorf("reserve a permit: %w", err)
	case grant.N == 0:
		return noPermit("the budget is used up until " + grant.RetryAt.UTC().Format(time.TimeOnly) + " UTC")
	}
	return nil
}

// queriesPerSpan is Cloudflare's limit of GraphQL queries per user and five minutes.
const queriesPerSpan = 300

// clockmeter compares the clocks at both ends of each response with its date, and counts
// the requests.
type clockmeter struct {
	base  http.RoundTripper
	clock clock.Clock

	mu              sync.Mutex
	requests        int
	skew, uncertain time.Duration
}

// RoundTrip implements [http.RoundTripper].
func (m *clockmeter) RoundTrip(r *http.Request) (*http.Response, error) {
	before := m.clock.Now()
	answer, err := m.base.RoundTrip(r)
	after := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	if err != nil {
		return answer, err
	}
	date, bad := http.ParseTime(answer.Header.Get("Date"))
	// The header has whole seconds, so the moment is within the second that it names.
	half := (after.Sub(before) + time.Second) / 2
	if bad == nil && (m.uncertain == 0 || half < m.uncertain) {
		m.skew, m.uncertain = date.Add(time.Second/2).Sub(before.Add(after.Sub(before)/2)), half
	}
	return answer, nil
}
