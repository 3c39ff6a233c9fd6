// Package ledger has the gap ledger: which windows are due and not final, why, how often
// they were requested, when they will be requested again, and when Cloudflare drops them
// (G2). It also has the decisions that a range will never be collected.
//
// The ledger is derived: the leader computes the current gaps, and [Diff] returns the
// records to write. So a gap closes in the same commit as the bucket that fills it.
package ledger

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Kinds of record in the store.
const (
	KindGap     = "gap"
	KindDecided = "decided"
	KindRetired = "retired"
)

// Reason says why a window that is due is not final. The words are stored.
type Reason string

// The reasons, as in the contract's GapReason.
const (
	Pending       Reason = "pending"
	UpstreamError Reason = "upstream_error"
	Suspect       Reason = "suspect"
	Delayed       Reason = "delayed"
	NotVisible    Reason = "not_visible"
	TooBig        Reason = "too_big"
	BadAnswer     Reason = "bad_answer"
	Unauthorized  Reason = "unauthorized"
	Unknown       Reason = "unknown" // rejected with an unrecognised error
	// Invalid: the response was read, but its bucket cannot be stored, since readers would
	// reject it.
	Invalid Reason = "invalid"
)

// Proto is the contract's spelling.
func (r Reason) Proto() bucketv1.GapReason {
	switch r {
	case Pending:
		return bucketv1.GapReason_GAP_REASON_PENDING
	case UpstreamError:
		return bucketv1.GapReason_GAP_REASON_UPSTREAM_ERROR
	case Suspect:
		return bucketv1.GapReason_GAP_REASON_SUSPECT
	case Delayed:
		return bucketv1.GapReason_GAP_REASON_DELAYED
	case NotVisible:
		return bucketv1.GapReason_GAP_REASON_NOT_VISIBLE
	case TooBig:
		return bucketv1.GapReason_GAP_REASON_TOO_BIG
	case BadAnswer:
		return bucketv1.GapReason_GAP_REASON_BAD_ANSWER
	case Unauthorized:
		return bucketv1.GapReason_GAP_REASON_UNAUTHORIZED
	case Unknown:
		return bucketv1.GapReason_GAP_REASON_UNKNOWN
	case Invalid:
		return bucketv1.GapReason_GAP_REASON_INVALID
	}
	return bucketv1.GapReason_GAP_REASON_UNSPECIFIED
}

// Gap is a range of windows of one dataset and scope that share a reason.
type Gap struct {
	Dataset  string        `json:"dataset"`
	Scope    bucket.Scope  `json:"scope"`
	Window   bucket.Window `json:"window"`
	Reason   Reason        `json:"reason"`
	Detail   string        `json:"detail,omitempty"`
	Attempts int           `json:"attempts"`
	Next     bucket.Time   `json:"next"`              // next attempt
	LostAt   bucket.Time   `json:"lost_at,omitempty"` // when its oldest window leaves Cloudflare's retention; 0: not known
	// WaitsUntil is until when its oldest window counts as waiting rather than as a gap:
	// it was read and needs more evidence. 0: it does not wait. Builds that do not know the
	// field treat the range as a gap.
	WaitsUntil bucket.Time `json:"waits_until,omitempty"`
	// Doubted windows were suspect or delayed when they were last read, whatever the
	// reason is now.
	Doubted bool `json:"doubted,omitempty"`
}

// Waits reports whether the range is waiting: nothing is wrong with it, and it becomes
// final by itself. It is false once the oldest window should be final, even if there is no
// leader to update the record.
func (g *Gap) Waits(now bucket.Time) bool { return now < g.WaitsUntil }

// Suspected reports whether the range was suspect, for package settle. Records of builds
// without WaitsUntil have it in their reason.
func (g *Gap) Suspected() bool {
	return g.Doubted || g.WaitsUntil == 0 && (g.Reason == Suspect || g.Reason == Delayed)
}

// Series names a dataset of one scope.
type Series struct {
	Dataset string
	Scope   bucket.Scope
}

// Of is the series of a gap.
func (g *Gap) Of() Series { return Series{g.Dataset, g.Scope} }

// key is unique per gap and ascends by window inside a series.
func (g *Gap) key() string {
	return fmt.Sprintf("%s/%d/%s/%012d", g.Dataset, g.Scope.Kind, g.Scope.ID, g.Window.Start)
}

