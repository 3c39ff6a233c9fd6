// Package dashboards has the Grafana dashboards, which tools/monitoring generates.
package dashboards

import _ "embed" // for Pipeline

// Pipeline is the dashboard "Weir pipeline", as Grafana imports it.
//
//go:embed weir-pipeline.json
var Pipeline []byte
