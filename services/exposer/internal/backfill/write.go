package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/window"
)

// Job is a request that can be written: its zone is known, and what the answer
// will lack. It is for one goroutine, and is written once.
type Job struct {
	from   Lister
	state  *window.State
	r      *Request
	scopes []*bucketv1.Scope // empty: all

	Coverage Coverage
	// Incomplete and Estimates count sums once Write has returned: those that are
	// left out because something of their step is missing, and those written that
	// hold an estimate.
	Incomplete, Estimates int
}

// Prepare looks for the request's zone and asks what is stored of the range.
// The error is a *[ParamError] for an unknown zone.
func Prepare(ctx context.Context, from Lister, state *window.State, r *Request) (*Job, error) {
	j := &Job{from: from, state: state, r: r}
	if r.Zone != "" {
		var err error
		if j.scopes, err = resolve(ctx, from, r.Zone); err != nil {
			return nil, err
		}
	}
	return j, j.survey(ctx)
}

// Write writes the history to w, and the end of the format only if everything
// before it was written. After an error the output is not whole and must not be
// made to look so. It begins with notes: what the output is, and what it lacks.
//
// A stored bucket that cannot be read costs itself: passed is told of it, once,
// with its revision, and the output has all others. Nil: nobody is told. What is
// not before now is an error.
func (j *Job) Write(ctx context.Context, w io.Writer, now time.Time, passed func(revision uint64, err error)) error {
	// A listing that is given up half-way must end at the server too.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := writer{Job: j, ctx: ctx, w: w, now: now, told: map[uint64]bool{}, passed: passed}
	for _, text := range j.notes() {
		if err := out.note(text); err != nil {
			return err
		}
	}
	for i := range j.r.Blocks {
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
	now    time.Time
	buf    []byte // of one bucket's lines, reused
	noted  int
	sums   int          // written
	partly bucket.Spans // steps of which some sum is left out

	told   map[uint64]bool // buckets that passed has heard of: each comes once a family
	passed func(revision uint64, err error)
}

func (o *writer) pass(revision uint64, err error) {
	if o.passed != nil && !o.told[revision] {
		o.told[revision] = true
		o.passed(revision, err)
	}
}

// source is the listing of one dataset with the bucket that comes next.
type source struct {
	listing
	head *bucket.Bucket // nil: over
}

func (s *source) advance() error {
	b, err := s.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	s.head = b
	return nil
}

// note writes a remark on the output itself. See [expo.AppendNote].
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
	var last *bucket.Bucket
	err := o.merged(b, o.r.Range, func(s *source) error {
		last = s.head
		return o.bucket(b, s, o.instants(b, last))
	})
	if err == nil && o.r.Extend && last != nil {
		err = o.extend(b, last.Dataset, last.Window())
	}
	return err
}

// merged calls do for each bucket of the block's datasets. Those that share the
// family (before and after a change of bucket size) are merged by time, so that
// its samples ascend.
func (o *writer) merged(b *Block, in bucket.Window, do func(*source) error) error {
	var sources []*source
	for _, id := range b.Datasets {
		s := o.list(id, b.Name, in)
		if err := s.advance(); err != nil {
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
		if err := first.advance(); err != nil {
			return err
		}
	}
}

func (o *writer) list(dataset, family string, in bucket.Window) *source {
	filter := &bucketv1.Filter{Datasets: []string{dataset}, Scopes: o.scopes}
	return &source{listing: listing{from: o.from, ctx: o.ctx, passed: o.pass, req: &bucketv1.ListBucketsRequest{
		Filter: filter, StartUnixSeconds: int64(in.Start), EndUnixSeconds: int64(in.End), Families: []string{family},
	}}}
}

// extend repeats the buckets of the newest window up to now. It lists that
// window again instead of remembering it, since a window of all scopes is as
// large as the account.
func (o *writer) extend(b *Block, dataset string, newest bucket.Window) error {
	s := o.list(dataset, b.Name, newest)
	for {
		if err := s.advance(); err != nil || s.head == nil {
			return err
		}
		until := bucket.Window{Start: newest.End, End: bucket.TimeOf(o.now)}
		if err := o.bucket(b, s, o.multiples(until, s.head.Size)); err != nil {
			return err
		}
	}
}

// instants yields those at which a bucket's samples stand, ascending.
func (o *writer) instants(of *Block, b *bucket.Bucket) iter.Seq[expo.Millis] {
	if of.Kind == Plain {
		return func(yield func(expo.Millis) bool) { yield(o.state.Info.Stamp.Of(b.Window())) }
	}
	return o.multiples(b.Window(), b.Size)
}

// multiples yields the multiples of the step in w.
func (o *writer) multiples(w bucket.Window, size time.Duration) iter.Seq[expo.Millis] {
	step := o.r.step(size)
	return func(yield func(expo.Millis) bool) {
		for t := w.Start.Ceil(step); t < w.End && yield(expo.Millis(t)*1000); {
			t = t.Add(step)
		}
	}
}

// rows returns the rows of the source's bucket and the definition under which
// they were collected. No definition: the family was not collected then, or the
// bucket cannot be read. No rows: a confirmed absence of them.
func (o *writer) rows(family string, s *source) (*bucket.Rows, *bucket.Family, error) {
	b := s.head
	var rows *bucket.Rows
	if i := slices.IndexFunc(b.Families, func(r bucket.Rows) bool { return r.Family == family }); i >= 0 {
		rows = &b.Families[i]
	}
	version := o.state.Dataset(b.Dataset).Version(b.Version)
	if version == nil {
		if rows == nil {
			return nil, nil, nil
		}
		if s.revision > 0 && s.revision <= uint64(o.state.Position.Revision) {
			// All that came before the bucket is here; its definition cannot be read.
			o.pass(s.revision, fmt.Errorf("bucket %s was collected under version %d of its dataset, which cannot be read", b.Key, b.Version))
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("bucket %s was collected under version %d of its dataset, which has not reached this exposer", b.Key, b.Version)
	}
	fam := expo.FamilyOf(version, family)
	if rows != nil && (fam == nil || rows.Width() != len(fam.Labels)) {
		o.pass(s.revision, fmt.Errorf("bucket %s does not fit version %d of its dataset", b.Key, b.Version))
		return nil, nil, nil
	}
	return rows, fam, nil
}

// bucket writes the block's rows of the source's bucket at each of the instants.
func (o *writer) bucket(of *Block, s *source, at iter.Seq[expo.Millis]) error {
	b := s.head
	rows, fam, err := o.rows(of.Name, s)
	if err != nil || rows == nil {
		return err
	}
	o.buf = o.buf[:0]
	for t := range at {
		if err := t.Check(o.now); err != nil {
			return fmt.Errorf("bucket %s: %w", b.Key, err)
		}
		o.buf = expo.AppendRows(o.buf, o.r.Format, of.Title(), fam, expo.Labels{Zone: b.Zone, Account: b.Account, More: o.r.Labels}, rows, t)
		if len(o.buf) > 1<<16 { // a day at a step of a second is large
			if err := o.write(o.buf); err != nil {
				return err
			}
			o.buf = o.buf[:0]
		}
	}
	return o.write(o.buf)
}

func (o *writer) write(p []byte) error {
	o.buf = p[:0]
	_, err := o.w.Write(p)
	return err
}
