package backfill

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Request is a parsed request.
type Request struct {
	Range    bucket.Window // selects the windows that lie entirely inside
	Datasets []string      // ids, ascending; at least one
	Zone     string        // name or id; empty: every zone
	Account  string        // name or id, of which its zones are a part; empty: every scope
	// Only selects what the client may read; Zone and Account name some of it.
	Only     selection.Selection
	Labels   []sample.Label // added to every series
	Format   expo.Format
	Restated bool // restated buckets have their newest value instead of the first

	Step   time.Duration // 0: each dataset's own bucket size
	Sum    bool          // Step was given, so smaller buckets are summed to it
	Extend bool          // repeat the newest value up to now

	Blocks  []Block   // the output, in this order; at least one
	LeftOut []LeftOut // requested, but not available with this step
}

// Defaults are the values of parameters that are not given.
type Defaults struct {
	Hours  int
	Step   time.Duration // 0: one sample per bucket
	Extend bool          // only if no end is given
}

// Bounds limit the parameters.
type Bounds struct {
	Now      time.Time
	MaxHours int
}

// ParamError is an invalid parameter: its name, its value and what it must be.
type ParamError struct{ Name, Value, Want string }

func (e *ParamError) Error() string {
	name := e.Name
	if !slices.Contains(known, name) { // untrusted and of any length
		name = fmt.Sprintf("%q", bucket.Clip(name))
	}
	return fmt.Sprintf("parameter %s is %q; it must be %s", name, bucket.Clip(e.Value), e.Want)
}

// HiddenError means that a zone or account is not among what the client may read, or does not
// exist: the client must not learn which.
type HiddenError struct{ Name, Value string }

func (e *HiddenError) Error() string {
	return fmt.Sprintf("parameter %s is %q, which is not among the zones and accounts that this token may read", e.Name, bucket.Clip(e.Value))
}

// ErrNothing means that nothing of what the client may read has ever been collected.
var ErrNothing = errors.New("nothing of what this token may read has been collected yet")

var known = []string{"account", "as", "dataset", "end", "extend_to_now", "family", "format", "hours", "label", "start", "step_seconds", "zone"}

// Parse parses the parameters of a request. Every error is a *[ParamError]: nothing
// is clamped or ignored, since a backfill that silently covers another range than
// requested is noticed months later.
func Parse(q url.Values, state *recent.State, d Defaults, b Bounds) (*Request, error) {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, name) {
			return nil, &ParamError{name, q.Get(name), "removed: the parameters are " + strings.Join(known, ", ")}
		}
		if len(q[name]) > 1 && name != "label" {
			return nil, &ParamError{name, strings.Join(q[name], " and "), "given once"}
		}
		if q.Get(name) == "" {
			return nil, &ParamError{name, "", "removed or given a value"}
		}
	}
	r := &Request{Zone: q.Get("zone"), Account: q.Get("account"), Format: expo.OpenMetrics}
	p := params{Values: q}
	if q.Has("format") {
		switch q.Get("format") {
		case "text":
			r.Format = expo.Text
		case "openmetrics":
		default:
			return nil, p.bad("format", "openmetrics or text")
		}
	}
	if p.Has("as") {
		switch p.Get("as") {
		case "restated":
			r.Restated = true
		case "stored":
		default:
			return nil, p.bad("as", "restated (with the newest restatement of each bucket) or stored (with the first value of each bucket)")
		}
	}
	if err := p.span(r, state.Store.Retention, d, b); err != nil {
		return nil, err
	}
	families, err := p.what(r, state)
	if err != nil {
		return nil, err
	}
	if err := p.labels(r, state); err != nil {
		return nil, err
	}
	if err := p.steps(r, d); err != nil {
		return nil, err
	}
	if r.divide(state, families); len(r.Blocks) == 0 && len(r.LeftOut) > 0 {
		first := slices.MinFunc(r.LeftOut, func(a, b LeftOut) int { return a.compare(&b) })
		return nil, p.bad("step_seconds", first.suggestion(state, r.Step))
	}
	return r, nil
}

type params struct{ url.Values }

func (p params) bad(name, want string) error { return &ParamError{name, p.Get(name), want} }

const (
	// day is the longest bucket: no window crosses midnight UTC.
	day = 24 * time.Hour
	// ahead is how far in the future an end may lie, for clients whose clock is fast
	// or that round up to the hour. Such an end means now. A later end is probably a
	// mistake in the date.
	ahead = time.Hour
)

// span parses hours, start and end.
func (p params) span(r *Request, retention time.Duration, d Defaults, b Bounds) (err error) {
	now := bucket.TimeOf(b.Now)
	r.Range.End = now
	if p.Has("end") {
		if r.Range.End, err = p.time("end"); err != nil {
			return err
		}
		if r.Range.End > now.Add(ahead) {
			return p.bad("end", fmt.Sprintf("at most %d minutes after now (%s); a range ends at now at the latest", ahead/time.Minute, now))
		}
		r.Range.End = min(r.Range.End, now)
	}
	var oldest bucket.Time
	if retention > 0 {
		oldest = max(0, now.Add(-retention))
	}
	if !p.Has("start") {
		return p.back(r, oldest, d, b)
	}
	if p.Has("hours") {
		return p.bad("hours", "removed if start is given: give either start and end, or hours before end or before now")
	}
	if r.Range.Start, err = p.time("start"); err != nil {
		return err
	}
	if r.Range.Empty() {
		return p.bad("start", "before the end, "+r.Range.End.String())
	}
	if longest := time.Duration(b.MaxHours) * time.Hour; r.Range.Len() > longest {
		return p.bad("start", fmt.Sprintf("at most %d hours (CF_BACKFILL_MAX_HOURS) before the end, at or after %s: request a longer range in parts, split at midnight UTC, because a range contains only windows that lie entirely inside it",
			b.MaxHours, r.Range.End.Add(-longest)))
	}
	return p.kept(r, oldest)
}

