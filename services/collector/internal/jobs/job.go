package jobs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Kinds of record in the store. A job is one record of each: the first is written when it
// is created, when its state changes, or when other ranges are refused; the other, which is
// small, with every bucket that is filled.
const (
	Kind         = "backfill"
	KindProgress = "backfill_progress"
)

// Limits.
const (
	// MaxOpen is how many jobs may be unfinished at a time.
	MaxOpen = 10
	// MaxWindows is how many windows a job may have: those of two months of a thousand
	// zones, at five minutes.
	MaxWindows = 20_000_000
	// MaxEnded is how many jobs that have ended are kept.
	MaxEnded = 100
	// MaxRefused is how many refused ranges a job lists; it counts all.
	MaxRefused = 1000
)

// State is the state of a job. The words are stored.
type State string

// The states. Jobs in the first two are unfinished.
const (
	Running   State = "running"
	Paused    State = "paused"
	Done      State = "done"
	Cancelled State = "cancelled"
)

// States are all states, in the order of a job's life.
var States = []State{Running, Paused, Done, Cancelled}

// Ended reports whether a job in the state is finished.
func (s State) Ended() bool { return s == Done || s == Cancelled }

// Selection is what a job is about. Empty lists mean all.
type Selection struct {
	Datasets []string       `json:"datasets,omitempty"`
	Scopes   []bucket.Scope `json:"scopes,omitempty"`
	// Zones are names that were asked for. They are among Job.Over by their scopes.
	Zones  []string      `json:"zones,omitempty"`
	Window bucket.Window `json:"window"`
}

// Job is one backfill.
type Job struct {
	ID  string `json:"id"`
	Key string `json:"key,omitempty"` // of the request that created it; empty: it had none
	// Selection is as requested.
	Selection Selection `json:"selection"`
	// Datasets are those of the selection, or all that were collected when it was created.
	Datasets []string `json:"datasets"`
	// Over are the scopes of the selection: those named, or that had a zone's name at the
	// time. Empty: every scope that was known when the job was created.
	Over      []bucket.Scope `json:"over,omitempty"`
	Reason    string         `json:"reason"`
	Requester string         `json:"requester"`
	State     State          `json:"state"`
	Created   bucket.Time    `json:"created"`
	Ended     bucket.Time    `json:"ended,omitempty"`
	// Total are the windows of the selection that were due when it was created, Present
	// those of them that were final. Both are fixed.
	Total   uint64 `json:"total"`
	Present uint64 `json:"present"`
	// Refused are ranges that are not requested, ascending by dataset, scope and start: at
	// most MaxRefused, then Truncated.
	Refused   []Refusal `json:"refused,omitempty"`
	Truncated bool      `json:"truncated,omitempty"`

	Progress `json:"-"`
}

// Progress is the part of a job that changes while it runs.
type Progress struct {
	Counts    Counts `json:"counts"`
	Requests  uint64 `json:"requests"`
	LastError string `json:"last_error,omitempty"`
	// Moved is when Counts last changed, or the job was created or resumed.
	Moved bucket.Time `json:"moved"`
	// Floor is the time before which windows are no longer looked at, and Below has their
	// counts; see [Job.Advance].
	Floor bucket.Time `json:"floor"`
	Below Below       `json:"below,omitzero"`
	// Failed are windows that are given up.
	Failed []GivenUp `json:"failed,omitempty"`
}

// Counts count the windows of a job. Each is in one of the last five.
type Counts struct {
	Total   uint64 `json:"total"`
	Present uint64 `json:"present"`
	Filled  uint64 `json:"filled"`
	Missing uint64 `json:"missing"`
	Refused uint64 `json:"refused"`
	Lost    uint64 `json:"lost"`
}

// Below counts windows that left the store's retention while the job was unfinished.
type Below struct {
	Final   uint64 `json:"final"`
	Refused uint64 `json:"refused"`
	Lost    uint64 `json:"lost"`
}

// GivenUp are windows of a series that kept failing.
type GivenUp struct {
	Dataset string        `json:"dataset"`
	Scope   bucket.Scope  `json:"scope"`
	Window  bucket.Window `json:"window"`
	Detail  string        `json:"detail"`
}

// RefusedError is why a change of a job's state is not possible.
type RefusedError struct{ Text string }

// Error implements error.
func (e *RefusedError) Error() string { return e.Text }

// Pause stops requesting windows. It reports whether the job changed.
func (j *Job) Pause() (changed bool, err error) {
	return j.turn(Paused, "paused")
}

// Resume continues a paused job at now.
func (j *Job) Resume(now bucket.Time) (changed bool, err error) {
	if changed, err = j.turn(Running, "resumed"); changed {
		j.Moved = now
	}
	return changed, err
}

// Cancel ends a job at now. What it has filled stays.
func (j *Job) Cancel(now bucket.Time) (changed bool, err error) {
	if j.State == Cancelled {
		return false, nil
	}
	if changed, err = j.turn(Cancelled, "cancelled"); changed {
		j.Ended = now
	}
	return changed, err
}

