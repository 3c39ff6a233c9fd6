package recent

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
)

// Page is a page of a dataset's older windows, as package carousel divides them.
type Page struct {
	Dataset string
	Number  int64
	Windows bucket.Window // from the beginning of its first window to the end of its last
}

// Fetched is the content of a page.
type Fetched struct {
	Page
	Entries []bucket.Entry // of buckets
}

// NoteLate records a late commit (carousel.Late) of a dataset that is defined.
func (r *Buckets) NoteLate(dataset string, at time.Time) {
	if i, found := r.find(dataset); found && at.After(r.datasets[i].Late) {
		r.datasets[i].Late = at
	}
}

// Rounds are those of the scrapes that show samples up to an age.
type Rounds struct {
	Age   time.Duration // at most that of the Buckets
	Every time.Duration // how often a round is due; 0: as carousel.Schedule has it
}

// Turn holds the pages that are shown at now and in the turn after it, to scrapes with
// the age of r and to others, and no others. It returns those whose buckets are missing,
// the ones in turn first, and whether the pages have changed. From then on it holds what
// is added to them; [Buckets.Fill] completes them.
func (r *Buckets) Turn(now time.Time, others []Rounds) (missing []Page, changed bool) {
	turn := carousel.TurnOf(now)
	wanted := make([]map[int64]bool, len(r.datasets))
	for next := range int64(2) {
		for i, ds := range r.datasets {
			for j := -1; j < len(others); j++ {
				of := Rounds{Age: r.maxAge}
				if j >= 0 {
					of = others[j]
				}
				s := schedule(ds.Definition, of.Age)
				n, shown := of.page(s, turn+next, ds.Late)
				if !shown {
					continue
				}
				if wanted[i] == nil {
					wanted[i] = map[int64]bool{}
				}
				if _, twice := wanted[i][n]; twice {
					continue
				}
				wanted[i][n] = ds.pages[n]
				if !ds.pages[n] {
					missing = append(missing, Page{ds.Dataset, n, s.Windows(n)})
				}
			}
		}
	}
	for i, ds := range r.datasets {
		if !maps.Equal(ds.pages, wanted[i]) {
			ds.pages, changed = wanted[i], true
			r.shrink(ds)
		}
	}
	return missing, changed
}

// page returns the page of a schedule with the age that is shown in a turn, if one is.
func (o Rounds) page(s carousel.Schedule, turn int64, late time.Time) (page int64, shown bool) {
	every := o.Every
	if every == 0 {
		every = s.Every()
	}
	if !s.Shows(turn, every, late) {
		return 0, false
	}
	return s.InTurn(turn), true
}

// Fill adds the buckets of a page, as of a point of the log or later, to what has been
// added up to that point. The page is complete then, whatever the errors about single
// buckets say. Without effect if [Buckets.Turn] no longer wants the page.
func (r *Buckets) Fill(f *Fetched, at bucket.Revision, now time.Time) error {
	i, found := r.find(f.Dataset)
	if !found {
		return nil
	}
	ds := r.datasets[i]
	if complete, wanted := ds.pages[f.Number]; complete || !wanted || r.schedule(ds).Windows(f.Number) != f.Windows {
		return nil
	}
	ds.pages[f.Number] = true
	var errs []error
	for i := range f.Entries {
		e := &f.Entries[i]
		if e.Revision > at {
			continue // the stream is about to deliver it
		}
		d := ds.Version(e.Bucket.Version)
		if d == nil {
			errs = append(errs, fmt.Errorf("bucket %s: received no definition of version %d of the dataset", e.Bucket.Key, e.Bucket.Version))
			continue
		}
		if _, err := r.Add(e.Bucket, d, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
