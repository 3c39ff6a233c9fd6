package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

const (
	day = 24 * time.Hour
	// pageEntries is how many entries a page of a list has at most; it ends sooner with the
	// samples of a batch.
	pageEntries = 5000
)

func midnight(t bucket.Time) bucket.Time { return t.Floor(day) }

// first is the cursor of a push that has none.
func (h *handler) first() *Cursor {
	c := &Cursor{StoreID: h.store.ID}
	switch {
	case h.p.Start.Beginning:
	case h.p.Start.Age > 0:
		through := h.progress
		if through.IsZero() { // no leader has reported yet
			through = h.p.Clock.Now()
		}
		since := bucket.TimeOf(through.Add(-h.p.Start.Age))
		c.Position, c.Until = h.head, since.Std()
		c.History = &History{Since: since, Through: bucket.TimeOf(through), Day: midnight(since)}
	default:
		c.Position, c.Until = h.head, h.progress
	}
	return c
}

// history sends the buckets of before the cursor, in the order of days. Each page is read as a
// whole before it is sent, so that a slow destination holds up no stream, and the place in the
// list is kept after each batch.
func (h *handler) history() error {
	for failed := 1; h.p.Cursor.History != nil; {
		at := *h.p.Cursor.History
		batches, end, err := h.list(at)
		if err != nil {
			if err := h.unlisted(err, failed); err != nil {
				return err
			}
			failed++
			continue
		}
		failed = 1
		h.p.begun()
		for _, b := range batches {
			if err := h.deliver(b); err != nil {
				return err
			}
			at.Token = b.token
			if err := h.move(at); err != nil {
				return err
			}
		}
		if !end {
			continue
		}
		at.Day, at.Token = at.Day.Add(day), ""
		if err := h.move(at); err != nil {
			return err
		}
	}
	return nil
}

// move writes the cursor with another place in its history. Behind the last day it has none: the
// leader's clock may be behind that of a window, so the last is the one after Through.
func (h *handler) move(at History) error {
	c := *h.p.Cursor
	c.History, c.Until = &at, max(at.Day, at.Since).Std()
	if at.Day > at.Through.Add(day) {
		c.History, c.Until = nil, at.Through.Std()
	}
	return h.keep(&c)
}

// list reads a page of a day: batches, each with its page token. End: it is the day's last.
func (h *handler) list(at History) (batches []*batch, end bool, err error) {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	request := &bucketv1.ListBucketsRequest{
		StartUnixSeconds: int64(max(at.Day, 1)), EndUnixSeconds: int64(at.Day.Add(day)), PageToken: at.Token,
	}
	token, entries, samples := "", 0, 0
	next := func() *batch {
		b := newBatch(h.p.Labels)
		b.store, b.token = h.store.ID, at.Token
		return b
	}
	b := next()
	options := client.ListOptions{Backoff: h.p.Backoff, Token: func(t string) { token = t }}
	for m, err := range client.List(ctx, h.p.Conn, request, options) {
		if err != nil {
			return nil, false, err
		}
		if entries == pageEntries || samples+b.samples >= batchSamples {
			return append(batches, b), false, nil
		}
		entries++
		if sets, k := h.listed(m, at.Since); len(sets) > 0 {
			if !b.fits(k) {
				batches, samples = append(batches, b), samples+b.samples
				b = next()
			}
			b.add(k, sets)
		}
		b.token = token
	}
	return append(batches, b), true, nil
}

// listed returns the samples of a listed bucket; none if it is not of the history: what is newer
// than the cursor follows it in the log.
func (h *handler) listed(m *bucketv1.Entry, since bucket.Time) ([]sample.Set, *bucket.Bucket) {
	if m.GetRevision() > uint64(h.p.Cursor.Revision) {
		return nil, nil
	}
	e, err := wire.Entry(m)
	if err == nil && e.Kind == bucket.KindBucket && e.Bucket.Window().End <= since {
		return nil, nil
	}
	return h.content(&e, err, m.GetRevision()), e.Bucket
}

// unlisted says what follows the error of a list: a pause, or, if it would be the same again,
// the end of the session.
func (h *handler) unlisted(err error, failed int) error {
	if h.ctx.Err() != nil {
		return context.Cause(h.ctx)
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange, codes.FailedPrecondition:
		return fmt.Errorf("the collector refuses the cursor's place in the history: %w", err)
	}
	if errors.Is(err, client.ErrContract) {
		return err
	}
	h.p.lost()
	pause := h.p.patience.Pause(failed)
	h.p.often.Warn("list"+quiet.Cause(err), "cannot list the history, trying again", "err", err, "retry_in", pause)
	return h.p.patience.Sleep(h.ctx, pause)
}
