package ledger

import (
	"encoding/json"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// retired is the record of what retention may have dropped.
type retired struct {
	Before bucket.Time `json:"before"`
}

// RetiredRecord says that retention may have dropped the buckets that end at or before a time.
// It must never be written with an earlier time than is stored.
func RetiredRecord(before bucket.Time) store.Record {
	value, err := json.Marshal(retired{before})
	if err != nil {
		panic(err) // a number can be encoded
	}
	return store.Record{Kind: KindRetired, Key: "store", Value: value}
}

// Retired is the time of the stored record; 0 when nothing was ever dropped, or
// when the record cannot be read.
func Retired(records []store.Record) (before bucket.Time, unreadable []store.Unreadable) {
	for _, r := range records {
		var stored retired
		err := json.Unmarshal(r.Value, &stored)
		if err == nil && stored.Before <= 0 {
			err = fmt.Errorf("its time is %d; it must be positive", stored.Before)
		}
		if err != nil {
			unreadable = append(unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		before = max(before, stored.Before)
	}
	return before, unreadable
}
