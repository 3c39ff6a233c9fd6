package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// KindUnreadable is the kind of the records of [Unreadable].
const KindUnreadable = "unreadable"

// Unreadable says which stored windows of one series cannot be read. They count
// as final in all that is wanted: their keys are taken.
type Unreadable struct {
	Dataset string        `json:"dataset"`
	Scope   bucket.Scope  `json:"scope"`
	Size    time.Duration `json:"size"` // of a window
	Spans   bucket.Spans  `json:"spans"`
	Why     string        `json:"why"` // of the one that was found first
}

// Windows is the number of windows.
func (u *Unreadable) Windows() (n int) {
	for _, w := range u.Spans {
		n += int(w.Len() / u.Size)
	}
	return n
}

// Record encodes it for the store; without windows it deletes the record.
func (u *Unreadable) Record() store.Record {
	r := store.Record{Kind: KindUnreadable, Key: u.key()}
	if len(u.Spans) > 0 {
		value, err := json.Marshal(u)
		if err != nil {
			panic(err) // plain strings and numbers always encode
		}
		r.Value = value
	}
	return r
}

func (u *Unreadable) key() string {
	return fmt.Sprintf("%s/%d/%s", u.Dataset, u.Scope.Kind, u.Scope.ID)
}

// ReadUnreadable decodes the records of kind [KindUnreadable]. What an unreadable one was about
// is found again when it is next read.
func ReadUnreadable(records []store.Record) (out []Unreadable, unreadable []store.Unreadable) {
	for _, r := range records {
		var u Unreadable
		err := json.Unmarshal(r.Value, &u)
		switch {
		case err != nil:
		case u.key() != r.Key:
			err = fmt.Errorf("the value belongs to key %s", u.key())
		case u.Size < time.Second || len(u.Spans) == 0:
			err = fmt.Errorf("it has %d ranges with windows of %s; it must have at least 1 range and windows of at least 1s", len(u.Spans), u.Size)
		}
		if err != nil {
			unreadable = append(unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		out = append(out, u)
	}
	return out, unreadable
}
