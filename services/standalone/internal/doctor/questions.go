package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// delayed: delayed collection is in force if no bucket was read before its delay.
func delayed(s *subject) []Finding {
	l := s.Log
	switch {
	case l == nil:
		return skip("nothing could be read of the log", "WEIR_COLLECTOR_ADDRESS, or the store")
	case l.Err != nil:
		return fail("the newest buckets cannot be read: "+l.Err.Error(), "There is no evidence.", "See collector.reachable and store.reachable.")
	}
	total, early := 0, []string{}
	var texts []string
	for _, r := range l.Reads {
		total += r.Buckets
		if r.Early > 0 {
			early = append(early, fmt.Sprintf("%s: %d of %d buckets were read before the delay of %s had passed, the first of window %s", r.Dataset, r.Early, r.Buckets, span(r.Delay), r.Window))
		} else if r.Buckets > 0 {
			texts = append(texts, fmt.Sprintf("%s %s after the end of its window at the earliest, with a delay of %s", r.Dataset, span(r.Least), span(r.Delay)))
		}
	}
	switch {
	case len(early) > 0:
		return fail(some(early), "These values were read before Cloudflare had settled them.", "Compare the clocks of the collectors (cloudflare.clock), and the delay that \"collector drift\" recommends.")
	case total == 0:
		return fail("the store has no bucket of the last three hours", "Nothing was collected lately, so there is no evidence.", "Start a collector, and run it again in ten minutes.")
	default:
		return pass("the %d newest buckets say when they were read (%s): %s", total, l.From, strings.Join(texts, "; "))
	}
}

// survived: data has survived a restart if it is older than the process that leads.
func survived(s *subject) []Finding {
	oldest := time.Time{}
	if db := s.Store; db != nil && db.Err == nil {
		oldest = db.Facts.OldestCommit
	}
	if l := s.Log; l != nil && l.Err == nil && (oldest.IsZero() || !l.OldestCommit.IsZero() && l.OldestCommit.Before(oldest)) {
		oldest = l.OldestCommit
	}
	started := s.started()
	switch {
	case oldest.IsZero() && s.Store != nil && s.Store.Err != nil:
		return fail("the store cannot be read", "There is no evidence.", "See store.reachable.")
	case oldest.IsZero() && s.Log == nil && s.Store == nil:
		return skip("nothing could be read of the log", "WEIR_COLLECTOR_ADDRESS, or the store")
	case oldest.IsZero() && s.Log != nil && s.Log.Err != nil:
		return fail("the oldest buckets cannot be read: "+s.Log.Err.Error(), "There is no evidence.", "See collector.reachable and store.reachable.")
	case oldest.IsZero():
		return fail("the store has no entry", "There is nothing that could have survived.", "Start a collector.")
	case s.Store != nil && s.Store.Err == nil && durability(s)[0].Status == Fail:
		return fail("store.durability failed", "What survived a restart of the collector need not survive one of the database.", "See store.durability.")
	case started.IsZero():
		return skip("the oldest entry was committed at "+moment(oldest)+"; when the collector started is not known", s.giveOwn())
	case oldest.Before(started.Add(-2 * time.Second)): // process_start_time_seconds is off by up to a second
		return pass("the oldest entry was committed at %s, and the process that collects started at %s", moment(oldest), moment(started))
	default:
		return warn(fmt.Sprintf("the oldest entry was committed at %s, not before the start of the process at %s", moment(oldest), moment(started)), "No restart has been survived yet, so nothing is proven.",
			"Restart the collector, and run this again.")
	}
}

// started is when the process that collects was started, of several the last.
func (s *subject) started() (at time.Time) {
	leads := map[string]bool{}
	for _, m := range s.Own.of("weir_collector_leader") {
		leads[m.From] = m.Value == 1
	}
	for _, m := range s.Own.of("process_start_time_seconds") {
		if t := time.UnixMilli(int64(m.Value * 1000)).UTC(); leads[m.From] && t.After(at) {
			at = t
		}
	}
	return at
}

