package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Patience sends requests again after pauses that double from Min to Max, with a jitter that
// shortens each by up to half, and never sooner than the receiver asks.
type Patience struct {
	To       Sender
	Min, Max time.Duration
	// Attempts is how often a request is sent that fails with a [BusyError]; any other
	// error is returned at once. 0: there is no limit, and all errors are tried again that
	// are not about the content of the request.
	Attempts int
	// Failed is told about each failure that is tried again; may be nil.
	Failed func(err error, retryIn time.Duration)
	// Ends ends pauses when it is closed; nil: only their context does.
	Ends <-chan struct{}
	// Random is the source of the jitter; nil: none.
	Random *rand.Rand
}

// Send sends a request until the receiver has answered about its content.
func (p *Patience) Send(ctx context.Context, series []Series) error {
	for failed := 1; ; failed++ {
		err := p.To.Send(ctx, series)
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
		var busy *BusyError
		if errors.As(err, &busy); p.Attempts > 0 && (busy == nil || failed == p.Attempts) {
			return err
		}
		pause := p.Pause(failed)
		if busy != nil {
			pause = max(pause, busy.After)
		}
		if p.Failed != nil {
			p.Failed(err, pause)
		}
		if err := p.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// final reports whether an error is about the content of a request, or forbids to send it again.
func final(err error) bool {
	var rejected *RejectedError
	var partial *PartialError
	var answer *AnswerError
	return errors.As(err, &rejected) || errors.As(err, &partial) || errors.As(err, &answer) && answer.Once
}

// Pause returns the pause after so many failures in a row.
func (p *Patience) Pause(failed int) time.Duration {
	d := p.Max
	if failed <= 30 && p.Min<<(failed-1)>>(failed-1) == p.Min {
		d = min(p.Min<<(failed-1), p.Max)
	}
	if p.Random != nil && d > 0 {
		d -= time.Duration(p.Random.Int64N(int64(d/2) + 1))
	}
	return d
}

// ErrEnded is the error of a pause that Ends ended.
var ErrEnded = errors.New("told to end during a pause")

// Sleep waits, unless the pause is ended.
func (p *Patience) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.Ends:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Sleep waits, or returns the cause of the end of ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
