package web

import (
	"net/http"
	"time"
)

// limits are limits on clients besides those of [Config]. They are not settings:
// only tests need other values.
type limits struct {
	// patience is how long a scrape waits for its turn. Many
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
	// pages limits concurrent landing pages, and statuses status pages.
	pages, statuses int
}

var defaultLimits = limits{
	patience: 3 * time.Second,
	stall:    10 * time.Second, scrape: time.Minute,
	backfillStall: time.Minute, backfill: time.Hour,
	answer: 10 * time.Second,
	pages:  8, statuses: 8,
}

// chunk is how many bytes of a backfill are written under one deadline.
const chunk = 64 << 10

// send writes a body, which write passes on in chunks, with a deadline for each chunk and one for the
// whole. It reports whether the client read everything.
func (l *limits) send(w http.ResponseWriter, write func(func(chunk []byte) error) error) bool {
	latest, control, timed := time.Now().Add(l.scrape), http.NewResponseController(w), true
	return write(func(chunk []byte) error {
		deadline := time.Now().Add(l.stall)
		if latest.Before(deadline) {
			deadline = latest
		}
		timed = timed && control.SetWriteDeadline(deadline) == nil
		_, err := w.Write(chunk)
		return err
	}) == nil
}

// setWriteDeadline sets the deadline for subsequent writes.
func setWriteDeadline(w http.ResponseWriter, deadline time.Time) {
	// Some wrappers of ResponseWriter do not support it; then the listener's own
	// timeout applies.
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
}
