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

// Write writes the requested history to w, and the end of the format only if
// everything before it was written. After an error the output is not whole and
// must not be made to look so. The error is a *[ParamError] for an unknown
// zone, before anything is written.
//
// A stored bucket that cannot be read costs itself: passed is told of it, once,
// with its revision, and the output has all others. Nil: nobody is told.
func Write(ctx context.Context, w io.Writer, from Lister, state *window.State, r *Request, now time.Time, passed func(revision uint64, err error)) error {
	var scopes []*bucketv1.Scope
	if r.Zone != "" {
		var err error
		if scopes, err = resolve(ctx, from, r.Zone); err != nil {
			return err
		}
	}
	// A listing that is given up half-way must end at the server too.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := writer{ctx: ctx, w: w, from: from, state: state, r: r, scopes: scopes, now: now, told: map[uint64]bool{}, passed: passed}
	for _, fam := range r.Families {
		if err := out.family(fam); err != nil {
			return fmt.Errorf("write family %s: %w", fam.Name, err)
		}
	}
	_, err := w.Write(expo.AppendEnd(nil, r.Format))
	return err
}

type writer struct {
	ctx    context.Context
	w      io.Writer
	from   Lister
	state  *window.State
	r      *Request
	scopes []*bucketv1.Scope // empty: all
	now    time.Time
	buf    []byte // of one bucket's lines, reused

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

// family writes one family. Datasets that share it (before and after a change
// of bucket size) are merged by time, so that its samples ascend.
func (o *writer) family(fam window.Family) error {
	name := fam.Name
	if o.r.Stepped {
		name += "_stepped"
	}
	if err := o.write(expo.AppendHeader(o.buf[:0], o.r.Format, name, fam.Family)); err != nil {
		return err
	}
	var sources []*source
	for _, id := range feeders(o.state, o.r.Datasets, fam.Name) {
		s := o.list(id, fam.Name, o.r.Range)
		if err := s.advance(); err != nil {
			return err
		}
		sources = append(sources, s)
	}
	var last *bucket.Bucket
	for {
		sources = slices.DeleteFunc(sources, func(s *source) bool { return s.head == nil })
		if len(sources) == 0 {
			break
		}
		first := slices.MinFunc(sources, func(a, b *source) int {
			return cmp.Or(cmp.Compare(a.head.Start, b.head.Start), cmp.Compare(a.head.Dataset, b.head.Dataset))
		})
		last = first.head
		if err := o.bucket(name, fam.Name, first, o.instants(last)); err != nil {
			return err
		}
		if err := first.advance(); err != nil {
			return err
		}
	}
	if o.r.Extend && last != nil {
		return o.extend(name, fam.Name, last.Dataset, last.Window())
	}
	return nil
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
func (o *writer) extend(name, family, dataset string, newest bucket.Window) error {
	s := o.list(dataset, family, newest)
	for {
		if err := s.advance(); err != nil || s.head == nil {
			return err
		}
		until := bucket.Window{Start: newest.End, End: bucket.TimeOf(o.now)}
		if err := o.bucket(name, family, s, o.multiples(until, s.head.Size)); err != nil {
			return err
		}
	}
}

// instants yields those at which a bucket's samples stand, ascending.
func (o *writer) instants(b *bucket.Bucket) iter.Seq[expo.Millis] {
	if !o.r.Stepped {
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

// bucket writes the family's rows of the source's bucket at each of the instants.
func (o *writer) bucket(name, family string, s *source, at iter.Seq[expo.Millis]) error {
	b := s.head
	i := slices.IndexFunc(b.Families, func(r bucket.Rows) bool { return r.Family == family })
	if i < 0 {
		return nil // a confirmed absence of rows
	}
	rows := &b.Families[i]
	version := o.state.Dataset(b.Dataset).Version(b.Version)
	if version == nil {
		if s.revision > 0 && s.revision <= uint64(o.state.Position.Revision) {
			// All that came before the bucket is here; its definition cannot be read.
			o.pass(s.revision, fmt.Errorf("bucket %s was collected under version %d of its dataset, which cannot be read", b.Key, b.Version))
			return nil
		}
		return fmt.Errorf("bucket %s was collected under version %d of its dataset, which has not reached this exposer", b.Key, b.Version)
	}
	fam := expo.FamilyOf(version, family)
	if fam == nil || rows.Width() != len(fam.Labels) {
		o.pass(s.revision, fmt.Errorf("bucket %s does not fit version %d of its dataset", b.Key, b.Version))
		return nil
	}
	o.buf = o.buf[:0]
	for t := range at {
		if err := t.Check(o.now); err != nil {
			return fmt.Errorf("bucket %s: %w", b.Key, err)
		}
		o.buf = expo.AppendRows(o.buf, o.r.Format, name, fam, expo.Labels{Zone: b.Zone, Account: b.Account, More: o.r.Labels}, rows, t)
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
