// Package traffic is the dashboards of what Cloudflare served: what they show, as tables in
// a file for each, and how that becomes Grafana's JSON. They work with the replay, with
// counters, or with both; expr.go says how.
package traffic

import (
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/geomap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/weir-metrics/weir/tools/monitoring/grafana"
)

// board is a dashboard.
type board struct {
	// name is that of its file, weir-NAME.json, and its uid.
	name, title string
	// shows is its description.
	shows string
	// zones is how its readers choose zones.
	zones choice
	rows  []row
}

type choice int

const (
	manyZones choice = iota
	oneZone
	accountsOnly
)

type row struct {
	title  string
	panels []panel
}

// kind is how a panel shows its data.
type kind int

const (
	graph   kind = iota
	figure       // the last value
	list         // a table, a row for each set of labels and a column for each query
	bubbles      // a map of the world, a bubble for each country
)

// panel is what one panel shows.
type panel struct {
	title string
	kind  kind
	unit  string
	// shows says what the values are, normal what they usually are.
	shows, normal string
	// datasets are those that must be collected, by id. The longest bucket is the
	// least step.
	datasets []string
	// queries of a list are its columns, with their names as legends.
	queries []query
	steps   []grafana.Step
	stacked bool
	// ratio: the scale ends at 1.
	ratio bool
	// width in columns of 24; 0: as wide as its neighbours of the same kind.
	width uint32
	// tall: the list is as high as the map beside it.
	tall bool
	// drill: rows of the list lead to the dashboard of their zone.
	drill bool
}

// query is an expression and how its series are called. unit is that of a list's
// column; empty: the panel's.
type query struct{ legend, expr, unit string }

// File is a dashboard as Grafana imports it.
type File struct {
	Name string
	JSON []byte
}

// Build returns the dashboards.
func Build() (out []File, err error) {
	for _, b := range boards() {
		text, err := grafana.Encode(b.builder())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.title, err)
		}
		out = append(out, File{Name: "weir-" + b.name + ".json", JSON: text})
	}
	return out, nil
}

func boards() []board {
	return []board{overview(), zone(), security(), origin(), workers(), migration()}
}

func (b board) builder() *dashboard.DashboardBuilder {
	d := grafana.New("weir-"+b.name, b.title, b.shows, "dashboards.md#"+b.name).
		Link(dashboard.NewDashboardLinkBuilder("Status page").Type(dashboard.DashboardLinkTypeLink).Icon("external link").Url("${status}").TargetBlank(true)).
		WithVariable(sourceVariable())
	accounts := `label_values({__name__=~"cloudflare_zone_requests(_total)?"}, account)`
	zones := `label_values({__name__=~"cloudflare_zone_requests(_total)?",account=~"$account"}, zone)`
	if b.zones == accountsOnly {
		accounts = `label_values({__name__=~"cloudflare_(account_.+|zone_requests(_total)?)"}, account)`
	}
	d = d.WithVariable(grafana.Many("account", "Account", accounts))
	switch b.zones {
	case manyZones:
		d = d.WithVariable(grafana.Many("zone", "Zone", zones))
	case oneZone:
		// Grafana escapes a name in a regular expression only if there may be several.
		d = d.WithVariable(grafana.One("zone", "Zone", zones).Multi(true))
	}
	d = d.WithVariable(bucketVariable()).WithVariable(statusVariable())
	id := uint32(0)
	for _, r := range b.rows {
		id++
		d = d.WithRow(dashboard.NewRowBuilder(r.title).Id(id))
		for _, p := range r.panels {
			id++
			d = d.WithPanel(p.builder(id, r.span(p)))
		}
	}
	return d
}

// Values of the variable Source, which the expressions compare with an absent label.
const (
	fromReplay   = "|replay"
	fromCounters = "counters"
)

func sourceVariable() *dashboard.CustomVariableBuilder {
	return fixed("source", "Source", "Replay: the exact amounts of /metrics, at their own time. Counters: those of /counters, some minutes late.",
		[]string{"Replay", "Counters"}, []string{fromReplay, fromCounters})
}

func bucketVariable() *dashboard.CustomVariableBuilder {
	sizes := []string{"5m", "15m", "30m", "1h", "1d"}
	return fixed("bucket", "HTTP bucket", "The least step of graphs of the dataset http: the length of its buckets (CF_BUCKET_SECONDS), or 5m if they are shorter.", sizes, sizes)
}

func fixed(name, label, description string, texts, values []string) *dashboard.CustomVariableBuilder {
	var list []string
	var options []dashboard.VariableOption
	for i, text := range texts {
		list = append(list, text+" : "+values[i])
		o := grafana.Option(text, values[i])
		o.Selected = cog.ToPtr(i == 0)
		options = append(options, o)
	}
	return dashboard.NewCustomVariableBuilder(name).Label(label).Description(description).
		Values(dashboard.StringOrMap{String: cog.ToPtr(strings.Join(list, ","))}).
		Options(options).Current(grafana.Option(texts[0], values[0]))
}

