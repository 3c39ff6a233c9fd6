package feedtest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/feedtest"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// With a filter, holes in the revisions are what was filtered. Order, and progress
// that does not go back, are demanded all the same.
func TestFollowerHoldsTheServerToTheContract(t *testing.T) {
	type response = bucketv1.WatchBucketsResponse
	entry := func(revision uint64, alter func(*bucketv1.Entry)) func(*response) []*response {
		return func(m *response) []*response {
			if e := m.GetEntry(); e.GetRevision() == revision {
				alter(e)
			}
			return []*response{m}
		}
	}
	twice := func(m *response) []*response { return twiceIf(m, m.GetEntry().GetRevision() == 4) }
	behind := func(m *response) []*response {
		if p := m.GetProgress(); p.GetPoint().GetRevision() >= 4 {
			p.Point.Revision = 3
		}
		return []*response{m}
	}
	cases := map[string]func(*response) []*response{
		"an entry twice":                     twice,
		"an entry twice, filtered":           twice,
		"a lower revision, filtered":         entry(5, func(e *bucketv1.Entry) { e.Revision = 3 }),
		"progress behind its data":           behind,
		"progress behind its data, filtered": behind,
		"a lower revision":                   entry(5, func(e *bucketv1.Entry) { e.Revision = 2 }),
		"a skipped revision":                 entry(4, func(e *bucketv1.Entry) { e.Revision = 9 }),
		"an entry left out":                  func(m *response) []*response { return dropIf(m, m.GetEntry().GetRevision() == 4) },
		"no chain":                           entry(4, func(e *bucketv1.Entry) { e.Chain = nil }),
		"no info":                            func(m *response) []*response { return dropIf(m, m.GetInfo() != nil) },
		"info twice":                         func(m *response) []*response { return twiceIf(m, m.GetInfo() != nil) },
		"info without store id": func(m *response) []*response {
			if i := m.GetInfo(); i != nil {
				i.StoreId = ""
			}
			return []*response{m}
		},
		"a snapshot bucket left out": func(m *response) []*response {
			return dropIf(m, m.GetEntry().GetRevision() == 2)
		},
		"a snapshot bucket twice": func(m *response) []*response {
			return twiceIf(m, m.GetEntry().GetRevision() == 2)
		},
		"a snapshot that ends twice": func(m *response) []*response { return twiceIf(m, m.GetSnapshotEnd() != nil) },
		"a snapshot that ends before what it holds": func(m *response) []*response {
			if e := m.GetSnapshotEnd(); e != nil {
				e.Point.Revision = 1
			}
			return []*response{m}
		},
		"a snapshot of another store": func(m *response) []*response {
			if e := m.GetSnapshotEnd(); e != nil {
				e.Point.StoreId = "other"
			}
			return []*response{m}
		},
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
		"progress ahead of its data": func(m *response) []*response {
			if p := m.GetProgress(); p != nil {
				p.Point.Revision += 10
			}
			return []*response{m}
		},
		"progress of another history": func(m *response) []*response {
			if p := m.GetProgress(); p != nil {
				p.Point.Chain = make([]byte, 16)
			}
			return []*response{m}
		},
		"progress of another store": func(m *response) []*response {
			if p := m.GetProgress(); p != nil {
				p.Point.StoreId = "other"
			}
			return []*response{m}
		},
		"progress inside the snapshot": func(m *response) []*response {
			if m.GetEntry().GetRevision() == 2 {
				return []*response{{Event: &bucketv1.WatchBucketsResponse_Progress{Progress: &bucketv1.Progress{}}}, m}
			}
			return []*response{m}
		},
	}
	for name, alter := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.server.Script(feedtest.Step{Alter: alter})
				o := options()
				if strings.HasSuffix(name, "filtered") {
					o.Filter = &bucketv1.Filter{Datasets: []string{"http_5m"}}
				}
				b.follow(o)
				b.after(time.Second)
				b.fill(2, 4)
				b.after(time.Minute)
				if len(b.diary.errs) != 1 || !errors.Is(b.diary.errs[0], client.ErrContract) {
					b.Fatalf("streams ended with %v; want one broken contract", b.diary.errs)
				}
				requests := b.server.Requests()
				if len(requests) != 2 || requests[1].GetSnapshot() == nil {
					b.Fatalf("%d streams, the last is %v; want a second one with a snapshot", len(requests), requests[len(requests)-1])
				}
				b.wantView(1, 2, 3, 4, 5)
			})
		})
	}
}

func dropIf(m *bucketv1.WatchBucketsResponse, drop bool) []*bucketv1.WatchBucketsResponse {
	if drop {
		return nil
	}
	return []*bucketv1.WatchBucketsResponse{m}
}

func twiceIf(m *bucketv1.WatchBucketsResponse, twice bool) []*bucketv1.WatchBucketsResponse {
	if twice {
		return []*bucketv1.WatchBucketsResponse{m, m}
	}
	return []*bucketv1.WatchBucketsResponse{m}
}
