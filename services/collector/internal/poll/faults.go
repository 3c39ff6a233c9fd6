package poll

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// faults records which series, datasets and windows fail, why, and when they may be tried
// again.
type faults struct {
	*env
	// backfills: what fails is said by the backfills that want it, and is no problem of
	// collecting.
	backfills bool

	tries   map[ledger.Series]*try
	off     map[string]*backoff.Backoff                // datasets with a field that Cloudflare does not know
	invalid map[ledger.Series]map[bucket.Time]*invalid // windows that cannot be stored, by start
}

// Back-off by what failed.
var (
	cloudflareAway  = backoff.Pauses{First: 15 * time.Second, Most: 2 * time.Minute} // for everything
	tokenRefused    = backoff.Pauses{First: 15 * time.Second, Most: 5 * time.Minute}
	settingsAway    = backoff.Pauses{First: 15 * time.Second, Most: 5 * time.Minute} // for reasons that name no scope
	settingsDenied  = backoff.Pauses{First: 15 * time.Second, Most: time.Hour}
	settingsUnknown = backoff.Pauses{First: 30 * time.Second, Most: 15 * time.Minute}
	seriesFailed    = backoff.Pauses{First: 15 * time.Second, Most: 15 * time.Minute}
	// There may be hundreds of them.
	seriesDenied = backoff.Pauses{First: 8 * time.Minute, Most: time.Hour}
	// An unrecognised error is no reason to wait for hours.
	unknownRefusal = backoff.Pauses{First: time.Minute, Most: 15 * time.Minute}
	unknownForAll  = backoff.Pauses{First: time.Minute, Most: 5 * time.Minute}
	notUnderstood  = backoff.Pauses{First: 5 * time.Minute, Most: time.Hour}
)

// try has the recent failures of a series.
type try struct {
	backoff.Backoff
	// alone: the series itself was found to fail, so it is requested separately until it
	// succeeds. Together with others it would void their response too.
	alone    bool
	reason   ledger.Reason
	detail   string
	maxRange time.Duration // narrower than the plan's if responses were too big; 0: no limit
}

// isOff reports whether a dataset is disabled at the moment.
func (f *faults) isOff(dataset string) bool {
	off := f.off[dataset]
	return off != nil && f.trusted.Second() < off.Next
}

// fail records that a series could not be read.
func (f *faults) fail(of ledger.Series, reason ledger.Reason, detail string) {
	f.failWith(of, reason, detail, f.rng.Float64(), seriesFailed)
}

// failWith takes the jitter from the caller: series that failed in one request wait equally
// long, so that they share a request again.
func (f *faults) failWith(of ledger.Series, reason ledger.Reason, detail string, jitter float64, p backoff.Pauses) {
	t := f.tries[of]
	if t == nil {
		t = &try{}
		f.tries[of] = t
	}
	now := f.trusted.Second()
	if now < t.Next {
		// The series is not requested before t.Next, so this is the same failure in another
		// window of the same request or pass. A catch-up has dozens of them.
		t.Failures--
	}
	t.reason, t.detail = reason, store.Text(detail)
	t.Fail(now, p, jitter)
}

// failAlone records a failure that was found to be that of the series itself.
func (f *faults) failAlone(of ledger.Series, reason ledger.Reason, e *cloudflare.Error, p backoff.Pauses) {
	f.failWith(of, reason, e.Error(), f.rng.Float64(), p)
	f.tries[of].alone = true
}

// narrow halves the range of a series whose response was too big; a single window cannot be
// halved, and is recorded as a failure.
func (f *faults) narrow(of ledger.Series, sel plan.Selection, detail string) {
	if sel.Window.Len() > sel.Dataset.Size {
		t := f.tries[of]
		if t == nil {
			t = &try{}
			f.tries[of] = t
		}
		t.maxRange = max(sel.Dataset.Size, (sel.Window.Len() / 2).Truncate(sel.Dataset.Size))
		return
	}
	f.fail(of, ledger.TooBig, detail)
}

// disable disables a dataset that uses a field which Cloudflare does not know. It is tried
// again after minutes, then less often.
func (f *faults) disable(dataset string, e *cloudflare.Error) {
	off := f.off[dataset]
	if off == nil {
		off = &backoff.Backoff{}
		f.off[dataset] = off
	}
	off.Fail(f.trusted.Second(), notUnderstood, f.rng.Float64())
	f.trouble.Set(trouble.DatasetDisabled, dataset, "Cloudflare does not know a field of the dataset, which is not collected meanwhile: "+e.Error())
}

// denied reports whether the token had no access to a series at the last attempt.
func (f *faults) denied(of ledger.Series) bool {
	t := f.tries[of]
	return t != nil && t.reason == ledger.Unauthorized
}

// invalid is a window whose bucket was read and cannot be stored, since readers would reject it
// or the database cannot hold it.
type invalid struct {
	backoff.Backoff
	detail string
}

// reject records a window that cannot be stored.
func (f *faults) reject(key bucket.Key, why string, err error) {
	of := ledger.Series{Dataset: key.Dataset, Scope: key.Scope}
	if f.invalid[of] == nil {
		f.invalid[of] = map[bucket.Time]*invalid{}
	}
	w := f.invalid[of][key.Start]
	if w == nil {
		w = &invalid{}
		f.invalid[of][key.Start] = w
	}
	w.detail = store.Text(err.Error())
	w.Fail(f.trusted.Second(), seriesFailed, f.rng.Float64())
	f.metrics.invalid.WithLabelValues(key.Dataset).Inc()
	if f.backfills {
		f.quiet.Warn(aboutSeries(of), why+"; it is not stored, and is requested again", "dataset", of.Dataset, inLog(of.Scope), "window", key.Start.String(), "err", err)
		return
	}
	f.trouble.Set(trouble.InvalidValue, aboutSeries(of), why+"; it is not stored, and is requested again: "+w.detail)
}

// accepted removes the record that a window could not be stored.
func (f *faults) accepted(of ledger.Series, start bucket.Time) {
	if f.invalid[of] == nil {
		return
	}
	delete(f.invalid[of], start)
	f.closeInvalid(of)
}

// expireInvalid removes windows that are no longer wanted.
func (f *faults) expireInvalid(c roster.Claim) {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	if f.invalid[of] == nil {
		return
	}
	for start := range f.invalid[of] {
		if !c.Window.Contains(start) || c.Variant == nil {
			delete(f.invalid[of], start)
		}
	}
	f.closeInvalid(of)
}

func (f *faults) closeInvalid(of ledger.Series) {
	if len(f.invalid[of]) == 0 {
		delete(f.invalid, of)
		if f.backfills {
			return
		}
		f.trouble.Clear(trouble.InvalidValue, aboutSeries(of))
	}
}

func aboutSeries(of ledger.Series) string { return of.Dataset + " " + of.Scope.String() }

// away records that a line can send nothing, and until when. What fails in backfills alone ends
// only these for a while: if nothing can be sent, regular work finds out.
func (f *faults) away(l *line, e *cloudflare.Error, reason ledger.Reason, p backoff.Pauses) {
	if f.backfills {
		l.noHistory = f.trusted.Second().Add(p.Most)
		return
	}
	l.outage.Begin(f.trusted.Second(), e, reason, p, f.rng.Float64())
	l.blocked = l.outage.Next
}