// bounded: the replay is bounded if this Prometheus stores everything that it is shown.
func bounded(s *subject) []Finding {
	p := s.Prometheus
	replay, known := s.Replay()
	switch {
	case p == nil:
		return skip("no Prometheus was given", "WEIR_PROMETHEUS_URL")
	case p.Err != nil:
		return fail("Prometheus does not answer", "There is no evidence.", "See prometheus.reachable.")
	case !known:
		return skip("the age of what is shown is not known", "WEIR_EXPOSER_URLS")
	}
	checks := []string{
		"prometheus.out_of_order_window", "prometheus.honor_timestamps", "prometheus.stale_markers", "prometheus.interval",
		"prometheus.limits", "prometheus.target", "prometheus.deduplication",
	}
	if id, _ := s.asked(); id != "" {
		checks = append(checks, "prometheus.store")
	}
	found := s.judge(checks...)
	worst, why := Pass, []string{}
	for _, f := range found {
		if f.Status == Fail {
			worst = Fail
			why = append(why, f.Check+": "+f.Found)
		}
	}
	for _, f := range found {
		if f.Status == Skipped && worst == Pass {
			return skip(f.Check+": "+f.Found, f.Fix)
		}
		if f.Status == Warn && (f.Check == "prometheus.out_of_order_window" || f.Check == "prometheus.store") && worst == Pass {
			return warn(f.Found, f.Means, f.Fix)
		}
	}
	if worst == Fail {
		return fail(strings.Join(why, "; "), "This Prometheus does not store everything that it is shown.", "See these checks.")
	}
	window := "any age within its retention"
	if !p.victoria() {
		window = "samples up to " + span(p.Window) + " old"
	}
	return pass("samples are up to %s old, and this %s takes %s; its target is up, and the body is within its limits", span(replay), p.Kind, window)
}

// fed: the panels are fed if Prometheus has the series that their expressions name.
func fed(s *subject) []Finding {
	p := s.Panels
	absent := s.absent()
	switch {
	case s.Prometheus == nil:
		return skip("no Prometheus was given", "WEIR_PROMETHEUS_URL")
	case s.Prometheus.Err != nil:
		return fail("Prometheus does not answer", "There is no evidence.", "See prometheus.reachable.")
	case p == nil:
		return skip("no expressions were run", "WEIR_DOCTOR_PANELS")
	case p.Err != nil:
		return fail(p.Err.Error(), "There is no evidence.", "Give a dashboard or a file of rules with WEIR_DOCTOR_PANELS.")
	case len(p.Broken) > 0:
		return fail("Prometheus refuses "+some(p.Broken), "These panels show an error.", "Use the dashboard or the rules of this release.")
	case len(absent) > 0:
		return fail(fmt.Sprintf("of the metrics that the %d expressions of %s name, these had no series in the last hour: %s", p.Expressions, p.From, some(absent)),
			"These panels and alerts show nothing, also when something is wrong.",
			"Correct names that are not in docs/metrics.md. For the others scrape the operations ports of all collectors and exposers, and Prometheus itself: the jobs weir-operations and prometheus of deploy/prometheus/prometheus.yml.")
	case p.WithData == 0 && p.Expressions > p.Alerts:
		return fail(fmt.Sprintf("none of the %d expressions of %s has returned data in the last hour", p.Expressions, p.From), "These panels show nothing.",
			"Check their label matchers against what is stored, and that their ranges are long enough for buckets (docs/prometheus.md).")
	default:
		return pass("all %d expressions of %s run; every metric that they name has series or is one that may have none, and %d return data", p.Expressions, p.From, p.WithData)
	}
}

