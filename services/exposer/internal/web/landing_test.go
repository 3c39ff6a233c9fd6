package web

import (
	"strings"
	"testing"
)

// The example of a backfill names a zone only for a dataset about zones.
func TestTheExampleFitsTheDataset(t *testing.T) {
	for by, zone := range map[string]bool{"zone": true, "account": false} {
		var b strings.Builder
		if err := landingPage.Execute(&b, page{By: by, Dataset: "x_5m"}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "dataset=x_5m") || strings.Contains(b.String(), "zone=shop.example") != zone {
			t.Errorf("the page of a dataset about a %s does not have the right example:\n%s", by, b.String())
		}
	}
}
