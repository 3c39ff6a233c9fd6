package verify

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// mostRanges is how many ranges a report lists; the file of findings has all.
const mostRanges = 1000

// Range is consecutive windows of a dataset and a zone in which samples differ.
type Range struct {
	Kind    Kind      `json:"kind"`
	Dataset string    `json:"dataset"`
	Zone    string    `json:"zone"` // of a dataset about accounts, the account
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"` // exclusive
	Windows int64     `json:"windows"`
	Samples int64     `json:"samples"`
	// Unserved is how many of them no scrape can have shown.
	Unserved int64 `json:"unserved,omitempty"`
	// Example is one of the samples.
	Example string `json:"example"`
}

// Result is what a comparison shows.
type Result string

// The results. A comparison that found no difference shows nothing unless samples were equal
// and none was left out.
const (
	Clean       Result = "clean"
	Differences Result = "differences"
	NotVerified Result = "not verified"
)

// Report says what a comparison found.
type Report struct {
	Result Result `json:"result"`
	// Reason says why it is not verified.
	Reason     string    `json:"reason,omitempty"`
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
	Prometheus string    `json:"prometheus_url"`
	StoreID    string    `json:"store_id"`
	Store      int64     `json:"samples_in_store"`
	Held       int64     `json:"samples_in_prometheus"`
	Equal      int64     `json:"samples_equal"`
	Pending    int64     `json:"samples_pending"`
	// PendingUntil is when Prometheus must have the last pending sample; nil: none is pending.
	PendingUntil *time.Time     `json:"pending_until,omitempty"`
	Differences  map[Kind]int64 `json:"samples_differing"`
	Unserved     int64          `json:"samples_unserved"`
	// Unreadable is the number of stored buckets that cannot be read.
	Unreadable int64 `json:"buckets_unreadable"`
	// NotStored is the number of windows that the store itself lacks.
	NotStored int64   `json:"windows_not_stored"`
	Ranges    []Range `json:"ranges"`
	// MoreRanges is the number of ranges that are not listed.
	MoreRanges int64    `json:"more_ranges,omitempty"`
	Notes      []string `json:"notes,omitempty"`
}

// judge sets the result.
func (r *Report) judge() {
	r.Result = Clean
	switch {
	case slices.ContainsFunc(Kinds, func(k Kind) bool { return r.Differences[k] > 0 }):
		r.Result = Differences
	case r.Unreadable > 0:
		r.Result, r.Reason = NotVerified, count(r.Unreadable, "bucket")+" in the store cannot be read and could not be compared"
	case r.Equal == 0 && r.PendingUntil != nil:
		r.Result, r.Reason = NotVerified, fmt.Sprintf("all %s are pending until %s", count(r.Pending, "sample"), r.PendingUntil.UTC().Format(time.RFC3339))
	case r.Equal == 0: // Prometheus's samples are of datasets that were not asked for
		r.Result, r.Reason = NotVerified, "nothing was compared"
	}
}

// place is what ranges are told apart by.
type place struct {
	kind          Kind
	dataset, zone string
}

// ranges collects differences into ranges, chunk by chunk.
type ranges struct {
	report *Report
	chunk  map[place]map[bucket.Window]*Range
	open   map[place]*Range // the newest of each, which the next chunk may continue
}

func newRanges(r *Report) *ranges {
	r.Differences = map[Kind]int64{}
	for _, k := range Kinds {
		r.Differences[k] = 0
	}
	r.Ranges = []Range{}
	return &ranges{report: r, chunk: map[place]map[bucket.Window]*Range{}, open: map[place]*Range{}}
}

// add counts a difference at a window.
func (rs *ranges) add(p place, w bucket.Window, unserved bool, example func() string) {
	rs.report.Differences[p.kind]++
	windows := rs.chunk[p]
	if windows == nil {
		windows = map[bucket.Window]*Range{}
		rs.chunk[p] = windows
	}
	r := windows[w]
	if r == nil {
		r = &Range{Kind: p.kind, Dataset: p.dataset, Zone: p.zone, Start: w.Start.Std(), End: w.End.Std(), Windows: 1, Example: example()}
		windows[w] = r
	}
	r.Samples++
	if unserved {
		r.Unserved++
		rs.report.Unserved++
	}
}

