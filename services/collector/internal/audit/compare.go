package audit

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Result of reading one final bucket again.
type Result string

// The results, as metrics spell them.
const (
	Same       Result = "same"
	Moved      Result = "moved"
	Gone       Result = "gone"       // an empty response for a bucket with values
	Unanswered Result = "unanswered" // requested, but the response could not be compared
)

// Results are all of them.
var Results = []Result{Same, Moved, Gone, Unanswered}

// Change is how one family of a bucket differs from what is stored.
type Change struct {
	Family        string
	Stored, Later float64 // sums over all rows
	// Up and Down are the sums of what rows gained and lost, both positive.
	// Rows that are new or gone count in full.
	Up, Down float64
}

// Ratio is the movement as a share of the larger of the two amounts: 0 to 1 for
// a total, at most 2 for a breakdown whose rows changed places.
func (c Change) Ratio() float64 {
	if amount := max(c.Stored, c.Later); amount > 0 {
		return (c.Up + c.Down) / amount
	}
	return 0
}

// Compare compares a later reading with a stored bucket, family by family. empty means
// that the later response had no groups at all; fed reports the families that the later
// query could fill. The changes include compared families that did not move.
func Compare(stored, later []bucket.Rows, empty bool, fed func(family string) bool) (Result, []Change) {
	if empty && slices.ContainsFunc(stored, func(r bucket.Rows) bool {
		return slices.ContainsFunc(r.Values, func(v float64) bool { return v != 0 })
	}) {
		return Gone, nil
	}
	result := Same
	var changes []Change
	for _, family := range families(stored, later) {
		was, is := find(stored, family), find(later, family)
		// A total without a row was not requested at one of the two times.
		if !fed(family) || was.Values == nil && is.Width() == 0 {
			continue
		}
		c := compare(was, is)
		c.Family = family
		if c.Up != 0 || c.Down != 0 {
			result = Moved
		}
		changes = append(changes, c)
	}
	return result, changes
}

// families are the names in both, in the order of the stored ones.
func families(stored, later []bucket.Rows) []string {
	var out []string
	for _, r := range slices.Concat(stored, later) {
		if !slices.Contains(out, r.Family) {
			out = append(out, r.Family)
		}
	}
	return out
}

func find(rows []bucket.Rows, family string) bucket.Rows {
	for _, r := range rows {
		if r.Family == family {
			return r
		}
	}
	return bucket.Rows{Family: family}
}

// compare merges two lists of rows, which are sorted by their labels.
func compare(was, is bucket.Rows) (c Change) {
	add := func(before, after float64) {
		c.Stored, c.Later = c.Stored+before, c.Later+after
		c.Up, c.Down = c.Up+max(0, after-before), c.Down+max(0, before-after)
	}
	i, j := 0, 0
	for i < len(was.Values) || j < len(is.Values) {
		order := 0
		switch {
		case i == len(was.Values):
			order = 1
		case j == len(is.Values):
			order = -1
		default:
			order = slices.Compare(labels(was, i), labels(is, j))
		}
		switch {
		case order < 0:
			add(was.Values[i], 0)
			i++
		case order > 0:
			add(0, is.Values[j])
			j++
		default:
			add(was.Values[i], is.Values[j])
			i, j = i+1, j+1
		}
	}
	return c
}

func labels(r bucket.Rows, row int) []string {
	n := r.Width()
	return r.Labels[row*n : (row+1)*n]
}
