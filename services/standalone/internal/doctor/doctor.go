// Package doctor judges a whole installation: what was observed of Cloudflare, the
// collectors, the store, the exposers and a Prometheus or VictoriaMetrics becomes
// findings, each with its evidence, what it means and what to change.
//
// The package is pure. Package observe asks; whatever could not be asked arrives here as
// an error or as nothing, and becomes a fault or a check that was skipped, never a pass.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/services/collector"
)

// Status is the result of a check.
type Status string

// The results.
const (
	Pass    Status = "pass"
	Warn    Status = "warn"
	Fail    Status = "fail"
	Skipped Status = "skipped"
)

// Finding is the result of one check of one thing.
type Finding struct {
	Check  string `json:"check"`           // its id, such as "store.durability"
	About  string `json:"about,omitempty"` // the credential, address or URL, if there can be several
	Status Status `json:"status"`
	// Found is what was observed.
	Found string `json:"found"`
	// Means is the consequence; empty for a pass.
	Means string `json:"means,omitempty"`
	// Fix is what to change, or for a skipped check what to give so that it is made.
	Fix string `json:"fix,omitempty"`
}

// Report is everything that a run found.
type Report struct {
	Version   string    `json:"version"`
	At        time.Time `json:"at"`
	Findings  []Finding `json:"findings"`
	Questions []Finding `json:"questions"`
}

// Count returns the number of findings and answers with a status.
func (r *Report) Count(s Status) (n int) {
	for _, f := range slices.Concat(r.Findings, r.Questions) {
		if f.Status == s {
			n++
		}
	}
	return n
}

// Judge turns observations into findings and the five answers.
func Judge(o *Observed) (findings, questions []Finding) {
	for _, area := range []func(*Observed) []Finding{cloudflare, collectors, store, exposers, operations, prometheus} {
		findings = append(findings, area(o)...)
	}
	for _, q := range Questions {
		questions = append(questions, named(q.ID, q.answer(&subject{Observed: o}))...)
	}
	return findings, questions
}

// subject is what a check is about: all that was observed, and of several things of a
// kind the one in question.
type subject struct {
	*Observed
	credential *collector.CredentialReport
	collector  *Collector
	exposer    *Exposer
	answered   []*Collector // those that responded
	serving    []*Exposer   // those that are ready
}

// judge makes some checks, in the given order.
func (s *subject) judge(ids ...string) (list []Finding) {
	for _, id := range ids {
		i := slices.IndexFunc(Checks, func(c Check) bool { return c.ID == id })
		list = append(list, named(id, Checks[i].judge(s))...)
	}
	return list
}

// area is the ids of the checks of an area, in order.
func area(name string) (ids []string) {
	for _, c := range Checks {
		if strings.HasPrefix(c.ID, name+".") {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// skipArea skips all checks of an area for one reason.
func skipArea(name, why, give string) []Finding { return skipEach(area(name), why, give) }

// skipEach skips checks for one reason.
func skipEach(ids []string, why, give string) (list []Finding) {
	for _, id := range ids {
		list = append(list, named(id, skip(why, give))...)
	}
	return list
}

// What a check returns is one finding, or several; who makes the check adds its id.

func pass(format string, args ...any) []Finding {
	return []Finding{{Status: Pass, Found: fmt.Sprintf(format, args...)}}
}

func warn(found, means, fix string) []Finding {
	return []Finding{{Status: Warn, Found: found, Means: means, Fix: fix}}
}

func fail(found, means, fix string) []Finding {
	return []Finding{{Status: Fail, Found: found, Means: means, Fix: fix}}
}

func skip(why, give string) []Finding { return []Finding{{Status: Skipped, Found: why, Fix: give}} }

// about says what the findings are about.
func about(what string, list []Finding) []Finding {
	for i := range list {
		list[i].About = what
	}
	return list
}

// named gives findings the id of their check.
func named(id string, list []Finding) []Finding {
	for i := range list {
		list[i].Check = id
	}
	return list
}

// some names the first of a list and counts the others.
func some(list []string) string {
	const most = 5
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// span is a duration for people: seconds below an hour, minutes below two days.
func span(d time.Duration) string {
	switch sign := cmp.Compare(d, 0); {
	case sign < 0:
		return "-" + span(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return trim(d.Round(time.Second))
	case d < 48*time.Hour:
		return trim(d.Round(time.Minute))
	}
	return fmt.Sprintf("%dd", d.Round(24*time.Hour)/(24*time.Hour))
}

// trim removes the units that are zero at the end: 1h0m0s is 1h.
func trim(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// bytes is a size for people.
func bytes(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n), ""
	for _, prefix = range []string{"kB", "MB", "GB", "TB", "PB"} {
		if value /= unit; value < unit {
			break
		}
	}
	return fmt.Sprintf("%.3g %s", value, prefix)
}
