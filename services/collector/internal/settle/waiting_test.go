package settle_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// What Waiting says is what Judge does: silence is believed at the first reading from
// that time on and at none before, for scopes old and young, kept for long or not.
func TestSilenceIsBelievedWhenWaitingSays(t *testing.T) {
	for name, past := range map[string]settle.Past{
		"old":                      {FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()},
		"young":                    {FirstSeen: noon.Add(-time.Hour), Recent: busy()},
		"young and kept for a day": {FirstSeen: noon.Add(-time.Hour), Keeps: 24 * time.Hour, Recent: busy()},
		"kept for an hour":         {FirstSeen: noon.Add(-72 * time.Hour), Keeps: time.Hour, Recent: busy()},
		"suspect since the last leader": {
			FirstSeen: noon.Add(-72 * time.Hour), Recent: busy(), Suspect: []bucket.Time{noon},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := settle.New(policy)
			d.Restore(zone, past)
			for age := 5 * time.Minute; age < 30*time.Hour; age += 10 * time.Minute {
				now := at(age)
				v := look(t, d, now, noon, 0)
				if v.Final != 0 {
					t.Fatalf("believed at %s before Waiting said anything", age)
				}
				w, waits := d.Waiting(zone, noon)
				if !waits || w.Reason != settle.Suspect || w.LastRead != now {
					t.Fatalf("at %s: %+v (%t), want a suspect window that was heard now", age, w, waits)
				}
				if next := now.Add(10 * time.Minute); next < w.FinalBy {
					continue
				}
				if v := look(t, d, w.FinalBy.Add(-time.Second), noon, 0); v.Final != 0 {
					t.Fatalf("believed a second before %s", w.FinalBy)
				}
				wantFinal(t, look(t, d, w.FinalBy, noon, 0), bucket.SuspectConfirmed)
				return
			}
			t.Fatal("never believed")
		})
	}
}

// A window that only settles does not wait; one after which too little came does.
func TestWhatSettlesDoesNotWait(t *testing.T) {
	d := newDataset(busy())
	lookBefore(t, d, at(6*time.Minute), noon, 100)
	if w, waits := d.Waiting(zone, noon); waits {
		t.Errorf("an ordinary window before an ordinary one waits: %+v", w)
	}
	lookAgainst(t, d, at(7*time.Minute), noon, 100, 20) // one minute's worth
	if w, waits := d.Waiting(zone, noon); !waits || w.Reason != settle.Settling || w.FinalBy != at(settle.SuspectAge) {
		t.Errorf("an ordinary window after which a minute came: %+v (%t), want to wait until it is six hours old", w, waits)
	}
	if w, waits := d.Waiting(zone, noon.Add(size)); waits {
		t.Errorf("a window that was never read waits: %+v", w)
	}
}
