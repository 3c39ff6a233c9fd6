package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/sample"
)

// Reason is why a receiver rejects a sample.
type Reason string

// The reasons that are known, and the rest.
const (
	// TooOld: the sample is older than the receiver takes. So is every sample before it.
	TooOld Reason = "too_old"
	// OutOfOrder: the series has a newer sample, and the receiver takes none before it.
	OutOfOrder Reason = "out_of_order"
	// Duplicate: the series has another value at the time.
	Duplicate Reason = "duplicate"
	// Future: the sample is ahead of the receiver's clock.
	Future Reason = "future"
	// TooLarge: a request with this sample alone is too large.
	TooLarge Reason = "too_large"
	// Partial: OTLP's partial success, which does not say which samples it is about.
	Partial Reason = "partial"
	// Other: no text that is known.
	Other Reason = "other"
)

// Reasons are all of them.
var Reasons = []Reason{TooOld, OutOfOrder, Duplicate, Future, TooLarge, Partial, Other}

// doubts is how many samples a receiver may reject one by one, without having taken any, before
// it is taken to reject everything.
const doubts = 16

// youngest is the age below which a sample is not rejected for its age, whatever the receiver
// calls it: Prometheus says "out of bounds" also of one that is ahead of its clock, and then
// older samples are not too old.
const youngest = 5 * time.Minute

// ErrEverything means that a receiver rejects whatever is sent, whatever it calls the reason.
var ErrEverything = errors.New("the receiver rejects everything")

// Divider divides rejected requests until what is rejected stands alone: a receiver rejects
// a whole request over one sample, or does not say which samples it took. What was stored
// before is sent again with equal values, which receivers take or ignore. Not safe for
// concurrent use.
type Divider struct {
	// Send sends one request, as [Sender.Send] does.
	Send func(ctx context.Context, series []Series) error
	// Refused is told about samples that the receiver rejects for good.
	Refused func(series []Series, reason Reason, text string)
	// Doubt: a rejection of everything is [ErrEverything], and says nothing about samples. So
	// is one of a request with one sample as too large. Otherwise each sample counts as
	// rejected.
	Doubt bool
	// Control: a sample that was accepted before may be sent again to find out whether the
	// receiver rejects everything. It must hold such a repetition once.
	Control bool
	// Fresh returns a series of the caller's own with one sample of this moment, which has no
	// reason to be rejected. It is sent if nothing else shows whether the receiver takes
	// anything. Nil: there is none.
	Fresh func() []Series
	// Now is for the age from which on samples are too old: what is older than a sample that
	// was rejected for its age is not sent, but counts as rejected. The ingesters of a
	// distributed receiver can differ a little, so some of it might have been accepted. Nil:
	// each sample is sent.
	Now func() time.Time

	age     time.Duration // at which samples were rejected as too old; 0: none was
	control []Series      // accepted before, one sample
}

// Age is the age from which on the receiver rejects samples, as far as it has shown; 0: it
// has not.
func (d *Divider) Age() time.Duration { return d.age }

// division is what is known while one request is divided.
type division struct {
	taken   bool          // the receiver accepted something
	open    bool          // it accepted nothing since it rejected something for good
	oldest  sample.Millis // the newest that was rejected as too old
	pending []refusal     // without evidence yet
	old     refusal       // what probe found to be too old
	sought  bool          // a part that the receiver takes was looked for
}

type refusal struct {
	series []Series
	text   string
}

// Deliver sends series, in order. With an error it is not known what was stored, and what Refused
// was told does not count.
func (d *Divider) Deliver(ctx context.Context, series []Series) error {
	v := &division{}
	old, rest := d.split(series)
	if err := d.probe(ctx, old, v); err != nil {
		return err
	}
	if err := d.part(ctx, rest, v); err != nil {
		return err
	}
	if len(v.old.series) > 0 {
		if d.Doubt && !v.taken {
			if _, err := d.ask(ctx, v); err != nil {
				return err
			}
			if !v.taken {
				return fmt.Errorf("%w: %s", ErrEverything, v.old.text)
			}
		}
		d.Refused(v.old.series, TooOld, v.old.text)
	}
	if len(v.pending) > 0 && d.Doubt && !v.taken {
		return fmt.Errorf("%w: %s", ErrEverything, v.pending[0].text)
	}
	if err := d.settle(ctx, v); err != nil {
		return err
	}
	return d.confirm(ctx, v)
}

// split separates samples that are as old as one that was rejected.
func (d *Divider) split(series []Series) (old, rest []Series) {
	if d.age == 0 || d.Now == nil {
		return nil, series
	}
	return before(series, sample.MillisOf(d.Now().Add(-d.age))+1)
}

// probe sends the newest of the samples that are expected to be too old. If it is, so are
// the others; if not, the receiver takes more than it did.
func (d *Divider) probe(ctx context.Context, old []Series, v *division) error {
	if len(old) == 0 {
		return nil
	}
	at := 0
	for i := range old {
		if last(&old[i]).At > last(&old[at]).At {
			at = i
		}
	}
	rejected, err := d.try(ctx, []Series{alone(&old[at], len(old[at].Samples)-1)}, v)
	switch {
	case err != nil:
		return err
	case rejected != nil && classify(rejected) == TooOld:
		v.old = refusal{old, rejected.Text}
		return nil
	case rejected == nil:
		if n := len(old[at].Samples); n > 1 {
			old[at].Samples = old[at].Samples[:n-1]
		} else {
			old = slices.Delete(old, at, at+1)
		}
	}
	d.age = 0
	return d.part(ctx, old, v)
}

