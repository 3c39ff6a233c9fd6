package deliver

import (
	"context"
	"errors"
	"fmt"
)

// mostParts is into how many parts a request is divided at most to find one that is taken.
const mostParts = 16

// seek looks for a part of a rejected request that the receiver takes: halves, then quarters, and
// so on, by series. If most of a request cannot be accepted, such as all samples of a zone, it shows that the receiver does not reject everything. The part that was
// taken is series[from:to]; to is 0 without one.
func (d *Divider) seek(ctx context.Context, series []Series, v *division) (from, to int, err error) {
	for parts := 2; parts <= min(mostParts, len(series)); parts *= 2 {
		for i := range parts {
			from, to = i*len(series)/parts, (i+1)*len(series)/parts
			if rejected, err := d.try(ctx, series[from:to:to], v); err != nil || rejected == nil {
				return from, to, err
			}
		}
	}
	return 0, 0, nil
}

// settle sends what was held back again, since the receiver takes something by now: what it
// rejects again counts as rejected.
func (d *Divider) settle(ctx context.Context, v *division) error {
	pending := v.pending
	v.pending = nil
	for _, r := range pending {
		rejected, err := d.try(ctx, r.series, v)
		if err == nil && rejected != nil {
			err = d.refuse(r.series, rejected, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// evidence looks for something that the receiver takes, once for each division: what it took
// before, a part of the request, or a fresh sample. A part that was taken is series[from:to]. If
// it rejects what it took before and a fresh sample, the error is [ErrEverything].
func (d *Divider) evidence(ctx context.Context, series []Series, text string, v *division) (from, to int, err error) {
	if v.sought {
		return 0, 0, nil
	}
	v.sought = true
	control := d.Control && d.control != nil
	reason := TooOld
	if control {
		if reason, err = d.offer(ctx, d.control, v); err != nil || v.taken {
			return 0, 0, err
		}
	}
	if reason != Other { // what it took before may be too old by now
		if from, to, err = d.seek(ctx, series, v); err != nil || v.taken {
			return from, to, err
		}
	}
	if d.Fresh != nil {
		if _, err = d.offer(ctx, d.Fresh(), v); err != nil || v.taken {
			return 0, 0, err
		}
	}
	if control {
		return 0, 0, fmt.Errorf("%w: %s", ErrEverything, text)
	}
	return 0, 0, nil
}

// offer sends a sample that shows whether the receiver takes anything. If it does not, the
// reason is why.
func (d *Divider) offer(ctx context.Context, series []Series, v *division) (reason Reason, err error) {
	err = d.Send(ctx, series)
	var rejected *RejectedError
	var partial *PartialError
	switch {
	case err == nil:
		v.accept()
		d.accepted(series)
		return "", d.settle(ctx, v)
	case errors.As(err, &rejected):
		return classify(rejected), nil
	case errors.As(err, &partial):
		return Partial, nil
	}
	return "", err
}

// ask offers what the receiver took before, and then a fresh sample. Asked is false if there is
// neither.
func (d *Divider) ask(ctx context.Context, v *division) (asked bool, err error) {
	v.taken = false
	if d.Control && d.control != nil {
		asked = true
		if _, err = d.offer(ctx, d.control, v); err != nil || v.taken {
			return true, err
		}
	}
	if d.Fresh != nil {
		asked = true
		_, err = d.offer(ctx, d.Fresh(), v)
	}
	return asked, err
}

// confirm asks, after rejections that nothing accepted has followed, whether the receiver still
// takes anything: if it began to reject everything meanwhile, they say nothing about samples.
func (d *Divider) confirm(ctx context.Context, v *division) error {
	if !v.open || !d.Doubt {
		return nil
	}
	asked, err := d.ask(ctx, v)
	if err == nil && asked && !v.taken {
		return fmt.Errorf("%w: it rejects what it took before", ErrEverything)
	}
	return err
}
