package settle

import "github.com/weir-metrics/weir/internal/bucket"

// Waiting is how a window waits for its silence to be believed.
type Waiting struct {
	// Reason is Suspect or Delayed, or Settling where the window is ordinary and
	// what came after it is too little.
	Reason Reason
	// Believed is when a reading suffices, whatever it shows of later windows.
	Believed bucket.Time
	// Heard is when it was last read; 0: by the last leader.
	Heard bucket.Time
}

// Waiting reports whether a window was read and is held back until more is known
// of what came after it, and until when at most.
func (d *Dataset) Waiting(s bucket.Scope, start bucket.Time) (w Waiting, waits bool) {
	sc := d.scopes[s]
	if sc == nil || sc.pending[start] == nil {
		return Waiting{}, false
	}
	p := sc.pending[start]
	w = Waiting{Reason: d.reason(p, start), Heard: p.last}
	age := sc.patience(start, d.policy.Size)
	switch {
	case d.late(p, start):
		age = max(age, DelayedAge)
	case !p.doubtful() && p.past >= Enough:
		return Waiting{}, false
	}
	w.Believed = start.Add(d.policy.Size + age)
	return w, true
}

// Delayed is the first window of a running delay of the whole dataset.
func (d *Dataset) Delayed() (from bucket.Time, delayed bool) {
	return d.delayedFrom, d.delayedFrom != 0
}

// Suspects is the number of windows that look suspect now.
func (d *Dataset) Suspects() int {
	n := 0
	for _, sc := range d.scopes {
		for _, p := range sc.pending {
			if p.low {
				n++
			}
		}
	}
	return n
}
