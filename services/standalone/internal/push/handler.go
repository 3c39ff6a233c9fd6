package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
)

// phase is what a session does.
type phase int

const (
	defining  phase = iota // reads the definitions of the datasets
	listing                // sends the history before the cursor
	following              // sends what follows the cursor
)

// errDefined ends the first phase.
var errDefined = errors.New("the definitions are read")

// handler is the [client.Handler] of one session.
type handler struct {
	p     *Pusher
	ctx   context.Context //nolint:containedctx // the context of Run, which a Handler does not get
	end   context.CancelCauseFunc
	phase phase

	store    sample.Store
	head     bucket.Position
	progress time.Time
	versions map[version]*bucket.Definition
	batch    *batch
}

type version struct {
	dataset string
	number  uint32
}

var _ client.Handler = (*handler)(nil)

func resume(c *Cursor) *bucketv1.ResumePoint { return wire.ResumePoint(c.StoreID, c.Position) }

// SnapshotBegin implements [client.Handler].
func (h *handler) SnapshotBegin(m *bucketv1.StoreInfo) {
	if h.phase == following {
		// The cursor has no place; Disconnected has said why, or the follower lost its way.
		h.end(&HaltError{"CONTRACT", errors.New("the follower begins anew, which would leave entries out")})
		return
	}
	h.versions = map[version]*bucket.Definition{}
	h.Info(m)
}

// Info implements [client.Handler].
func (h *handler) Info(m *bucketv1.StoreInfo) {
	s, err := wire.Store(m)
	if err != nil {
		h.end(err)
		return
	}
	if h.phase == following && s.Stamp != h.store.Stamp {
		h.end(fmt.Errorf("the store's sample timestamp changed from %s to %s", h.store.Stamp, s.Stamp))
		return
	}
	h.store = s
	if h.phase != defining {
		h.batch.store = s.ID
		h.p.begun()
	}
}

// Entry implements [client.Handler].
func (h *handler) Entry(m *bucketv1.Entry) error {
	if h.ctx.Err() != nil {
		return context.Cause(h.ctx)
	}
	e, err := wire.Entry(m)
	if err == nil && e.Kind == bucket.KindDatasetVersion {
		h.versions[version{e.Definition.Dataset, e.Definition.Version}] = e.Definition
	}
	if h.phase == defining {
		return nil
	}
	sets := h.content(&e, err, m.GetRevision())
	if len(sets) > 0 && !h.batch.fits(e.Bucket) {
		if err := h.flush(); err != nil {
			return err
		}
	}
	if len(sets) > 0 {
		h.batch.add(e.Bucket, sets)
	}
	h.batch.reach(&e)
	return nil
}

// content returns the samples of an entry; none if it is no bucket, or cannot be read.
func (h *handler) content(e *bucket.Entry, err error, revision uint64) (sets []sample.Set) {
	if err == nil && e.Kind == bucket.KindBucket {
		sets, err = h.samples(e.Bucket)
	}
	if err == nil && e.Kind != 0 {
		return sets
	}
	h.p.Meter.empty.Inc()
	if err == nil {
		err = errors.New("the collector cannot read the stored content, or has dropped it")
	}
	h.p.often.Warn(quiet.Cause(err), "an entry of the log has no content to send", "revision", revision, "err", err)
	return nil
}

func (h *handler) samples(b *bucket.Bucket) ([]sample.Set, error) {
	d := h.versions[version{b.Dataset, b.Version}]
	if d == nil {
		return nil, fmt.Errorf("bucket %s: received no definition of version %d of the dataset", b.Key, b.Version)
	}
	return sample.Append(nil, b, d, h.store.Stamp)
}

// SnapshotEnd implements [client.Handler].
func (h *handler) SnapshotEnd(point *bucketv1.ResumePoint, progress time.Time) {
	_, at, err := wire.Position(point)
	if err != nil {
		h.end(err)
		return
	}
	if h.phase == defining {
		h.head, h.progress = at, progress
		h.end(errDefined)
	}
}

// Progress implements [client.Handler].
func (h *handler) Progress(_ *bucketv1.ResumePoint, progress time.Time) {
	if h.phase != following || h.ctx.Err() != nil || h.flush() != nil {
		return
	}
	h.p.seen(progress)
}

// flush sends the batch, and then moves the cursor to its end. An error means that the
// session ends.
func (h *handler) flush() error {
	b := h.batch
	if b.entries == 0 {
		return nil
	}
	if err := h.deliver(b); err != nil {
		return err
	}
	h.batch = newBatch(h.p.Labels)
	h.batch.store = b.store
	return h.keep(&Cursor{StoreID: b.store, Position: b.at, Until: b.committed})
}

// deliver sends a batch, for a while also if the session has just been told to end. An answer
// that must not be repeated ends it.
func (h *handler) deliver(b *batch) error {
	if len(b.parts) == 0 {
		return nil
	}
	ctx, stop := h.p.grace(h.ctx)
	defer stop()
	err := h.p.send(ctx, b)
	var answer *deliver.AnswerError
	if errors.As(err, &answer) {
		err = &HaltError{"ANSWER", err}
		h.end(err)
	}
	return err
}

// keep writes the cursor, also if the session has just been told to end.
func (h *handler) keep(c *Cursor) error {
	ctx, stop := h.p.grace(h.ctx)
	defer stop()
	return h.p.persist(ctx, func() error { return h.p.save(c) })
}

// grace returns a context that ends some time after ctx. Pauses end with ctx.
func (p *Pusher) grace(ctx context.Context) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	p.patience.Ends = ctx.Done()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(p.Grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(context.Cause(ctx))
		case <-ended:
		}
	})
	return longer, func() { stop(); close(ended); cancel(nil) }
}

// Disconnected implements [client.Handler]. The follower logs it.
func (h *handler) Disconnected(err error, _ time.Duration) {
	if r := reason(err); r != "" && h.phase == following {
		h.end(&HaltError{r, err})
	}
}
