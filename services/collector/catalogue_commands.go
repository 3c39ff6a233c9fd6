package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// catalogueCommand is "collector catalogue".
func catalogueCommand() cli.Command {
	var all, check, list, show Config
	one := func(args []string) (string, error) {
		if len(args) != 1 {
			return "", fmt.Errorf("name one dataset, by name or id, such as http or http_5m; there are %d arguments", len(args))
		}
		return args[0], nil
	}
	return cli.Command{
		Name: "catalogue", Summary: "print the datasets that would be collected, as Markdown",
		Help:     "\"collector catalogue schema\" prints the JSON Schema of catalogue files, which editors use to complete and validate them.",
		Settings: all.CatalogueSettings(), Validate: all.Validate,
		Run: func(context.Context, []string) error { return all.WriteCatalogue(os.Stdout) },
		Commands: []cli.Command{
			{
				Name: "check", Summary: "validate the catalogue file and the choice of datasets",
				Help:     "Prints every problem with file, line and key, and what would be right. Nothing is asked of Cloudflare.",
				Settings: check.CatalogueSettings(), Validate: check.Validate,
				Run: func(context.Context, []string) error { return check.checkCatalogue(os.Stdout) },
			},
			{
				Name: "list", Summary: "print every dataset on a line, with its cost",
				Settings: list.CatalogueSettings(), Validate: list.Validate,
				Run: func(context.Context, []string) error { return list.listCatalogue(os.Stdout) },
			},
			{
				Name: "show", Summary: "describe a dataset and its metric families", Args: "DATASET",
				Settings: show.CatalogueSettings(), Validate: show.Validate,
				Run: func(_ context.Context, args []string) error {
					name, err := one(args)
					if err != nil {
						return err
					}
					return show.showDataset(os.Stdout, name)
				},
			},
			explainCommand(one),
			scaffoldCommand(),
			{
				Name: "schema", Summary: "print the JSON Schema of catalogue files",
				Run: func(context.Context, []string) error { return WriteCatalogueSchema(os.Stdout) },
			},
		},
	}
}

func explainCommand(one func([]string) (string, error)) cli.Command {
	var c Config
	var zone string
	return cli.Command{
		Name: "explain", Summary: "print the queries of a dataset and what they cost", Args: "DATASET",
		Help: "Without --zone nothing is asked of Cloudflare. With it, the newest window that is due is requested once and its rows are printed; nothing is stored. " +
			"This takes a permit of the budget that collectors share, which needs Postgres (WEIR_DATABASE_URL).",
		Settings: append(c.askSettings(), cli.Setting{Flag: "zone", Key: "-", Value: cli.Text(&zone), Help: "zone, by name or tag, whose newest window is requested; for a dataset about accounts, any zone of the account"}),
		Validate: c.Validate,
		Run: func(ctx context.Context, args []string) error {
			name, err := one(args)
			if err != nil {
				return err
			}
			d, err := c.lookup(name)
			if err != nil {
				return err
			}
			clk := clock.System()
			if err := explainDataset(os.Stdout, d, clk.Now()); err != nil || zone == "" {
				return err
			}
			w, err := c.reach(ctx, zone, clk)
			if err != nil {
				return err
			}
			return w.rows(ctx, os.Stdout, d, clk.Now())
		},
	}
}

