// Package deliver brings samples to a receiver: imports of history and the push of the log
// send with it.
//
// A [Sender] speaks a protocol and sends a request once: remote write 1 and 2, and OTLP over
// HTTP. [Patience] sends again what failed for a while. A [Divider] finds out which samples
// of a rejected request the receiver rejects, so that they take no others along.
package deliver

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// Series is a series and samples of it, ascending in time.
type Series struct {
	Labels  []export.Label // in order of name, with __name__
	Samples []Sample
	// Family describes the samples; nil where nobody needs it. OTLP does, and remote write 2
	// sends its help and unit.
	Family *bucket.Family
}

// Sample is a value of a series.
type Sample struct {
	At    sample.Millis
	Value float64
	// Window is what the value is about; OTLP needs it.
	Window bucket.Window
	// From is the caller's own: it tells what the sample is part of.
	From int
}

// Count returns the number of samples.
func Count(series []Series) (n int) {
	for i := range series {
		n += len(series[i].Samples)
	}
	return n
}

// Sender sends requests to one receiver. Methods are called by one goroutine.
type Sender interface {
	// Send sends a request once. With nil the receiver has all samples. A [RejectedError]
	// means that it rejects the content of the request, of which it may have stored a part;
	// a [PartialError] that it rejects a part and must not be asked again; a [BusyError]
	// that the same request may succeed later; an [AnswerError] that something else than a
	// receiver has answered. Any other error stays until somebody changes something, such as
	// a credential or a path.
	Send(ctx context.Context, series []Series) error
}

// RejectedError is the response of a receiver that rejects the content of a request.
type RejectedError struct {
	Status int
	Text   string // the response, cut to a few lines
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("the receiver answered with %d: %s", e.Status, e.Text)
}

// PartialError is the response of a receiver that accepted a request except for some samples,
// and does not say which.
type PartialError struct {
	Rejected int64
	Text     string
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("the receiver rejected %d samples of the request: %s", e.Rejected, e.Text)
}

// BusyError is the failure of a request that may succeed later.
type BusyError struct {
	Status int           // of the response; 0: there is none
	After  time.Duration // the pause that the receiver asks for; 0: none
	Err    error
}

func (e *BusyError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BusyError) Unwrap() error { return e.Err }

// StatusError is a response that is not about the content of a request.
type StatusError struct {
	Status int
	Text   string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the receiver answered with %d: %s", e.Status, e.Text)
}

// clip cuts a response to what fits into a log line.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
