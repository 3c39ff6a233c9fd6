package verify

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
)

// Picks are the samples that a comparison found missing, for an import of exactly these.
type Picks struct {
	Header  Header
	Samples int64
	series  map[string][]span // of a dataset and scope, and of a family and labels unless it is whole
	buckets map[dayOf]bool
	// Borders of all samples; zero if there is none.
	First, Last sample.Millis
	datasets    map[string]bool
	scopes      map[string]bool
}

type span struct{ first, last sample.Millis }

// dayOf tells which buckets must be read at all.
type dayOf struct {
	dataset, scope string
	day            bucket.Time
}

// LoadMissing reads the missing samples of a findings file.
func LoadMissing(r io.Reader) (*Picks, error) {
	p := &Picks{series: map[string][]span{}, buckets: map[dayOf]bool{}, datasets: map[string]bool{}, scopes: map[string]bool{}}
	var err error
	p.Header, err = ReadFindings(r, Missing, func(f Finding) error {
		if f.ScopeID == "" {
			return errors.New("a missing sample needs its scope")
		}
		var names []string
		for name := range f.Labels {
			names = append(names, name)
		}
		slices.Sort(names)
		var b strings.Builder
		for _, name := range names {
			writePair(&b, name, f.Labels[name])
		}
		key := whole(f.Dataset, f.ScopeID)
		if f.Family != "" {
			key += f.Family + "\x00" + b.String()
		}
		p.series[key] = append(p.series[key], span{f.First, f.Last})
		for day := bucket.Time(f.First / 1000).Floor(history.Day); day <= bucket.Time(f.Last/1000); day = day.Add(history.Day) {
			p.buckets[dayOf{f.Dataset, f.ScopeID, day}] = true
		}
		p.datasets[f.Dataset], p.scopes[f.ScopeID] = true, true
		p.Samples += f.Samples
		if p.First == 0 || f.First < p.First {
			p.First = f.First
		}
		p.Last = max(p.Last, f.Last)
		return nil
	})
	for _, spans := range p.series {
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	}
	return p, err
}

// whole is the key of all series of a dataset and scope.
func whole(dataset, scope string) string { return dataset + "\x00" + scope + "\x00" }

// writePair writes a label, unless its value is empty: an empty label is none, but a
// family's own label may be empty.
func writePair(b *strings.Builder, name, value string) {
	if value == "" {
		return
	}
	b.WriteString(name)
	b.WriteByte(1)
	b.WriteString(value)
	b.WriteByte(2)
}

// Day reports whether any sample is picked of a dataset and day.
func (p *Picks) Day(dataset string, day bucket.Time) bool {
	for scope := range p.scopes {
		if p.buckets[dayOf{dataset, scope, day}] {
			return true
		}
	}
	return false
}

// Selection is what must be read to find all samples.
func (p *Picks) Selection() history.Selection {
	s := history.Selection{Restated: p.Header.Restated}
	for id := range p.datasets {
		s.Datasets = append(s.Datasets, id)
	}
	for id := range p.scopes {
		s.Zones = append(s.Zones, id)
	}
	slices.Sort(s.Datasets)
	slices.Sort(s.Zones)
	s.Range = bucket.Window{Start: bucket.Time(p.First / 1000).Floor(history.Day), End: bucket.Time(p.Last / 1000).Floor(history.Day).Add(history.Day)}
	return s
}

// Of returns the picked samples of a bucket, and nothing if there is none. The result is
// valid until the next bucket.
func (p *Picks) Of(b *history.Bucket) (sets []sample.Set) {
	if !p.buckets[dayOf{b.Dataset, b.Scope.ID, b.Start.Floor(history.Day)}] {
		return nil
	}
	for i := range b.Sets {
		set := b.Sets[i]
		width := len(set.Family.Labels)
		rows := bucket.Rows{Family: set.Rows.Family}
		for n := range set.Len() {
			if p.has(b, &set, n) {
				rows.Labels = append(rows.Labels, set.Rows.Labels[n*width:(n+1)*width]...)
				rows.Values = append(rows.Values, set.Rows.Values[n])
			}
		}
		if len(rows.Values) > 0 {
			set.Rows = &rows
			sets = append(sets, set)
		}
	}
	return sets
}

func (p *Picks) has(b *history.Bucket, set *sample.Set, n int) bool {
	windows := whole(b.Dataset, b.Scope.ID)
	if p.covers(windows, set.At) {
		return true
	}
	var key strings.Builder
	key.WriteString(windows + set.Family.Name + "\x00")
	names := append([]string{"zone", "account"}, set.Family.Labels...)
	values := append([]string{set.Zone, set.Account}, set.Own(n)...)
	for _, i := range ordered(names) {
		writePair(&key, names[i], values[i])
	}
	return p.covers(key.String(), set.At)
}

func (p *Picks) covers(key string, at sample.Millis) bool {
	spans := p.series[key]
	i, found := slices.BinarySearchFunc(spans, at, func(s span, at sample.Millis) int { return cmp.Compare(s.first, at) })
	if !found {
		i--
	}
	return i >= 0 && spans[i].first <= at && at <= spans[i].last
}

// Before counts the samples that are older than a time.
func (p *Picks) Before(at sample.Millis, sizes func(dataset string) time.Duration) (n int64) {
	for key, spans := range p.series {
		dataset, _, _ := strings.Cut(key, "\x00")
		step := sizes(dataset).Milliseconds()
		for _, s := range spans {
			switch {
			case s.last < at:
				n += int64(s.last-s.first)/step + 1
			case s.first < at:
				n += int64(at-1-s.first)/step + 1
			}
		}
	}
	return n
}
