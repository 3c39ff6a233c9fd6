package settle

import "github.com/weir-metrics/weir/internal/bucket"

// Waiting is the state of a window that waits for more evidence.
type Waiting struct {
	// Reason is Suspect or Delayed, or Settling if the window is ordinary but its
	// responses have too little lead.
	Reason Reason
	// FinalBy is when any reading makes the window final.
	FinalBy bucket.Time
	// LastRead is when it was last read; 0: by the previous leader.
	LastRead bucket.Time
}

// Waiting reports whether a window was read and waits for more evidence, and until when
// at most.
func (d *Dataset) Waiting(s bucket.Scope, start bucket.Time) (w Waiting, waits bool) {
	sc := d.scopes[s]
	if sc == nil || sc.pending[start] == nil {
		return Waiting{}, false
	}
	p := sc.pending[start]
	w = Waiting{Reason: d.reason(p, start), LastRead: p.lastCounted}
	age := sc.credibleAge(start, d.policy.Size)
	switch {
	case d.late(p, start):
		age = max(age, DelayedAge)
	case !p.doubtful() && p.lead >= Enough:
		return Waiting{}, false
	}
	w.FinalBy = start.Add(d.policy.Size + age)
	return w, true
}

// Delayed is the first window of a current delay of the whole dataset.
func (d *Dataset) Delayed() (from bucket.Time, delayed bool) {
	return d.delayedFrom, d.delayedFrom != 0
}

// Suspects is the number of windows whose newest reading is suspect.
func (d *Dataset) Suspects() int {
	n := 0
	for _, sc := range d.scopes {
		for _, p := range sc.pending {
			if p.looksSuspect {
				n++
			}
		}
	}
	return n
}
