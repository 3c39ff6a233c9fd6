package poll_test

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// weekLog is what was read of the log so far, day by day, as a reader of the
// stream would.
type weekLog struct {
	after    bucket.Revision
	payloads map[bucket.Key]string // of every bucket that was ever stored
	lost     map[ledger.Series]bucket.Spans
	dropped  int // buckets that are no longer there
	last     time.Time
	audits   float64

	// Of counters: see checkCounters.
	definitions map[string]*bucket.Definition
	entries     []*bucket.Entry // buckets
	whole       *counter.Fold
	epoch       counter.Epoch
	restarted   string // id of the epoch that began after a restore
	counted     bucket.Revision
	first       map[string]time.Time
	due         []*bucket.Entry // that count
}

func (l *weekLog) begin() {
	l.payloads, l.lost = map[bucket.Key]string{}, map[ledger.Series]bucket.Spans{}
	l.definitions, l.first = map[string]*bucket.Definition{}, map[string]time.Time{}
}

func seriesOf(zone string) ledger.Series {
	return ledger.Series{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:" + zone)}}
}

// checkDay holds the store to its guarantees, after a process has led for at
// least an hour.
func (w *weeks) checkDay() {
	w.t.Helper()
	if peak := w.sim.Counters().PeakQueries; peak > limit {
		w.t.Fatalf("until %s: %d requests within five minutes; the share is %d", w.clock.Now(), peak, limit)
	}
	w.readLog()
	w.checkCounters()
	w.checkCoverage()
	if n := w.counted("1h", audit.Same); n <= w.log.audits {
		w.t.Errorf("until %s: no bucket was audited and found the same", w.clock.Now())
	} else {
		w.log.audits = n
	}
}

// readLog reads the day's entries: every bucket is stored once and is the truth,
// nothing is stored and lost, or lost twice, and what is lost Cloudflare had
// dropped (G1, G2).
func (w *weeks) readLog() {
	w.t.Helper()
	for {
		page, err := w.store.ReadLog(w.t.Context(), w.log.after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(page) == 0 {
			return
		}
		for _, e := range page {
			w.log.after = e.Revision
			if e.CommittedAt.Before(w.log.last) {
				w.t.Errorf("revision %d was committed at %s, the one before at %s", e.Revision, e.CommittedAt, w.log.last)
			}
			w.log.last = e.CommittedAt
			of := ledger.Series{Dataset: e.Key.Dataset, Scope: e.Key.Scope}
			switch e.Kind {
			case bucket.KindDatasetVersion:
				d, err := wire.DecodeDefinition(e.Payload)
				if err != nil {
					w.t.Fatal(err)
				}
				w.log.definitions[d.Dataset] = d
			case bucket.KindBucket:
				if w.log.payloads[e.Key] != "" || w.log.lost[of].Contains(bucket.Window{Start: e.Key.Start, End: e.End}) {
					w.t.Errorf("%s is stored after it was stored or lost", e.Key)
				}
				w.log.payloads[e.Key] = string(e.Payload)
				w.checkBucket(e)
			case bucket.KindGapDecision:
				w.checkLost(of, e)
			}
		}
	}
}

// checkBucket compares a bucket with what really happened.
func (w *weeks) checkBucket(e store.Entry) {
	w.t.Helper()
	b, err := wire.DecodeBucket(e.Payload)
	if err != nil {
		w.t.Fatal(err)
	}
	w.log.entries = append(w.log.entries, &bucket.Entry{Position: e.Position, CommittedAt: e.CommittedAt, Kind: e.Kind, Bucket: b, Definition: w.log.definitions[b.Dataset]})
	truth, err := w.sim.True(b.Scope.ID, b.Start.Std(), b.Window().End.Std())
	if err != nil {
		w.t.Fatal(err)
	}
	family, want := "cloudflare_zone_requests", float64(truth.Requests)
	switch b.Dataset {
	case "uniques_1h":
		family, want = "cloudflare_zone_unique_visitors", float64(truth.Uniques)
	case "uniques_1d":
		family, want = "cloudflare_zone_daily_unique_visitors", float64(truth.Uniques)
	}
	if got := value(b, family); got != want {
		w.t.Errorf("%s (%s, read at %s): %s is %v, truth is %v", b.Key, b.Variant, b.ReadAt, family, got, want)
	}
}

// checkLost: a loss is recorded once, and only of what Cloudflare had dropped by
// then and this collector had wanted.
func (w *weeks) checkLost(of ledger.Series, e store.Entry) {
	w.t.Helper()
	window := bucket.Window{Start: e.Key.Start, End: e.End}
	if len(w.log.lost[of].Within(window)) > 0 {
		w.t.Errorf("%s of %s is lost twice", window, of.Scope)
	}
	w.log.lost[of] = w.log.lost[of].Add(window)
	kept := map[string]time.Duration{"http_5m": day, "uniques_1h": 7 * day, "uniques_1d": 365 * day}[of.Dataset] // Pro
	size := w.dataset(of.Dataset).Size
	if newest := window.End.Add(-size); bucket.TimeOf(e.CommittedAt).Sub(newest) < kept-2*size {
		w.t.Errorf("%s of %s %s is lost at %s, though Cloudflare keeps it for %s", window, of.Dataset, of.Scope, e.CommittedAt, kept)
	}
	if window.Start < w.began.Add(-day) {
		w.t.Errorf("%s of %s was never wanted, and is lost", window, of.Scope)
	}
	for start := window.Start; start < window.End; start = start.Add(size) {
		if w.log.payloads[bucket.Key{Dataset: of.Dataset, Scope: of.Scope, Start: start}] != "" {
			w.t.Errorf("%s %s of %s is stored and lost", of.Dataset, start, of.Scope)
		}
	}
}

// checkCoverage: every window from the horizon to what is due is final, lost, or
// in the ledger with a reason; only what may still settle in time is without a
// record (G2). What coverage calls final can be read, or has been dropped by
// retention, never anything else.
func (w *weeks) checkCoverage() {
	w.t.Helper()
	source := status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: shortRetention, Leading: func() bool { return true }}
	coverages, asOf, err := source.Coverage(w.t.Context(), store.Filter{}, bucket.Window{})
	if err != nil {
		w.t.Fatal(err)
	}
	if want := 3 * w.zones; len(coverages) != want {
		w.t.Fatalf("coverage of %d series, want %d: three datasets of each zone", len(coverages), want)
	}
	now := bucket.TimeOf(asOf)
	for _, c := range coverages {
		d, at := w.dataset(c.Dataset), bucket.Time(0)
		for i, r := range c.Ranges {
			start, end := bucket.Time(r.StartUnixSeconds), bucket.Time(r.EndUnixSeconds)
			if i > 0 && start != at {
				w.t.Errorf("%s %s: nothing is said of [%s, %s)", c.Dataset, c.Scope.Id, at, start)
			}
			at = end
			if r.State != bucketv1.CoverageState_COVERAGE_STATE_MISSING {
				continue
			}
			if r.Reason == bucketv1.GapReason_GAP_REASON_UNSPECIFIED {
				w.t.Errorf("%s %s: [%s, %s) is missing without a reason", c.Dataset, c.Scope.Id, start, end)
			}
			// The ledger is as old as the last pass.
			if noRecord := r.NextAttempt == nil && r.LostAt == nil; noRecord && now.Sub(start.Add(d.Size)) > d.Deadline+w.config.Interval {
				w.t.Errorf("at %s %s %s: [%s, %s) is missing and not in the ledger", now, c.Dataset, c.Scope.Id, start, end)
			}
			// Nothing stays open without cause: only the zone without traffic waits.
			if c.Scope.Id != cfsim.Tag("zone:parked.example") && now.Sub(end) > 2*time.Hour {
				w.t.Errorf("at %s %s %s: [%s, %s) is still missing (%s)", now, c.Dataset, c.Scope.Id, start, end, r.Reason)
			}
		}
	}
}

// checkEnd compares what can still be read with what was ever stored: the same
// bytes, less what retention dropped.
func (w *weeks) checkEnd() {
	w.t.Helper()
	now, there := bucket.TimeOf(w.clock.Now()), map[bucket.Key]bool{}
	err := w.store.List(w.t.Context(), store.ListQuery{Window: bucket.Window{Start: 0, End: 1 << 40}}, func(e store.Entry) error {
		there[e.Key] = true
		if w.log.payloads[e.Key] != string(e.Payload) {
			w.t.Errorf("%s was changed after it was stored", e.Key)
		}
		if e.End <= now.Add(-shortRetention-2*time.Hour) {
			w.t.Errorf("%s is still there, older than retention", e.Key)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for key := range w.log.payloads {
		switch end := key.Start.Add(w.dataset(key.Dataset).Size); {
		case there[key]:
		case end > now.Add(-shortRetention):
			w.t.Errorf("%s was stored and is gone before its time", key)
		default:
			w.log.dropped++
		}
	}
	for _, age := range audit.Ages {
		if n := w.counted(age.Name, audit.Moved); n != 0 {
			w.t.Errorf("%v buckets are said to have moved by %s; nothing is revised in this world", n, age.Name)
		}
	}
}
