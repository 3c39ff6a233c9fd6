package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Lane is the stored state of the audit lane: it prevents repeated and too many requests.
type Lane struct {
	Hour     bucket.Time `json:"hour"`     // the hour that Requests counts
	Requests int         `json:"requests"` // sent in it
	// Done is the start of the newest window that was dealt with, by dataset
	// and age ("http_5m/24h").
	Done map[string]bucket.Time `json:"done"`
}

// Check is one window to audit.
type Check struct {
	Dataset string
	Start   bucket.Time
	Age     Age
}

func (c Check) key() string { return c.Dataset + "/" + c.Age.Name }

// Left is how many requests may still be sent in the hour of now.
func (l *Lane) Left(now bucket.Time) int {
	if now.Floor(time.Hour) > l.Hour {
		return PerHour
	}
	return max(0, PerHour-l.Requests)
}

// Due is the oldest window of a dataset that is due for its audit at an age and
// was not dealt with.
func (l *Lane) Due(now bucket.Time, dataset string, size time.Duration, age Age) (Check, bool) {
	check := Check{Dataset: dataset, Age: age}
	newest := now.Add(-age.Duration - size).Floor(size)
	start := now.Add(-age.Duration - slack - size).Floor(size).Add(size)
	if done, ok := l.Done[check.key()]; ok {
		start = max(start, done.Add(size))
	}
	for ; start <= newest; start = start.Add(size) {
		if sampled(dataset, size, start) {
			check.Start = start
			return check, true
		}
	}
	return check, false
}

// Pass records that a window is done, without a request.
func (l *Lane) Pass(check Check) {
	if l.Done == nil {
		l.Done = map[string]bucket.Time{}
	}
	l.Done[check.key()] = max(l.Done[check.key()], check.Start)
}

// Begin records that a request with the checks is about to be sent.
func (l *Lane) Begin(now bucket.Time, checks []Check) {
	if hour := now.Floor(time.Hour); hour > l.Hour {
		l.Hour, l.Requests = hour, 0
	}
	l.Requests++
	for _, check := range checks {
		l.Pass(check)
	}
}

// Record encodes the lane for the store, less the datasets that are not known.
func (l *Lane) Record(known func(dataset string) bool) store.Record {
	kept := Lane{Hour: l.Hour, Requests: l.Requests, Done: map[string]bucket.Time{}}
	for key, start := range l.Done {
		if dataset, _, _ := strings.Cut(key, "/"); known(dataset) {
			kept.Done[key] = start
		}
	}
	return record(KindLane, "lane", kept)
}

// ReadLane decodes the records of kind [KindLane]: one, or none yet. If it is unreadable,
// the lane restarts: some buckets are audited twice.
func ReadLane(records []store.Record) (l *Lane, unreadable []store.Unreadable) {
	l = new(Lane)
	for _, r := range records {
		read := new(Lane)
		if err := json.Unmarshal(r.Value, read); err != nil {
			unreadable = append(unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		l = read
	}
	return l, unreadable
}

// Choose picks the scopes of a window that are read again, in the order of their
// draw. The input is not altered.
func Choose(dataset string, start bucket.Time, scopes []bucket.Scope) []bucket.Scope {
	drawn := slices.Clone(scopes)
	slices.SortFunc(drawn, func(a, b bucket.Scope) int {
		return cmp.Or(cmp.Compare(draw(dataset, start, a.ID), draw(dataset, start, b.ID)), a.Compare(b))
	})
	return drawn[:min(len(drawn), perWindow)]
}

// sampled draws about one window an hour.
func sampled(dataset string, size time.Duration, start bucket.Time) bool {
	return draw(dataset, start, "")%uint64(max(1, time.Hour/size)) == 0
}

func draw(dataset string, start bucket.Time, scope string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%s", dataset, start, scope))
	return binary.BigEndian.Uint64(sum[:])
}

func record(kind, key string, v any) store.Record {
	value, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain strings and finite numbers always encode
	}
	return store.Record{Kind: kind, Key: key, Value: value}
}
