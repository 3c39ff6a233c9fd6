package view

import (
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// View is the answer to one query at one point of the log. Its methods are safe
// for concurrent use.
type View struct {
	State  *recent.State
	Choice *recent.Choice // the windows shown, and until when the choice is valid
	// Owners are whose samples are held, of a query that selects some.
	Owners []selection.Owner

	bodies [expo.Formats][expo.Encodings]struct {
		once sync.Once
		body Body
	}
	series func() int
	built  Built
}

// Built is called for each body that is built, with its length and the time taken.
type Built func(f expo.Format, e expo.Encoding, bytes int, took time.Duration)

// Build builds the view of a state at now. newest selects only the newest bucket
// of each series. The only error is a *[recent.TooManyError].
func Build(state *recent.State, newest bool, now time.Time, limits recent.Limits, built Built) (*View, error) {
	choose := state.Choose
	if newest {
		choose = state.Newest
	}
	choice, err := choose(now, limits)
	if err != nil {
		return nil, err
	}
	v := &View{State: state, Choice: choice, built: built}
	v.series = sync.OnceValue(v.countSeries)
	return v, nil
}

// Body returns the body, which is built at the first call.
func (v *View) Body(f expo.Format, e expo.Encoding) *Body {
	b := &v.bodies[f][e]
	b.once.Do(func() {
		began := time.Now() // a latency of this machine, not calendar time
		b.body = v.assemble(f, e)
		if v.built != nil {
			v.built(f, e, b.body.Len, time.Since(began))
		}
	})
	return &b.body
}

// Series is the number of distinct series in a body, counted at the first call.
func (v *View) Series() int { return v.series() }

func (v *View) countSeries() (n int) {
	families := v.State.Families()
	seen := map[uint64]struct{}{}
	for i := range families {
		clear(seen) // families have no series in common
		for column := range v.Choice.Columns(&families[i]) {
			for id := range expo.Series(column.Lines) {
				seen[id] = struct{}{}
			}
		}
		n += len(seen)
	}
	return n
}

// assemble lists the parts of a body: for each family its header and its columns. A
// current family without samples still has its header, so that the body of a new
// store is not empty.
func (v *View) assemble(f expo.Format, e expo.Encoding) Body {
	body := Body{format: f}
	families := v.State.Families()
	for i := range families {
		fam := &families[i]
		announced := false
		announce := func() {
			if !announced {
				body.add(expo.AppendHeader(nil, f, fam.Name, fam.Family))
				announced = true
			}
		}
		if fam.Current {
			announce()
		}
		for column := range v.Choice.Columns(fam) {
			announce()
			body.column(column)
		}
	}
	if len(families) == 0 && f == expo.Text {
		body.add([]byte("# The store has no dataset yet.\n"))
	}
	body.add(expo.AppendEnd(nil, f))
	if e == expo.Gzip {
		return body.zipped()
	}
	return body
}