// Finish ends a job that has no missing windows.
func (j *Job) Finish(now bucket.Time) {
	j.State, j.Ended, j.LastError = Done, now, ""
}

func (j *Job) turn(to State, word string) (bool, error) {
	switch {
	case j.State == to:
		return false, nil
	case j.State.Ended():
		return false, &RefusedError{fmt.Sprintf("backfill %s has ended (%s at %s) and cannot be %s", j.ID, j.State, j.Ended, word)}
	}
	j.State = to
	return true, nil
}

// Covers reports whether a scope that was first seen at a time belongs to the job.
func (j *Job) Covers(sc bucket.Scope, firstSeen bucket.Time) bool {
	if len(j.Over) == 0 {
		return firstSeen <= j.Created
	}
	return slices.Contains(j.Over, sc)
}

// Wants reports whether a dataset belongs to the job.
func (j *Job) Wants(dataset string) bool {
	return slices.Contains(j.Datasets, dataset)
}

// Due is the part of the job's range that was due when it was created, for a dataset.
func (j *Job) Due(size, delay time.Duration) bucket.Window {
	w := bucket.Window{Start: j.Selection.Window.Start.Ceil(size), End: min(j.Selection.Window.End.Floor(size), j.Created.Add(-delay).Floor(size))}
	w.End = max(w.Start, w.End)
	return w
}

// Records encode a job.
func (j *Job) Records() []store.Record {
	return []store.Record{{Kind: Kind, Key: j.ID, Value: encode(j)}, j.ProgressRecord()}
}

// ProgressRecord encodes the part that changes while the job runs.
func (j *Job) ProgressRecord() store.Record {
	return store.Record{Kind: KindProgress, Key: j.ID, Value: encode(j.Progress)}
}

func encode(v any) []byte {
	value, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain strings and numbers always encode
	}
	return value
}

// Read decodes the records of both kinds. Jobs are ordered by creation, newest first.
// Unreadable records are returned by kind, with an element for each kind. A job without
// readable progress has counted nothing yet: it counts again, and only its number of requests
// and what it had given up are forgotten.
func Read(records, progress []store.Record) (all []*Job, bad map[string][]store.Unreadable) {
	bad = map[string][]store.Unreadable{Kind: nil, KindProgress: nil}
	of := make(map[string]Progress, len(progress))
	for _, r := range progress {
		var p Progress
		if err := json.Unmarshal(r.Value, &p); err != nil {
			bad[KindProgress] = append(bad[KindProgress], store.Unreadable{Record: r, Err: err})
			continue
		}
		of[r.Key] = p
	}
	for _, r := range records {
		j := new(Job)
		err := json.Unmarshal(r.Value, j)
		if err == nil {
			err = j.check(r.Key)
		}
		if err != nil {
			bad[Kind] = append(bad[Kind], store.Unreadable{Record: r, Err: err})
			continue
		}
		var known bool
		if j.Progress, known = of[j.ID]; !known {
			j.Progress = Progress{Counts: Counts{Total: j.Total, Present: j.Present, Missing: j.Total - j.Present}, Moved: j.Created}
		}
		j.Floor = max(j.Floor, j.Selection.Window.Start)
		all = append(all, j)
	}
	slices.SortFunc(all, func(a, b *Job) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), strings.Compare(b.ID, a.ID))
	})
	return all, bad
}

func (j *Job) check(key string) error {
	switch {
	case j.ID != key:
		return fmt.Errorf("the value belongs to key %s", j.ID)
	case !slices.Contains(States, j.State):
		return fmt.Errorf("its state is %.40q, which this build does not know", j.State)
	case j.Selection.Window.Empty() || j.Selection.Window.Start <= 0:
		return fmt.Errorf("its range %s is empty or not valid", j.Selection.Window)
	case j.Created <= 0:
		return fmt.Errorf("its time of creation is %d", j.Created)
	case j.Present > j.Total:
		return fmt.Errorf("%d of its %d windows were present", j.Present, j.Total)
	case j.State.Ended() != (j.Ended != 0):
		return fmt.Errorf("its state is %s, and it ended at %d", j.State, j.Ended)
	}
	for _, sc := range slices.Concat(j.Over, j.Selection.Scopes) {
		if err := sc.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Forget returns the records to delete of jobs that have ended beyond the newest MaxEnded. The
// jobs are ordered as [Read] returns them.
func Forget(all []*Job) (kept []*Job, deleted []store.Record) {
	ended := 0
	for _, j := range all {
		if j.State.Ended() {
			if ended++; ended > MaxEnded {
				deleted = append(deleted, store.Record{Kind: Kind, Key: j.ID}, store.Record{Kind: KindProgress, Key: j.ID})
				continue
			}
		}
		kept = append(kept, j)
	}
	return kept, deleted
}

// Open are the unfinished jobs.
func Open(all []*Job) (open []*Job) {
	for _, j := range all {
		if !j.State.Ended() {
			open = append(open, j)
		}
	}
	return open
}
