package exprs

import (
	"strings"
	"testing"
)

// The check finds what it is there for.
func TestCheckerCatches(t *testing.T) {
	metrics := map[string]Set{"weir_a": Of("dataset"), "weir_b_bucket": Of("le")}
	for expr, want := range map[string]string{
		`sum by (dataset) (weir_a)`:                                         "",
		`weir_c`:                                                            "no metric weir_c",
		`weir_a{zone="x"}`:                                                  "no label zone",
		`sum by (zone) (weir_a)`:                                            "no label zone to group by",
		`sum by (dataset) (max by (job) (weir_a))`:                          "no label dataset to group by",
		`sum by (dataset) (weir_a) / sum (weir_a)`:                          "nothing matches",
		`weir_a and on (reason) weir_a`:                                     "do not both have the label reason",
		`histogram_quantile(0.9, rate(weir_b_bucket[5m]))`:                  "",
		`histogram_quantile(0.9, sum(rate(weir_b_bucket[5m])))`:             "no label le",
		`sum by (reason) (label_replace(weir_a, "reason", "none", "", ""))`: "",
	} {
		_, faults := Check(expr, metrics)
		if got := strings.Join(faults, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}
