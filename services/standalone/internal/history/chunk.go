package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Day is the length of a chunk. No window crosses midnight UTC.
const Day = 24 * time.Hour

// Batch is how many scopes a chunk has. A day of 20 zones of http_5m is about 120,000
// samples.
const Batch = 20

// Selection is what a command is about. Empty lists: all.
type Selection struct {
	Range    bucket.Window
	Datasets []string
	Zones    []string // and accounts, by name or id
	Restated bool
}

// Chunk is a piece of work that fits into memory.
type Chunk struct {
	Group  *Group
	Scopes []Scope
	Range  bucket.Window // within one day
	// Last of its group and day.
	Last bool
}

// Name identifies the chunk within its command.
func (c *Chunk) Name() string {
	return fmt.Sprintf("%s %s %s+%d", strings.Join(c.Group.Datasets, ","), c.Range.Start, c.Scopes[0].ID, len(c.Scopes))
}

// Day is the whole UTC day of the chunk.
func (c *Chunk) Day() bucket.Window {
	start := c.Range.Start.Floor(Day)
	return bucket.Window{Start: start, End: start.Add(Day)}
}

// Plan is a command's work.
type Plan struct {
	Groups   []Group
	Batches  [][][]Scope // of each group
	Restated bool
	days     []bucket.Window
}

// Plan checks a selection against the store and divides it. It is an error if nothing is
// selected.
func (s *Store) Plan(sel Selection) (*Plan, error) {
	groups, err := s.Groups(sel.Datasets)
	if err == nil {
		err = s.CheckZones(sel.Zones)
	}
	if err != nil {
		return nil, err
	}
	p := &Plan{days: Days(sel.Range), Restated: sel.Restated}
	for _, g := range groups {
		scopes := s.ScopesOf(g.Kind, sel.Zones)
		if len(scopes) == 0 {
			continue // a zone has no datasets about accounts
		}
		p.Groups, p.Batches = append(p.Groups, g), append(p.Batches, batches(scopes))
	}
	switch {
	case len(p.days) == 0:
		return nil, fmt.Errorf("range %s is empty; its end must be after its start", sel.Range)
	case len(s.definitions) == 0:
		return nil, errors.New("the store has no dataset yet")
	case len(p.Groups) == 0:
		return nil, errors.New("nothing is selected: no zone or account has a bucket of the datasets")
	}
	return p, nil
}

// Days divides a range at midnight UTC.
func Days(r bucket.Window) (days []bucket.Window) {
	for start := r.Start; start < r.End; {
		end := min(r.End, start.Floor(Day).Add(Day))
		days = append(days, bucket.Window{Start: start, End: end})
		start = end
	}
	return days
}

// batches divides scopes. Those that share a name stay together: a zone that was deleted
// and added again is two scopes with one series.
func batches(scopes []Scope) (out [][]Scope) {
	scopes = slices.Clone(scopes)
	slices.SortFunc(scopes, func(a, b Scope) int { return cmp.Or(cmp.Compare(a.name(), b.name()), a.Compare(b.Scope)) })
	for len(scopes) > 0 {
		n := min(Batch, len(scopes))
		for n < len(scopes) && scopes[n].name() == scopes[n-1].name() {
			n++
		}
		out, scopes = append(out, scopes[:n]), scopes[n:]
	}
	return out
}

// name is what the scope's label is made of; an account's is its account label.
func (s Scope) name() string {
	if s.Kind == bucket.Account || len(s.Names) == 0 {
		return s.Account
	}
	return s.Names[len(s.Names)-1]
}

// Chunks yields all chunks: group by group, each day by day, so that the samples of a
// series ascend from chunk to chunk.
func (p *Plan) Chunks() iter.Seq[*Chunk] {
	return func(yield func(*Chunk) bool) {
		for i := range p.Groups {
			for _, day := range p.days {
				for j, scopes := range p.Batches[i] {
					if !yield(&Chunk{Group: &p.Groups[i], Scopes: scopes, Range: day, Last: j == len(p.Batches[i])-1}) {
						return
					}
				}
			}
		}
	}
}

// Len is the number of chunks.
func (p *Plan) Len() (n int) {
	for i := range p.Groups {
		n += len(p.days) * len(p.Batches[i])
	}
	return n
}

// Read yields the buckets of the chunk's whole day, as Buckets does: those of a window
// that crosses the chunk's borders too.
func (s *Store) Read(ctx context.Context, c *Chunk, restated bool, unreadable func(error)) iter.Seq2[*Bucket, error] {
	q := Query{Datasets: c.Group.Datasets, Range: c.Day(), Restated: restated}
	for _, scope := range c.Scopes {
		q.Scopes = append(q.Scopes, scope.Scope)
	}
	return s.Buckets(ctx, q, unreadable)
}
