package jobs

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

const day = 24 * time.Hour

// Work is a job at a moment: what is there, and what is left to do.
type Work struct {
	job    *Job
	series []*part // by scope, then as they were given
	now    bucket.Time
}

type part struct {
	Series
	window bucket.Window // of the job, at and after its floor
	Parts
}

// Evaluate compares a job with what is there at now. The series are those of its datasets and
// scopes, in a stable order.
func Evaluate(j *Job, now bucket.Time, all []Series) *Work {
	w := &Work{job: j, now: now}
	for _, s := range all {
		due := j.Due(s.Dataset.Size, s.Dataset.Delay)
		due.Start = min(max(due.Start, j.Floor.Ceil(s.Dataset.Size)), due.End)
		for _, f := range j.Failed {
			if f.Dataset == s.Dataset.Dataset && f.Scope == s.Scope {
				s.Failed = append(slices.Clip(s.Failed), f)
			}
		}
		w.series = append(w.series, &part{Series: s, window: due, Parts: s.Split(due, j.Created, now)})
	}
	slices.SortStableFunc(w.series, func(a, b *part) int { return a.Scope.Compare(b.Scope) })
	return w
}

// Count counts the windows of the job.
func (w *Work) Count() Counts {
	j := w.job
	c := Counts{Filled: j.Below.Final, Refused: j.Below.Refused, Lost: j.Below.Lost}
	for _, p := range w.series {
		p.count(&c, p.Dataset.Size)
	}
	if c.Total = c.Filled + c.Missing + c.Refused + c.Lost; c.Total < j.Total {
		// Of a dataset that is not collected any more nothing is known.
		c.Refused += j.Total - c.Total
		c.Total = j.Total
	}
	c.Present = min(j.Present, c.Filled)
	c.Filled -= c.Present
	return c
}

// Refused lists what is not requested, ascending by dataset, scope and start, and whether the
// list was cut. Ranges below the job's floor stay as they are in the job.
func (w *Work) Refused() (out []Refusal, truncated bool) {
	for _, r := range w.job.Refused {
		if r.Window.Start < w.job.Floor {
			r.Window.End = min(r.Window.End, w.job.Floor)
			out = append(out, r)
		}
	}
	truncated = w.job.Truncated && len(out) > 0
	known := map[string]bool{}
	for _, p := range w.series {
		known[p.Dataset.Dataset] = true
		out = append(out, p.Parts.Refused...)
	}
	for _, id := range w.job.Datasets {
		if !known[id] {
			out = append(out, Refusal{Dataset: id, Window: w.job.Selection.Window, Reason: NotCollected, Detail: "the dataset is not collected any more"})
		}
	}
	slices.SortStableFunc(out, func(a, b Refusal) int {
		return cmp.Or(strings.Compare(a.Dataset, b.Dataset), a.Scope.Compare(b.Scope), cmp.Compare(a.Window.Start, b.Window.Start))
	})
	out = join(out)
	if len(out) > MaxRefused {
		return out[:MaxRefused:MaxRefused], true
	}
	return out, truncated
}

