// Package follow applies the collector's stream to the held buckets and
// publishes a state whenever the stream confirms a point.
//
// What is kept here is small because the client package keeps the rest: it
// resumes, takes a new snapshot when a point was compacted or the history
// changed, and never ends a snapshot at a lower revision of the same history.
// A new snapshot is built in a [window.Recent] of its own; until it is complete
// the last published state is served.
//
// A bucket that cannot be shown (it does not fit its definition, or says
// something that this release does not know) is rejected, counted and logged,
// and the rest goes on: one odd bucket must not take a whole exposition with
// it, and asking for it again would bring the same bytes.
package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/replay"
	"github.com/weir-metrics/weir/services/exposer/internal/window"
)

// Board is where states go; package view has it.
type Board interface {
	Publish(*window.State)
	Confirm(progress time.Time)
	Now() time.Time
}

// Meter is told what happens; package meter has it.
type Meter interface {
	Rendered(samples int, took time.Duration)
	Rejected()
	Published()
	Connected()
	Disconnected(reason string)
}

// Ingest is the [client.Handler] of an exposer.
type Ingest struct {
	board  Board
	meter  Meter
	log    *slog.Logger
	often  *quiet.Log
	maxAge time.Duration

	current   *window.Recent // what is published; nil before the first view
	building  *window.Recent // inside a snapshot; nil otherwise
	published bucket.Position
	changed   bool            // the view is not the published one
	told      map[string]bool // what was logged of replays: a snapshot defines every dataset again
	again     error           // why the view must be built anew, found where no error can be returned
}

// New returns an Ingest for samples younger than maxAge.
func New(board Board, meter Meter, maxAge time.Duration, log *slog.Logger) *Ingest {
	return &Ingest{board: board, meter: meter, maxAge: maxAge, log: log, often: quiet.New(log, time.Minute), told: map[string]bool{}}
}

var _ client.Handler = (*Ingest)(nil)

// SnapshotBegin implements [client.Handler].
func (in *Ingest) SnapshotBegin(m *bucketv1.StoreInfo) {
	in.meter.Connected()
	in.building = window.New(info(m), in.maxAge)
	in.again = nil
}

// Info implements [client.Handler].
func (in *Ingest) Info(m *bucketv1.StoreInfo) {
	in.meter.Connected()
	in.building = nil // a snapshot that never ended
	if in.current == nil {
		return
	}
	now := info(m)
	if in.current.Info().Retention != now.Retention {
		// A collector with another setting has taken over: of use to backfills,
		// and no reason to doubt what is held.
		in.current.Retain(now.Retention)
		in.changed = true
	}
	if in.current.Info() != now {
		// Every held sample carries the old timestamp or the old truth.
		in.again = fmt.Errorf("the store's properties changed from %+v to %+v", in.current.Info(), now)
	}
}

// Entry implements [client.Handler].
func (in *Ingest) Entry(e *bucketv1.Entry) error {
	if in.again != nil {
		return in.again
	}
	recent := in.current
	if in.building != nil {
		recent = in.building
	}
	if recent == nil {
		return errors.New("an entry came before any snapshot")
	}
	var err error
	switch kind := e.GetKind().(type) {
	case *bucketv1.Entry_DatasetVersion:
		err = in.define(recent, kind.DatasetVersion)
	case *bucketv1.Entry_Bucket:
		err = in.add(recent, kind.Bucket)
	default:
		// Gap decisions, states and restatements change no replay; kinds of a
		// later release are none of this one's business.
	}
	switch {
	case errors.Is(err, window.ErrDeeper):
		return err
	case err != nil:
		in.reject(e.GetRevision(), err)
	}
	return nil
}

func (in *Ingest) define(recent *window.Recent, m *bucketv1.DatasetVersion) error {
	d, err := wire.Definition(m)
	if err != nil {
		return err
	}
	if err := recent.Define(d); err != nil {
		return err
	}
	in.changed = true
	in.tell(d, recent.Info().Stamp)
	return nil
}

// tell says once how a dataset's replay falls short. A setting that is too low is to
// be mended; small buckets were asked for.
func (in *Ingest) tell(d *bucket.Definition, stamp expo.Stamp) {
	level, short := slog.LevelWarn, replay.Check(d, stamp, in.maxAge)
	if short == nil {
		level, short = slog.LevelInfo, replay.Shallow(d, stamp, in.maxAge)
	}
	if short == nil || in.told[short.Error()] {
		return
	}
	in.told[short.Error()] = true
	in.log.Log(context.Background(), level, "replay is too short for a dataset", "dataset", d.Dataset,
		"span", replay.Span(d, stamp, in.maxAge), "err", short)
}

func (in *Ingest) add(recent *window.Recent, m *bucketv1.Bucket) error {
	began := time.Now() // a latency of this machine, not calendar time
	b, err := wire.Bucket(m)
	if err != nil {
		return err
	}
	held, err := recent.Add(b, in.board.Now())
	if held {
		in.changed = true
		in.meter.Rendered(b.Len(), time.Since(began))
	}
	return err
}

func (in *Ingest) reject(revision uint64, err error) {
	in.meter.Rejected()
	in.often.Error(quiet.Cause(err), "entry rejected; the rest of the exposition goes on", "revision", revision, "err", err)
}

// SnapshotEnd implements [client.Handler].
func (in *Ingest) SnapshotEnd(point *bucketv1.ResumePoint, progress time.Time) {
	if in.building == nil {
		return
	}
	old := in.published
	in.current, in.building, in.changed = in.building, nil, true
	in.confirm(point, progress)
	in.log.Info("view replaced by a snapshot", "revision", in.published.Revision, "was", old.Revision, "samples", in.current.Samples())
}

// Progress implements [client.Handler].
func (in *Ingest) Progress(point *bucketv1.ResumePoint, progress time.Time) {
	in.confirm(point, progress)
}

// confirm publishes what was applied: up to point nothing is missing.
func (in *Ingest) confirm(point *bucketv1.ResumePoint, progress time.Time) {
	if in.current == nil {
		return
	}
	if !progress.IsZero() {
		in.board.Confirm(progress)
	}
	_, at, err := wire.Position(point)
	if err != nil { // the client checks points; a bug then, and the old state is still true
		in.log.Error("confirmed point is malformed", "err", err)
		return
	}
	in.current.Expire(in.board.Now())
	if !in.changed && at == in.published {
		return
	}
	// Entries that no replay shows move the revision alone. The state is
	// replaced for them too: equal revisions must mean equal bytes.
	in.published, in.changed = at, false
	in.board.Publish(in.current.State(at))
	in.meter.Published()
}

// Disconnected implements [client.Handler]. The client has logged it.
func (in *Ingest) Disconnected(err error, _ time.Duration) {
	in.meter.Disconnected(reason(err))
}

// reason is a label value: one of a few words.
func reason(err error) string {
	switch r := client.Reason(err); {
	case r != "":
		return r
	case errors.Is(err, client.ErrContract):
		return "CONTRACT"
	case errors.Is(err, client.ErrIdle):
		return "IDLE"
	case errors.Is(err, client.ErrStepBack):
		return "STEP_BACK"
	case errors.Is(err, client.ErrHandler):
		return "REFUSED_HERE"
	}
	return "TRANSPORT"
}

func info(m *bucketv1.StoreInfo) window.Info {
	i := window.Info{
		StoreID:   m.GetStoreId(),
		Stamp:     expo.End,
		Simulated: m.GetSimulated(),
		Retention: m.GetRetention().AsDuration(),
	}
	if m.GetSampleTimestamp() == bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START {
		i.Stamp = expo.Start
	}
	return i
}
