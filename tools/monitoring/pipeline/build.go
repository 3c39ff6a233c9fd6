// Package pipeline is the dashboard "Weir pipeline": what it shows, as tables in
// rows.go and its neighbours, and how that becomes Grafana's JSON.
//
// Expressions are written like the alert rules: the braces after each metric of
// Weir are narrowed to the namespaces and jobs that the dashboard's variables
// select. They give the same figures with one process or many: what each collector
// or exposer tells of the whole is joined with max or min, what each has done is
// added up.
package pipeline

import (
	"regexp"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/weir-metrics/weir/tools/monitoring/grafana"
)

// Runbook is the document that panels link to.
const Runbook = grafana.Documents + "operations.md"

// row is a row of the dashboard.
type row struct {
	title  string
	panels []panel
}

// panel is what one panel shows.
type panel struct {
	title string
	unit  string
	// shows says what the figures are, normal what they are when nothing is wrong.
	shows, normal string
	// runbook is the heading of [Runbook] that helps.
	runbook string
	queries []query
	// steps are thresholds, as value and colour; the first colour is that below
	// the first value.
	steps []step
	// states are the words for values, of a stat.
	states map[string]string
	// stat shows the last value instead of a graph.
	stat bool
	// stacked adds the series of a graph up.
	stacked bool
	// empty is what a stat shows for no data.
	empty string
	// wide takes the whole row.
	wide bool
}

type step = grafana.Step

// query is an expression and how its series are called.
type query struct{ legend, expr string }

// selector is what narrows a metric of Weir.
var selector = regexp.MustCompile(`\b(weir_[a-z_]+|grpc_[a-z_]+|process_[a-z_]+|go_[a-z_]+)\{`)

func narrowed(expr string) string {
	expr = selector.ReplaceAllString(expr, `${1}{namespace=~"$$namespace",job=~"$$job",`)
	return strings.ReplaceAll(expr, ",}", "}")
}

// Build returns the dashboard as Grafana imports it.
func Build() ([]byte, error) {
	b := grafana.New("weir-pipeline", "Weir pipeline",
		"From Cloudflare to Prometheus: whether everything is collected, stored and served, and what is missing. Each panel says what is normal and links to its runbook.",
		"operations.md#alerts").
		WithVariable(grafana.Many("namespace", "Namespace", `label_values(weir_build_info, namespace)`)).
		WithVariable(grafana.Many("job", "Job", `label_values(weir_build_info{namespace=~"$namespace"}, job)`)).
		WithVariable(grafana.Many("dataset", "Dataset", `label_values(weir_collector_last_success_timestamp_seconds{namespace=~"$namespace",job=~"$job"}, dataset)`))
	id := uint32(0)
	for _, r := range rows() {
		id++
		b = b.WithRow(dashboard.NewRowBuilder(r.title).Id(id))
		for _, p := range r.panels {
			id++
			b = b.WithPanel(p.builder(id, len(r.panels)))
		}
	}
	return grafana.Encode(b)
}

// height of a graph and of a stat, and columns of a dashboard.
const (
	graphHeight = 8
	statHeight  = 4
	columns     = 24
)

func (p panel) description() string {
	return p.shows + "\n\n**Normal:** " + p.normal
}

func (p panel) link() *dashboard.DashboardLinkBuilder {
	return dashboard.NewDashboardLinkBuilder("Runbook: " + p.runbook).Type(dashboard.DashboardLinkTypeLink).Url(Runbook + "#" + p.runbook).TargetBlank(true)
}

func (p panel) targets() (out []cog.Builder[variants.Dataquery]) {
	for i, q := range p.queries {
		t := prometheus.NewDataqueryBuilder().
			RefId(string(rune('A' + i))).
			Datasource(grafana.Source()).
			Expr(narrowed(q.expr)).
			LegendFormat(q.legend).
			// The least step: scrapes are up to a minute apart, and a rate needs several.
			Interval("1m").
			EditorMode(prometheus.QueryEditorModeCode).
			Range()
		out = append(out, t)
	}
	return out
}

func (p panel) builder(id uint32, inRow int) cog.Builder[dashboard.Panel] {
	links := []cog.Builder[dashboard.DashboardLink]{p.link()}
	if p.stat {
		b := stat.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Links(links).
			Datasource(grafana.Source()).Targets(p.targets()).Unit(p.unit).
			Height(statHeight).Span(uint32(columns / inRow)).
			Thresholds(grafana.Thresholds(p.steps)).
			GraphMode(common.BigValueGraphModeArea).
			ColorMode(common.BigValueColorModeValue).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
		if p.empty != "" {
			b = b.NoValue(p.empty)
		}
		if p.states != nil {
			options := map[string]dashboard.ValueMappingResult{}
			for value, text := range p.states {
				options[value] = dashboard.ValueMappingResult{Text: cog.ToPtr(text)}
			}
			b = b.Mappings([]dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}})
		}
		return b
	}
	span := uint32(columns / 3)
	if p.wide {
		span = columns
	}
	b := timeseries.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Links(links).
		Datasource(grafana.Source()).Targets(p.targets()).Unit(p.unit).
		Height(graphHeight).Span(span).
		FillOpacity(10).LineWidth(1).ShowPoints(common.VisibilityModeAuto).
		AxisSoftMin(0).
		Legend(grafana.Legend()).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.empty != "" {
		b = b.NoValue(p.empty)
	}
	if p.stacked {
		b = b.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal)).FillOpacity(30)
	}
	if len(p.steps) > 0 {
		b = b.Thresholds(grafana.Thresholds(p.steps)).ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return b
}
