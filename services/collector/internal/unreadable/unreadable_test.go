package unreadable

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// A row whose times are damaged is one entry, whatever they are: it neither hides
// the windows of its series nor makes their number nonsense.
func TestRowsWithDamagedTimes(t *testing.T) {
	board := trouble.New(slog.New(slog.DiscardHandler), time.Now, nil)
	r := New(board, prometheus.NewRegistry())
	const minute = bucket.Time(60)
	for i, w := range []bucket.Window{
		{Start: 600, End: 660}, // as it should be
		{Start: -9_000_000_000_000, End: 660},
		{Start: 720, End: 9_000_000_000},
		{Start: 780, End: 780},
		{Start: 840, End: 841},
		{Start: 10 * minute, End: 11 * minute}, // again: the first one's window
		{Start: 1200, End: 1260},               // behind one that reaches over it
	} {
		e := &store.Entry{Position: bucket.Position{Revision: bucket.Revision(i + 1)}, NewEntry: store.NewEntry{Kind: bucket.KindBucket, Key: bucket.Key{
			Dataset: "http_1m", Scope: bucket.Scope{Kind: bucket.Zone, ID: "b0ff210a8de8710f085311090f09cec3"}, Start: w.Start,
		}, End: w.End}}
		r.Note(e, errors.New("damaged"))
	}
	if got := r.Len(); got != 6 {
		t.Errorf("%d entries, want 6", got)
	}
	// The series is one problem, each odd row another.
	if got := len(board.List(false)); got != 5 {
		t.Errorf("%d problems, want 5: %v", got, board.List(false))
	}
}
