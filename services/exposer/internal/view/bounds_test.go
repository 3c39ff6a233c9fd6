package view_test

import (
	"errors"
	"testing"

	"github.com/weir-metrics/weir/internal/sample"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// The hard limit holds for the newest buckets alone too (G8).
func TestTheNewestAreBoundedToo(t *testing.T) {
	state := build(t, sample.End, nil)
	newest := show(t, state, true, at(4))
	for hard, want := range map[int]bool{newest.Choice.Samples: true, newest.Choice.Samples - 1: false} {
		bounds := limits()
		bounds.Hard = hard
		_, err := view.Build(state, true, at(4), bounds, nil)
		var many *recent.TooManyError
		if want && err != nil || !want && (!errors.As(err, &many) || many.Samples != newest.Choice.Samples || many.Hard != hard) {
			t.Errorf("%d samples with a limit of %d: %v", newest.Choice.Samples, hard, err)
		}
	}
}

// Each view holds a body: jobs that ask for ever other lengths must not pile
// them up (G8).
func TestViewsDoNotPileUp(t *testing.T) {
	board := view.NewBoard(clock.NewManual(at(4)), limits(), nil)
	board.Publish(build(t, sample.End, nil))
	get := func(hours int) *view.View {
		t.Helper()
		v, err := board.View(view.Query{Hours: hours})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	usual, first, last := get(view.Default.Hours), get(1), (*view.View)(nil)
	for hours := range 10 {
		last = get(2 + hours)
	}
	if get(11) != last {
		t.Error("the view that was asked for last is not kept")
	}
	if get(1) == first {
		t.Error("the first of eleven variants is still kept")
	}
	if get(view.Default.Hours) != usual {
		t.Error("odd lengths of replay cost everybody else the usual view")
	}
}
