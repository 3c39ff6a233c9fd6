package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Job is a prepared request: its zone or account is resolved and its coverage known. It is for
// one goroutine, and Write is called once.
type Job struct {
	from   Lister
	state  *recent.State
	r      *Request
	scopes []*bucketv1.Scope // empty: all
	match  selection.Match   // of the buckets
	most   int               // bytes of rows of families to come that Write holds

	Coverage Coverage
	// Incomplete and Estimates count sums, after Write has returned: sums left out
	// because a bucket of the step is missing, and written sums that contain an
	// estimate.
	Incomplete, Estimates int
}

// mostSpooled bounds the memory of a backfill: rows of about 10 million samples of ordinary
// zones, whose values are small whole numbers. Beyond it families are listed again.
const mostSpooled = 48 << 20

// Prepare resolves the request's zone or account and requests the coverage of the range.
// The error is a *[ParamError] for an unknown one, a *[HiddenError] or [ErrNothing] if the client
// may not read everything.
func Prepare(ctx context.Context, from Lister, state *recent.State, r *Request) (*Job, error) {
	j := &Job{from: from, state: state, r: r, match: r.Only.Match(), most: mostSpooled}
	if r.Zone != "" || r.Account != "" || r.Only != selection.Everything {
		var err error
		if j.scopes, err = resolve(ctx, from, r); err != nil {
			return nil, err
		}
	}
	return j, j.survey(ctx)
}

// Write writes the history to w, and the end marker of the format only if everything
// before it was written. After an error the output is incomplete and must not be
// made to look complete. The output begins with notes that describe it and what it
// lacks.
//
// A stored bucket that cannot be read is skipped: passed, if not nil, is called once
// with its revision. A sample that is not before now is an error.
func (j *Job) Write(ctx context.Context, w io.Writer, now time.Time, passed func(revision uint64, err error)) error {
	// An abandoned list must end at the server too.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := writer{Job: j, ctx: ctx, w: w, now: now, reported: map[bucket.Revision]bool{}, passed: passed, spool: spool{most: j.most, held: map[stretch]*held{}}}
	for _, text := range j.notes() {
		if err := out.note(text); err != nil {
			return err
		}
	}
	for i := range j.r.Blocks {
		out.place = i
		if err := out.block(&j.r.Blocks[i]); err != nil {
			return fmt.Errorf("write family %s: %w", j.r.Blocks[i].Title(), err)
		}
	}
	for _, text := range out.afterwards() {
		if err := out.note(text); err != nil {
			return err
		}
	}
	_, err := w.Write(expo.AppendEnd(nil, j.r.Format))
	return err
}

type writer struct {
	*Job
	ctx    context.Context
	w      io.Writer
	spool  spool
	place  int // of the block that is written
	now    time.Time
	buf    []byte       // one bucket's lines, reused
	one    sample.Set   // one bucket's samples, reused
	noted  int          // notes written
	sums   int          // sums written
	partly bucket.Spans // steps for which some sum is left out

	reported map[bucket.Revision]bool // buckets reported to passed: each is listed once per family
	passed   func(revision uint64, err error)
}

func (o *writer) pass(revision bucket.Revision, err error) {
	if o.passed != nil && !o.reported[revision] {
		o.reported[revision] = true
		o.passed(uint64(revision), err)
	}
}

// source is one family of one dataset with its next bucket.
type source struct {
	family   string
	listing  *listing
	held     *held          // what the listing brings for later blocks; nil: nothing
	replay   *replay        // of what an earlier listing brought; nil: read the listing
	head     *bucket.Bucket // nil: at the end; valid until the next call of advance
	revision bucket.Revision
}

