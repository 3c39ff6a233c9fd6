package bucket

import (
	"fmt"
	"time"
)

// Time is a calendar time in whole seconds since 1970-01-01T00:00:00Z. Windows
// have whole-second borders, and an integer compares, hashes and stores
// without surprises.
type Time int64

// TimeOf drops what is below a second of t.
func TimeOf(t time.Time) Time { return Time(t.Unix()) }

// Std converts to a time.Time in UTC.
func (t Time) Std() time.Time { return time.Unix(int64(t), 0).UTC() }

// Add returns t+d; d is counted in whole seconds, rounded down.
func (t Time) Add(d time.Duration) Time { return t + Time(d/time.Second) }

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t-u) * time.Second }

// Floor is the latest border of size at or before t.
func (t Time) Floor(size time.Duration) Time {
	s := Time(size / time.Second)
	return t - ((t%s)+s)%s
}

// Ceil is the earliest border of size at or after t.
func (t Time) Ceil(size time.Duration) Time {
	s := Time(size / time.Second)
	return (t + s - 1).Floor(size)
}

// String is RFC 3339, the spelling of Cloudflare and of logs.
func (t Time) String() string { return t.Std().Format(time.RFC3339) }

// Window is the span [Start, End).
type Window struct{ Start, End Time }

func (w Window) String() string { return fmt.Sprintf("[%s, %s)", w.Start, w.End) }

// Len is the length of the window.
func (w Window) Len() time.Duration { return w.End.Sub(w.Start) }

// Empty reports whether the window holds nothing.
func (w Window) Empty() bool { return w.End <= w.Start }

// Intersect is the part that both windows cover; it may be empty.
func (w Window) Intersect(o Window) Window {
	return Window{Start: max(w.Start, o.Start), End: min(w.End, o.End)}
}

// Contains reports whether t lies in the window.
func (w Window) Contains(t Time) bool { return w.Start <= t && t < w.End }

// ValidSize reports what is wrong with a bucket size: Weir knows the sizes that
// divide a day and that Cloudflare's time dimensions can express.
func ValidSize(size time.Duration) error {
	switch size {
	case time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 24 * time.Hour:
		return nil
	}
	return fmt.Errorf("bucket size is %s; it must be 60, 300, 900, 1800, 3600 or 86400 seconds", size)
}

// SizeName is the suffix that a bucket size gives to a dataset id: "5m".
func SizeName(size time.Duration) string {
	switch {
	case size%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", size/(24*time.Hour))
	case size%time.Hour == 0:
		return fmt.Sprintf("%dh", size/time.Hour)
	}
	return fmt.Sprintf("%dm", size/time.Minute)
}
