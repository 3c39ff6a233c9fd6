package poll_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// ownDataset is the entry of a catalogue file.
const ownDataset = `datasets:
  - name: devices
    description: HTTP requests of a zone by type of device
    scope: zone
    size: 1h
    depth: 6h
    level: cloudflare_zone_requests_by_device
    families:
      - {name: cloudflare_zone_requests_by_device, help: HTTP requests by type of device., labels: [device]}
    variants:
      - name: adaptive
        node: httpRequestsAdaptiveGroups
        filter: {requestSource: eyeball}
        dimensions: [clientDeviceType]
        rows: 100
        measures:
          - {family: cloudflare_zone_requests_by_device, field: count, labels: {device: clientDeviceType}}
`

// A dataset of the user's file that nobody may request is a problem: its names may be misspelt. It
// ends when somebody may, and a built-in one that no plan has is none.
func TestAnOwnDatasetThatNobodyMayRequest(t *testing.T) {
	w := newWorld(t, zones("shop.example", "blog.example"))
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, w.registry)
	run := func(text string, want ...string) {
		t.Helper()
		var err error
		if w.catalogue, err = catalogue.Load([]byte(text), catalogue.Options{Enable: []string{"bot_countries"}}); err != nil {
			t.Fatal(err)
		}
		w.config.Catalogue = w.catalogue
		w.run(10 * time.Minute)
		if got := w.problems(trouble.DatasetDisabled); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("problems about %q, want %q", got, want)
		}
	}
	run(strings.ReplaceAll(ownDataset, "clientDeviceType", "clientDeviceTyp"), "devices_1h")
	run(strings.ReplaceAll(ownDataset, "httpRequestsAdaptiveGroups", "httpRequestsAdaptivGroups")+`nodes:
  httpRequestsAdaptivGroups: {filter_field: datetime, times: {1h: datetimeHour}}
`, "devices_1h")
	run(ownDataset)
}
