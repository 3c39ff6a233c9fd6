package counters

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
)

// Meter counts events; package meter implements it.
type Meter interface {
	CounterRejected()
}

// Ingest is the [client.CounterHandler] of a board. An entry that cannot be decoded or
// counted is rejected, counted and logged, as on the stream of the replay. So is a family of
// the totals that cannot be continued, of which nothing is shown in that epoch then.
type Ingest struct {
	board *Board
	meter Meter
	often *quiet.Log

	building *history // until it is complete; nil: what is served goes on
	whole    bool     // building has all totals
	// arrived are entries for what is served. They are counted together, when the stream
	// has confirmed them: until then no page needs them.
	arrived []bucket.Entry
	// ended is what must not be served again, since its history has changed.
	ended identity
}

// NewIngest returns the handler of the board's stream, of which there is one.
func NewIngest(b *Board, meter Meter, log *slog.Logger) *Ingest {
	return &Ingest{board: b, meter: meter, often: quiet.New(log, time.Minute)}
}

var _ client.CounterHandler = (*Ingest)(nil)

// errRestored rejects totals that would make counters step back.
var errRestored = errors.New("the history of the store has changed, and the totals are of the same epoch as before")

// SnapshotBegin implements [client.Handler].
func (in *Ingest) SnapshotBegin(m *bucketv1.StoreInfo) {
	in.building, in.whole = newHistory(m.GetStoreId()), false
	in.board.explain(catchingUp)
}

// Info implements [client.Handler].
func (in *Ingest) Info(*bucketv1.StoreInfo) {
	if !in.whole {
		in.building = nil // the totals were interrupted
	}
	in.board.explain(catchingUp)
}

// CounterEpoch implements [client.CounterHandler].
func (in *Ingest) CounterEpoch(m *bucketv1.CounterEpoch) error {
	e, err := wire.DecodeCounterEpoch(m)
	if err != nil {
		return err
	}
	if e.Rules != counter.Rules {
		return fmt.Errorf("%w: epoch %s is of version %d, and this exposer counts by version %d", client.ErrOtherRules, e.ID, e.Rules, counter.Rules)
	}
	if in.building.begin(e); in.building.id == in.ended {
		return fmt.Errorf("%w (%s): %s", errRestored, e.ID, restored.text)
	}
	return nil
}

// CounterTotals implements [client.CounterHandler].
func (in *Ingest) CounterTotals(m *bucketv1.CounterTotals) error {
	t, err := wire.DecodeCounterTotals(m)
	if t != nil {
		err = errors.Join(err, in.building.fold.Load(t))
	}
	if err != nil {
		in.meter.CounterRejected()
		in.often.Error(quiet.Cause(err), "totals are not continued; other families are not affected", "err", err)
	}
	return nil
}

// Entry implements [client.Handler].
func (in *Ingest) Entry(m *bucketv1.Entry) error {
	h := in.building
	if h == nil {
		h = in.board.serving // which only this goroutine replaces
	}
	if h == nil {
		return errors.New("received an entry before any totals")
	}
	e, err := h.decoder.Entry(m)
	switch {
	case err != nil:
		in.reject(e.Revision, err)
	case in.building == nil:
		in.arrived = append(in.arrived, e)
	default:
		in.count(h, &e)
	}
	return nil
}

func (in *Ingest) count(h *history, e *bucket.Entry) {
	if err := h.add(e); err != nil {
		in.reject(e.Revision, err)
	}
}

func (in *Ingest) reject(revision bucket.Revision, err error) {
	in.meter.CounterRejected()
	in.often.Error(quiet.Cause(err), "entry is not counted; other entries are not affected", "revision", revision, "err", err)
}

// SnapshotEnd implements [client.Handler].
func (in *Ingest) SnapshotEnd(*bucketv1.ResumePoint, time.Time) {
	in.whole, in.arrived = true, nil
}

// Complete implements [client.CounterHandler]. What was built is served from the first
// confirmation on.
func (in *Ingest) Complete(until time.Time) {
	b := in.board
	if in.building != nil {
		if until.IsZero() {
			return
		}
		in.building.prepare()
		b.replace(in.building, until)
		in.building, in.whole, in.ended = nil, false, identity{}
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range in.arrived {
		in.count(b.serving, &in.arrived[i])
	}
	clear(in.arrived)
	in.arrived = in.arrived[:0]
	b.confirm(until)
}

// Progress implements [client.Handler]; Complete has done it.
func (in *Ingest) Progress(*bucketv1.ResumePoint, time.Time) {}

// Disconnected implements [client.Handler]. The client logs it.
func (in *Ingest) Disconnected(err error, _ time.Duration) {
	why := Unavailable{"disconnected", fmt.Sprintf("the stream from the collector has ended (%s); it is opened again", follow.Reason(err))}
	code := status.Code(err)
	switch reason := client.Reason(err); {
	case errors.Is(err, errRestored):
		why = restored
	case errors.Is(err, client.ErrOtherRules):
		why = unsupported
	case reason == client.ReasonNoCounters:
		why = noCounters
	case reason == client.ReasonBadRequest, reason == "" && (code == codes.InvalidArgument || code == codes.Unimplemented):
		why = unsupported
	case reason == client.ReasonHistoryChanged, reason == client.ReasonFutureRevision, reason == client.ReasonOtherStore,
		reason == "" && code == codes.FailedPrecondition:
		in.end()
		why = changed
	}
	in.board.explain(why)
}

// end drops what was followed: it is of a history that no longer is.
func (in *Ingest) end() {
	if in.whole {
		in.ended = in.building.id
	} else if h := in.board.serving; h != nil {
		in.ended = h.id
	}
	in.building, in.whole, in.arrived = nil, false, nil
	in.board.replace(nil, time.Time{})
}
