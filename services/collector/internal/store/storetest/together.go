package storetest

import (
	"encoding/json"
	"sync/atomic"
	"testing"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// testRecordsTogether: a batch's records are there as soon as its entries are,
// for whoever looks at any moment. A gap closes in the commit of the bucket
// that fills it (G2).
func testRecordsTogether(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	const rounds = 150
	var ended atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !ended.Load() {
			h, err := s.Head(t.Context())
			if err != nil {
				t.Errorf("head: %v", err)
				return
			}
			records, err := s.Records(t.Context(), "gap") // after the head: at least as new
			if err != nil {
				t.Errorf("records: %v", err)
				return
			}
			var said bucket.Revision
			if len(records) > 0 {
				if err := json.Unmarshal(records[0].Value, &said); err != nil {
					t.Errorf("record %s: %v", records[0].Value, err)
					return
				}
			}
			if said < h.Revision {
				t.Errorf("the head is %d, the record that was written with it says %d", h.Revision, said)
				return
			}
		}
	}()
	for n := range rounds {
		b := l.batch(five(1, n))
		value, err := json.Marshal(l.at.Revision + 1)
		if err != nil {
			t.Fatal(err)
		}
		b.Records = []store.Record{{Kind: "gap", Key: "1", Value: value}}
		if l.at, err = s.Append(t.Context(), l.term, l.at, b); err != nil {
			t.Error(err)
			break
		}
	}
	ended.Store(true)
	<-done
}
