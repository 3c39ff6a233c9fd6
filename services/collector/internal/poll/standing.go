package poll

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// standing is the state of collecting one dataset of one zone or account, as label values.
// Either zone or account is empty, which is no label.
type standing struct {
	of                     ledger.Series
	zone, account, dataset string
	state, reason          string
	ended                  bucket.Time // when the scope ended; 0: it is collected
	newest                 bucket.Time // end of its newest final window; 0: it has none
}

// The states, worst first: of too many only the first are exported.
const (
	stateDenied     = "denied"  // the token has no access
	stateOff        = "off"     // Cloudflare does not know a field of it
	stateBehind     = "behind"  // windows are missing
	stateRefused    = "refused" // the plan does not allow it
	statePaused     = "paused"
	statePending    = "pending"  // added to Cloudflare and not activated yet
	stateInactive   = "inactive" // moved or deactivated at Cloudflare
	stateGone       = "gone"
	stateExcluded   = "excluded"
	stateWaiting    = "waiting" // nothing is missing, empty windows wait for confirmation
	stateCollecting = "collecting"
)

var byUrgency = []string{
	stateDenied, stateOff, stateBehind, stateRefused, statePaused, statePending, stateInactive, stateGone, stateExcluded, stateWaiting, stateCollecting,
}

// fine is a standing that is left out first if there are too many.
func (s *standing) fine() bool { return s.state == stateWaiting || s.state == stateCollecting }

// standing is the state of a claim.
func (r *reporter) standing(now bucket.Time, c roster.Claim, view coverage.View) standing {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	out := standing{
		of: of, dataset: of.Dataset, state: stateCollecting, ended: c.Scope.End, newest: view.Newest(),
	}
	if label := strings.ToValidUTF8(c.Scope.Label(), "\uFFFD"); of.Scope.Kind == bucket.Account {
		out.account = label
	} else {
		out.zone = label
	}
	var waits, misses *ledger.Gap
	gaps := view.Gaps()
	for i := range gaps {
		if gaps[i].Waits(now) {
			waits = &gaps[i]
		} else {
			misses = &gaps[i]
		}
	}
	t := r.faults.tries[of]
	switch {
	case c.Scope.State != roster.Active:
		out.state = string(c.Scope.State)
	case c.Unread:
		out.state, out.reason = unreadState(c.Scope.Obstacle.Reason)
	case c.Variant == nil:
		out.state, out.reason = stateRefused, "plan"
	case r.faults.isOff(of.Dataset):
		out.state, out.reason = stateOff, "not_understood"
	case t != nil && t.reason == ledger.Unauthorized:
		out.state, out.reason = stateDenied, string(t.reason)
	case misses != nil: // the newest of them describes the current state best
		out.state, out.reason = stateBehind, string(misses.Reason)
	case waits != nil:
		out.state, out.reason = stateWaiting, string(waits.Reason)
	default:
	}
	return out
}

// unreadState is the state of a scope whose settings could not be read for a reason, or were not
// read yet.
func unreadState(obstacle ledger.Reason) (state, reason string) {
	switch obstacle {
	case "":
		return stateBehind, "settings_unread"
	case ledger.Unauthorized:
		return stateDenied, string(obstacle)
	}
	return stateBehind, string(obstacle)
}

// goneFor is how long a scope that ended is still exported.
const goneFor = 24 * time.Hour

// mostStandings of scope and dataset are exported, with two series each. Beyond that, those
// with nothing wrong are left out first.
const mostStandings = 1000

// standings exports the standing of each zone and account. A scrape sees one pass, never half
// of one and half of the next.
type standings struct {
	state, newest, left *prometheus.Desc
	published           atomic.Pointer[picture] // nil: this process does not lead
}

// picture is what one pass exports.
type picture struct {
	standings []standing
	leftOut   int
}

func newStandings(reg prometheus.Registerer) *standings {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("weir_collector_"+name, help, labels, nil)
	}
	s := &standings{
		state:  desc("scope_state", "Always 1; the labels say how collecting the dataset of the zone or account goes, and why.", "zone", "account", "dataset", "state", "reason"),
		newest: desc("scope_newest_final_timestamp_seconds", "End of the newest window of the dataset that is final for the zone or account.", "zone", "account", "dataset"),
		left:   desc("scope_states_left_out", "Pairs of zone or account and dataset that weir_collector_scope_state does not show, because there are more than 1,000."),
	}
	reg.MustRegister(s)
	return s
}

// publish replaces what is exported; nil exports nothing.
func (s *standings) publish(all []standing) {
	if all == nil {
		s.published.Store(nil)
		return
	}
	// A name may have had several owners: the current one, or the last, counts.
	slices.SortFunc(all, func(a, b standing) int {
		return cmp.Or(cmp.Compare(a.zone, b.zone), cmp.Compare(a.account, b.account), cmp.Compare(a.dataset, b.dataset), boolOrder(a.ended != 0, b.ended != 0), cmp.Compare(b.ended, a.ended))
	})
	all = slices.CompactFunc(all, func(a, b standing) bool { return a.zone == b.zone && a.account == b.account && a.dataset == b.dataset })
	total := len(all)
	if total > mostStandings {
		all = slices.DeleteFunc(all, func(one standing) bool { return one.fine() })
		slices.SortStableFunc(all, func(a, b standing) int {
			return cmp.Compare(slices.Index(byUrgency, a.state), slices.Index(byUrgency, b.state))
		})
		all = all[:min(len(all), mostStandings)]
	}
	s.published.Store(&picture{standings: all, leftOut: total - len(all)})
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Describe implements prometheus.Collector.
func (s *standings) Describe(descs chan<- *prometheus.Desc) {
	descs <- s.state
	descs <- s.newest
	descs <- s.left
}

// Collect implements prometheus.Collector.
func (s *standings) Collect(metrics chan<- prometheus.Metric) {
	now := s.published.Load()
	if now == nil {
		return
	}
	for _, one := range now.standings {
		metrics <- prometheus.MustNewConstMetric(s.state, prometheus.GaugeValue, 1, one.zone, one.account, one.dataset, one.state, one.reason)
		if one.newest != 0 {
			metrics <- prometheus.MustNewConstMetric(s.newest, prometheus.GaugeValue, float64(one.newest), one.zone, one.account, one.dataset)
		}
	}
	metrics <- prometheus.MustNewConstMetric(s.left, prometheus.GaugeValue, float64(now.leftOut))
}
