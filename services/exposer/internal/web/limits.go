package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// limits are limits on clients besides those of [Config]. They are not settings:
// only tests need other values.
type limits struct {
	// patience is how long a scrape waits for its turn and for its body. Many
	// servers scrape at the same instant, and each scrape takes milliseconds;
	// Prometheus times out after 10 s by default.
	patience time.Duration
	// stall is how long a client may take to read one chunk of a scrape, which is
	// at least 6.5 kB/s. A client that does not read is dropped after that.
	stall time.Duration
	// scrape is the timeout for sending a body of /metrics; no useful
	// scrape_timeout is longer.
	scrape time.Duration
	// backfillStall is stall for a backfill, which may be read over a slow line:
	// at least 1.1 kB/s.
	backfillStall time.Duration
	// backfill is the timeout of a backfill: the number of concurrent backfills is
	// small, and a longer range can be requested in parts.
	backfill time.Duration
	// answer is the timeout for sending a small response.
	answer time.Duration
	// bytes limits the total size of the distinct bodies of /metrics that are
	// being sent. Usually there are one or two, which all scrapes share. But every
	// other length of replay, and every slow reader while new buckets arrive,
	// holds a further body of megabytes.
	bytes int
	// builds limits concurrent builds of bodies, to leave CPU for the rest of the
	// process.
	builds int
	// pages limits concurrent landing pages.
	pages int
}

var defaultLimits = limits{
	patience: 3 * time.Second,
	stall:    10 * time.Second, scrape: time.Minute,
	backfillStall: time.Minute, backfill: time.Hour,
	answer: 10 * time.Second,
	bytes:  128 << 20, builds: 2, pages: 8,
}

// chunk is how many bytes are written under one deadline.
const chunk = 64 << 10

// bodies hands out the bodies of views and limits the memory of those in use.
type bodies struct {
	most   int            // bytes, total of the distinct bodies in use
	builds proc.Semaphore // one per concurrent build

	mu       sync.Mutex
	inUse    map[bodyKey]*sharedBody
	bytes    int           // of inUse
	released chan struct{} // closed when a body has been released
}

type bodyKey struct {
	view     *view.View
	format   expo.Format
	encoding expo.Encoding
}

type sharedBody struct {
	body    []byte
	readers int
}

func newBodies(most, builds int) *bodies {
	return &bodies{most: most, builds: make(proc.Semaphore, builds), inUse: map[bodyKey]*sharedBody{}, released: make(chan struct{})}
}

// acquire returns a body. While the bodies in use exceed the limit, it waits until
// ctx ends. The limit may be exceeded by the bodies that are built concurrently, so
// that one body always fits. The caller must release the body.
func (b *bodies) acquire(ctx context.Context, key bodyKey) (body []byte, ok bool) {
	for {
		if body, ok = b.share(key); ok {
			return body, true
		}
		if b.builds.Acquire(ctx) != nil {
			return nil, false
		}
		// Another scrape may have built it meanwhile.
		body, ok = b.share(key)
		released, room := b.room()
		if !ok && room {
			body, ok = b.add(key, key.view.Body(key.format, key.encoding)), true
		}
		b.builds.Release()
		if ok {
			return body, true
		}
		select {
		case <-released:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// share returns a body that is already in use.
func (b *bodies) share(key bodyKey) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.inUse[key]
	if s == nil {
		return nil, false
	}
	s.readers++
	return s.body, true
}

// room reports whether another body fits, and returns what to wait for otherwise.
func (b *bodies) room() (released <-chan struct{}, room bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.released, b.bytes < b.most
}

func (b *bodies) add(key bodyKey, body []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.inUse[key]
	if s == nil {
		s = &sharedBody{body: body}
		b.inUse[key] = s
		b.bytes += len(body)
	}
	s.readers++
	return s.body
}

// release ends the use of a body by one reader.
func (b *bodies) release(key bodyKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.inUse[key]
	if s.readers--; s.readers > 0 {
		return
	}
	delete(b.inUse, key)
	b.bytes -= len(s.body)
	close(b.released)
	b.released = make(chan struct{})
}

// send writes a body in chunks, with a deadline for each chunk and one for the
// whole. It reports whether the client read everything.
func (l *limits) send(w http.ResponseWriter, body []byte) bool {
	latest, control, timed := time.Now().Add(l.scrape), http.NewResponseController(w), true
	for len(body) > 0 {
		n := min(len(body), chunk)
		deadline := time.Now().Add(l.stall)
		if latest.Before(deadline) {
			deadline = latest
		}
		timed = timed && control.SetWriteDeadline(deadline) == nil
		if _, err := w.Write(body[:n]); err != nil {
			return false
		}
		body = body[n:]
	}
	return true
}

// setWriteDeadline sets the deadline for subsequent writes.
func setWriteDeadline(w http.ResponseWriter, deadline time.Time) {
	// Some wrappers of ResponseWriter do not support it; then the listener's own
	// timeout applies.
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
}
