package poll

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
)

// Each change is one line, however long the new state lasts; of a thousand at once there is a
// line for each kind of change, which counts them and names some.
func TestChangesOfStatesAreLoggedOnce(t *testing.T) {
	log, logs := testkit.RecordingLogger(t)
	c := &transitions{log: log}
	now := bucket.Time(1_700_000_000)
	all := make([]standing, 1000)
	for i := range all {
		name := fmt.Sprintf("z%03d.example", i)
		all[i] = standing{of: ledger.Series{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: name}}, zone: name, dataset: "http_5m", state: stateCollecting}
	}
	set := func(from, to int, state, reason string) {
		for i := from; i < to; i++ {
			all[i].state, all[i].reason = state, reason
		}
	}
	lines := 0
	// passes does passes of a minute, and expects so many new lines, which all have the parts.
	passes := func(n, want int, parts ...string) {
		t.Helper()
		for range n {
			c.tell(now, all)
			now = now.Add(time.Minute)
		}
		if got := logs.Count("series=") + logs.Count("zone=") - lines; got != want {
			t.Errorf("%d lines, want %d: %s", got, want, logs)
		}
		lines += want
		if want == 0 {
			return
		}
		written := strings.Split(strings.TrimSpace(logs.String()), "\n")
		for _, part := range parts {
			if last := written[len(written)-1]; !strings.Contains(last, part) {
				t.Errorf("the last line is %s; it must have %s", last, part)
			}
		}
	}
	set(990, 1000, stateRefused, "plan")
	passes(100, 1, `states="collecting: 990, refused (plan): 10"`)
	set(0, 1, stateBehind, "upstream_error")
	passes(100, 1, "zone=z000.example", "dataset=http_5m", "state=behind", "reason=upstream_error", "was=collecting")
	set(0, 1, stateCollecting, "")
	passes(100, 1, "state=collecting", `was="behind (upstream_error)"`)
	set(1, 2, stateWaiting, "suspect") // as each window of a quiet zone
	passes(1, 0)
	set(0, 990, stateDenied, "unauthorized")
	passes(100, 1, "series=990 state=denied reason=unauthorized was=collecting",
		`of="z000.example http_5m, z001.example http_5m, z002.example http_5m, z003.example http_5m, z004.example http_5m, 985 more"`)
	// One that changes at every pass costs less and less; the last line is right in the end.
	before := lines
	for i := range 24 * 60 {
		set(0, 1, stateBehind, "pending")
		if i%2 == 0 {
			set(0, 1, stateCollecting, "")
		}
		c.tell(now, all)
		now = now.Add(time.Minute)
	}
	n := logs.Count("zone=") + logs.Count("series=") - before
	if n < 10 || n > 40 {
		t.Errorf("a series that changed at each pass of a day has %d lines", n)
	}
	lines += n
	set(0, 1, stateOff, "not_understood")
	passes(100, 1, "state=off")
	all = all[1:] // it is not told any more, and then anew
	passes(1, 0)
	all = slices.Concat(all, []standing{{of: ledger.Series{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: "new"}}, zone: "new.example", dataset: "http_5m", state: stateBehind, reason: "settings_unread"}})
	passes(1, 1, "zone=new.example", "was=new")
	if len(c.told) != len(all) {
		t.Errorf("%d series are kept, want %d", len(c.told), len(all))
	}
}