func scaffoldCommand() cli.Command {
	var c Config
	var zone, scope string
	return cli.Command{
		Name: "scaffold", Summary: "write a first catalogue entry for a node of Cloudflare's API", Args: "NODE",
		Help: "Asks the schema of the API (introspection) for the node's fields, their types and descriptions, and prints a valid entry with a family for each number and no labels, " +
			"to be shortened and named by hand. With --zone it also asks what the plan includes: measures that it does not include are optional in the entry. " +
			"Each request takes a permit of the budget that collectors share, which needs Postgres (WEIR_DATABASE_URL).",
		Settings: append(c.askSettings(),
			cli.Setting{Flag: "zone", Key: "-", Value: cli.Text(&zone), Help: "zone, by name or tag, whose plan is asked; for an account, any of its zones; default: no plan is asked"},
			cli.Setting{Flag: "scope", Key: "-", Default: "zone", Value: cli.Enum(&scope, "zone", "account"), Help: "whether the node is one of zones or of accounts"}),
		Validate: c.Validate,
		Run: func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("name one node, such as dnsAnalyticsAdaptiveGroups; there are %d arguments", len(args))
			}
			w, err := c.reach(ctx, zone, clock.System())
			if err != nil {
				return err
			}
			return w.scaffold(ctx, os.Stdout, args[0], scope)
		},
	}
}

// askSettings are those of the catalogue, and those by which Cloudflare is asked.
func (c *Config) askSettings() []cli.Setting {
	own := []string{"CF_API_TOKEN", "WEIR_BUDGET_SHARE", "WEIR_BUDGET_USER", "WEIR_CLOUDFLARE_URL", "WEIR_CLOUDFLARE_CA_FILE", "WEIR_DATABASE_URL", "WEIR_POSTGRES_POOLER"}
	settings := c.CatalogueSettings()
	for _, s := range c.Settings() {
		if slices.Contains(own, s.Env) {
			settings = append(settings, s)
		}
	}
	return settings
}

// WriteCatalogue prints the configured datasets as Markdown.
func (c *Config) WriteCatalogue(w io.Writer) error {
	datasets, err := c.catalogue()
	if err != nil {
		return err
	}
	return printed(io.WriteString(w, datasets.DatasetsMarkdown(cost)))
}

// WriteProfiles prints the datasets of each profile as Markdown.
func WriteProfiles(w io.Writer) error {
	text, err := catalogue.ProfilesMarkdown()
	if err != nil {
		return err
	}
	return printed(io.WriteString(w, text))
}

// WriteCatalogueSchema prints the JSON Schema of catalogue files.
func WriteCatalogueSchema(w io.Writer) error {
	text, err := json.MarshalIndent(catalogue.Schema(), "", "  ")
	if err != nil {
		return fmt.Errorf("encode the schema of catalogue files: %w", err)
	}
	return printed(fmt.Fprintf(w, "%s\n", text))
}

func printed(_ int, err error) error {
	if err != nil {
		return fmt.Errorf("print catalogue: %w", err)
	}
	return nil
}

func (c *Config) checkCatalogue(w io.Writer) error {
	datasets, err := c.catalogue()
	if err != nil {
		return err
	}
	return printed(fmt.Fprintf(w, "The catalogue is valid: %d datasets, of which %d are collected.\n", len(datasets.Available), len(datasets.Datasets)))
}

func (c *Config) listCatalogue(w io.Writer) error {
	datasets, err := c.catalogue()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DATASET\tSCOPE\tCOLLECTED\tPLANS\tREQUESTS\tDESCRIPTION")
	for i := range datasets.Available {
		d := &datasets.Available[i]
		collected := "no"
		if d.Enabled {
			collected = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Dataset, d.ScopeKind, collected, d.Plans(), cost(d), d.Description)
	}
	return printed(0, t.Flush())
}

func (c *Config) showDataset(w io.Writer, name string) error {
	d, err := c.lookup(name)
	if err != nil {
		return err
	}
	return printed(io.WriteString(w, d.Markdown()))
}

// lookup returns an available dataset by name or id.
func (c *Config) lookup(name string) (*catalogue.Dataset, error) {
	datasets, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	return datasets.Lookup(name)
}

