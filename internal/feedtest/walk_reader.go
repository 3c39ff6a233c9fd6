package feedtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// reader is a follower of package client in a walk: the handler of an exposer
// that trusts nobody.
type reader struct {
	w       *walk
	name    string
	line    *line
	process int // to which its next connection goes
	filter  *bucketv1.Filter
	request *bucketv1.SnapshotRequest
	stop    func() // and wait

	mu     sync.Mutex
	at     *node // nil before the first view
	inside bool
	held   []*bucketv1.Entry
	begun  bool // the present stream was accepted
	since  int
	asked  int // the model's moment before the present stream was asked for
}

func (r *reader) place() *node { r.mu.Lock(); defer r.mu.Unlock(); return r.at }

func (r *reader) calm() {
	since, asked := r.w.since()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since, r.asked = since, asked
}

// follow starts a follower: with a snapshot, or behind an entry.
func (w *walk) follow(f *bucketv1.Filter, from *node) {
	r := &reader{
		w: w, name: fmt.Sprintf("reader %d", len(w.trace)), line: newLine(), process: w.rng.IntN(len(w.arena.Processes)),
		filter: f, request: w.snapshotRequest(nil).GetSnapshot(), at: from,
	}
	r.calm()
	o := client.Options{
		Filter: f, Snapshot: r.request, Seed: 1 + w.rng.Uint64N(1000),
		Backoff: client.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second, Long: 5 * time.Second},
	}
	if from != nil {
		o.Resume = w.model.point(from)
	}
	w.say("start %s on process %d from %s, filter %v, snapshot %v", r.name, r.process, from.position(), f, r.request)
	r.line.lead(w.arena.Processes[r.process].Dial)
	conn, err := r.line.conn()
	if err != nil {
		w.Fatal(err)
	}
	follower, err := client.New(conn, o)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- follower.Run(ctx, r) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		r.line.heal()
		if err := <-done; err != nil {
			w.fail(r.name, "Run returned %v", err)
		}
		_ = conn.Close()
	})
	w.readers = append(w.readers, r)
}

// SnapshotBegin implements client.Handler.
func (r *reader) SnapshotBegin(*bucketv1.StoreInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside, r.held, r.begun = true, nil, true
}

// Info implements client.Handler.
func (r *reader) Info(*bucketv1.StoreInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside, r.begun = false, true
	if r.at == nil {
		r.w.fail(r.name, "a stream was resumed that never began")
	}
}

// Entry implements client.Handler.
func (r *reader) Entry(e *bucketv1.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside {
		r.held = append(r.held, e)
		return nil
	}
	if r.at == nil {
		return nil // its view is broken, which has been said
	}
	n, err := r.w.model.follow(r.at, e, r.filter)
	if err != nil {
		r.w.fail(r.name, "%v", err)
		return nil
	}
	r.at = n
	return nil
}

// SnapshotEnd implements client.Handler.
func (r *reader) SnapshotEnd(p *bucketv1.ResumePoint, progress time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.w.model.snapshot(r.asked, r.request, r.filter, r.held, p, progress)
	if err != nil {
		r.w.fail(r.name, "%v", err)
		return
	}
	if at := r.at; at != nil && n != at && n.isAncestorOf(at) && r.w.model.always(at, r.asked) {
		r.w.fail(r.name, "its view at revision %d was replaced by one at %d of the same history", at.at.Revision, n.at.Revision)
	}
	r.at, r.inside, r.held = n, false, nil
}

// Progress implements client.Handler.
func (r *reader) Progress(p *bucketv1.ResumePoint, progress time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		return
	}
	n, err := r.w.model.reach(r.at, &bucketv1.Progress{Point: p, ProgressTime: wire.Timestamp(progress)}, r.filter)
	if err != nil {
		r.w.fail(r.name, "%v", err)
		return
	}
	r.at = n
}

// Disconnected implements client.Handler.
func (r *reader) Disconnected(err error, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := end{err: err, line: r.line, process: -1, since: r.since, asked: r.asked, at: r.at, begun: r.begun}
	if !r.begun {
		e.origin = r.at
	}
	why := ""
	switch {
	case errors.Is(err, client.ErrContract), errors.Is(err, client.ErrHandler):
		why = "the server is right"
	case errors.Is(err, client.ErrStepBack):
		// For a second after a restore a process goes by the floor that it knew: it calls a
		// point compacted that is of another history, and has a snapshot of the new one.
		if at := r.at; at == nil || !r.w.model.some(r.asked, func(v *version) bool { return !at.isAncestorOf(v.head) }) {
			why = "the history did not change"
		}
	case errors.Is(err, client.ErrIdle):
		if !r.w.happened(r.since, -1, r.line, slow, stalled, away, cut, restarted) {
			why = "nobody was silent"
		}
	default:
		why = r.w.explain(&e, "")
	}
	if why != "" {
		r.w.fail(r.name, "at %s its stream ended with %v (reason %q): %s", r.at.position(), err, client.Reason(err), why)
	}
	r.inside, r.begun = false, false
}
