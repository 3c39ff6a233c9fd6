package jobs

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// Reason is why a range is refused. The words are stored.
type Reason string

// The reasons, as in the contract's RefusedReason, in the order in which they are looked for.
const (
	NotCollected        Reason = "not_collected"
	OtherSize           Reason = "other_size"
	BeforeCreation      Reason = "before_creation"
	StoreRetention      Reason = "store_retention"
	NotEntitled         Reason = "not_entitled"
	CloudflareRetention Reason = "cloudflare_retention"
	Failed              Reason = "failed"
)

// Refusal is a range of windows that is not requested. Lost ranges are among them: Cloudflare
// had them when the job was created.
type Refusal struct {
	Dataset string        `json:"dataset"`
	Scope   bucket.Scope  `json:"scope"`
	Name    string        `json:"name,omitempty"` // of the scope, for people
	Window  bucket.Window `json:"window"`
	Reason  Reason        `json:"reason"`
	Detail  string        `json:"detail"`
	Lost    bool          `json:"lost,omitempty"`
}

// Series is what is known of one dataset of one scope: what may be requested, and what is
// there.
type Series struct {
	Dataset *catalogue.Dataset
	Scope   bucket.Scope
	Name    string // of the scope, for people
	// Variant in use; nil: none is allowed, for the reason in Refused, or none can be used
	// for now (Waits).
	Variant *catalogue.Variant
	Refused string
	// Waits: nothing can be said or requested now, because the settings of the scope were not
	// read yet or a refusal is probed again soon.
	Waits bool
	// Gone says why the scope is not collected any more; empty: it is.
	Gone   string
	Group  int
	Limits plan.Limits
	// Created is when the zone was created; 0: not known.
	Created bucket.Time
	// End: later windows are not collected, for the reason in Ended; 0: no bound.
	End   bucket.Time
	Ended string
	// Keep is where the store's retention begins.
	Keep bucket.Time
	// Other are the windows that another dataset with the families covers, mostly at another
	// bucket size.
	Other bucket.Spans
	// Final are the windows that are final, Regular those that regular work requests if they
	// are not.
	Final, Regular bucket.Spans
	// Failed are the windows that are given up.
	Failed []GivenUp
}

// Of is the identity of the series.
func (s *Series) Of() ledger.Series {
	return ledger.Series{Dataset: s.Dataset.Dataset, Scope: s.Scope}
}

// Parts are the windows of a range: each is in one of them.
type Parts struct {
	Final   bucket.Spans
	Regular bucket.Spans // missing, and requested by regular work
	Wanted  bucket.Spans // missing, and to be requested by the job
	Refused []Refusal    // ascending, with those that were lost
}

// oldest is the start of the oldest window that Cloudflare still has at a time. A margin of
// one bucket: the request must arrive before Cloudflare drops it.
func oldest(at bucket.Time, keeps, size time.Duration) bucket.Time {
	return at.Add(-keeps).Ceil(size).Add(size)
}

// Split puts each window of a range into a part. The range is aligned to the bucket size.
// created is when the job was created.
func (s *Series) Split(w bucket.Window, created, now bucket.Time) (p Parts) {
	size := s.Dataset.Size
	p.Final = s.Final.Within(w)
	missing := s.Final.Missing(w)
	refuse := func(from bucket.Window, reason Reason, lost bool, detail string) {
		if len(missing) == 0 || from.Empty() {
			return
		}
		for _, part := range missing.Within(from) {
			p.Refused = append(p.Refused, Refusal{
				Dataset: s.Dataset.Dataset, Scope: s.Scope, Name: s.Name, Window: part, Reason: reason, Detail: detail, Lost: lost,
			})
			missing = missing.Remove(part)
		}
	}
	before := func(t bucket.Time) bucket.Window { return bucket.Window{Start: w.Start, End: t} }
	if s.Gone != "" {
		refuse(w, NotCollected, false, s.Gone)
	}
	if s.End != 0 {
		refuse(bucket.Window{Start: s.End.Floor(size), End: w.End}, NotCollected, false, s.Ended)
	}
	for _, o := range s.Other {
		refuse(bucket.Window{Start: o.Start.Floor(size), End: o.End.Ceil(size)}, OtherSize, false,
			fmt.Sprintf("the store has it at another bucket size of %s", s.Dataset.Name))
	}
	if s.Created != 0 {
		// The window in which the zone was created can be requested.
		refuse(before(s.Created.Floor(size)), BeforeCreation, false, fmt.Sprintf("the %s was created at %s", s.Scope.Kind, s.Created))
	}
	refuse(before(s.Keep.Ceil(size)), StoreRetention, false, beyondRetention)
	switch keeps := s.Limits.NotOlderThan; {
	case s.Variant == nil && !s.Waits:
		refuse(w, NotEntitled, false, s.Refused)
	case s.Variant != nil && keeps > 0:
		had := before(oldest(created, keeps, size))
		refuse(had, CloudflareRetention, false, fmt.Sprintf("Cloudflare keeps %s of the %s for %s", s.Variant.Node, s.Scope.Kind, span(keeps)))
		refuse(before(oldest(now, keeps, size)), CloudflareRetention, true,
			fmt.Sprintf("Cloudflare keeps %s of the %s for %s, and dropped it before it could be read", s.Variant.Node, s.Scope.Kind, span(keeps)))
	}
	for _, f := range s.Failed {
		refuse(f.Window, Failed, false, f.Detail)
	}
	slices.SortFunc(p.Refused, func(a, b Refusal) int { return cmp.Compare(a.Window.Start, b.Window.Start) })
	for _, m := range missing {
		for _, part := range s.Regular.Within(m) {
			p.Regular = p.Regular.Add(part)
		}
		for _, part := range s.Regular.Missing(m) {
			p.Wanted = p.Wanted.Add(part)
		}
	}
	return p
}

const beyondRetention = "older than the retention of the store (WEIR_RETENTION), less the margin in which it is dropped"

func (s *Series) beyondRetention(w bucket.Window) Refusal {
	return Refusal{Dataset: s.Dataset.Dataset, Scope: s.Scope, Name: s.Name, Window: w, Reason: StoreRetention, Detail: beyondRetention}
}

// span is a duration in days or hours.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d%day == 0 && d > day:
		return fmt.Sprintf("%d days", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return d.String()
}

// windows counts the windows of spans.
func windows(s bucket.Spans, size time.Duration) (n uint64) {
	for _, w := range s {
		n += uint64(w.Len() / size)
	}
	return n
}

// count adds the windows of parts to counts. Final ones are in Filled.
func (p *Parts) count(c *Counts, size time.Duration) {
	c.Filled += windows(p.Final, size)
	c.Missing += windows(p.Regular, size) + windows(p.Wanted, size)
	for i := range p.Refused {
		n := uint64(p.Refused[i].Window.Len() / size)
		if p.Refused[i].Lost {
			c.Lost += n
		} else {
			c.Refused += n
		}
	}
}
