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

// limits are what clients may take beside the numbers of [Config]. They are no
// settings: nobody has a reason to want others, and tests do.
type limits struct {
	// patience is how long a scrape waits for a place and for its body. Many
	// servers scrape in the same instant, and a place is free again within
	// milliseconds; Prometheus gives up after 10 s by default.
	patience time.Duration
	// stall is how long a client may take to accept a piece of a scrape: 6.5 kB/s
	// at least. One that does not read holds a place for no longer than that.
	stall time.Duration
	// scrape bounds the sending of a body of /metrics: no scrape_timeout that
	// makes sense is longer.
	scrape time.Duration
	// backfillStall is stall for a backfill, which people read over slow lines:
	// 1.1 kB/s at least.
	backfillStall time.Duration
	// backfill bounds a backfill, however patient its reader: there are few
	// places, and a longer range can be asked for in pieces.
	backfill time.Duration
	// answer bounds the sending of everything that is small.
	answer time.Duration
	// bytes is how much the different bodies of /metrics that are being sent may
	// have together. Usually there are one or two, which all scrapes share; but a
	// client that asks for ever other lengths of replay, or reads slowly while
	// ever new buckets arrive, makes others, and each has megabytes.
	bytes int
	// builds is how many of them are put together at one time: the rest of the
	// process wants the processors too.
	builds int
	// pages is how many landing pages are made at one time.
	pages int
}

var usual = limits{
	patience: 3 * time.Second,
	stall:    10 * time.Second, scrape: time.Minute,
	backfillStall: time.Minute, backfill: time.Hour,
	answer: 10 * time.Second,
	bytes:  128 << 20, builds: 2, pages: 8,
}

// piece is how much is written under one deadline.
const piece = 64 << 10

// bodies gives out the bodies of views, and knows which are being sent.
type bodies struct {
	most   int         // bytes, of different bodies together
	builds proc.Places // being put together

	mu    sync.Mutex
	sent  map[bodyKey]*sending
	bytes int
	given chan struct{} // closed when a body has been given back
}

type bodyKey struct {
	view     *view.View
	format   expo.Format
	encoding expo.Encoding
}

type sending struct {
	body    []byte
	readers int
}

func newBodies(most, builds int) *bodies {
	return &bodies{most: most, builds: make(proc.Places, builds), sent: map[bodyKey]*sending{}, given: make(chan struct{})}
}

// take returns a body and waits, until ctx ends, as long as those that are
// being sent leave no room for another one. The limit is overrun by at most the
// bodies that are built at one time, so that there always is room for one. The
// caller gives every body that it took back.
func (b *bodies) take(ctx context.Context, key bodyKey) (body []byte, ok bool) {
	for {
		if body, ok = b.share(key); ok {
			return body, true
		}
		if b.builds.Enter(ctx) != nil {
			return nil, false
		}
		// Somebody else may have built it meanwhile.
		body, ok = b.share(key)
		given, room := b.room()
		if !ok && room {
			body, ok = b.add(key, key.view.Body(key.format, key.encoding)), true
		}
		b.builds.Leave()
		if ok {
			return body, true
		}
		select {
		case <-given:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// share returns a body that is being sent to others already.
func (b *bodies) share(key bodyKey) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sent[key]
	if s == nil {
		return nil, false
	}
	s.readers++
	return s.body, true
}

// room reports whether there is room, or what to wait for.
func (b *bodies) room() (given <-chan struct{}, room bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.given, b.bytes < b.most
}

func (b *bodies) add(key bodyKey, body []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sent[key]
	if s == nil {
		s = &sending{body: body}
		b.sent[key] = s
		b.bytes += len(body)
	}
	s.readers++
	return s.body
}

// give takes a body back.
func (b *bodies) give(key bodyKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sent[key]
	if s.readers--; s.readers > 0 {
		return
	}
	delete(b.sent, key)
	b.bytes -= len(s.body)
	close(b.given)
	b.given = make(chan struct{})
}

// send writes a body in pieces, each under a deadline of its own, all of them
// under one. It reports whether the client took everything.
func (l *limits) send(w http.ResponseWriter, body []byte) bool {
	latest, control, timed := time.Now().Add(l.scrape), http.NewResponseController(w), true
	for len(body) > 0 {
		n := min(len(body), piece)
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

// hurry sets the time by which what is written next must have been accepted.
func hurry(w http.ResponseWriter, deadline time.Time) {
	// Unknown to some wrappers of ResponseWriter; then the listener's own limit
	// holds.
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
}