// statusVariable is hidden: a setting of the dashboard, not a choice of its readers.
func statusVariable() *dashboard.TextBoxVariableBuilder {
	const address = "http://127.0.0.1:9810/status"
	return dashboard.NewTextBoxVariableBuilder("status").Label("Status page").Hide(dashboard.VariableHideHideVariable).
		Description("Address of the status page of an exposer, for the link above.").
		DefaultValue(dashboard.StringOrMap{String: cog.ToPtr(address)}).Current(grafana.Option(address, address))
}

// Heights of panels, and columns of a dashboard.
const (
	figureHeight = 4
	graphHeight  = 8
	mapHeight    = 14
	columns      = 24
)

// span is the width of a panel: figures share a line, others are half as wide as it.
func (r row) span(p panel) uint32 {
	switch {
	case p.width > 0:
		return p.width
	case p.kind == figure:
		figures := 0
		for _, other := range r.panels {
			if other.kind == figure {
				figures++
			}
		}
		return uint32(columns / figures)
	}
	return columns / 2
}

// profiles are the sets of datasets that WEIR_PROFILE names, the smallest first. The
// profile all has every dataset.
var profiles = []struct {
	name     string
	datasets []string
}{
	{"default", []string{"content_types_1h", "countries_1h", "http_5m", "uniques_1d", "uniques_1h"}},
	{"lablabs", []string{
		"account_logpush_5m", "asns_1h", "browsers_1h", "colo_hosts_1h", "content_types_1h", "countries_1h", "edge_responses_1h",
		"firewall_rule_names_1h", "firewall_rules_1h", "health_checks_5m", "http_5m", "load_balancer_pools_5m", "load_balancing_5m", "logpush_5m", "origin_responses_1h", "r2_operations_1h",
		"r2_storage_1h", "threat_countries_1h", "threat_types_1h", "tunnel_connectors_5m", "tunnels_5m", "uniques_1d", "uniques_1h", "worker_durations_5m", "workers_5m",
	}},
}

// profile is the smallest that has a dataset.
func profile(dataset string) string {
	for _, p := range profiles {
		if slices.Contains(p.datasets, dataset) {
			return p.name
		}
	}
	return "all"
}

// step is the least step of a panel: a shorter one would show holes between buckets, or
// take a bucket's amount for that of less time.
func (p panel) step() string {
	step := "5m"
	for _, d := range p.datasets {
		size := d[strings.LastIndex(d, "_")+1:]
		switch {
		case d == "http_5m" && step == "5m":
			step = "$bucket"
		case size == "1d", size == "1h" && step != "1d":
			step = size
		}
	}
	return step
}

// needs says what must be collected.
func (p panel) needs() string {
	var out []string
	for _, d := range p.datasets {
		if profile(d) == "default" {
			out = append(out, "`"+d+"` (collected by default)")
			continue
		}
		out = append(out, fmt.Sprintf("`%[1]s` (`WEIR_DATASETS=%[1]s` or `WEIR_PROFILE=%[2]s`)", d, profile(d)))
	}
	return strings.Join(out, ", ")
}

// empty is what a panel without data says.
func (p panel) empty() string {
	var out []string
	for _, d := range p.datasets {
		out = append(out, fmt.Sprintf("%s (profile %s)", d, profile(d)))
	}
	return "No data. Needs dataset " + strings.Join(out, ", ")
}

func (p panel) description() string {
	return p.shows + "\n\n**Normal:** " + p.normal + "\n\n**Dataset:** " + p.needs() + "." + p.sources()
}

// sources says what the panel cannot show of counters.
func (p panel) sources() string {
	replay := 0
	for _, q := range p.queries {
		if strings.Contains(q.expr, "LEVEL(") {
			replay++
		}
	}
	switch replay {
	case 0:
		return ""
	case len(p.queries):
		return " From the replay only, whatever Source says: there is no counter of it."
	}
	return " Partly from the replay only, whatever Source says."
}

func (p panel) links() (out []cog.Builder[dashboard.DashboardLink]) {
	for _, d := range p.datasets {
		out = append(out, dashboard.NewDashboardLinkBuilder("Dataset "+d).Type(dashboard.DashboardLinkTypeLink).Url(grafana.Documents+"datasets.md#"+d).TargetBlank(true))
	}
	return out
}

func (p panel) targets() (out []cog.Builder[variants.Dataquery]) {
	for i, q := range p.queries {
		t := prometheus.NewDataqueryBuilder().
			RefId(string(rune('A' + i))).
			Datasource(grafana.Source()).
			Expr(spelled(q.expr)).
			LegendFormat(q.legend).
			Interval(p.step()).
			EditorMode(prometheus.QueryEditorModeCode)
		switch p.kind {
		case graph:
			t = t.Range()
		case figure:
			t = t.Instant()
		case list, bubbles:
			t = t.Instant().Format(prometheus.PromQueryFormatTable)
		}
		out = append(out, t)
	}
	return out
}

