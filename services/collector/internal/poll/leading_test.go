package poll_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// leading leads for so long in virtual time, then stands still and calls do while the loop
// waits, as a handler of a request would.
func (w *world) leading(d time.Duration, do func(ctx context.Context, p *poll.Poller)) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	there := make(chan struct{})
	w.clock.end, w.clock.done = w.clock.Now().Add(d), sync.OnceFunc(func() { close(there) })
	won, err := w.store.Acquire(w.t.Context(), "test", 15*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	p, ended := poll.New(w.config), make(chan error, 1)
	go func() { ended <- p.Lead(ctx, won) }()
	select {
	case <-there:
	case err := <-ended:
		w.t.Fatalf("lead: %v", err)
	}
	do(ctx, p)
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		w.t.Fatalf("lead: %v", err)
	}
}

// log reads all entries after a revision.
func (w *world) log(after bucket.Revision) (out []store.Entry) {
	w.t.Helper()
	for {
		page, err := w.store.ReadLog(w.t.Context(), after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(page) == 0 {
			return out
		}
		out = append(out, page...)
		after = page[len(page)-1].Revision
	}
}

func (w *world) head() bucket.Revision {
	w.t.Helper()
	h, err := w.store.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return h.Revision
}

// events are the audit events, newest first.
func (w *world) events() (out []*bucketv1.AuditEvent) {
	w.t.Helper()
	entries, err := w.store.AuditEvents(w.t.Context(), 0, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		event, err := wire.AuditEvent(e.Payload)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, event)
	}
	return out
}

// coverage is the states of the windows of one zone's http_5m inside a range, as a standby
// reads them.
func (w *world) coverage(zone string, of bucket.Window) map[bucketv1.CoverageState]int {
	w.t.Helper()
	src := &status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return false }}
	all, _, err := src.Coverage(w.t.Context(), store.Filter{Datasets: []string{"http_5m"}, Scopes: []bucket.Scope{{Kind: bucket.Zone, ID: zone}}}, of)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[bucketv1.CoverageState]int{}
	for _, c := range all {
		for _, r := range c.GetRanges() {
			out[r.GetState()] += int(r.GetEndUnixSeconds()-r.GetStartUnixSeconds()) / 300
		}
	}
	return out
}
