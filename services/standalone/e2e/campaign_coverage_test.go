package e2e

import (
	"fmt"
	"strings"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// checkCoverage checks that every window that is due is accounted for: final,
// or missing for a reason, or refused; lost only where a zone is gone.
func (c *campaign) checkCoverage(until time.Time) {
	coverage, err := c.service().GetCoverage(c.t.Context(), &bucketv1.GetCoverageRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	started := c.started()
	states := map[string]int{}
	var wrong, missing []string
	for _, one := range coverage.GetCoverages() {
		id := one.GetScope().GetId()
		at := one.GetHorizonUnixSeconds()
		bad := func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("%s of %s: ", one.GetDataset(), id)+fmt.Sprintf(format, args...))
		}
		if len(one.GetRanges()) == 0 && one.GetDataset() == "http_5m" && started[id].Before(until.Add(-time.Hour)) {
			bad("no range at all")
		}
		for _, r := range one.GetRanges() {
			if r.GetStartUnixSeconds() != at {
				bad("nothing is said of %d to %d", at, r.GetStartUnixSeconds())
			}
			at = r.GetEndUnixSeconds()
			states[strings.TrimPrefix(r.GetState().String(), "COVERAGE_STATE_")]++
			switch r.GetState() {
			case bucketv1.CoverageState_COVERAGE_STATE_FINAL, bucketv1.CoverageState_COVERAGE_STATE_REFUSED:
			case bucketv1.CoverageState_COVERAGE_STATE_MISSING, bucketv1.CoverageState_COVERAGE_STATE_WAITING:
				missing = append(missing, fmt.Sprintf("%s of %s: %s to %s: %s %s, asked %d times, next %s", one.GetDataset(), id,
					time.Unix(r.GetStartUnixSeconds(), 0).UTC().Format("15:04"), time.Unix(r.GetEndUnixSeconds(), 0).UTC().Format("15:04"),
					strings.TrimPrefix(r.GetReason().String(), "GAP_REASON_"), r.GetDetail(), r.GetAttempts(), r.GetNextAttempt().AsTime().Format("15:04:05")))
				if r.GetReason() == bucketv1.GapReason_GAP_REASON_UNSPECIFIED {
					bad("missing from %d without a reason", r.GetStartUnixSeconds())
				}
			default:
				bad("%s from %d", r.GetState(), r.GetStartUnixSeconds())
			}
		}
	}
	c.violations("coverage", wrong)
	c.t.Logf("ranges of coverage: %v", states)
	if c.t.Failed() {
		c.t.Logf("missing at %s:\n%s", c.clock.Now().Format("15:04"), strings.Join(missing, "\n"))
	}
}
