package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
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

// reach finds the credential that sees a zone.
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
		return &way{client: client, zone: zones[at], permit: func(ctx context.Context) (err error) {
			if c.DatabaseURL.IsZero() {
				return c.permit(ctx, nil, all[i], clk)
			}
			s, err := openBeside(ctx, *c, clk)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			return c.permit(ctx, s, all[i], clk)
		}}, nil
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

// scaffold prints an entry for a node with the fields that the scope may query.
func (y *way) scaffold(ctx context.Context, w io.Writer, node, scope string) error {
	id, zones, account := y.zone.ID, []string{y.zone.ID}, ""
	if scope == "account" {
		id, zones, account = y.zone.Account.ID, nil, y.zone.Account.ID
	}
	if err := y.permit(ctx); err != nil {
		return err
	}
	settings, err := y.client.Settings(ctx, account, zones, []string{node})
	if err != nil {
		return fmt.Errorf("ask for the settings of %s: %w", node, err)
	}
	s, ok := settings[id][node]
	if !ok || !s.Enabled {
		return fmt.Errorf("node %s is not enabled for %s %s; another plan or product may include it", node, scope, id)
	}
	return printed(io.WriteString(w, entry(node, scope, s.Available)))
}

// steps are the time dimensions by the length of their groups.
var steps = [][2]string{
	{"1m", "datetimeMinute"}, {"5m", "datetimeFiveMinutes"}, {"15m", "datetimeFifteenMinutes"}, {"30m", "datetimeHalfOfHour"}, {"1h", "datetimeHour"}, {"1d", "date"},
}

// word is a part of a name in camel case.
var word = regexp.MustCompile(`[A-Z]+[a-z0-9]*|^[a-z0-9]+`)

// entry is a catalogue entry for a node with fields as settings list them.
func entry(node, scope string, available []string) string {
	var b strings.Builder
	stem := "own_" + strings.ToLower(strings.Join(word.FindAllString(strings.TrimSuffix(strings.TrimSuffix(node, "Groups"), "Adaptive"), -1), "_"))
	prefix := "cloudflare_" + scope + "_" + stem + "_"
	fmt.Fprintf(&b, "# A first entry, by what the %s may query. Name the families, choose dimensions as labels,\n# and validate it with \"collector catalogue check\".\n", scope)
	var times, dimensions, amounts, others []string
	for _, t := range steps {
		if slices.Contains(available, "dimensions_"+t[1]) {
			times = append(times, t[0]+": "+t[1])
		}
	}
	for _, name := range available {
		container, field, nested := strings.Cut(name, "_")
		switch {
		case container == "dimensions" && !strings.HasPrefix(field, "date"):
			dimensions = append(dimensions, field)
		case name == "count", container == "sum" && nested && !strings.HasSuffix(field, "Map") && !strings.Contains(field, "Array"):
			amounts = append(amounts, name)
		case container != "dimensions" && container != "confidence" && name != "avg_sampleInterval":
			others = append(others, strings.Replace(name, "_", ".", 1))
		}
	}
	filter := "datetime"
	if !slices.Contains(available, "dimensions_datetime") {
		filter = "datetimeMinute"
	}
	if !catalogue.KnowsNode(node) {
		fmt.Fprintf(&b, "nodes:\n  %s:\n    filter_field: %s\n    times: {%s}\n", node, filter, strings.Join(times, ", "))
		if slices.Contains(available, "avg_sampleInterval") {
			b.WriteString("    sampled: true\n    interval: avg.sampleInterval\n")
		}
	}
	if len(amounts) == 0 {
		fmt.Fprintf(&b, "# It has no amounts to begin with. Statistics: %s\n", strings.Join(others, ", "))
		return b.String()
	}
	if slices.Contains(amounts, "count") { // the best level
		amounts = slices.Insert(slices.DeleteFunc(amounts, func(a string) bool { return a == "count" }), 0, "count")
	}
	measured := make([]amount, len(amounts))
	for i, name := range amounts {
		measured[i] = amountOf(prefix, name)
	}
	if level := slices.IndexFunc(measured, func(m amount) bool { return m.scale == "" }); level > 0 {
		measured[0], measured[level] = measured[level], measured[0]
	}
	fmt.Fprintf(&b, "datasets:\n  - name: %s\n    description: What %s reports\n    scope: %s\n    size: 1h\n    depth: 6h\n    level: %s\n    families:\n", stem, node, scope, measured[0].family)
	for _, m := range measured {
		fmt.Fprintf(&b, "      - {name: %s, help: %s in the bucket.%s}\n", m.family, strings.Replace(m.name, "_", " ", 1), optional("unit", m.unit))
	}
	fmt.Fprintf(&b, "    variants:\n      - name: groups\n        node: %s\n        rows: 1\n        # dimensions: [%s]\n        measures:\n", node, strings.Join(dimensions, ", "))
	for _, m := range measured {
		fmt.Fprintf(&b, "          - {family: %s, field: %s%s}\n", m.family, strings.Replace(m.name, "_", ".", 1), optional("scale", m.scale))
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, "        # Statistics: %s\n", strings.Join(others, ", "))
	}
	return b.String()
}

// amount is an amount of a node and the family that it could feed.
type amount struct{ name, family, unit, scale string }

// amountOf names the family after the field, in its base unit.
func amountOf(prefix, name string) amount {
	_, field, _ := strings.Cut(name, "_")
	a := amount{name: name}
	for _, end := range [][3]string{{"Ms", "Seconds", "ms"}, {"Us", "Seconds", "us"}, {"bits", "bytes", "bits"}, {"Bits", "Bytes", "bits"}} {
		if rest, ok := strings.CutSuffix(field, end[0]); ok {
			field, a.scale = rest+end[1], end[2]
			break
		}
	}
	a.family = prefix + strings.ToLower(strings.Join(word.FindAllString(cmp.Or(field, "events"), -1), "_"))
	for _, ending := range []string{"minutes", "total", "count", "sum", "bucket", "info", "created"} { // that no family may have
		if strings.HasSuffix(a.family, "_"+ending) {
			a.family += "_reported"
		}
	}
	for _, unit := range []string{"bytes", "seconds", "ratio"} {
		if strings.HasSuffix(a.family, "_"+unit) {
			a.unit = unit
		}
	}
	return a
}

func optional(key, value string) string {
	if value == "" {
		return ""
	}
	return ", " + key + ": " + value
}
