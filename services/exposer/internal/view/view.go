package view

import (
	"bytes"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// gzipLevel is the fastest: these bodies repeat every label in every line and
// shrink about twenty-fold even so.
const gzipLevel = gzip.BestSpeed

// View is the answer to one query at one point of the log. Its methods are safe
// for concurrent use; its bytes must not be modified.
type View struct {
	State  *recent.State
	Choice *recent.Choice // the windows shown, and until when the choice is valid

	bodies [expo.Formats][expo.Encodings]struct {
		once  sync.Once
		bytes []byte
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
func (v *View) Body(f expo.Format, e expo.Encoding) []byte {
	body := &v.bodies[f][e]
	body.once.Do(func() {
		began := time.Now() // a latency of this machine, not calendar time
		body.bytes = v.assemble(f, e)
		if v.built != nil {
			v.built(f, e, len(body.bytes), time.Since(began))
		}
	})
	return body.bytes
}

// Series is the number of distinct series in a body, counted at the first call.
func (v *View) Series() int { return v.series() }

func (v *View) countSeries() int {
	seen := make(map[uint64]struct{}, v.Choice.Samples)
	families := v.State.Families()
	for i := range families {
		for s := range v.Choice.Segments(&families[i]) {
			for _, id := range s.Series {
				seen[id] = struct{}{}
			}
		}
	}
	return len(seen)
}

func (v *View) assemble(f expo.Format, e expo.Encoding) []byte {
	if e == expo.Gzip {
		var buf bytes.Buffer
		zip, err := gzip.NewWriterLevel(&buf, gzipLevel)
		if err != nil {
			panic(err) // the level is a constant
		}
		v.write(f, func(p []byte) { _, _ = zip.Write(p) }) // writing to a bytes.Buffer cannot fail
		_ = zip.Close()
		return bytes.Clone(buf.Bytes()) // kept: without spare capacity
	}
	// Two passes over the segments are cheaper than growing a buffer of megabytes.
	size := 0
	v.write(f, func(p []byte) { size += len(p) })
	body := make([]byte, 0, size)
	v.write(f, func(p []byte) { body = append(body, p...) })
	return body
}

// write passes a body to out in pieces: for each family its header and its
// segments. A current family without samples still has its header, so that the
// body of a new store is not empty.
func (v *View) write(f expo.Format, out func([]byte)) {
	var header []byte
	families := v.State.Families()
	for i := range families {
		fam := &families[i]
		announced := false
		announce := func() {
			if !announced {
				header = expo.AppendHeader(header[:0], f, fam.Name, fam.Family)
				out(header)
				announced = true
			}
		}
		if fam.Current {
			announce()
		}
		for s := range v.Choice.Segments(fam) {
			announce()
			out(s.Lines(f))
		}
	}
	if len(families) == 0 && f == expo.Text {
		out([]byte("# The store has no dataset yet.\n"))
	}
	out(expo.AppendEnd(nil, f))
}
