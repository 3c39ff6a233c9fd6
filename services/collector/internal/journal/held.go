package journal

import (
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// offered is the back-off of a record that the store could not hold: names at Cloudflare
// change, and databases are repaired.
var offered = backoff.Pauses{First: 15 * time.Second, Most: 15 * time.Minute}

// recordID identifies a record.
type recordID struct{ kind, key string }

func (id recordID) String() string { return "record " + id.kind + " " + id.key }

// heldBack is a record that the store cannot hold. Its newest form is offered again from time
// to time. Until it is stored, another leader does not know it.
type heldBack struct {
	backoff.Backoff
	record store.Record
}

// withhold removes the records that the store refused recently, so that they do not void every
// batch.
func (j *Journal) withhold(records []store.Record) []store.Record {
	if len(j.held) == 0 {
		return records
	}
	now := j.Trusted.Second()
	return slices.DeleteFunc(slices.Clone(records), func(r store.Record) bool {
		h := j.held[recordID{r.Kind, r.Key}]
		if h == nil {
			return false
		}
		h.record = r
		return now < h.Next
	})
}

// Offer returns the records to try again, for the next Commit.
func (j *Journal) Offer(now bucket.Time) (out []store.Record) {
	for _, h := range j.held {
		if now >= h.Next {
			out = append(out, h.record)
		}
	}
	return out
}

func (j *Journal) hold(records []store.Record, err error) {
	now, jitter := j.Trusted.Second(), j.Jitter()
	for _, r := range records {
		id := recordID{r.Kind, r.Key}
		h := j.held[id]
		if h == nil {
			h = &heldBack{}
			j.held[id] = h
		}
		h.record = r
		h.Fail(now, offered, jitter)
		j.Trouble.Set(trouble.InvalidValue, id.String(), fmt.Sprintf("the store cannot hold %s, retrying: %v", id, err))
	}
}

func (j *Journal) holdNoMore(records []store.Record) {
	for _, r := range records {
		if id := (recordID{r.Kind, r.Key}); j.held[id] != nil {
			delete(j.held, id)
			j.Trouble.Clear(trouble.InvalidValue, id.String())
		}
	}
}
