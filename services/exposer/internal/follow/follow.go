// Package follow reads the collector's log, decodes each entry once and hands it
// to sinks: the replay, and whatever else is made of buckets as they come.
//
// What is kept here is small because the client package keeps the rest: it
// resumes, takes a new snapshot when a point was compacted or the history
// changed, and never ends a snapshot at a lower revision of the same history.
// A new snapshot is read into sinks of its own; until it is complete the old ones
// show what they showed.
//
// An entry that cannot be decoded, or that a sink cannot use, is rejected, counted
// and logged, and the rest goes on: one odd bucket must not take a whole
// exposition with it, and asking for it again would bring the same bytes.
package follow

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// ErrAnew, wrapped in a sink's error, says that what the sink holds can only be
// made right by a new snapshot.
var ErrAnew = errors.New("a new snapshot is needed")

// Sink takes one history of one store: what a snapshot holds, then every entry
// after it. All calls come from one goroutine.
type Sink interface {
	// Entry takes an entry: inside a snapshot dataset versions, then buckets, whose
	// revisions do not ascend; from then on in order, without a hole. A bucket comes
	// with the definition under which it was collected. What cannot be had comes
	// without content, for the sake of its place.
	//
	// The entry is valid during the call; its bucket and definition may be kept, and
	// must not be changed. An error rejects the entry for this sink, unless it wraps
	// [ErrAnew].
	Entry(*bucket.Entry) error
	// Confirm says that nothing is missing up to a point. The first time, the
	// snapshot is complete, and the sink takes the place of the one before it.
	Confirm(Point)
}

// Open returns a new sink for a snapshot of a store. If the snapshot breaks off,
// the sink is dropped without another call.
type Open func(sample.Store) Sink

// Point is what the stream has confirmed.
type Point struct {
	bucket.Position
	// Progress is the time of the leading collector when it last said that it
	// lives; zero if that is not known.
	Progress time.Time
	// Retention is how long the store keeps buckets now; 0: not said.
	Retention time.Duration
}

// Meter is told what happens; package meter has it.
type Meter interface {
	Rejected()
	Connected()
	Disconnected(reason string)
}

// Ingest is the [client.Handler] of an exposer.
type Ingest struct {
	meter Meter
	log   *slog.Logger
	often *quiet.Log
	open  []Open

	current  *reading // confirmed; nil before the first snapshot is complete
	building *reading // inside a snapshot; nil otherwise
	again    error    // why a new snapshot is needed, found where no error can be returned
}

// reading is one history as it is read.
type reading struct {
	store    sample.Store
	versions map[version]*bucket.Definition
	sinks    []Sink
	entry    bucket.Entry // that the sinks are told, one after another
}

type version struct {
	dataset string
	number  uint32
}

// New returns an Ingest that feeds a sink of each opener.
func New(meter Meter, log *slog.Logger, open ...Open) *Ingest {
	return &Ingest{meter: meter, log: log, often: quiet.New(log, time.Minute), open: open}
}

var _ client.Handler = (*Ingest)(nil)

// SnapshotBegin implements [client.Handler].
func (in *Ingest) SnapshotBegin(m *bucketv1.StoreInfo) {
	in.meter.Connected()
	r := &reading{versions: map[version]*bucket.Definition{}}
	if r.store, in.again = wire.Store(m); in.again != nil {
		in.log.Error("snapshot cannot be used; what is served stays as it is", "err", in.again)
		in.current, in.building = nil, nil // nothing that is confirmed from here on is theirs
		return
	}
	for _, open := range in.open {
		r.sinks = append(r.sinks, open(r.store))
	}
	in.building = r
}

// Info implements [client.Handler].
func (in *Ingest) Info(m *bucketv1.StoreInfo) {
	in.meter.Connected()
	in.building = nil // a snapshot that never ended
	if in.current == nil {
		return
	}
	now, err := wire.Store(m)
	if err != nil {
		in.again = err
		return
	}
	// A collector with another setting may have taken over: of use to backfills,
	// and no reason to doubt what is held.
	in.current.store.Retention = now.Retention
	if in.current.store != now {
		// Every sample so far carries the old timestamp or the old truth.
		in.again = fmt.Errorf("the store's properties changed from %+v to %+v", in.current.store, now)
	}
}

// Entry implements [client.Handler].
func (in *Ingest) Entry(m *bucketv1.Entry) error {
	if in.again != nil {
		return in.again
	}
	r := in.current
	if in.building != nil {
		r = in.building
	}
	if r == nil {
		return errors.New("an entry came before any snapshot")
	}
	var err error
	if r.entry, err = r.decode(m); err != nil {
		in.reject(r.entry.Revision, err)
		r.entry = bucket.Entry{Position: r.entry.Position, CommittedAt: r.entry.CommittedAt}
	}
	for _, sink := range r.sinks {
		switch err := sink.Entry(&r.entry); {
		case errors.Is(err, ErrAnew):
			return err
		case err != nil:
			in.reject(r.entry.Revision, err)
		}
	}
	return nil
}

// decode decodes an entry and finds the definition of its bucket.
func (r *reading) decode(m *bucketv1.Entry) (bucket.Entry, error) {
	e, err := wire.Entry(m)
	if err != nil {
		return e, err
	}
	if d := e.Definition; d != nil {
		v := version{d.Dataset, d.Version}
		if had := r.versions[v]; had != nil && !had.Same(d) {
			return e, fmt.Errorf("define dataset %s: version %d came twice with different contents", d.Dataset, d.Version)
		}
		r.versions[v] = d
	}
	if b := e.Bucket; b != nil {
		if e.Definition = r.versions[version{b.Dataset, b.Version}]; e.Definition == nil {
			return e, fmt.Errorf("bucket %s: version %d of the dataset has not been defined", b.Key, b.Version)
		}
	}
	return e, nil
}

func (in *Ingest) reject(revision bucket.Revision, err error) {
	in.meter.Rejected()
	in.often.Error(quiet.Cause(err), "entry rejected; the rest of the exposition goes on", "revision", revision, "err", err)
}

// SnapshotEnd implements [client.Handler].
func (in *Ingest) SnapshotEnd(point *bucketv1.ResumePoint, progress time.Time) {
	if in.building == nil {
		return
	}
	in.current, in.building = in.building, nil
	in.confirm(point, progress)
}

// Progress implements [client.Handler].
func (in *Ingest) Progress(point *bucketv1.ResumePoint, progress time.Time) {
	in.confirm(point, progress)
}

func (in *Ingest) confirm(point *bucketv1.ResumePoint, progress time.Time) {
	if in.current == nil {
		return
	}
	_, at, err := wire.Position(point)
	if err != nil { // the client checks points; a bug then, and what is shown is still true
		in.log.Error("confirmed point is malformed", "err", err)
		return
	}
	for _, sink := range in.current.sinks {
		sink.Confirm(Point{Position: at, Progress: progress, Retention: in.current.store.Retention})
	}
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