// part sends a part of a request.
func (d *Divider) part(ctx context.Context, series []Series, v *division) error {
	if v.oldest > 0 && d.Now != nil {
		var old []Series
		if old, series = before(series, v.oldest+1); len(old) > 0 {
			d.Refused(old, TooOld, "older than a sample that the receiver rejected as too old")
		}
	}
	if len(series) == 0 {
		return nil
	}
	rejected, err := d.try(ctx, series, v)
	if err != nil {
		return err
	}
	if rejected == nil {
		return d.settle(ctx, v)
	}
	reason := classify(rejected)
	if d.Doubt && !v.taken && reason != TooLarge { // what is too large is smaller in halves
		from, to, err := d.evidence(ctx, series, rejected.Text, v)
		if err != nil {
			return err
		}
		if to > 0 {
			if err := d.part(ctx, series[:from:from], v); err != nil {
				return err
			}
			return d.part(ctx, series[to:], v)
		}
	}
	if one, two := halves(series, reason); two != nil {
		if err := d.part(ctx, one, v); err != nil {
			return err
		}
		return d.part(ctx, two, v)
	}
	if d.Doubt && !v.taken && reason != TooLarge {
		if v.pending = append(v.pending, refusal{series, rejected.Text}); len(v.pending) == doubts {
			return fmt.Errorf("%w: %s", ErrEverything, rejected.Text)
		}
		return nil
	}
	return d.refuse(series, rejected, v)
}

// try sends series. If the receiver rejects them, the first result says why. Of a partial success
// it is not known which samples were taken.
func (d *Divider) try(ctx context.Context, series []Series, v *division) (*RejectedError, error) {
	err := d.Send(ctx, series)
	var rejected *RejectedError
	var partial *PartialError
	switch {
	case err == nil:
		v.accept()
		d.accepted(series)
		return nil, nil
	case errors.As(err, &partial):
		v.accept()
		d.Refused(series, Partial, partial.Error())
		return nil, nil
	case errors.As(err, &rejected):
		return rejected, nil
	}
	return nil, err
}

func (v *division) accept() { v.taken, v.open = true, false }

// refuse counts one sample as rejected.
func (d *Divider) refuse(series []Series, rejected *RejectedError, v *division) error {
	reason := classify(rejected)
	if reason == TooLarge && d.Doubt {
		return fmt.Errorf("%w: a request with one sample is too large for it: %s", ErrEverything, rejected.Text)
	}
	v.open = true
	if reason == TooOld && d.Now != nil {
		at := series[0].Samples[0].At
		if age := d.Now().Sub(at.Std()); age >= youngest {
			v.oldest = max(v.oldest, at)
			if d.age == 0 || age < d.age {
				d.age = age
			}
		}
	}
	d.Refused(series, reason, rejected.Text)
	return nil
}

// accepted remembers the newest sample of a request that was accepted.
func (d *Divider) accepted(series []Series) {
	if !d.Control {
		return
	}
	at := 0
	for i := range series {
		if last(&series[i]).At > last(&series[at]).At {
			at = i
		}
	}
	if d.control == nil || last(&series[at]).At >= d.control[0].Samples[0].At {
		d.control = []Series{alone(&series[at], len(series[at].Samples)-1)}
	}
}

func last(s *Series) *Sample { return &s.Samples[len(s.Samples)-1] }

// alone returns a series with one of its samples.
func alone(s *Series, i int) Series {
	out := *s
	out.Samples = s.Samples[i : i+1 : i+1]
	return out
}

// before divides series at a time.
func before(series []Series, at sample.Millis) (old, rest []Series) {
	for i := range series {
		s := &series[i]
		n := 0
		for n < len(s.Samples) && s.Samples[n].At < at {
			n++
		}
		if n > 0 {
			old = append(old, *s)
			old[len(old)-1].Samples = s.Samples[:n:n]
		}
		if n < len(s.Samples) {
			rest = append(rest, *s)
			rest[len(rest)-1].Samples = s.Samples[n:]
		}
	}
	return old, rest
}

// halves divides a rejected request, so that the samples of each series stay in order: at a
// time if it has samples that are too old, otherwise first by series. Two is nil if it has
// one sample.
func halves(series []Series, reason Reason) (one, two []Series) {
	if reason == TooOld {
		var times []sample.Millis
		for i := range series {
			for _, x := range series[i].Samples {
				times = append(times, x.At)
			}
		}
		slices.Sort(times)
		if times = slices.Compact(times); len(times) > 1 {
			return before(series, times[len(times)/2])
		}
	}
	if len(series) > 1 {
		half := len(series) / 2
		return series[:half:half], series[half:]
	}
	s := series[0]
	if len(s.Samples) < 2 {
		return series, nil
	}
	half := len(s.Samples) / 2
	one, two = []Series{s}, []Series{s}
	one[0].Samples, two[0].Samples = s.Samples[:half:half], s.Samples[half:]
	return one, two
}