// absent are the metrics without series that should have some. A family of a dataset that
// is collected may have had nothing to count, if others have series.
func (s *subject) absent() []string {
	if s.Panels == nil {
		return nil
	}
	families := []string{"cloudflare_sample_interval"}
	if s.Log != nil {
		for _, d := range s.Log.Datasets {
			for _, f := range d.GetFamilies() {
				families = append(families, f.GetName())
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(s.Panels.Absent), func(n string) bool { return s.Panels.Buckets && slices.Contains(families, n) })
}

// round is within what time everything that became final late has been shown.
const round = 13 * time.Hour

// lateCommit is when a bucket last became final late; zero if that is not known.
func (s *subject) lateCommit() (at time.Time) {
	for _, m := range s.Own.of("weir_exposer_late_commit_timestamp_seconds") {
		if t := time.UnixMilli(int64(m.Value * 1000)).UTC(); t.After(at) {
			at = t
		}
	}
	return at
}

// backfills: the way of a backfill works if a range can be exported, would be imported,
// and equals what Prometheus holds.
func backfills(s *subject) []Finding {
	b := s.Backfill
	switch {
	case b == nil:
		return skip("no collector and no store was given", giveCollector+", and WEIR_PROMETHEUS_URL to compare with")
	case b.Err != nil:
		return fail("nothing can be exported: "+b.Err.Error(), "History cannot be loaded into Prometheus when it is needed.", "See collector.reachable and store.reachable.")
	}
	if s.Prometheus != nil && s.Prometheus.Err == nil {
		if f := scrapedStore(s)[0]; f.Status == Fail {
			return fail("Prometheus does not have its samples from this store: "+f.Found, f.Means, "See prometheus.store.")
		}
	}
	// Missing windows are brought by a request to the collector, which has to accept it.
	unproven := ""
	for _, c := range s.Collectors {
		switch a := c.Admin; {
		case a == nil || a.Err == nil:
		case !a.Read:
			return fail("no backfill can be requested: "+c.Address+": "+a.Err.Error(), "What is missing in the store cannot be fetched from Cloudflare when it is needed.", "See collector.admin.")
		default:
			unproven = c.Address + ": " + a.Err.Error()
		}
	}
	exported := fmt.Sprintf("%d samples of %s to %s were exported (%s)", b.Samples, moment(b.From), b.To.UTC().Format("15:04 UTC"), bytes(b.Bytes))
	const repair = "Export and import the range (docs/backfill.md), and see \"Is all of it stored?\" in docs/prometheus.md."
	switch {
	case len(b.Flaws) > 0:
		return fail(exported+"; an import would refuse them: "+some(b.Flaws), "History cannot be loaded into this Prometheus.", "Correct what is named.")
	case b.Samples == 0:
		return warn(exported, "There is nothing to compare: the store has no data of that range.", "Run it again when two hours have been collected.")
	case b.CompareErr != nil:
		return fail(exported+"; they cannot be compared: "+b.CompareErr.Error(), "Whether Prometheus has them is not known.", "See prometheus.reachable.")
	case !b.Compared:
		return skip(exported+", and an import would accept them; they were not compared", "WEIR_PROMETHEUS_URL")
	case b.Different > 0 || b.Extra > 0:
		return fail(fmt.Sprintf("%s; %d are equal in Prometheus, %d differ, %d are in Prometheus alone, %d are missing: %s", exported, b.Equal, b.Different, b.Extra, b.Missing+b.NotDue, b.Example),
			"Prometheus holds other values than the store.", "Find out who wrote them: another store under the same labels, or honor_timestamps: false. Delete the range in Prometheus, then import it.")
	case b.Repeated > 0:
		return fail(fmt.Sprintf("%s; %d are in Prometheus more than once: %s", exported, b.Repeated, b.Example), "A sum counts them more than once, and an import would be refused.", "See prometheus.duplicates and prometheus.deduplication.")
	case b.Missing > 0 && s.Now.Sub(s.lateCommit()) < round:
		return warn(fmt.Sprintf("%s; %d are equal in Prometheus and %d are missing: %s", exported, b.Equal, b.Missing, b.Example),
			"Buckets became final late at "+moment(s.lateCommit())+": rounds are bringing older windows now.", "Run it again in a few hours.")
	case b.Missing > 0:
		return fail(fmt.Sprintf("%s; %d are equal in Prometheus and %d are missing: %s", exported, b.Equal, b.Missing, b.Example), "Prometheus was not shown them, or refused them.", repair)
	case b.Equal == 0:
		return warn(exported+"; Prometheus has none of them yet", "It has not been scraping for long enough: older windows come in the next round, within about 13 hours.", "Run it again in an hour.")
	default:
		found := fmt.Sprintf("%s, an import would accept them, and %d are equal in Prometheus", exported, b.Equal)
		if b.NotDue > 0 {
			found += fmt.Sprintf(" (%d need not be there yet, and come with a round)", b.NotDue)
		}
		if unproven != "" {
			return warn(found+"; no backfill can be requested with this token: "+unproven, "What is missing in the store cannot be fetched from Cloudflare with it.", "See collector.admin.")
		}
		if len(b.Labels) > 0 {
			return warn(found, "Its series have several sets of labels, and an import must be told which to write: "+some(b.Labels)+".", "Give job and instance to weir backfill import, or run this again when the older series have ended.")
		}
		return pass("%s", found)
	}
}
