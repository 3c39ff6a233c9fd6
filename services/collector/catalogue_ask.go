package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// way is one zone and how it is asked, with a permit for each request.
type way struct {
	client *cloudflare.Client
	zone   cloudflare.Zone
	permit func(context.Context) error
}

// reach finds the credential that sees a zone. Without a zone it is the first one.
func (c *Config) reach(ctx context.Context, zone string, clk clock.Clock) (*way, error) {
	all, err := c.credentials()
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	watch := reload.NewWatch(quiet, clk.Now)
	transport, err := c.transport(watch)
	if err != nil {
		return nil, err
	}
	clients, err := c.clients(Deps{Transport: transport, Logger: quiet}, watch, all)
	if err != nil {
		return nil, err
	}
	permit := func(of credential) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			if c.DatabaseURL.IsZero() {
				return c.permit(ctx, nil, of, clk)
			}
			s, err := openBeside(ctx, *c, clk)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			return c.permit(ctx, s, of, clk)
		}
	}
	if zone == "" {
		return &way{client: clients[0], permit: permit(all[0])}, nil
	}
	var failed error // of credentials that might see the zone
	for i, client := range clients {
		zones, err := client.Zones(ctx)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("list the zones of credential %s: %w", all[i].name, err))
			continue
		}
		at := slices.IndexFunc(zones, func(z cloudflare.Zone) bool { return z.ID == zone || strings.EqualFold(z.Name, zone) })
		if at < 0 {
			continue
		}
		return &way{client: client, zone: zones[at], permit: permit(all[i])}, nil
	}
	return nil, errors.Join(fmt.Errorf("zone %q: %w", zone, errNoZone), failed)
}

// rows requests the newest window of a dataset through the first variant that is not
// refused, and prints what would be stored.
func (y *way) rows(ctx context.Context, w io.Writer, d *catalogue.Dataset, now time.Time) error {
	id := y.zone.ID
	if d.ScopeKind == bucket.Account {
		id = y.zone.Account.ID
	}
	window := newest(d, now)
	for i := range d.Variants {
		v := &d.Variants[i]
		folded, err := y.fold(ctx, d, v, id, window)
		if refused := new(cloudflare.Error); errors.As(err, &refused) && refused.Class == cloudflare.Entitlement {
			fmt.Fprintf(w, "\nVariant %s is refused: %s\n", v.Name, refused.Message)
			continue
		}
		if err != nil {
			return err
		}
		settled := ", before it has settled for good"
		if d.State {
			settled = ""
		}
		fmt.Fprintf(w, "\n%s of %s now, through variant %s%s:\n", window, y.zone.Name, v.Name, settled)
		return printed(io.WriteString(w, rowsText(d, folded)))
	}
	return fmt.Errorf("dataset %s: every variant is refused to %s", d.Dataset, y.zone.Name)
}

// fold asks once, without the fields that the scope may not query.
func (y *way) fold(ctx context.Context, d *catalogue.Dataset, v *catalogue.Variant, id string, window bucket.Window) (*catalogue.Folded, error) {
	zones, account := []string{id}, ""
	if d.ScopeKind == bucket.Account {
		zones, account = nil, id
	}
	if err := y.permit(ctx); err != nil {
		return nil, err
	}
	if d.State {
		return y.foldState(ctx, d, v, bucket.Scope{Kind: d.ScopeKind, ID: id}, window)
	}
	settings, err := y.client.Settings(ctx, account, zones, []string{v.Node})
	if err != nil {
		return nil, fmt.Errorf("ask for the settings of %s: %w", v.Node, err)
	}
	s, visible := settings[id][v.Node]
	refusal := &cloudflare.Error{Class: cloudflare.Entitlement, Message: fmt.Sprintf("%s is not enabled", v.Node)}
	if !visible || !s.Enabled {
		return nil, refusal
	}
	missing := v.Missing(s.Available)
	if v = v.Without(missing); v == nil {
		refusal.Message = fmt.Sprintf("the plan does not include %s", strings.Join(missing, ", "))
		return nil, refusal
	}
	if err := y.permit(ctx); err != nil {
		return nil, err
	}
	answer, err := y.client.Query(ctx, *query(d, v, id, window))
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", d.Dataset, err)
	}
	groups, visible := answer.Zones[id]["a"]
	if d.ScopeKind == bucket.Account {
		groups, visible = answer.Account["a"]
	}
	if !visible {
		return nil, fmt.Errorf("%s %s is not in the answer", d.ScopeKind, id)
	}
	folded, err := d.Fold(v, window, groups)
	if err != nil {
		return nil, err
	}
	return &folded[0], nil
}

// foldState reads a state, for whose first request there is a permit.
func (y *way) foldState(ctx context.Context, d *catalogue.Dataset, v *catalogue.Variant, of bucket.Scope, window bucket.Window) (*catalogue.Folded, error) {
	groups, err := y.client.State(ctx, v.Node, of, y.permit)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", d.Dataset, err)
	}
	folded, err := d.Fold(v, window, v.Placed(groups, window.Start))
	if err != nil {
		return nil, err
	}
	return &folded[0], nil
}

// rowsText writes rows as Prometheus writes series.
func rowsText(d *catalogue.Dataset, f *catalogue.Folded) string {
	var b strings.Builder
	for i := range d.Families {
		family := &d.Families[i]
		at := slices.IndexFunc(f.Families, func(r bucket.Rows) bool { return r.Family == family.Name })
		if at < 0 {
			continue
		}
		rows := &f.Families[at]
		for j, value := range rows.Values {
			var labels []string
			for k, name := range family.Labels {
				labels = append(labels, fmt.Sprintf("%s=%q", name, rows.Labels[j*len(family.Labels)+k]))
			}
			fmt.Fprintf(&b, "%s{%s} %v\n", family.Name, strings.Join(labels, ","), value)
		}
	}
	if b.Len() == 0 {
		return "(no rows)\n"
	}
	return b.String()
}
