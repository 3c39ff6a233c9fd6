package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what is known of one dataset, for people and for programs.
type Report struct {
	Dataset string    `json:"dataset"`
	Since   time.Time `json:"since"` // of the figures
	// DelaySeconds is the delay that the figures are of.
	DelaySeconds int64 `json:"delay_seconds"`
	// RecommendedSeconds is absent where the figures allow no recommendation;
	// Advice says why.
	RecommendedSeconds *int64 `json:"recommended_delay_seconds,omitempty"`
	Advice             string `json:"advice"`
	// Windows were read when they fell due; the shares below are of them.
	Windows uint64 `json:"windows"`
	Suspect uint64 `json:"suspect_windows"` // left out
	// Steps are the ages that were looked at, ascending.
	Steps    []Step         `json:"steps"`
	Audits   []AuditReport  `json:"audits"`
	Families []FamilyReport `json:"families"`
	Worst    []Movement     `json:"worst"`
}

// Step says how many windows had their final value at an age.
type Step struct {
	AgeSeconds int64   `json:"age_seconds"`
	Windows    uint64  `json:"windows"` // so many, of all
	Share      float64 `json:"share"`
}

// AuditReport counts buckets by what an audit at one age found.
type AuditReport struct {
	Age        string `json:"age"`
	Same       uint64 `json:"same"`
	Moved      uint64 `json:"moved"`
	Gone       uint64 `json:"gone"`
	Unanswered uint64 `json:"unanswered"`
}

// FamilyReport is how far one family had moved at one age.
type FamilyReport struct {
	Age    string `json:"age"`
	Family string `json:"family"`
	Figures
}

// Reports sums up what is known of each dataset, by its name.
func Reports(drifts map[string]*Drift) []Report {
	out := []Report{}
	for _, dataset := range slices.Sorted(maps.Keys(drifts)) {
		if d := drifts[dataset]; len(d.Periods) > 0 {
			out = append(out, d.report())
		}
	}
	return out
}

func (d *Drift) report() Report {
	sum := d.sum()
	r := Report{
		Dataset: d.Dataset, Since: sum.Since.Std(), DelaySeconds: d.Delay, Suspect: sum.Settled.Suspect,
		Steps: []Step{}, Audits: []AuditReport{}, Families: []FamilyReport{}, Worst: sum.Worst,
	}
	if r.Worst == nil {
		r.Worst = []Movement{}
	}
	r.Windows = sum.Settled.Never
	for _, n := range sum.Settled.At {
		r.Windows += n
	}
	had := uint64(0)
	for _, age := range slices.Sorted(maps.Keys(sum.Settled.At)) {
		had += sum.Settled.At[age]
		r.Steps = append(r.Steps, Step{AgeSeconds: age, Windows: had, Share: float64(had) / float64(r.Windows)})
	}
	for _, age := range Ages {
		a := sum.Audits[age.Name]
		if a == nil {
			continue
		}
		r.Audits = append(r.Audits, AuditReport{
			Age: age.Name, Same: a.Results[Same], Moved: a.Results[Moved], Gone: a.Results[Gone], Unanswered: a.Results[Unanswered],
		})
		for _, family := range slices.Sorted(maps.Keys(a.Families)) {
			r.Families = append(r.Families, FamilyReport{Age: age.Name, Family: family, Figures: *a.Families[family]})
		}
	}
	r.advise()
	return r
}

// sum adds the periods up.
func (d *Drift) sum() Period {
	out := Period{Settled: Settled{At: map[int64]uint64{}}}
	for _, p := range d.Periods {
		if out.Since == 0 || p.Since < out.Since {
			out.Since = p.Since
		}
		for age, n := range p.Settled.At {
			out.Settled.At[age] += n
		}
		out.Settled.Never += p.Settled.Never
		out.Settled.Suspect += p.Settled.Suspect
		out.Worst = append(out.Worst, p.Worst...)
		for age, a := range p.Audits {
			out.audits(age).merge(a)
		}
	}
	out.Worst = worst(out.Worst)
	return out
}

func (a *Audits) merge(b *Audits) {
	for result, n := range b.Results {
		a.Results[result] += n
	}
	for name, f := range b.Families {
		into := a.Families[name]
		if into == nil {
			into = &Figures{}
			a.Families[name] = into
		}
		into.Buckets, into.Moved, into.Stored = into.Buckets+f.Buckets, into.Moved+f.Moved, into.Stored+f.Stored
		into.Up, into.Down, into.Largest = into.Up+f.Up, into.Down+f.Down, max(into.Largest, f.Largest)
	}
}

