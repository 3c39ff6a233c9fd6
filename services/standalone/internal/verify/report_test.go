package verify

import (
	"strings"
	"testing"
	"time"
)

// Only equal samples, with nothing left out, are a clean result; a difference is one whatever
// else could not be compared.
func TestResult(t *testing.T) {
	until := time.Unix(1795341600, 0)
	for name, c := range map[string]struct {
		report Report
		want   string
	}{
		"equal":                       {Report{Store: 2, Equal: 2}, "result: clean\n"},
		"equal and pending":           {Report{Store: 3, Equal: 2, Pending: 1, PendingUntil: &until}, " (pending until 2026-11-22T10:00:00Z)\nresult: clean\n"},
		"all pending":                 {Report{Store: 3, Pending: 3, PendingUntil: &until}, "result: not verified: all 3 samples are pending until 2026-11-22T10:00:00Z\n"},
		"unreadable":                  {Report{Store: 3, Equal: 3, Unreadable: 35}, "result: not verified: 35 buckets in the store cannot be read and could not be compared\n"},
		"unreadable, and differences": {Report{Store: 3, Equal: 2, Unreadable: 35, Differences: map[Kind]int64{Different: 1}}, "result: differences\n"},
		"pending, and extra samples":  {Report{Store: 3, Pending: 3, PendingUntil: &until, Differences: map[Kind]int64{Extra: 1}}, "result: differences\n"},
		"nothing":                     {Report{Store: 3}, "result: not verified: nothing was compared\n"},
	} {
		c.report.judge()
		var b strings.Builder
		c.report.Text(&b)
		if !strings.HasSuffix(b.String(), c.want) {
			t.Errorf("%s: %q, want it to end with %q", name, b.String(), c.want)
		}
	}
}
