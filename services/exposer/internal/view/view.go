package view

import (
	"bytes"
	"cmp"
	"iter"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/replay"
	"github.com/weir-metrics/weir/services/exposer/internal/window"
)

// gzipLevel: at the fastest level these bodies, which repeat every label of
// every line, already shrink about twenty-fold.
const gzipLevel = gzip.BestSpeed

// View is what one query gets at one point. Its methods are safe for
// concurrent use; its bytes belong to it and must not be changed.
type View struct {
	State  *window.State
	Choice replay.Choice // what is served; for the newest only: from which that is picked
	// Samples in a body.
	Samples int

	newest   bool
	families []window.Family
	bodies   [expo.Formats][expo.Encodings]struct {
		once  sync.Once
		bytes []byte
	}
	series func() int
	built  func(expo.Format, expo.Encoding, int, time.Duration)
}

// Built is told of each body that is made: its length and how long that took.
type Built func(f expo.Format, e expo.Encoding, bytes int, took time.Duration)

// Build makes the view of a state at now. newest asks for the newest bucket of
// each series alone, and only while it is younger than [replay.NewestAge]; the
// limits' age then only matters if it is lower. The only error is a
// *[replay.TooManyError].
func Build(state *window.State, newest bool, now time.Time, limits replay.Limits, built Built) (*View, error) {
	v := &View{State: state, newest: newest, families: state.Families(), built: built}
	hard := limits.Hard
	if newest {
		limits = replay.Limits{MaxAge: min(limits.MaxAge, replay.NewestAge), Soft: math.MaxInt, Hard: math.MaxInt}
	}
	var err error
	if v.Choice, err = replay.Choose(state.Replay(), state.Info.Stamp, now, limits); err != nil {
		return nil, err
	}
	v.Samples = v.Choice.Samples
	if newest {
		v.Samples = 0
		for _, fam := range v.families {
			for s := range v.segments(fam.Name) {
				v.Samples += s.Samples()
			}
		}
		if v.Samples > hard {
			return nil, &replay.TooManyError{Samples: v.Samples, Hard: hard}
		}
	}
	v.series = sync.OnceValue(v.countSeries)
	return v, nil
}

// Valid reports whether the view may be served at now.
func (v *View) Valid(now time.Time) bool {
	return v.Choice.Expires.IsZero() || now.Before(v.Choice.Expires)
}

// Body returns the finished body.
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

// Series is the number of distinct series in a body. It is counted when it is
// first asked for.
func (v *View) Series() int { return v.series() }

func (v *View) countSeries() int {
	seen := make(map[uint64]struct{}, v.Samples)
	for _, fam := range v.families {
		for s := range v.segments(fam.Name) {
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
		v.write(f, func(p []byte) { _, _ = zip.Write(p) }) // a bytes.Buffer takes everything
		_ = zip.Close()
		return bytes.Clone(buf.Bytes()) // kept: without spare capacity
	}
	// Twice over the segments is cheaper than growing a buffer of megabytes.
	size := 0
	v.write(f, func(p []byte) { size += len(p) })
	body := make([]byte, 0, size)
	v.write(f, func(p []byte) { body = append(body, p...) })
	return body
}

// write gives out a body in pieces: per family its header and its segments. A
// current family is announced even while it has no sample, so that a body of a
// young store is not an empty one.
func (v *View) write(f expo.Format, out func([]byte)) {
	var header []byte
	for _, fam := range v.families {
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
		for s := range v.segments(fam.Name) {
			announce()
			out(s.Lines(f))
		}
	}
	if len(v.families) == 0 && f == expo.Text {
		out([]byte("# The store has no dataset yet.\n"))
	}
	out(expo.AppendEnd(nil, f))
}

// segments yields the segments of one family that are served, ascending by
// window, then scope.
func (v *View) segments(family string) iter.Seq[*expo.Segment] {
	if v.newest {
		return v.newestSegments(family)
	}
	return func(yield func(*expo.Segment) bool) {
		for _, at := range v.windows(family) {
			serve := &v.Choice.Serve[at.dataset]
			buckets := v.State.Datasets[at.dataset].Buckets(at.index)
			for i := range buckets {
				s := buckets[i].Segment(family)
				if s == nil {
					continue
				}
				if r := serve[replay.Index(s.Role)]; at.index < r.From || at.index >= r.To {
					continue
				}
				if !yield(s) {
					return
				}
			}
		}
	}
}

// place is a window of a dataset, by index.
type place struct {
	start          bucket.Time
	dataset, index int
}

// windows lists the windows that may serve a family, in the order of a body.
func (v *View) windows(family string) []place {
	var places []place
	feeders := 0
	for i, d := range v.State.Replay() {
		if !slices.Contains(d.Feeds[0], family) && !slices.Contains(d.Feeds[1], family) {
			continue
		}
		feeders++
		serve := v.Choice.Serve[i]
		for j := min(serve[0].From, serve[1].From); j < max(serve[0].To, serve[1].To); j++ {
			places = append(places, place{d.Windows[j].Start, i, j})
		}
	}
	if feeders > 1 {
		slices.SortFunc(places, func(a, b place) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.dataset, b.dataset))
		})
	}
	return places
}

// newestSegments yields of each scope the newest segment of the family. A
// scope that lags behind the others keeps its own newest one: without an
// out-of-order window that is the only one that its series can still take.
func (v *View) newestSegments(family string) iter.Seq[*expo.Segment] {
	type pick struct {
		at      place
		scope   bucket.Scope
		segment *expo.Segment
	}
	return func(yield func(*expo.Segment) bool) {
		seen := map[bucket.Scope]bool{}
		var picks []pick
		for _, at := range slices.Backward(v.windows(family)) {
			buckets := v.State.Datasets[at.dataset].Buckets(at.index)
			for i := range buckets {
				b := &buckets[i]
				if s := b.Segment(family); s != nil && !seen[b.Scope] {
					seen[b.Scope] = true
					picks = append(picks, pick{at, b.Scope, s})
				}
			}
		}
		slices.SortFunc(picks, func(a, b pick) int {
			return cmp.Or(cmp.Compare(a.at.start, b.at.start), a.scope.Compare(b.scope))
		})
		for _, p := range picks {
			if !yield(p.segment) {
				return
			}
		}
	}
}