func (o *writer) advance(s *source) (err error) {
	s.head = nil
	if s.replay != nil {
		s.head, s.revision, err = s.replay.next()
	} else {
		var r read
		for r, err = s.listing.next(); err == nil; r, err = s.listing.next() {
			if s.held != nil {
				o.spool.add(s.held, r.Bucket, r.revision, r.unreadable)
			}
			if !r.unreadable[s.family] {
				s.head, s.revision = r.Bucket, r.revision
				break
			}
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// note writes a note on the output. See [expo.AppendNote].
func (o *writer) note(text string) error {
	o.noted++
	return o.write(expo.AppendNote(o.buf[:0], o.r.Format, o.noted, text))
}

// block writes one block.
func (o *writer) block(b *Block) error {
	if err := o.write(expo.AppendHeader(o.buf[:0], o.r.Format, b.Title(), b.Family.Family)); err != nil {
		return err
	}
	if b.Kind == Summed {
		return o.summed(b)
	}
	var last bucket.Key
	var newest bucket.Window
	err := o.merged(b, func(s *source) error {
		last, newest = s.head.Key, s.head.Window()
		return o.bucket(b, s, newest)
	})
	if err == nil && o.r.Extend && last.Dataset != "" {
		err = o.extend(b, last.Dataset, newest)
	}
	return err
}

// merged calls do for each bucket of the block's datasets. Datasets that share the
// family (before and after a change of bucket size) are merged by time, so that the
// samples ascend.
func (o *writer) merged(b *Block, do func(*source) error) error {
	var sources []*source
	for _, id := range b.Datasets {
		s := o.source(id, b, o.window(b))
		if err := o.advance(s); err != nil {
			return err
		}
		sources = append(sources, s)
	}
	for {
		sources = slices.DeleteFunc(sources, func(s *source) bool { return s.head == nil })
		if len(sources) == 0 {
			return nil
		}
		first := slices.MinFunc(sources, func(a, b *source) int {
			return cmp.Or(cmp.Compare(a.head.Start, b.head.Start), cmp.Compare(a.head.Dataset, b.head.Dataset))
		})
		if err := do(first); err != nil {
			return err
		}
		if err := o.advance(first); err != nil {
			return err
		}
	}
}

// source reads the block's family of one dataset: from the spool, or from a list, which also
// brings the families of later blocks for the spool.
func (o *writer) source(dataset string, b *Block, in bucket.Window) *source {
	of := stretch{dataset, in}
	if r := o.spool.take(of, b.Name); r != nil {
		return &source{family: b.Name, replay: r}
	}
	later := map[string]int{}
	for i := range o.r.Blocks {
		other := &o.r.Blocks[i]
		if i > o.place && len(later) < mostFamilies-1 && slices.Contains(other.Datasets, dataset) && o.window(other) == in {
			later[other.Name] = i
		}
	}
	s := o.list(dataset, in, append(slices.Collect(maps.Keys(later)), b.Name)...)
	s.family, s.held = b.Name, o.spool.open(of, later)
	return s
}

// mostFamilies is how many families a list may name.
const mostFamilies = 100

// list reads families of one dataset.
func (o *writer) list(dataset string, in bucket.Window, families ...string) *source {
	wanted := map[string]bool{}
	for _, name := range families {
		wanted[name] = true
	}
	slices.Sort(families)
	filter := &bucketv1.Filter{Datasets: []string{dataset}, Scopes: o.scopes}
	return &source{family: families[0], listing: &listing{from: o.from, ctx: o.ctx, match: o.match, passed: o.pass, wanted: wanted, req: &bucketv1.ListBucketsRequest{
		Filter: filter, StartUnixSeconds: int64(in.Start), EndUnixSeconds: int64(in.End), Families: families, AsRestated: o.r.Restated,
	}}}
}

// window is the range of the windows of a block: of sums, whole steps.
func (o *writer) window(b *Block) bucket.Window {
	if b.Kind != Summed {
		return o.r.Range
	}
	return bucket.Window{Start: o.r.Range.Start.Ceil(o.r.Step), End: o.r.Range.End.Floor(o.r.Step)}
}

// extend repeats the buckets of the newest window up to now. It lists that window
// again instead of holding it, since it has a bucket for every scope.
func (o *writer) extend(b *Block, dataset string, newest bucket.Window) error {
	s := o.list(dataset, newest, b.Name)
	for {
		if err := o.advance(s); err != nil || s.head == nil {
			return err
		}
		until := bucket.Window{Start: newest.End, End: bucket.TimeOf(o.now)}
		if err := o.bucket(b, s, until); err != nil {
			return err
		}
	}
}

// multiples yields the multiples of the step in w.
func (o *writer) multiples(w bucket.Window, size time.Duration) iter.Seq[sample.Millis] {
	step := o.r.step(size)
	return func(yield func(sample.Millis) bool) {
		for t := w.Start.Ceil(step); t < w.End && yield(sample.Millis(t)*1000); {
			t = t.Add(step)
		}
	}
}

// set returns the block's samples of the source's bucket, and whether the family was
// collected and can be read. Collected without samples means a confirmed absence.
// The set is valid until the next call.
func (o *writer) set(of *Block, s *source) (set *sample.Set, collected bool, err error) {
	b := s.head
	at := slices.IndexFunc(b.Families, func(r bucket.Rows) bool { return r.Family == of.Name })
	version := o.state.Dataset(b.Dataset).Version(b.Version)
	switch {
	case version == nil && at < 0:
		return nil, false, nil
	case version == nil && s.revision > 0 && s.revision <= o.state.Position.Revision:
		// All entries before the bucket have arrived, so its definition is unreadable.
		o.pass(s.revision, fmt.Errorf("bucket %s: version %d of its dataset cannot be read", b.Key, b.Version))
		return nil, false, nil
	case version == nil:
		return nil, false, fmt.Errorf("bucket %s: version %d of its dataset has not reached this exposer", b.Key, b.Version)
	case at < 0:
		return nil, sample.FamilyOf(version, of.Name) != nil, nil
	}
	if o.one, err = sample.Of(b, at, version, o.state.Store.Stamp); err != nil {
		o.pass(s.revision, err)
		return nil, false, nil
	}
	o.one.Name, o.one.More = of.Title(), o.r.Labels
	return &o.one, true, nil
}

// bucket writes the block's samples of the source's bucket: with its timestamp, or at every
// multiple of the step in a window.
func (o *writer) bucket(of *Block, s *source, in bucket.Window) error {
	set, _, err := o.set(of, s)
	if err != nil || set == nil {
		return err
	}
	o.buf = o.buf[:0]
	if of.Kind == Plain {
		if err := o.at(set, s); err != nil {
			return err
		}
		return o.write(o.buf)
	}
	for set.At = range o.multiples(in, s.head.Size) {
		if err := o.at(set, s); err != nil {
			return err
		}
		if len(o.buf) > 1<<16 { // a day with a step of one second is large
			if err := o.write(o.buf); err != nil {
				return err
			}
			o.buf = o.buf[:0]
		}
	}
	return o.write(o.buf)
}

// at appends the samples of a set at its timestamp.
func (o *writer) at(set *sample.Set, s *source) error {
	if err := set.At.Check(o.now); err != nil {
		return fmt.Errorf("bucket %s: %w", s.head.Key, err)
	}
	o.buf = expo.AppendSet(o.buf, o.r.Format, set)
	return nil
}

func (o *writer) write(p []byte) error {
	o.buf = p[:0]
	_, err := o.w.Write(p)
	return err
}
