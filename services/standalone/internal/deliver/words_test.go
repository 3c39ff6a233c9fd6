package deliver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// Words count where a receiver says them about a sample, not where it cites a series or somebody
// else says them.
func TestClassify(t *testing.T) {
	for text, want := range map[string]Reason{
		"out of order sample":                                  OutOfOrder,
		"too old sample":                                       TooOld,
		"out of bounds":                                        TooOld,
		"a\nout of bounds for series {a=\"b\"}":                TooOld,
		"add 3 samples: out of bounds":                         TooOld,
		"sample timestamp 2026-11-30T12:00:00.123Z is too old": TooOld,
		"duplicate sample for timestamp 1; overrides not allowed: existing 1, new value 2": Duplicate,
		`failed pushing to ingester a-1: user=x: the sample has been rejected because another sample with the same timestamp, but a different value, has already been ingested (err-mimir-sample-duplicate-timestamp). The affected series is {__name__="a", path="/future"}`: Duplicate,
		"timestamp too new: 17 metric: x": Future,
		"received a sample whose timestamp is too far in the future (err-mimir-too-far-in-future)": Future,

		"your browser is too old":                                     Other,
		"duplicate header Host":                                       Other,
		"request from the future is not allowed":                      Other,
		"index out of bounds":                                         Other,
		`label too long: series {path="/out of order sample"}`:        Other,
		`label too long: series {path="a}b \" duplicate sample"} end`: Other,
		`label too long: series {path="/out of order sam…`:            Other,
		"label too long: 'too old sample'":                            Other,
		"the receiver's label isn't a too old sample":                 TooOld,
	} {
		if got := classify(&RejectedError{400, text}); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := said(`{"status":"error","errorType":"bad_data","error":"out of order sample"}`); classify(&RejectedError{400, got}) != OutOfOrder {
		t.Errorf("of JSON was read %q", got)
	}
}

// fresh adds a sample of the sender's own, which the receiver takes or not.
func fresh(j *judged, takes func() bool) func() []Series {
	refuse := j.refuse
	j.refuse = func(zone string, x Sample) string {
		if zone != "fresh" {
			return refuse(zone, x)
		}
		if !takes() {
			return "out of order sample"
		}
		return ""
	}
	return func() []Series {
		return []Series{{Labels: []export.Label{{Name: "__name__", Value: "x"}, {Name: "zone", Value: "fresh"}}, Samples: []Sample{{At: sample.MillisOf(base)}}}}
	}
}

// Words about samples are no evidence about them if the receiver says them of everything.
func TestKnownWordsAboutEverything(t *testing.T) {
	for _, text := range []string{"out of order sample", "too old sample", "duplicate sample for timestamp", "timestamp is too far in the future", "no such tenant"} {
		closed, takes := false, false
		j := &judged{refuse: func(string, Sample) string {
			if closed {
				return text
			}
			return ""
		}}
		d := j.divider()
		d.Fresh, d.Now = fresh(j, func() bool { return takes }), func() time.Time { return base }
		closed = true
		if err := d.Deliver(t.Context(), some(9, "a", "b")); !errors.Is(err, ErrEverything) || len(j.refused) > 0 {
			t.Errorf("%s, at the start: %v, %d refused", text, err, len(j.refused))
		}
		closed = false
		if err := d.Deliver(t.Context(), some(3, "a", "b")); err != nil {
			t.Fatal(err)
		}
		closed = true
		if err := d.Deliver(t.Context(), some(9, "a", "b")); !errors.Is(err, ErrEverything) || len(j.refused) > 0 {
			t.Errorf("%s, with a control: %v, %d refused", text, err, len(j.refused))
		}
		// A fresh sample shows that the others are refused for what they are.
		takes = true
		if err := d.Deliver(t.Context(), some(9, "a", "b")); err != nil || len(j.refused) != 18 {
			t.Errorf("%s, with a fresh sample: %v, %d refused", text, err, len(j.refused))
		}
		// The age that was learnt is no evidence either.
		takes, j.refused = false, nil
		old := some(9, "a", "b")
		for i := range old {
			old[i].Samples = old[i].Samples[:2]
		}
		if text == "too old sample" && d.Age() == 0 {
			t.Error("no age was learnt")
		}
		if err := d.Deliver(t.Context(), old); !errors.Is(err, ErrEverything) || len(j.refused) > 0 {
			t.Errorf("%s, with an age of %s: %v, %d refused", text, d.Age(), err, len(j.refused))
		}
	}
}

// A receiver that begins to refuse everything in known words in the middle of a division has
// said nothing about samples.
func TestKnownWordsInTheMiddle(t *testing.T) {
	for works := 1; works < 20; works++ {
		j := &judged{refuse: func(zone string, _ Sample) string {
			if zone == "zone-003" {
				return "out of order sample"
			}
			return ""
		}}
		d := j.divider()
		send := d.Send
		d.Send = func(ctx context.Context, series []Series) error {
			if j.requests >= works {
				j.requests++
				return &RejectedError{Status: 400, Text: "out of order sample"}
			}
			return send(ctx, series)
		}
		err := d.Deliver(t.Context(), some(1, zoneNames(120)...))
		if wrong := len(j.refused) > 1 || len(j.refused) == 1 && j.refused[0][:8] != "zone-003"; wrong && !errors.Is(err, ErrEverything) {
			t.Errorf("rejecting all after %d requests: %v, refused %v", works, err, j.refused)
		}
	}
}

// A request with one sample is too large for a receiver that takes nothing.
func TestTooLarge(t *testing.T) {
	limit := 8
	j := &judged{}
	d := j.divider()
	taken := 0
	d.Send = func(_ context.Context, series []Series) error {
		if Count(series) > limit {
			return &RejectedError{Status: 413, Text: "too large"}
		}
		taken += Count(series)
		return nil
	}
	if err := d.Deliver(t.Context(), some(9, "a", "b", "c")); err != nil || taken != 27 || len(j.refused) > 0 {
		t.Errorf("%v, %d were taken, %d refused", err, taken, len(j.refused))
	}
	limit = 0
	if err := d.Deliver(t.Context(), some(9, "a", "b", "c")); !errors.Is(err, ErrEverything) || len(j.refused) > 0 {
		t.Errorf("%v, %d were refused", err, len(j.refused))
	}
}