// requests is the number of requests per five minutes of a dataset alone, for so many
// scopes, through its first variant.
func requests(d *catalogue.Dataset, scopes int) float64 {
	var wants []plan.Want
	for i := range scopes {
		wants = append(wants, plan.Want{Dataset: d, Variant: &d.Variants[0], Scope: bucket.Scope{Kind: d.ScopeKind, ID: fmt.Sprintf("%032x", i)}})
	}
	return plan.Need(wants, time.Minute, 5*time.Minute, plan.DefaultCeilings)
}

// cost writes what ten zones, or one account, need per hour of a dataset alone.
func cost(d *catalogue.Dataset) string {
	scopes := plan.DefaultCeilings.Zones
	if d.ScopeKind == bucket.Account {
		scopes = 1
	}
	if d.Size > time.Hour {
		return "a few a day"
	}
	return fmt.Sprintf("%.0f/h", 12*requests(d, scopes))
}

// newest is the newest window that is due.
func newest(d *catalogue.Dataset, now time.Time) bucket.Window {
	end := plan.Due(bucket.TimeOf(now), d.Size, d.Delay)
	return bucket.Window{Start: end.Add(-d.Size), End: end}
}

// explainDataset prints the query of each variant for the newest window, and what it costs.
func explainDataset(w io.Writer, d *catalogue.Dataset, now time.Time) error {
	fmt.Fprintf(w, "%s: %s\n", d.Dataset, d.Description)
	if plans := d.Plans(); plans != "" {
		fmt.Fprintf(w, "Plans: %s\n", plans)
	}
	if d.Size > time.Hour {
		fmt.Fprintln(w, "Requests: a few a day")
	} else {
		for _, n := range []int{1, 10, 100} {
			fmt.Fprintf(w, "Requests of this dataset alone for %3d %ss: %.2f per five minutes\n", n, d.ScopeKind, requests(d, n))
		}
	}
	if d.State {
		return explainState(w, d)
	}
	fmt.Fprintf(w, "A request holds up to %d selections, which datasets share.\n", plan.DefaultCeilings.Selections)
	for i := range d.Variants {
		v := &d.Variants[i]
		q := query(d, v, strings.Repeat("0", 32), newest(d, now))
		text, err := q.Document()
		if err != nil {
			return fmt.Errorf("write the query of %s %s: %w", d.Dataset, v.Name, err)
		}
		fmt.Fprintf(w, "\nVariant %s:\n%s\n", v.Name, text)
	}
	return nil
}

// explainState prints what is read of a state.
func explainState(w io.Writer, d *catalogue.Dataset) error {
	v := &d.Variants[0]
	fmt.Fprintf(w, "A state of the REST API: read once at the end of each bucket, at most %s after it. A reading is expected to take %d, and takes at most %d requests.\n",
		cli.FormatDuration(d.Within()), v.Calls, cloudflare.MostCalls)
	fmt.Fprintf(w, "Permission of the token: %s\n\nVariant %s:\n", v.Permission, v.Name)
	for path := range strings.SplitSeq(v.REST, ", ") {
		fmt.Fprintf(w, "GET /%ss/{%s}/%s\n", d.ScopeKind, d.ScopeKind, path)
	}
	return nil
}

// query is the query of a variant for one scope and window.
func query(d *catalogue.Dataset, v *catalogue.Variant, id string, window bucket.Window) *cloudflare.Query {
	s := d.Selection(v)
	q := &cloudflare.Query{Selections: []cloudflare.Selection{{
		Alias: "a", Node: s.Node, FilterField: s.FilterField, Window: window, Filter: s.Filter, Dimensions: s.Dimensions,
		TimeDimension: s.TimeDimension, Fields: s.Fields, Confidence: s.Confidence, Limit: plan.DefaultCeilings.Rows, OrderBy: s.OrderBy,
	}}}
	if d.ScopeKind == bucket.Account {
		q.AccountID = id
	} else {
		q.Zones = []string{id}
	}
	return q
}

// errNoZone is that no credential sees a zone.
var errNoZone = errors.New("no zone of that name or tag is visible to the token; the name must be as Cloudflare lists it")