func (p panel) builder(id, span uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case figure:
		return p.figure(id, span)
	case list:
		return p.list(id, span)
	case bubbles:
		return p.bubbles(id, span)
	}
	return p.graph(id, span)
}

func (p panel) graph(id, span uint32) cog.Builder[dashboard.Panel] {
	b := timeseries.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Links(p.links()).
		Datasource(grafana.Source()).Targets(p.targets()).Unit(p.unit).NoValue(p.empty()).
		Height(graphHeight).Span(span).
		FillOpacity(10).LineWidth(1).ShowPoints(common.VisibilityModeAuto).
		AxisSoftMin(0).
		Legend(grafana.Legend()).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.ratio {
		b = b.Min(0).Max(1)
	}
	if p.stacked {
		b = b.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal)).FillOpacity(30)
	}
	if len(p.steps) > 0 {
		b = b.Thresholds(grafana.Thresholds(p.steps)).ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return b
}

func (p panel) figure(id, span uint32) cog.Builder[dashboard.Panel] {
	steps := p.steps
	if steps == nil {
		steps = []grafana.Step{{Color: "text"}}
	}
	return stat.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Links(p.links()).
		Datasource(grafana.Source()).Targets(p.targets()).Unit(p.unit).NoValue(p.empty()).
		Height(figureHeight).Span(span).
		Thresholds(grafana.Thresholds(steps)).
		GraphMode(common.BigValueGraphModeNone).
		ColorMode(common.BigValueColorModeValue).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
}

// value is the name that Grafana gives to a query's values in a table.
func (p panel) value(i int) string {
	if len(p.queries) == 1 {
		return "Value"
	}
	return "Value #" + string(rune('A'+i))
}

func (p panel) height() uint32 {
	if p.tall || p.kind == bubbles {
		return mapHeight
	}
	return graphHeight
}

func (p panel) list(id, span uint32) cog.Builder[dashboard.Panel] {
	names := map[string]any{}
	b := table.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Links(p.links()).
		Datasource(grafana.Source()).Targets(p.targets()).Unit(p.unit).NoValue(p.empty()).
		Height(p.height()).Span(span).
		SortBy([]cog.Builder[common.TableSortByFieldState]{common.NewTableSortByFieldStateBuilder().DisplayName(p.queries[0].legend).Desc(true)})
	for i, q := range p.queries {
		names[p.value(i)] = q.legend
		if q.unit != "" {
			b = b.OverrideByName(q.legend, []dashboard.DynamicConfigValue{{Id: "unit", Value: q.unit}})
		}
	}
	if p.drill {
		b = b.OverrideByName("zone", []dashboard.DynamicConfigValue{{Id: "links", Value: []map[string]any{{
			"title": "${__value.text} in depth",
			"url":   "/d/weir-zone?var-zone=${__value.raw:percentencode}&var-source=${source:percentencode}&var-datasource=${datasource:percentencode}&var-bucket=${bucket}&${__url_time_range}",
		}}}})
	}
	return b.Transformations([]dashboard.DataTransformerConfig{
		{Id: "merge", Options: map[string]any{}},
		{Id: "organize", Options: map[string]any{"excludeByName": map[string]bool{"Time": true}, "renameByName": names}},
	})
}

// bubbles places countries by Cloudflare's two-letter codes, which Grafana knows. What
// has no place (other, Tor's T1, unknown XX) is in the list beside the map.
func (p panel) bubbles(id, span uint32) cog.Builder[dashboard.Panel] {
	value := p.value(0)
	layer := common.NewMapLayerOptionsBuilder().Type("markers").Name(p.queries[0].legend).Tooltip(true).
		Location(common.NewFrameGeometrySourceBuilder().Mode(common.FrameGeometrySourceModeLookup).Lookup("country").Gazetteer("public/gazetteer/countries.json")).
		Config(map[string]any{
			"showLegend": false,
			"style": map[string]any{
				"size":    map[string]any{"field": value, "fixed": 5, "min": 3, "max": 40},
				"color":   map[string]any{"fixed": "blue"},
				"opacity": 0.5,
				"symbol":  map[string]any{"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
			},
		})
	return geomap.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Links(p.links()).
		Datasource(grafana.Source()).Targets(p.targets()).Unit(p.unit).NoValue(p.empty()).
		Height(p.height()).Span(span).
		View(geomap.NewMapViewConfigBuilder().Id("coords").Lat(25).Lon(10).Zoom(2)).
		Basemap(common.NewMapLayerOptionsBuilder().Type("default").Name("World")).
		Layers([]cog.Builder[common.MapLayerOptions]{layer}).
		Tooltip(geomap.NewTooltipOptionsBuilder().Mode(geomap.TooltipModeDetails)).
		OverrideByName(value, []dashboard.DynamicConfigValue{{Id: "displayName", Value: p.queries[0].legend}})
}