// stayed is the share of audited buckets that were still as stored, at the
// oldest age that has any; 1 without audits.
func (r *Report) stayed() (share float64, of AuditReport) {
	share = 1
	for _, a := range r.Audits {
		if n := a.Same + a.Moved; n > 0 {
			share, of = float64(a.Same)/float64(n), a
		}
	}
	return share, of
}

// advise recommends a delay, or says why there is none to recommend.
func (r *Report) advise() {
	stayed, of := r.stayed()
	switch {
	case r.Windows < Enough:
		r.Advice = fmt.Sprintf("not enough data: %d windows were read when they fell due, at least %d are needed", r.Windows, Enough)
		return
	case stayed < Share:
		r.Advice = fmt.Sprintf("a delay of minutes would not help: at the age of %s, %d of %d audited buckets had moved (%s)",
			of.Age, of.Moved, of.Same+of.Moved, percent(1-stayed))
		return
	}
	for _, s := range r.Steps {
		if s.Share*stayed >= Share {
			r.RecommendedSeconds = &s.AgeSeconds
			r.Advice = fmt.Sprintf("%s of %d windows had their final value by then", percent(s.Share), r.Windows)
			return
		}
	}
	last := r.Steps[len(r.Steps)-1] // not empty: were it, no share would reach and stayed be all
	r.Advice = fmt.Sprintf("no observed delay is long enough: %s of %d windows had their final value after %s",
		percent(last.Share), r.Windows, seconds(last.AgeSeconds))
}

// Text writes reports as tables for people.
func Text(reports []Report) string {
	if len(reports) == 0 {
		return "No data yet: the first statistics are stored within an hour of collecting.\n"
	}
	var b strings.Builder
	for i := range reports {
		if i > 0 {
			b.WriteByte('\n')
		}
		reports[i].write(&b)
	}
	return b.String()
}

func (r *Report) write(b *strings.Builder) {
	recommended := "none"
	if r.RecommendedSeconds != nil {
		recommended = seconds(*r.RecommendedSeconds)
	}
	fmt.Fprintf(b, "%s: delay %s, recommended %s (%s)\n", r.Dataset, seconds(r.DelaySeconds), recommended, r.Advice)
	fmt.Fprintf(b, "statistics since %s, %d suspect windows left out\n", r.Since.UTC().Format(time.RFC3339), r.Suspect)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	table := func(heads ...string) {
		_ = w.Flush() // a strings.Builder does not fail
		fmt.Fprintln(w, "  "+strings.Join(heads, "\t"))
	}
	row := func(cells ...any) {
		line := make([]string, len(cells))
		for i, c := range cells {
			line[i] = fmt.Sprint(c)
		}
		fmt.Fprintln(w, "  "+strings.Join(line, "\t"))
	}
	if len(r.Steps) > 0 {
		table("AGE", "WINDOWS WITH THEIR FINAL VALUE", "SHARE")
		for _, s := range r.Steps {
			row(seconds(s.AgeSeconds), fmt.Sprintf("%d of %d", s.Windows, r.Windows), percent(s.Share))
		}
	}
	if len(r.Audits) > 0 {
		table("AUDIT", "SAME", "MOVED", "GONE", "UNANSWERED")
		for _, a := range r.Audits {
			row(a.Age, a.Same, a.Moved, a.Gone, a.Unanswered)
		}
	}
	if slices.ContainsFunc(r.Families, func(f FamilyReport) bool { return f.Moved > 0 }) {
		table("AUDIT", "FAMILY", "MOVED", "UP", "DOWN", "OF ALL", "LARGEST")
		for _, f := range r.Families {
			if f.Moved > 0 {
				row(f.Age, f.Family, fmt.Sprintf("%d of %d", f.Moved, f.Buckets), number(f.Up), number(f.Down), percent((f.Up+f.Down)/max(f.Stored, 1)), percent(f.Largest))
			}
		}
	}
	if len(r.Worst) > 0 {
		table("WORST", "WINDOW", "FAMILY", "STORED", "LATER", "BY", "READ AT")
		for _, m := range r.Worst {
			row(m.Zone, m.Start, m.Family, number(m.Stored), number(m.Later), percent(m.Ratio), m.ReadAt)
		}
	}
	_ = w.Flush()
}

func seconds(n int64) string { return (time.Duration(n) * time.Second).String() }

func number(f float64) string { return fmt.Sprintf("%.12g", f) }

// percent never calls a part the whole.
func percent(f float64) string {
	if text := fmt.Sprintf("%.4g", 100*f); text != "100" || f >= 1 {
		return text + " %"
	}
	return "over 99.99 %"
}
