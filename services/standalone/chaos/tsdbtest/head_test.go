package tsdbtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/standalone/chaos/tsdbtest"
)

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// ages are samples of one series with value 1, in the order given.
func ages(of ...time.Duration) []tsdbtest.Sample {
	var out []tsdbtest.Sample
	for _, age := range of {
		out = append(out, tsdbtest.Sample{At: now.Add(-age).UnixMilli(), Value: 1})
	}
	return out
}

// every are n samples, ascending, the newest one step old.
func every(step time.Duration, n int) []tsdbtest.Sample {
	var out []time.Duration
	for i := n; i > 0; i-- {
		out = append(out, time.Duration(i)*step)
	}
	return ages(out...)
}

// head is one whose newest sample, another target's, is of now.
func head(window time.Duration) *tsdbtest.Head {
	h := tsdbtest.NewHead(window)
	h.Advance(now)
	return h
}

// What real servers were seen to do, case by case.
func TestAcceptance(t *testing.T) {
	const h = time.Hour
	for _, tc := range []struct {
		name    string
		window  time.Duration
		samples []tsdbtest.Sample
		want    tsdbtest.Result
	}{
		{"without a window the last hour gets in", 0, every(h/60, 180), tsdbtest.Result{Stored: 60, OutOfBounds: 120}},
		{"with a window everything inside it", 24 * h, every(10*h/60, 143), tsdbtest.Result{Stored: 143}},
		{"descending without a window: only the newest", 0, ages(h/60, 2*h/60, 3*h/60), tsdbtest.Result{Stored: 1, OutOfOrder: 2}},
		{"descending with a window", 24 * h, ages(h/60, 2*h/60, 3*h/60), tsdbtest.Result{Stored: 3}},
		{"ten minutes ahead", 24 * h, ages(-10 * h / 60), tsdbtest.Result{Stored: 1}},
		{"eleven minutes ahead", 24 * h, ages(-11 * h / 60), tsdbtest.Result{OutOfBounds: 1}},
		{"the future drags the border along", 24 * h, ages(-10*h/60, 24*h-5*h/60), tsdbtest.Result{Err: tsdbtest.ErrTooOld}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := head(tc.window).Scrape(now, tc.samples)
			if !errors.Is(got.Err, tc.want.Err) {
				t.Fatalf("error is %v, want %v", got.Err, tc.want.Err)
			}
			if got.Err = tc.want.Err; got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// One sample beyond the window fails the whole scrape, and leaves no trace.
func TestTooOldFailsTheScrape(t *testing.T) {
	h := head(24 * time.Hour)
	if r := h.Scrape(now, ages(24*time.Hour+time.Millisecond, time.Minute)); !errors.Is(r.Err, tsdbtest.ErrTooOld) || r.Stored != 0 {
		t.Errorf("got %+v, want a failed scrape", r)
	}
	h.Each(func(s tsdbtest.Sample) { t.Errorf("%+v is stored", s) })
	if r := h.Scrape(now, ages(24*time.Hour, time.Minute)); r.Err != nil || r.Stored != 2 {
		t.Errorf("got %+v, want both inside the window", r)
	}
}

// Up to 32 samples a series, repeats are recognised; from 33 on, each scrape
// appends again.
func TestRepeats(t *testing.T) {
	for _, tc := range []struct {
		samples int
		forEver bool
	}{{24, false}, {30, false}, {32, false}, {34, true}, {48, true}} {
		h, body := head(24*time.Hour), every(10*time.Minute, tc.samples)
		var r tsdbtest.Result
		for range 6 {
			r = h.Scrape(now, body)
		}
		if (r.Again > 0) != tc.forEver || r.Rejected() != 0 || r.Stored != 0 {
			t.Errorf("%d samples: the sixth scrape gave %+v", tc.samples, r)
		}
		n := 0
		h.Each(func(tsdbtest.Sample) { n++ })
		if n != tc.samples {
			t.Errorf("%d samples: %d are stored", tc.samples, n)
		}
	}
}

// A changed value is told wherever the first one went, and does not replace it.
func TestChangedValues(t *testing.T) {
	body := every(10*time.Minute, 20)
	for i := range body {
		h := head(24 * time.Hour)
		for range 3 {
			h.Scrape(now, body)
		}
		changed := append([]tsdbtest.Sample(nil), body...)
		changed[i].Value = 2
		if r := h.Scrape(now, changed); r.Changed != 1 || r.Rejected() != 1 {
			t.Errorf("sample %d changed: %+v", i, r)
		}
		h.Each(func(s tsdbtest.Sample) {
			if s.Value != 1 {
				t.Errorf("sample %d: the stored value became %v", i, s.Value)
			}
		})
	}
}

// A hole that is filled late gets in with a window and is lost without.
func TestHoles(t *testing.T) {
	late := ages(15 * time.Minute)
	for window, want := range map[time.Duration]tsdbtest.Result{0: {OutOfOrder: 1}, 24 * time.Hour: {Stored: 1}} {
		h := head(window)
		h.Scrape(now, ages(20*time.Minute, 5*time.Minute))
		if got := h.Scrape(now, late); got != want {
			t.Errorf("window %s: %+v, want %+v", window, got, want)
		}
	}
}
