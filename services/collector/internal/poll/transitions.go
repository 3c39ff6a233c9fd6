package poll

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
)

// How changes of the state of series are logged. Up to changesAlone in one pass have a line
// each; of more, those with the same states before and after share a line, which names
// changesNamed of them.
const (
	changesAlone = 10
	changesNamed = 5
	// A series that changed is not logged again before a pause, which doubles up to the last
	// one: one that changes at every pass costs a line an hour. What is logged then is the
	// difference to the last line. A series that did not change for the last pause begins anew.
	firstChangePause = time.Minute
	lastChangePause  = time.Hour
)

// transitions logs how the states of series change. It belongs to one term.
type transitions struct {
	log  *slog.Logger
	told map[ledger.Series]*told // nil before the first pass
}

// told is what the log says last of a series.
type told struct {
	standing
	next  bucket.Time // not logged before
	pause time.Duration
	seen  bool // in this pass
}

// transition is a difference to what the log says. was is empty for a new series.
type transition struct{ was, is standing }

// tell logs what differs from the last lines.
func (c *transitions) tell(now bucket.Time, all []standing) {
	if c.told == nil {
		c.begin(all)
		return
	}
	var found []transition
	for i := range all {
		is := &all[i]
		t := c.told[is.of]
		if t == nil {
			t = &told{}
			c.told[is.of] = t
		}
		t.seen = true
		if t.says(is) || now < t.next {
			continue
		}
		found = append(found, transition{t.standing, *is})
		if now.Sub(t.next) >= lastChangePause {
			t.pause = 0
		}
		t.pause = min(max(firstChangePause, 2*t.pause), lastChangePause)
		t.standing, t.next = *is, now.Add(t.pause)
	}
	maps.DeleteFunc(c.told, func(_ ledger.Series, t *told) bool {
		seen := t.seen
		t.seen = false
		return !seen
	})
	c.write(found)
}

// says reports whether there is nothing to log. That a quiet zone waits for the confirmation
// of a window, and then no longer does, is its normal course.
func (t *told) says(is *standing) bool {
	return t.state == is.state && t.reason == is.reason || t.state != "" && t.fine() && is.fine()
}

// begin logs the states at the first pass of a term in one line.
func (c *transitions) begin(all []standing) {
	c.told = make(map[ledger.Series]*told, len(all))
	count := map[string]int{}
	for i := range all {
		c.told[all[i].of] = &told{standing: all[i]}
		count[all[i].words()]++
	}
	var states []string
	for _, s := range slices.Sorted(maps.Keys(count)) {
		states = append(states, fmt.Sprintf("%s: %d", s, count[s]))
	}
	c.log.Info("states of zones, accounts and datasets", "series", len(all), "states", strings.Join(states, ", "))
}

func (c *transitions) write(found []transition) {
	if len(found) <= changesAlone {
		for _, one := range found {
			c.log.Info("collecting changed", "dataset", one.is.dataset, one.is.name(), "state", one.is.state, "reason", one.is.reason, "was", one.was.words())
		}
		return
	}
	type kind struct{ was, state, reason string }
	of := map[kind][]transition{}
	for _, one := range found {
		key := kind{one.was.words(), one.is.state, one.is.reason}
		of[key] = append(of[key], one)
	}
	for _, key := range slices.SortedFunc(maps.Keys(of), func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(a.reason, b.reason), cmp.Compare(a.was, b.was))
	}) {
		all := of[key]
		var names []string
		for _, one := range all[:min(len(all), changesNamed)] {
			names = append(names, one.is.zone+one.is.account+" "+one.is.dataset)
		}
		if more := len(all) - len(names); more > 0 {
			names = append(names, fmt.Sprintf("%d more", more))
		}
		c.log.Info("collecting changed in many series", "series", len(all), "state", key.state, "reason", key.reason, "was", key.was, "of", strings.Join(names, ", "))
	}
}

// words is the state with its reason; "new" for a series that had none.
func (s *standing) words() string {
	switch {
	case s.state == "":
		return "new"
	case s.reason == "":
		return s.state
	}
	return s.state + " (" + s.reason + ")"
}

// name is the label of the zone or account.
func (s *standing) name() slog.Attr {
	if s.account != "" {
		return slog.String("account", s.account)
	}
	return slog.String("zone", s.zone)
}
