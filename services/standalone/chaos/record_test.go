package chaos

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-metrics/weir/client"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// record is all that any stream ever told the recorder. It outlives the
// recorder's lives, as a file would.
type record struct {
	report func(format string, args ...any)

	mu      sync.Mutex
	at      *bucketv1.ResumePoint
	chains  map[uint64]string // by revision
	newest  uint64            // delivered live
	entries int
	streams int
	// progress is the newest stream time.
	progress time.Time
}

func newRecord(report func(string, ...any)) *record {
	return &record{report: report, chains: map[uint64]string{}}
}

func (r *record) point() *bucketv1.ResumePoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// see notes that a revision was shown with a chain, which covers its bytes and
// those of all before it.
func (r *record) see(revision uint64, chain []byte, where string) {
	if had, known := r.chains[revision]; known && had != string(chain) {
		r.report("revision %d was shown twice with different chains, %x and %x (%s)", revision, had, chain, where)
	}
	r.chains[revision] = string(chain)
}

func (r *record) reached(p *bucketv1.ResumePoint, progress time.Time) {
	r.at = p
	if p.GetRevision() > 0 {
		r.see(p.GetRevision(), p.GetChain(), "point")
	}
	if progress.IsZero() {
		return
	}
	if !progress.After(r.progress) {
		return
	}
	r.progress = progress
	if ahead := time.Until(progress); ahead > skewTolerance {
		r.report("progress time %s is %s ahead of the time it was told", progress, ahead)
	}
}

// skewTolerance is what a collector may be wrong about the time: what it puts
// down to measuring, and whole seconds.
const skewTolerance = 3 * time.Second

// recording is the handler of one life of the recorder.
type recording struct {
	*record
	l        *life
	snapshot bool
}

var _ client.Handler = (*recording)(nil)

// lock reports false when the life is over: what it hears is heard by nobody.
func (r *recording) lock() bool {
	r.mu.Lock()
	if r.l.isDead() {
		r.mu.Unlock()
		return false
	}
	return true
}

func (r *recording) SnapshotBegin(*bucketv1.StoreInfo) {
	if !r.lock() {
		return
	}
	defer r.mu.Unlock()
	r.snapshot = true
	r.streams++
	if r.at != nil {
		r.report("the recorder was made to take a second snapshot, at revision %d", r.at.GetRevision())
	}
}

func (r *recording) Info(*bucketv1.StoreInfo) {
	if !r.lock() {
		return
	}
	defer r.mu.Unlock()
	r.snapshot = false
	r.streams++
}

func (r *recording) Entry(e *bucketv1.Entry) error {
	if !r.lock() {
		return errDead
	}
	defer r.mu.Unlock()
	r.see(e.GetRevision(), e.GetChain(), "entry")
	if r.snapshot {
		return nil
	}
	r.entries++
	if r.newest != 0 && e.GetRevision() != r.newest+1 {
		r.report("revision %d was delivered after %d", e.GetRevision(), r.newest)
	}
	r.newest = e.GetRevision()
	// A crash of the recorder shall not lose what it has written down.
	r.at = &bucketv1.ResumePoint{StoreId: r.at.GetStoreId(), Revision: e.GetRevision(), Chain: e.GetChain()}
	return nil
}

func (r *recording) SnapshotEnd(p *bucketv1.ResumePoint, progress time.Time) {
	if !r.lock() {
		return
	}
	defer r.mu.Unlock()
	r.snapshot = false
	r.newest = p.GetRevision()
	r.reached(p, progress)
}

func (r *recording) Progress(p *bucketv1.ResumePoint, progress time.Time) {
	if !r.lock() {
		return
	}
	defer r.mu.Unlock()
	if p.GetRevision() > r.newest {
		r.report("progress at revision %d, but only %d was delivered", p.GetRevision(), r.newest)
	}
	r.reached(p, progress)
}

func (r *recording) Disconnected(err error, _ time.Duration) {
	if !r.lock() {
		return
	}
	defer r.mu.Unlock()
	switch reason := client.Reason(err); {
	case errors.Is(err, client.ErrContract):
		r.report("a stream broke the contract: %v", err)
	case reason == client.ReasonHistoryChanged, reason == client.ReasonFutureRevision, reason == client.ReasonOtherStore,
		reason == client.ReasonBadRequest, reason == client.ReasonInternal, reason == client.ReasonCompacted:
		r.report("a stream ended with a reason that there was no cause for: %v", fmt.Errorf("%s: %w", reason, err))
	}
}