// join makes adjacent ranges with the same reason one.
func join(all []Refusal) (out []Refusal) {
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].Window.End == r.Window.Start {
			same := out[n-1]
			if same.Window = r.Window; same == r {
				out[n-1].Window.End = r.Window.End
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// Missing calls yield for each series with its missing windows that the job and that regular
// work request.
func (w *Work) Missing(yield func(s *Series, wanted, regular bucket.Spans)) {
	for _, p := range w.series {
		if len(p.Wanted)+len(p.Parts.Regular) > 0 {
			yield(&p.Series, p.Wanted, p.Parts.Regular)
		}
	}
}

// Wanted returns the windows of a series that the job requests.
func (w *Work) Wanted(of ledger.Series) bucket.Spans {
	i, found := slices.BinarySearchFunc(w.series, of.Scope, func(p *part, sc bucket.Scope) int { return p.Scope.Compare(sc) })
	for ; found && i < len(w.series) && w.series[i].Scope == of.Scope; i++ {
		if w.series[i].Dataset.Dataset == of.Dataset {
			return w.series[i].Wanted
		}
	}
	return nil
}

// pageScopes is how many scopes one page has: ten requests' worth.
const pageScopes = 100

// pageDays is how many days of datasets fit into one request of so many scopes.
func pageDays(scopes int) int {
	c := plan.DefaultCeilings
	return c.Selections / max(1, min(scopes, c.Zones))
}

// Ready says what may be requested now.
type Ready interface {
	// Series reports whether anything of a series may be requested.
	Series(s *Series) bool
	// Window reports whether a window of such a series may be.
	Window(s *Series, start bucket.Time) bool
}

// Page returns wants for what to request next: the newest windows that are ready, of some
// scopes, with as many older days as the same requests have room for. Windows that
// Cloudflare will soon drop come first, the oldest day of them. None are returned if no
// window is ready.
func (w *Work) Page(ready Ready) (wants []plan.Want) {
	var first, newest, leaving bucket.Time
	able := make([]bool, len(w.series))
	for i, p := range w.series {
		if able[i] = len(p.Wanted) > 0 && p.Variant != nil && ready.Series(&p.Series); !able[i] {
			continue
		}
		newest = max(newest, p.newest(ready))
		if at := p.leaving(ready, w.now); at != 0 && (leaving == 0 || at < leaving) {
			leaving = at
		}
	}
	if first = newest.Floor(day); leaving != 0 {
		first = leaving.Floor(day)
	}
	if first <= 0 {
		return nil
	}
	var group []*part
	scopes := 0
	for i, p := range w.series {
		if !able[i] || !p.any(ready, bucket.Window{Start: first, End: first.Add(day)}) {
			continue
		}
		if len(group) == 0 || group[len(group)-1].Scope != p.Scope {
			if scopes++; scopes > pageScopes {
				break
			}
		}
		group = append(group, p)
	}
	from := pageFrom(group, first, pageDays(scopes))
	for _, p := range group {
		window := bucket.Window{Start: max(from, p.window.Start), End: min(first.Add(day), p.window.End)}
		wants = append(wants, plan.Want{
			Dataset: p.Dataset, Variant: p.Variant, Scope: p.Scope, Group: p.Group, Limits: p.Limits, History: true,
			Window: window, Have: p.Wanted.Missing(window),
		})
	}
	return wants
}

// newest is the start of the newest window of the job that is ready, or 0.
func (p *part) newest(ready Ready) bucket.Time {
	for _, span := range slices.Backward(p.Wanted) {
		for start := span.End.Add(-p.Dataset.Size); start >= span.Start; start = start.Add(-p.Dataset.Size) {
			if ready.Window(&p.Series, start) {
				return start
			}
		}
	}
	return 0
}

// leaving is the start of the oldest window that is ready and that Cloudflare will soon
// drop, or 0.
func (p *part) leaving(ready Ready, now bucket.Time) bucket.Time {
	soon := p.Limits.Leaving(now)
	for _, span := range p.Wanted {
		for start := span.Start; start < span.End && start < soon; start = start.Add(p.Dataset.Size) {
			if ready.Window(&p.Series, start) {
				return start
			}
		}
	}
	return 0
}

// any reports whether a window in a range is ready.
func (p *part) any(ready Ready, in bucket.Window) bool {
	for _, span := range p.Wanted.Within(in) {
		for start := span.Start; start < span.End; start = start.Add(p.Dataset.Size) {
			if ready.Window(&p.Series, start) {
				return true
			}
		}
	}
	return false
}

// pageFrom is the start of the oldest day of a page.
func pageFrom(group []*part, first bucket.Time, most int) bucket.Time {
	oldest := first
	for _, p := range group {
		oldest = min(oldest, p.Wanted[0].Start.Floor(day))
	}
	from, days := first, 0
	for at := first; at >= oldest; at = at.Add(-day) {
		of := map[string]bool{}
		for _, p := range group {
			if len(p.Wanted.Within(bucket.Window{Start: at, End: at.Add(day)})) > 0 {
				of[p.Dataset.Dataset] = true
			}
		}
		if days += len(of); days > most && at != first {
			break
		}
		from = at
	}
	return from
}

// Advance counts the windows before the store's retention for good, and raises the floor of
// the job. It reports whether the floor moved. The series are as for [Evaluate].
func (j *Job) Advance(now, keep bucket.Time, all []Series) bool {
	floor := min(keep.Floor(day), j.Selection.Window.End)
	if floor <= j.Floor {
		return false
	}
	before := slices.Clone(all)
	for i := range before {
		before[i].Keep = 0 // what was lost before it left the retention stays lost
	}
	w := Evaluate(j, now, before)
	for _, p := range w.series {
		below := bucket.Window{Start: p.window.Start, End: max(p.window.Start, min(floor, p.window.End))}
		var c Counts
		p.Parts = p.Split(below, j.Created, now)
		for _, left := range slices.Concat(p.Wanted, p.Parts.Regular) {
			p.Parts.Refused = append(p.Parts.Refused, p.beyondRetention(left))
		}
		p.Wanted, p.Parts.Regular = nil, nil
		p.count(&c, p.Dataset.Size)
		j.Below.Final += c.Filled
		j.Below.Lost += c.Lost
		j.Below.Refused += c.Refused
	}
	j.Refused, j.Truncated = w.Refused()
	j.Floor = floor
	return true
}