// Join appends a gap, or extends the last one if it is adjacent and otherwise equal: an
// outage of days has thousands of windows but few gaps.
func Join(gaps []Gap, g Gap) []Gap {
	if n := len(gaps); n > 0 {
		last := &gaps[n-1]
		if last.Window.End == g.Window.Start {
			same := *last
			same.Window, same.LostAt = g.Window, g.LostAt
			if (same.WaitsUntil == 0) == (g.WaitsUntil == 0) {
				same.WaitsUntil = g.WaitsUntil
			}
			if same == g {
				last.Window.End = g.Window.End
				return gaps
			}
		}
	}
	return append(gaps, g)
}

// Diff returns the records that turn the stored ledger into the wanted one.
func Diff(stored, wanted []Gap) []store.Record {
	old := make(map[string]Gap, len(stored))
	for _, g := range stored {
		old[g.key()] = g
	}
	var out []store.Record
	for _, g := range wanted {
		key := g.key()
		if was, ok := old[key]; !ok || was != g {
			value, err := json.Marshal(g)
			if err != nil {
				panic(err) // plain strings and numbers always encode
			}
			out = append(out, store.Record{Kind: KindGap, Key: key, Value: value})
		}
		delete(old, key)
	}
	for key := range old {
		out = append(out, store.Record{Kind: KindGap, Key: key})
	}
	slices.SortFunc(out, func(a, b store.Record) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Gaps decodes the records of kind [KindGap]. Unreadable ones are returned separately;
// nothing depends on them, since gaps are computed again.
func Gaps(records []store.Record) (out []Gap, unreadable []store.Unreadable) {
	for _, r := range records {
		var g Gap
		err := json.Unmarshal(r.Value, &g)
		switch {
		case err != nil:
		case g.key() != r.Key:
			err = fmt.Errorf("the value belongs to key %s", g.key())
		case g.Window.Empty():
			err = fmt.Errorf("its window %s is empty or not valid", g.Window)
		}
		if err != nil {
			unreadable = append(unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		out = append(out, g)
	}
	return out, unreadable
}

// Decision has the ranges of one series that will never be collected: lost at Cloudflare,
// or accepted by an operator.
type Decision struct {
	Dataset string       `json:"dataset"`
	Scope   bucket.Scope `json:"scope"`
	Spans   []Decided    `json:"spans"` // ascending, disjoint
}

// Decided is one range with its ground.
type Decided struct {
	bucket.Window
	Accepted bool   `json:"accepted,omitempty"` // else lost
	Reason   Reason `json:"reason"`
}

// Decide adds a new range, and drops ranges that ended before keep: they are never wanted
// again, and the record would grow for years. The receiver, which may be nil, is not
// modified.
func (d *Decision) Decide(of Series, span Decided, keep bucket.Time) *Decision {
	out := &Decision{Dataset: of.Dataset, Scope: of.Scope}
	if d != nil {
		out.Spans = slices.DeleteFunc(slices.Clone(d.Spans), func(s Decided) bool { return s.End <= keep })
	}
	i, _ := slices.BinarySearchFunc(out.Spans, span.Start, func(s Decided, at bucket.Time) int { return cmp.Compare(s.Start, at) })
	if i > 0 {
		// Windows that are lost one by one are one loss.
		if last := &out.Spans[i-1]; last.End == span.Start && last.Accepted == span.Accepted && last.Reason == span.Reason {
			last.End = span.End
			return out
		}
	}
	out.Spans = slices.Insert(out.Spans, i, span)
	return out
}

// Record encodes a decision.
func (d *Decision) Record() store.Record {
	value, err := json.Marshal(d)
	if err != nil {
		panic(err) // plain strings and numbers always encode
	}
	return store.Record{Kind: KindDecided, Key: d.key(), Value: value}
}

// Decisions decodes the records of kind [KindDecided], by series. Unreadable ones are
// returned separately. Their lost ranges are decided again, since Cloudflare no longer has
// the data. Their accepted ranges are collected again if Cloudflare has the data.
func Decisions(records []store.Record) (out map[Series]*Decision, unreadable []store.Unreadable) {
	out = make(map[Series]*Decision, len(records))
	for _, r := range records {
		d := new(Decision)
		err := json.Unmarshal(r.Value, d)
		if err == nil && d.key() != r.Key {
			err = fmt.Errorf("the value belongs to key %s", d.key())
		}
		for i := range d.Spans {
			if s := d.Spans[i].Window; err == nil && (s.Empty() || i > 0 && s.Start < d.Spans[i-1].End) {
				err = fmt.Errorf("its ranges must ascend and not overlap, but do not at %s", s)
			}
		}
		if err != nil {
			unreadable = append(unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		out[Series{d.Dataset, d.Scope}] = d
	}
	return out, unreadable
}

func (d *Decision) key() string {
	return fmt.Sprintf("%s/%d/%s", d.Dataset, d.Scope.Kind, d.Scope.ID)
}
