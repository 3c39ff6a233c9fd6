// Package grafana has what Weir's dashboards have in common: how they are encoded, their
// data source, their variables and thresholds.
package grafana

import (
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Documents are where the links of dashboards lead.
const Documents = "https://github.com/weir-metrics/weir/blob/main/docs/"

// Encode is a dashboard as Grafana imports it, without spaces: kubectl apply keeps a
// copy of what it applies in an annotation, whose size Kubernetes limits.
func Encode(b *dashboard.DashboardBuilder) ([]byte, error) {
	d, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("build the dashboard: %w", err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode the dashboard: %w", err)
	}
	return append(text, '\n'), nil
}

// New is an empty dashboard that links to all others of Weir and to a document.
func New(uid, title, description, document string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder(title).Uid(uid).Description(description).
		Tags([]string{"weir", "cloudflare"}).
		Timezone("utc").
		Time("now-6h", "now").
		Refresh("1m").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("Dashboards of Weir").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"weir"}).AsDropdown(true).IncludeVars(true).KeepTime(true)).
		Link(dashboard.NewDashboardLinkBuilder("Documentation").Type(dashboard.DashboardLinkTypeLink).Icon("doc").Url(Documents + document).TargetBlank(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus"))
}

// Source is the data source that the reader chooses.
func Source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

// One is a variable with one of the values that Prometheus has.
func One(name, label, values string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).
		Datasource(Source()).
		Query(dashboard.StringOrMap{String: cog.ToPtr(values)}).
		Definition(values).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc)
}

// Many is a variable with any number of the values that Prometheus has; All matches
// series without the label too.
func Many(name, label, values string) *dashboard.QueryVariableBuilder {
	return One(name, label, values).Multi(true).IncludeAll(true).AllValue(".*").Current(Option("All", "$__all"))
}

// Option is a chosen value of a variable.
func Option(text, value string) dashboard.VariableOption {
	return dashboard.VariableOption{
		Selected: cog.ToPtr(true),
		Text:     dashboard.StringOrArrayOfString{String: &text},
		Value:    dashboard.StringOrArrayOfString{String: &value},
	}
}

// Step is a threshold: the colour from a value on.
type Step struct {
	From  float64
	Color string
}

// Thresholds are steps; the first colour is that below the second's value.
func Thresholds(steps []Step) *dashboard.ThresholdsConfigBuilder {
	out := []dashboard.Threshold{}
	for i, s := range steps {
		t := dashboard.Threshold{Color: s.Color}
		if i > 0 {
			t.Value = cog.ToPtr(s.From)
		}
		out = append(out, t)
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(out)
}

// Legend of a graph is a table below it.
func Legend() *common.VizLegendOptionsBuilder {
	return common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeTable).Placement(common.LegendPlacementBottom).ShowLegend(true).Calcs([]string{"lastNotNull", "max"})
}
