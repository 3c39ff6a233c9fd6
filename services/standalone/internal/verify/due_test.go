package verify

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// When Prometheus must have a sample depends on how late it was committed, on its value,
// and on the rounds.
func TestDue(t *testing.T) {
	five := &bucket.Definition{Dataset: "http_5m", Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30}
	hour := &bucket.Definition{Dataset: "uniques_1h", Size: time.Hour, Delay: time.Hour, Depth: 30}
	flat := &bucket.Definition{Dataset: "flat_5m", Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 1}
	s := Schedule{Age: 24 * time.Hour, Grace: 5 * time.Minute}
	const fiveRound, hourRound = 13 * 5 * time.Minute, 2 * 5 * time.Minute // 24 hours in pages of 24 windows, and one page more
	for _, tc := range []struct {
		name  string
		d     *bucket.Definition
		late  time.Duration // commit after the window's end
		value float64
		round time.Duration
		since time.Duration // first scrape after the window's end; 0: long ago
		after time.Duration // due after the commit
		shown bool
	}{
		{"on time", five, 11 * time.Minute, 1, 0, 0, 5 * time.Minute, true},
		{"the last of the newest", five, 30 * time.Minute, 1, 0, 0, 5 * time.Minute, true},
		{"late", five, 31 * time.Minute, 1, 0, 0, 2*fiveRound + 5*time.Minute, true},
		{"a late zero waits for the next round", five, 31 * time.Minute, 0, 0, 0, 12*time.Hour + fiveRound + 5*time.Minute, true},
		{"which a job may want sooner", five, 31 * time.Minute, 0, 2 * time.Hour, 0, 2*time.Hour + fiveRound + 5*time.Minute, true},
		{"a zero on time", five, 11 * time.Minute, 0, 0, 0, 5 * time.Minute, true},
		{"an hour on time", hour, 44 * time.Minute, 1, 0, 0, 5 * time.Minute, true},
		{"an hour late", hour, 2 * time.Hour, 1, 0, 0, 2*hourRound + 5*time.Minute, true},
		{"too old for its turn", five, 23 * time.Hour, 1, 0, 0, time.Hour - time.Millisecond + 5*time.Minute, false},
		{"too old for any", five, 25 * time.Hour, 1, 0, 0, 0, false},
		{"before the first scrape, still one of the newest", five, 11 * time.Minute, 1, 0, 29 * time.Minute, 23 * time.Minute, true},
		{"before the first scrape", five, 11 * time.Minute, 1, 0, 40 * time.Minute, 29*time.Minute + 12*time.Hour + fiveRound + 5*time.Minute, true},
		{"too old at the first scrape", five, 11 * time.Minute, 1, 0, 25 * time.Hour, 0, false},
		{"never in a page", flat, time.Hour, 1, 0, 0, 0, false},
	} {
		b := &bucket.Bucket{Key: bucket.Key{Dataset: tc.d.Dataset, Start: 1795341600}, Size: tc.d.Size, Families: []bucket.Rows{{Family: "x", Values: []float64{tc.value}}}}
		committed := b.Window().End.Std().Add(tc.late)
		own := s
		own.Round = tc.round
		if tc.since > 0 {
			own.Since = b.Window().End.Std().Add(tc.since)
		}
		due, shown := own.Due(b, committed, tc.d, sample.End)
		if got := due.Sub(committed); got != tc.after || shown != tc.shown {
			t.Errorf("%s: due %s after the commit (shown: %v), want %s (%v)", tc.name, got, shown, tc.after, tc.shown)
		}
	}
}
