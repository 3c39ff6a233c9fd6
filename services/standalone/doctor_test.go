package standalone

import (
	"errors"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

// A report in which everything was skipped is no success.
func TestOutcomeOfTheDoctor(t *testing.T) {
	for name, tc := range map[string]struct {
		statuses []doctor.Status
		code     int // 0: no error, 1: an error without a code of its own
	}{
		"all pass":        {[]doctor.Status{doctor.Pass, doctor.Skipped, doctor.Warn}, 0},
		"warnings alone":  {[]doctor.Status{doctor.Warn, doctor.Skipped}, 0},
		"a failure":       {[]doctor.Status{doctor.Skipped, doctor.Fail}, 1},
		"nothing checked": {[]doctor.Status{doctor.Skipped, doctor.Skipped}, 2},
	} {
		var r doctor.Report
		for _, s := range tc.statuses {
			r.Findings = append(r.Findings, doctor.Finding{Status: s})
		}
		err, code := ended(&r), 0
		var own cli.CodeError
		switch {
		case errors.As(err, &own):
			code = own.Code
		case err != nil:
			code = 1
		}
		if code != tc.code {
			t.Errorf("%s: exit code %d (%v), want %d", name, code, err, tc.code)
		}
	}
}
