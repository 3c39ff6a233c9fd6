package importer

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// What promtool would take although it does harm is refused, with the reason and the line.
func TestScan(t *testing.T) {
	const good = `x{zone="a",instance="i",job="weir"} 1 1795341599.999` + "\n"
	now := time.Unix(1795400000, 0)
	for _, tc := range []struct{ name, text, code, want string }{
		{"good", "# TYPE x gauge\n" + good + good + "# EOF\n", "", ""},
		{"milliseconds", `x{instance="i",job="weir"} 1 1795341599999` + "\n# EOF\n", "MILLISECONDS", "time 1795341599999 is in milliseconds, OpenMetrics has seconds: promtool would make blocks of the year 58"},
		{"future", `x{instance="i",job="weir"} 1 1795400001` + "\n# EOF\n", "MILLISECONDS", "must be before now"},
		{"stepped", `x_stepped{instance="i",job="weir"} 1 1795341599` + "\n# EOF\n", "STEPPED", "family x_stepped repeats the values of buckets"},
		{"no job", good + `x{zone="a",instance="i",exported_job="weir"} 1 1795341599` + "\n# EOF\n", "LABELS", "line 2: sample x{zone=\"a\""},
		{"no labels", "x 1 1795341599\n# EOF\n", "LABELS", "has no labels"},
		{"no time", `x{instance="i",job="weir"} 1` + "\n# EOF\n", "", "has no time"},
		{"cut off", good, "NOT_WHOLE", "has no # EOF at its end"},
		{"cut off in a line", good + "x{zone=", "NOT_WHOLE", "ends inside line 2"},
		{"more", good + "# EOF\n" + good, "NOT_WHOLE", "goes on after # EOF"},
		{"empty", "# EOF\n", "", "has no sample"},
	} {
		file := filepath.Join(t.TempDir(), "x.om")
		testkit.WriteFile(t, file, []byte(tc.text))
		s, err := Scan(file, now)
		if tc.want == "" {
			if err != nil || s.Samples != 2 || s.First != 1795341599999 || s.Last != s.First {
				t.Errorf("%s: %+v, %v", tc.name, s, err)
			}
			continue
		}
		var h *Hazard
		if err == nil || !strings.Contains(err.Error(), tc.want) || errors.As(err, &h) != (tc.code != "") || h != nil && (h.Code != tc.code || !strings.HasSuffix(err.Error(), " ("+tc.code+")")) {
			t.Errorf("%s: %v, want %s with %q", tc.name, err, tc.code, tc.want)
		}
	}
}
