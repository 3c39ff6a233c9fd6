package expo

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// Segment is one family of one bucket in both formats. It is immutable and may be
// shared between goroutines.
type Segment struct {
	Family string
	Role   bucket.Role
	// Series has a hash of each sample's labels, valid inside this process: equal
	// hashes mean equal series. Its length is the number of samples.
	Series []uint64

	lines [Formats][]byte
}

// Samples is the number of lines.
func (s *Segment) Samples() int { return len(s.Series) }

// Lines are the segment's samples, each line closed by a line feed.
func (s *Segment) Lines(f Format) []byte { return s.lines[f] }

// Equal reports whether two segments have the same samples.
func (s *Segment) Equal(o *Segment) bool {
	return s.Family == o.Family && bytes.Equal(s.lines[Text], o.lines[Text])
}

// seed differs per process: the hashes of series are for counting inside one
// process, not for comparison between processes.
var seed = maphash.MakeSeed()

// Render renders the samples of b, which was collected under d, into one segment per
// family, sorted by family name. Its errors are those of [sample.Append].
func Render(b *bucket.Bucket, d *bucket.Definition, stamp sample.Stamp) ([]Segment, error) {
	var room [16]sample.Set // more than a dataset usually has
	sets, err := sample.Append(room[:0], b, d, stamp)
	if err != nil {
		return nil, err
	}
	segments := make([]Segment, 0, len(sets))
	// One buffer for all lines of both formats: a held bucket has two allocations,
	// however many families it has.
	buf := make([]byte, 0, 2*112*b.Len())
	var ends [][Formats]int
	series := make([]uint64, 0, b.Len())
	for i := range sets {
		set := &sets[i]
		first, start := len(series), len(buf)
		buf = AppendSet(buf, Text, set)
		series = appendSeries(series, buf[start:])
		textEnd := len(buf)
		buf = AppendSet(buf, OpenMetrics, set)
		ends = append(ends, [Formats]int{textEnd, len(buf)})
		segments = append(segments, Segment{Family: set.Name, Role: set.Family.Role, Series: series[first:len(series):len(series)]})
	}
	buf, start := slices.Clone(buf), 0 // held for hours: drop the spare capacity
	for i, end := range ends {
		segments[i].lines[Text] = buf[start:end[Text]:end[Text]]
		segments[i].lines[OpenMetrics] = buf[end[Text]:end[OpenMetrics]:end[OpenMetrics]]
		start = end[OpenMetrics]
	}
	slices.SortFunc(segments, func(a, b Segment) int { return strings.Compare(a.Family, b.Family) })
	return segments, nil
}

// appendSeries hashes the name and labels of each line. A line ends with
// " value timestamp", neither of which contains a space.
func appendSeries(dst []uint64, lines []byte) []uint64 {
	for line := range bytes.Lines(lines) {
		line = line[:bytes.LastIndexByte(line, ' ')]
		line = line[:bytes.LastIndexByte(line, ' ')]
		dst = append(dst, maphash.Bytes(seed, line))
	}
	return dst
}
