package poll

import (
	"fmt"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// series is what is known of all series, for jobs.
func (b *backfiller) series(claims []roster.Claim) []jobs.Series {
	all := make([]jobs.Series, 0, len(claims))
	for _, c := range claims {
		all = append(all, b.seriesOf(c))
	}
	return all
}

// of are the series that a job is about.
func (b *backfiller) of(j *jobs.Job, all []jobs.Series) []jobs.Series {
	over := make(map[bucket.Scope]bool, len(b.books.roster))
	for sc, who := range b.books.roster {
		over[sc] = j.Covers(sc, who.FirstSeen)
	}
	var out []jobs.Series
	for i := range all {
		if over[all[i].Scope] && j.Wants(all[i].Dataset.Dataset) {
			out = append(out, all[i])
		}
	}
	return out
}

func (b *backfiller) seriesOf(c roster.Claim) jobs.Series {
	d, who := c.Dataset, c.Scope
	of := ledger.Series{Dataset: d.Dataset, Scope: who.Scope}
	cover := b.books.coverage
	s := jobs.Series{
		Dataset: d, Scope: who.Scope, Name: b.books.nameOf(who.Scope), Variant: c.Variant, Refused: c.Refused,
		// A refusal that was not in the settings is probed again: nothing is decided from it.
		Waits:  c.Variant == nil && (c.Unread || who.AnyRefusal(d.Dataset)),
		Limits: c.Limits, Created: who.Created, Keep: cover.Keep, Final: cover.Final[of], Other: cover.Others(of),
		Regular: cover.Closed(d, who).Missing(c.Window),
	}
	l := b.lines.named(who.Credential)
	switch {
	case !who.Listed():
		s.Gone = fmt.Sprintf("the %s is %s", who.Kind, who.State)
	case l == nil:
		s.Gone = fmt.Sprintf("its credential %s is not configured any more", who.Credential)
	default:
		s.Group = l.group
		if who.End != 0 {
			s.End, s.Ended = who.End, fmt.Sprintf("the %s has been %s since %s", who.Kind, who.State, who.End)
		}
	}
	if t := b.faults.tries[of]; t != nil && t.maxRange > 0 {
		s.Limits.MaxDuration = t.maxRange
	}
	return s
}

// cloned makes series independent of the loop, which changes the coverage.
func cloned(all []jobs.Series) []jobs.Series {
	for i := range all {
		all[i].Final = slices.Clone(all[i].Final)
	}
	return all
}
