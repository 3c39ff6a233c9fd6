package push

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// batchSamples is how many samples a batch may have before it is sent. A bucket is never
// divided, so a batch may have a bucket more.
const batchSamples = 20_000

// part is a bucket of a batch.
type part struct {
	dataset string
	scope   bucket.Scope
	window  bucket.Window
}

// stream is a dataset of a scope, of which a batch has one window.
type stream struct {
	dataset string
	scope   bucket.Scope
}

// batch is consecutive entries of the log, as samples.
type batch struct {
	store  string
	labels []export.Label // external ones

	parts   []part
	has     map[stream]bool
	series  map[string]*deliver.Series
	order   []*deliver.Series // as they came
	samples int
	// hidden is how many samples another scope's of the same series and time hide: a zone
	// that was deleted and added again is two scopes with one name.
	hidden int

	entries   int
	at        bucket.Position // of the last entry
	committed time.Time
	token     string // of the last entry, in a list
}

func newBatch(labels []export.Label) *batch {
	return &batch{labels: labels, has: map[stream]bool{}, series: map[string]*deliver.Series{}}
}

// fits reports whether a bucket may join the batch.
func (b *batch) fits(k *bucket.Bucket) bool {
	return !b.has[stream{k.Dataset, k.Scope}] && b.samples < batchSamples
}

// reach moves the end of the batch to an entry.
func (b *batch) reach(e *bucket.Entry) {
	b.entries++
	b.at, b.committed = e.Position, e.CommittedAt
}

// add adds the samples of a bucket.
func (b *batch) add(k *bucket.Bucket, sets []sample.Set) {
	from := len(b.parts)
	b.parts = append(b.parts, part{k.Dataset, k.Scope, k.Window()})
	b.has[stream{k.Dataset, k.Scope}] = true
	var key strings.Builder
	for i := range sets {
		set := &sets[i]
		for n := range set.Len() {
			key.Reset()
			key.WriteString(set.Name)
			for name, value := range set.Common() {
				key.WriteString("\x00" + name + "\x01" + value)
			}
			for j, value := range set.Own(n) {
				key.WriteString("\x00" + set.Family.Labels[j] + "\x01" + value)
			}
			s := b.series[key.String()]
			if s == nil {
				s = &deliver.Series{Labels: deliver.LabelsOf(set, n, b.labels), Family: set.Family}
				b.series[key.String()], b.order = s, append(b.order, s)
			}
			b.put(s, deliver.Sample{At: set.At, Value: set.Value(n), Window: k.Window(), From: from})
		}
	}
}

// put adds a sample in order of time. Of two at one time that of the lower scope counts, as
// in lists of the store.
func (b *batch) put(s *deliver.Series, x deliver.Sample) {
	i, found := slices.BinarySearchFunc(s.Samples, x.At, func(y deliver.Sample, at sample.Millis) int { return int(y.At - at) })
	if !found {
		s.Samples = slices.Insert(s.Samples, i, x)
		b.samples++
		return
	}
	b.hidden++
	if b.parts[x.From].scope.Compare(b.parts[s.Samples[i].From].scope) < 0 {
		s.Samples[i] = x
	}
}

// all returns the series in the order in which they came.
func (b *batch) all() []deliver.Series {
	out := make([]deliver.Series, len(b.order))
	for i, s := range b.order {
		out[i] = *s
	}
	return out
}

// requestSamples is how many samples a request has at most: far below every receiver's limit.
const requestSamples = 5000

// requests divides series into requests. The samples of a series stay in order.
func requests(series []deliver.Series) (out [][]deliver.Series) {
	var request []deliver.Series
	n := 0
	for i := range series {
		for samples := range slices.Chunk(series[i].Samples, requestSamples) {
			if n+len(samples) > requestSamples {
				out, request, n = append(out, request), nil, 0
			}
			s := series[i]
			s.Samples = samples
			request, n = append(request, s), n+len(samples)
		}
	}
	if n > 0 {
		out = append(out, request)
	}
	return out
}
