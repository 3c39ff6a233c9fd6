package deliver

import (
	"context"
	"errors"
	"fmt"
)

// mostParts is into how many parts a request is divided at most to find one that is taken.
const mostParts = 16

// seek looks for a part of a rejected request that the receiver takes: halves, then quarters, and
// so on, by series. If most of a request cannot be accepted for a reason that is not known, such as
// all samples of a zone, it shows that the receiver does not reject everything. The part that was
// taken is series[from:to]; to is 0 without one. It is tried once for each division.
func (d *Divider) seek(ctx context.Context, series []Series, v *division) (from, to int, err error) {
	if v.taken || v.sought {
		return 0, 0, nil
	}
	v.sought = true
	for parts := 2; parts <= min(mostParts, len(series)); parts *= 2 {
		for i := range parts {
			from, to = i*len(series)/parts, (i+1)*len(series)/parts
			part := series[from:to:to]
			err := d.Send(ctx, part)
			var rejected *RejectedError
			var partial *PartialError
			switch {
			case err == nil:
				v.taken = true
				d.accepted(part)
				return from, to, nil
			case errors.As(err, &partial):
				v.taken = true
				d.Refused(part, Partial, partial.Error())
				return from, to, nil
			case !errors.As(err, &rejected):
				return 0, 0, err
			case classify(rejected) != Other:
				v.taken = true // it says something about samples
				return 0, 0, nil
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
		err := d.Send(ctx, r.series)
		var rejected *RejectedError
		var partial *PartialError
		switch {
		case err == nil:
		case errors.As(err, &partial):
			d.Refused(r.series, Partial, partial.Error())
		case errors.As(err, &rejected):
			reason := classify(rejected)
			v.unknown = v.unknown || reason == Other
			d.Refused(r.series, reason, rejected.Text)
		default:
			return err
		}
	}
	return nil
}

// confirm asks, after rejections for a reason that is not known, whether the receiver still takes
// what it took: if it began to reject everything meanwhile, they say nothing about samples.
func (d *Divider) confirm(ctx context.Context, v *division) error {
	if !v.unknown || !d.Doubt || !d.Control || d.control == nil {
		return nil
	}
	err := d.Send(ctx, d.control)
	var again *RejectedError
	switch {
	case err == nil, errors.As(err, &again) && classify(again) != Other:
		return nil
	case again != nil:
		return fmt.Errorf("%w: %s", ErrEverything, again.Text)
	}
	return err
}