// flush joins the windows of a chunk.
func (rs *ranges) flush() {
	for p, windows := range rs.chunk {
		list := make([]*Range, 0, len(windows))
		for _, r := range windows {
			list = append(list, r)
		}
		slices.SortFunc(list, func(a, b *Range) int { return cmp.Or(a.Start.Compare(b.Start), a.End.Compare(b.End)) })
		for _, r := range list {
			last := rs.open[p]
			if last != nil && last.End.Equal(r.Start) {
				last.End, last.Windows, last.Samples, last.Unserved = r.End, last.Windows+r.Windows, last.Samples+r.Samples, last.Unserved+r.Unserved
				continue
			}
			if last != nil {
				rs.keep(last)
			}
			rs.open[p] = r
		}
	}
	clear(rs.chunk)
}

func (rs *ranges) keep(r *Range) {
	if len(rs.report.Ranges) >= mostRanges {
		rs.report.MoreRanges++
		return
	}
	rs.report.Ranges = append(rs.report.Ranges, *r)
}

// end closes all ranges and sorts them.
func (rs *ranges) end() {
	rs.flush()
	for _, r := range rs.open {
		rs.keep(r)
	}
	clear(rs.open)
	slices.SortFunc(rs.report.Ranges, func(a, b Range) int {
		return cmp.Or(slices.Index(Kinds, a.Kind)-slices.Index(Kinds, b.Kind), strings.Compare(a.Dataset, b.Dataset), strings.Compare(a.Zone, b.Zone), a.Start.Compare(b.Start))
	})
}

// example describes one difference for people.
func example(c *column, d *difference) string {
	var labels []string
	for _, l := range c.labels {
		labels = append(labels, fmt.Sprintf("%s=%q", l.name, l.value))
	}
	series := c.family + "{" + strings.Join(labels, ",") + "}"
	at := d.at.Std().Format("2006-01-02T15:04:05.000Z")
	switch d.kind {
	case Missing:
		return fmt.Sprintf("%s at %s: the store has %s", series, at, Value(d.store))
	case Extra:
		return fmt.Sprintf("%s at %s: Prometheus has %s, the store nothing", d.series, at, Value(d.held))
	case Different:
		return fmt.Sprintf("%s at %s: the store has %s, Prometheus %s", series, at, Value(d.store), Value(d.held))
	case Parallel:
		return fmt.Sprintf("%s at %s: a further series has %s at the same time", d.series, at, Value(d.held))
	}
	return fmt.Sprintf("%s at %s: stored more than once", d.series, at)
}

// windowOf is the window of a sample that the store does not have. Either timestamp lies
// inside its window.
func windowOf(at sample.Millis, size time.Duration) bucket.Window {
	start := bucket.Time(at / 1000).Floor(size)
	return bucket.Window{Start: start, End: start.Add(size)}
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) {
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	for _, x := range r.Ranges {
		fmt.Fprintf(w, "%-9s %s %s [%s, %s): %s in %s\n", x.Kind, x.Dataset, x.Zone, x.Start.Format(time.RFC3339), x.End.Format(time.RFC3339),
			count(x.Samples, "sample"), count(x.Windows, "window"))
		fmt.Fprintf(w, "          %s\n", x.Example)
		if x.Unserved > 0 {
			fmt.Fprintf(w, "          %s became final too late for any scrape: only an import brings them\n", count(x.Unserved, "sample"))
		}
	}
	if r.MoreRanges > 0 {
		fmt.Fprintf(w, "and %d more ranges, which are in the findings file\n", r.MoreRanges)
	}
	fmt.Fprintf(w, "compared [%s, %s): %s in the store, %d in Prometheus; %d equal, %d pending", r.Start.Format(time.RFC3339), r.End.Format(time.RFC3339),
		count(r.Store, "sample"), r.Held, r.Equal, r.Pending)
	for _, k := range Kinds {
		if n := r.Differences[k]; n > 0 || k == Missing || k == Extra || k == Different {
			fmt.Fprintf(w, ", %d %s", n, k)
		}
	}
	if r.PendingUntil != nil {
		fmt.Fprintf(w, " (pending until %s)", r.PendingUntil.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, "\nresult: %s", r.Result)
	if r.Reason != "" {
		fmt.Fprintf(w, ": %s", r.Reason)
	}
	fmt.Fprintln(w)
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
