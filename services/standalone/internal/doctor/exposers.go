package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// oldExposer is when the stream of an exposer counts as stalled: the alert
	// WeirStreamStale has the same limit.
	oldExposer = 3 * time.Minute
	// apart is by how many revisions exposers differ that were asked one after another.
	apart = 1000
)

func exposers(o *Observed) (list []Finding) {
	if len(o.Exposers) == 0 {
		return skipArea("exposer", "no exposer was given", "WEIR_EXPOSER_URLS, such as http://127.0.0.1:9810")
	}
	s := &subject{Observed: o}
	each := func(x *Exposer, checks ...string) {
		s.exposer = x
		list = append(list, about(x.URL, s.judge(checks...))...)
	}
	for i := range o.Exposers {
		x := &o.Exposers[i]
		each(x, "exposer.ready")
		if x.Err == nil && x.NotReady == "" {
			s.serving = append(s.serving, x)
		}
	}
	if len(s.serving) == 0 {
		return append(list, skipEach(area("exposer")[1:], "no exposer responded", "WEIR_EXPOSER_URLS of an exposer that runs")...)
	}
	list = append(list, s.judge("exposer.store")...)
	for _, x := range s.serving {
		each(x, "exposer.age", "exposer.pages", "exposer.counters")
	}
	return list
}

// inspected is the store that a collector or the database says it is; empty: neither was
// given, or answered.
func (o *Observed) inspected() (id, of string) {
	for _, c := range o.Collectors {
		if at := c.Status.GetInfo().GetStoreId(); at != "" {
			id, of = at, "the collector"
		}
	}
	if id == "" && o.Store != nil && o.Store.Err == nil {
		id, of = o.Store.Facts.StoreID, "the database"
	}
	return id, of
}

// asked is the store that the doctor is asked about.
func (o *Observed) asked() (id, of string) {
	if id, of = o.inspected(); id != "" {
		return id, of
	}
	for _, x := range o.Exposers {
		if x.StoreID != "" {
			return x.StoreID, "the exposer " + x.URL
		}
	}
	return "", ""
}

func ready(s *subject) []Finding {
	switch x := s.exposer; {
	case x.NotReady != "":
		return fail(x.NotReady, "It serves nothing: it has not received a complete view from a collector yet, or it is shutting down.", "Check that it reaches a collector: its log, WEIR_COLLECTOR_ADDRESS, and collector.reachable here.")
	case x.Err != nil:
		return fail(x.Err.Error(), "Prometheus gets no buckets from it.", "Check that it runs, and that the URL is that of its data port (9810 by default).")
	default:
		return pass("it is ready, and serves %d samples (%s)", x.Samples, bytes(x.Bytes))
	}
}

func age(s *subject) []Finding {
	switch x := s.exposer; {
	case !x.HasAge:
		return fail("no stream time has arrived", "No leader has written yet.", "Start a collector.")
	case x.Age > oldExposer:
		return fail(fmt.Sprintf("its stream time is %s old", span(x.Age)), "What it serves is right, and not current.", "See WeirStreamStale in docs/operations.md.")
	default:
		return pass("its stream time is %s old", span(max(x.Age, 0)))
	}
}

func pages(s *subject) []Finding {
	if x := s.exposer; x.Missing > 0 {
		return warn(fmt.Sprintf("the pages of %d datasets are in turn and not on /metrics", x.Missing), "Holes in Prometheus are not filled from this exposer now.", "Run it again in a minute. If it stays so, see WeirPagesMissing in docs/operations.md.")
	}
	return pass("no page is missing (turn %d)", s.exposer.Turn)
}

func counters(s *subject) []Finding {
	c := &s.exposer.Counters
	switch {
	case c.Err != nil:
		return fail(c.Err.Error(), "Prometheus gets no counters from it.", "Read the log of the exposer.")
	case c.Off:
		return pass("it serves no counters: WEIR_EXPOSER_COUNTERS is false, or it is of a release without them")
	case c.Why != "":
		return warn("/counters answers 503: "+c.Why, "Prometheus gets no counters from it, and the replay as always.", "See WeirCountersUnavailable in docs/operations.md.")
	case c.StoreID != s.exposer.StoreID:
		return fail(fmt.Sprintf("/counters is of store %s, and /metrics of store %s", c.StoreID, s.exposer.StoreID),
			"The counters are of another history than the buckets.", "Check WEIR_COLLECTOR_ADDRESS: its collectors must have one store.")
	}
	for _, x := range s.serving {
		if of := x.Counters.Epoch; of != "" && of != c.Epoch && x.StoreID == s.exposer.StoreID {
			return fail(fmt.Sprintf("its counters are of epoch %s, and those of %s of epoch %s", c.Epoch, x.URL, of),
				"Behind one Service, Prometheus would take each change for a reset and add whole counters.",
				"Run it again in two minutes. If it stays so, restart the exposer with the older epoch, and run one release everywhere.")
		}
	}
	return pass("it serves %d series of counters, of epoch %s", c.Series, c.Epoch)
}

func oneStore(s *subject) []Finding {
	stores := map[string][]string{}
	var least, most uint64
	for i, x := range s.serving {
		stores[x.StoreID] = append(stores[x.StoreID], x.URL)
		if i == 0 || x.Revision < least {
			least = x.Revision
		}
		most = max(most, x.Revision)
	}
	want, of := s.inspected()
	var list []string
	for id, urls := range stores {
		list = append(list, fmt.Sprintf("%s: store %s", strings.Join(urls, ", "), id))
	}
	slices.Sort(list)
	ids := slices.Collect(maps.Keys(stores))
	const fix = "Check WEIR_COLLECTOR_ADDRESS of each exposer."
	switch {
	case len(stores) > 1:
		return fail(strings.Join(list, "; "), "Behind one Service, Prometheus would get two histories in turn.", fix)
	case want != "" && ids[0] != want:
		return fail(fmt.Sprintf("%s; %s has store %s", list[0], of, want), "These exposers follow another collector than the one that was asked.", fix)
	case most-least > apart:
		return warn(fmt.Sprintf("revisions from %d to %d", least, most), "An exposer is far behind the others.", "Run it again. If it stays so, read the log of that exposer.")
	default:
		return pass("all serve store %s, at revision %d", ids[0], most)
	}
}
