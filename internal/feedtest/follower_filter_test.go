package feedtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"

	"github.com/weir-metrics/weir/internal/feedtest"
)

// With a filter, holes in the revisions are what was filtered. Order, and
// progress that does not go back, are demanded all the same.
func TestFollowerHoldsAFilteredStreamToTheContract(t *testing.T) {
	type response = bucketv1.WatchBucketsResponse
	for name, alter := range map[string]func(*response) []*response{
		"an entry twice": func(m *response) []*response { return twiceIf(m, m.GetEntry().GetRevision() == 4) },
		"a lower revision": func(m *response) []*response {
			if e := m.GetEntry(); e.GetRevision() == 5 {
				e.Revision = 3
			}
			return []*response{m}
		},
		"progress behind its data": func(m *response) []*response {
			if p := m.GetProgress(); p.GetPoint().GetRevision() >= 4 {
				p.Point.Revision = 3
			}
			return []*response{m}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.server.Script(feedtest.Step{Alter: alter})
				o := options()
				o.Filter = &bucketv1.Filter{Datasets: []string{"http_5m"}}
				b.follow(o)
				b.after(time.Second)
				b.fill(2, 4)
				b.after(time.Minute)
				if len(b.diary.errs) != 1 || !errors.Is(b.diary.errs[0], client.ErrContract) {
					b.Fatalf("streams ended with %v; want one broken contract", b.diary.errs)
				}
				b.wantView(1, 2, 3, 4, 5)
			})
		})
	}
}

// Each of these is wrong by one rule alone.
func TestFollowerHoldsASnapshotToTheContract(t *testing.T) {
	type response = bucketv1.WatchBucketsResponse
	for name, alter := range map[string]func(*response) []*response{
		// The number of buckets is right, one of them is there twice.
		"a bucket twice and counted twice": func(m *response) []*response {
			if e := m.GetSnapshotEnd(); e != nil {
				e.Buckets++
			}
			return twiceIf(m, m.GetEntry().GetRevision() == 2)
		},
		// Not a step back of what was applied: the first snapshot.
		"a first snapshot that ends before what it holds": func(m *response) []*response {
			if e := m.GetSnapshotEnd(); e != nil {
				e.Point.Revision = 2
			}
			return dropIf(m, m.GetProgress() != nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.server.Script(feedtest.Step{Alter: alter})
				b.follow(options())
				b.after(20 * time.Second)
				if len(b.diary.errs) != 1 || !errors.Is(b.diary.errs[0], client.ErrContract) {
					b.Fatalf("streams ended with %v; want one broken contract", b.diary.errs)
				}
				b.wantView(1, 2, 3)
			})
		})
	}
}
