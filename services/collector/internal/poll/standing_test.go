package poll

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// However many zones there are, the series are bounded: what is wrong stays, what is
// fine goes, and what goes is counted. A label has one state, whoever bore it before.
func TestStandingsAreBounded(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := newStandings(reg)
	told := func() (byState map[string]int, leftOut float64) {
		t.Helper()
		byState = map[string]int{}
		families, err := reg.Gather() // refuses what is told twice
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				switch f.GetName() {
				case "weir_collector_scope_state":
					byState[m.GetLabel()[3].GetValue()]++
				case "weir_collector_scope_states_left_out":
					leftOut = m.GetGauge().GetValue()
				default:
				}
			}
		}
		return byState, leftOut
	}
	many := func(n int, state string) (out []standing) {
		for i := range n {
			out = append(out, standing{zone: fmt.Sprintf("%s-%d.example", state, i), dataset: "http_5m", state: state, newest: 300})
		}
		return out
	}

	s.publish(append(many(5, stateDenied), many(mostStandings-5, stateCollecting)...))
	if got, left := told(); got[stateDenied] != 5 || got[stateCollecting] != mostStandings-5 || left != 0 {
		t.Errorf("as many as may be: %v, %v left out", got, left)
	}
	s.publish(append(append(many(5, stateDenied), many(10, stateWaiting)...), many(mostStandings-5, stateCollecting)...))
	if got, left := told(); got[stateDenied] != 5 || len(got) != 1 || left != mostStandings+5 {
		t.Errorf("some more: %v, %v left out; want what is wrong alone", got, left)
	}
	s.publish(append(many(mostStandings, stateRefused), many(7, stateDenied)...))
	if got, left := told(); got[stateDenied] != 7 || got[stateRefused] != mostStandings-7 || left != 7 {
		t.Errorf("too many that are wrong: %v, %v left out; want the worst first", got, left)
	}
	s.publish([]standing{
		{zone: "a.example", dataset: "http_5m", state: stateGone, ended: 900, newest: 600},
		{zone: "a.example", dataset: "http_5m", state: stateCollecting, newest: 1200},
		{zone: "a.example", dataset: "http_5m", state: stateExcluded, ended: 300, newest: 300},
	})
	if got, _ := told(); got[stateCollecting] != 1 || len(got) != 1 {
		t.Errorf("a name that had other owners before: %v, want the present one's", got)
	}
	s.publish(nil)
	if n := testutil.CollectAndCount(s); n != 0 {
		t.Errorf("a process that does not lead tells %d series", n)
	}
}
