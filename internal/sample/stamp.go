package sample

import (
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Millis is an instant in milliseconds since 1970-01-01T00:00:00Z, the
// resolution of Prometheus. Samples of Weir have instants above [Earliest].
type Millis int64

// Earliest is the lowest instant that a sample may have, 2001-09-09. Anything
// below is a number of seconds that was taken for milliseconds.
const Earliest Millis = 1e9 * 1000

// MillisOf drops what is below a millisecond of t.
func MillisOf(t time.Time) Millis { return Millis(t.UnixMilli()) }

// Std converts to a time.Time in UTC.
func (t Millis) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Check returns an error if t cannot be the timestamp of a final sample at now.
func (t Millis) Check(now time.Time) error {
	if t <= Earliest {
		return fmt.Errorf("sample timestamp is %d ms (%s); it must be after %s: is it in seconds?",
			int64(t), t.Std().Format(time.RFC3339), Earliest.Std().Format(time.RFC3339))
	}
	if latest := MillisOf(now); t >= latest {
		return fmt.Errorf("sample timestamp is %d ms (%s); it must be before now (%s), because a final bucket is in the past",
			int64(t), t.Std().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// Stamp selects the timestamp of a sample within its window. It is a property of the store:
// with another stamp Prometheus would store every sample twice.
type Stamp uint8

// The stamps, with the contract's numbers.
const (
	// End is the window's end less one millisecond: the sample lies inside the
	// half-open window, so that sum_over_time over a whole day counts each
	// window once on Prometheus 2 (closed ranges) and 3 (left-open ranges).
	End Stamp = 1
	// Start is the window's start, Cloudflare's own label.
	Start Stamp = 2
)

func (s Stamp) String() string {
	switch s {
	case End:
		return "end"
	case Start:
		return "start"
	}
	return fmt.Sprintf("stamp %d", uint8(s))
}

// Of is the instant of the samples of window w.
func (s Stamp) Of(w bucket.Window) Millis {
	if s == Start {
		return Millis(w.Start) * 1000
	}
	return Millis(w.End)*1000 - 1
}

// Age is how old a sample of the dataset is when it can first be seen. One at the
// start of its window is as old as the window is long when the window ends.
func (s Stamp) Age(d *bucket.Definition) time.Duration {
	if s == Start {
		return d.Delay + d.Size
	}
	return d.Delay
}
