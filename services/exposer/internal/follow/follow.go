// Package follow reads the collector's log, decodes each entry once and passes it
// to sinks: the replay, and any other consumer of new buckets.
//
// Package client does the rest: it resumes, takes a new snapshot when the resume
// point was compacted or the history changed, and never ends a snapshot at a lower
// revision of the same history. A new snapshot is read into new sinks; until it is
// complete the old sinks keep serving.
//
// An entry that cannot be decoded, or that a sink cannot use, is rejected, counted
// and logged; the other entries are not affected. One malformed bucket must not
// remove a whole exposition, and requesting it again would return the same bytes.
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

// ErrAnew, wrapped in a sink's error, means that the sink needs a new snapshot.
var ErrAnew = errors.New("a new snapshot is needed")

// Sink receives one history of one store: the content of a snapshot, then every
// entry after it. All calls come from one goroutine.
type Sink interface {
	// Entry receives an entry. Inside a snapshot these are dataset versions, then
	// buckets, whose revisions do not ascend; after it, entries come in order of
	// revision and without a gap. A bucket comes with the definition under which it
	// was collected. An entry that cannot be decoded comes without content, so that
	// the order has no gap.
	//
	// The entry is valid during the call. Its bucket and definition may be retained
	// but not modified. An error rejects the entry for this sink, unless it wraps
	// [ErrAnew].
	Entry(*bucket.Entry) error
	// Confirm means that every entry up to a point has been delivered. The first
	// call completes the snapshot: the sink then replaces its predecessor.
	Confirm(Point)
}

// Open returns a new sink for a snapshot of a store. If the snapshot is
// interrupted, the sink is dropped without another call.
type Open func(sample.Store) Sink

// Point is a position of the log that the stream has confirmed.
type Point struct {
	bucket.Position
	// Progress is the leader's clock at its last heartbeat; zero if unknown.
	Progress time.Time
	// Retention is the store's current retention; 0: unknown.
	Retention time.Duration
	// Late is the newest late commit of each dataset that has any, at the end of a
	// snapshot; nil otherwise.
	Late map[string]time.Time
}

// Meter counts events; package meter implements it.
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

	current  *reader              // confirmed; nil before the first snapshot is complete
	building *reader              // inside a snapshot; nil otherwise
	late     map[string]time.Time // at the end of a snapshot
	again    error                // why a new snapshot is needed, found where no error can be returned
}

// reader is one history and the sinks that receive it.
type reader struct {
	store   sample.Store
	decoder Decoder
	sinks   []Sink
	entry   bucket.Entry // passed to each sink in turn
}

// Decoder decodes the entries of one history. Its zero value has decoded none.
type Decoder struct {
	versions map[version]*bucket.Definition
}

type version struct {
	dataset string
	number  uint32
}

// New returns an Ingest that feeds a sink of each opener.
func New(meter Meter, log *slog.Logger, open ...Open) *Ingest {
	return &Ingest{meter: meter, log: log, often: quiet.New(log, time.Minute), open: open}
}

var (
	_ client.Handler     = (*Ingest)(nil)
	_ client.LateHandler = (*Ingest)(nil)
)

// SnapshotBegin implements [client.Handler].
func (in *Ingest) SnapshotBegin(m *bucketv1.StoreInfo) {
	in.meter.Connected()
	r := &reader{}
	if r.store, in.again = wire.Store(m); in.again != nil {
		in.log.Error("snapshot is invalid; serving the previous view", "err", in.again)
		in.current, in.building = nil, nil // points confirmed from here on belong to another history
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
	in.building = nil // the snapshot was interrupted
	if in.current == nil {
		return
	}
	now, err := wire.Store(m)
	if err != nil {
		in.again = err
		return
	}
	// A collector with another setting may have taken over. Backfills need the
	// new retention; the held buckets stay valid.
	in.current.store.Retention = now.Retention
	if in.current.store != now {
		// Every sample held has the old timestamp or the old simulated flag.
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
		return errors.New("received an entry before any snapshot")
	}
	var err error
	if r.entry, err = r.decoder.Entry(m); err != nil {
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

// Entry decodes an entry and finds the definition of its bucket, which was decoded before.
// With an error only the entry's position and time of commit are valid.
func (dec *Decoder) Entry(m *bucketv1.Entry) (bucket.Entry, error) {
	e, err := wire.Entry(m)
	if err != nil {
		return e, err
	}
	if d := e.Definition; d != nil {
		v := version{d.Dataset, d.Version}
		if had := dec.versions[v]; had != nil && !had.Same(d) {
			return e, fmt.Errorf("define dataset %s: received version %d twice with different content", d.Dataset, d.Version)
		}
		if dec.versions == nil {
			dec.versions = map[version]*bucket.Definition{}
		}
		dec.versions[v] = d
	}
	if b := e.Bucket; b != nil {
		if e.Definition = dec.versions[version{b.Dataset, b.Version}]; e.Definition == nil {
			return e, fmt.Errorf("bucket %s: received no definition of version %d of the dataset", b.Key, b.Version)
		}
	}
	return e, nil
}

func (in *Ingest) reject(revision bucket.Revision, err error) {
	in.meter.Rejected()
	in.often.Error(quiet.Cause(err), "entry rejected; other entries are not affected", "revision", revision, "err", err)
}

// LateCommits implements [client.LateHandler].
func (in *Ingest) LateCommits(late []*bucketv1.LateCommit) {
	in.late = map[string]time.Time{}
	for _, l := range late {
		if at := l.GetCommittedAt(); at.IsValid() {
			in.late[l.GetDataset()] = at.AsTime()
		}
	}
}

// SnapshotEnd implements [client.Handler].
func (in *Ingest) SnapshotEnd(point *bucketv1.ResumePoint, progress time.Time) {
	if in.building == nil {
		return
	}
	in.current, in.building = in.building, nil
	in.confirm(point, progress)
	in.late = nil
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
	if err != nil { // the client checks points, so this is a bug; the view is still valid
		in.log.Error("confirmed resume point is malformed", "err", err)
		return
	}
	for _, sink := range in.current.sinks {
		sink.Confirm(Point{Position: at, Progress: progress, Retention: in.current.store.Retention, Late: in.late})
	}
}

// Disconnected implements [client.Handler]. The client logs it.
func (in *Ingest) Disconnected(err error, _ time.Duration) {
	in.meter.Disconnected(Reason(err))
}

// Reason names why a stream ended: the value of the metric label "reason".
func Reason(err error) string {
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