// back begins the range this many hours before its end, rounded down to midnight
// UTC, even if that exceeds the longest range. Otherwise the range would begin in
// the middle of a window, which would be left out.
func (p params) back(r *Request, oldest bucket.Time, d Defaults, b Bounds) (err error) {
	hours := d.Hours
	if p.Has("hours") {
		if hours, err = strconv.Atoi(p.Get("hours")); err != nil || hours < 1 || hours > b.MaxHours {
			return p.bad("hours", fmt.Sprintf("a whole number from 1 to %d (CF_BACKFILL_MAX_HOURS); the range starts at the preceding midnight UTC", b.MaxHours))
		}
	}
	r.Range.Start = r.Range.End.Add(-time.Duration(hours) * time.Hour)
	if err := p.kept(r, oldest); err != nil {
		return err
	}
	r.Range.Start = max(oldest, r.Range.Start.Floor(day))
	return nil
}

// kept rejects a range that begins before the store's retention. A range by default
// is cut instead, since nobody asked for it.
func (p params) kept(r *Request, oldest bucket.Time) error {
	if r.Range.Start >= oldest {
		return nil
	}
	for _, name := range []string{"start", "hours", "end"} {
		if p.Has(name) {
			return p.bad(name, fmt.Sprintf("within the retention of the store: a range that starts at or after %s", oldest))
		}
	}
	r.Range.Start = oldest
	return nil
}

// time parses a time: RFC 3339, or seconds since 1970. Milliseconds are detected by
// their magnitude, because that mistake is common.
func (p params) time(name string) (bucket.Time, error) {
	const want = "an RFC 3339 time such as 2026-11-22T00:00:00Z or whole seconds since 1970"
	text := p.Get(name)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		switch {
		case n >= 1e11:
			return 0, p.bad(name, want+" (this looks like milliseconds)")
		case n < 0:
			return 0, p.bad(name, want+", not negative")
		}
		return bucket.Time(n), nil
	}
	// An unescaped "+" of a zone offset arrives as a space.
	t, err := time.Parse(time.RFC3339, strings.Replace(text, " ", "+", 1))
	if err != nil || t.Unix() < 0 || t.Unix() >= 1e11 {
		return 0, p.bad(name, want)
	}
	return bucket.TimeOf(t), nil
}

// what parses dataset and family, and returns the requested families, ascending.
func (p params) what(r *Request, state *recent.State) (families []recent.Family, err error) {
	var ids []string
	for i := range state.Datasets {
		ids = append(ids, state.Datasets[i].Dataset)
	}
	r.Datasets = ids
	if p.Has("dataset") {
		if !slices.Contains(ids, p.Get("dataset")) {
			return nil, p.bad("dataset", oneOf(ids))
		}
		r.Datasets = []string{p.Get("dataset")}
	}
	var names []string
	for _, fam := range state.Families() {
		if len(feeders(state, r.Datasets, fam.Name)) == 0 {
			continue
		}
		names = append(names, fam.Name)
		if !p.Has("family") || p.Get("family") == fam.Name {
			families = append(families, fam)
		}
	}
	if p.Has("family") && len(families) == 0 {
		return nil, p.bad("family", oneOf(names))
	}
	return families, nil
}

func oneOf(words []string) string {
	if len(words) == 0 {
		return "removed: the store has none yet"
	}
	const most = 30
	if len(words) > most {
		return "one of " + strings.Join(words[:most], ", ") + " and others"
	}
	return "one of " + strings.Join(words, ", ")
}

// steps parses step_seconds and extend_to_now.
func (p params) steps(r *Request, d Defaults) error {
	switch p.Get("extend_to_now") {
	case "":
		r.Extend = d.Extend && !p.Has("end")
	case "0", "false":
	case "1", "true":
		if r.Extend = true; p.Has("end") {
			return p.bad("extend_to_now", "0 if end is given: extend_to_now repeats the newest value up to now")
		}
	default:
		return p.bad("extend_to_now", "0 or 1")
	}
	r.Step = d.Step
	if r.Sum = p.Has("step_seconds"); r.Sum {
		n, err := strconv.Atoi(p.Get("step_seconds"))
		if err != nil || n < 1 || n > 86400 {
			return p.bad("step_seconds", "a whole number from 1 to 86400")
		}
		r.Step = time.Duration(n) * time.Second
	}
	return nil
}

// feeders returns the datasets that have the family in any version.
func feeders(state *recent.State, datasets []string, family string) []string {
	var out []string
	for _, id := range datasets {
		for _, version := range state.Dataset(id).Versions {
			if sample.FamilyOf(version, family) != nil {
				out = append(out, id)
				break
			}
		}
	}
	return out
}
