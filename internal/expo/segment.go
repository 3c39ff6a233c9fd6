package expo

import (
	"bytes"
	"hash/maphash"
	"iter"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// Segment is the samples of one family of one bucket.
type Segment struct {
	Family *bucket.Family
	// Lines are text lines, one for each sample, each closed by a line feed.
	Lines []byte
	// Samples is the number of lines.
	Samples int
}

// Renderer renders buckets, one after another. Its buffer is used again: what it returns has no
// spare capacity.
type Renderer struct{ lines []byte }

// Render renders the samples of b, which was collected under d, into one segment per
// family, sorted by family name. Its errors are those of [sample.Append].
func (r *Renderer) Render(b *bucket.Bucket, d *bucket.Definition, stamp sample.Stamp) ([]Segment, error) {
	var room [16]sample.Set // more than a dataset usually has
	sets, err := sample.Append(room[:0], b, d, stamp)
	if err != nil {
		return nil, err
	}
	segments := make([]Segment, 0, len(sets))
	r.lines = r.lines[:0]
	for i := range sets {
		start := len(r.lines)
		r.lines = AppendSet(r.lines, Text, &sets[i])
		segments = append(segments, Segment{Family: sets[i].Family, Samples: sets[i].Len(), Lines: r.lines[start:]})
	}
	rest := bytes.Clone(r.lines)
	for i := range segments {
		n := len(segments[i].Lines)
		segments[i].Lines, rest = rest[:n:n], rest[n:]
	}
	slices.SortFunc(segments, func(a, b Segment) int { return strings.Compare(a.Family.Name, b.Family.Name) })
	return segments, nil
}

// subsecond is what a text line ends with: three digits of milliseconds and a line feed.
const subsecond = 4

// AppendLines appends text lines in a format. OpenMetrics has a decimal point before
// the milliseconds, and differs in nothing else. The timestamp of each line must be
// above [sample.Earliest].
func AppendLines(dst []byte, f Format, lines []byte) []byte {
	if f == Text {
		return append(dst, lines...)
	}
	for len(lines) > 0 {
		n := bytes.IndexByte(lines, '\n') + 1
		dst = append(dst, lines[:n-subsecond]...)
		dst = append(dst, '.')
		dst = append(dst, lines[n-subsecond:n]...)
		lines = lines[n:]
	}
	return dst
}

// AppendFitting appends as many whole text lines in a format as dst has capacity for, at least
// one if it is empty, and returns the others.
func AppendFitting(dst []byte, f Format, lines []byte) (grown, rest []byte) {
	// A line has at least 16 bytes, and a format adds one.
	n := min(len(lines), (cap(dst)-len(dst))*15/16)
	if n < len(lines) {
		if n = bytes.LastIndexByte(lines[:n], '\n') + 1; n == 0 && len(dst) == 0 {
			n = bytes.IndexByte(lines, '\n') + 1
		}
	}
	return AppendLines(dst, f, lines[:n]), lines[n:]
}

// LinesLen is the length of text lines in a format.
func LinesLen(f Format, lines []byte, samples int) int {
	if f == OpenMetrics {
		return len(lines) + samples
	}
	return len(lines)
}

// seed differs per process: the hashes of series are for counting inside one
// process, not for comparison between processes.
var seed = maphash.MakeSeed()

// Series yields a hash of the name and labels of each text line, valid inside this
// process: equal hashes mean equal series.
func Series(lines []byte) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for line := range bytes.Lines(lines) {
			// A line ends with " value timestamp", neither of which contains a space.
			line = line[:bytes.LastIndexByte(line, ' ')]
			line = line[:bytes.LastIndexByte(line, ' ')]
			if !yield(maphash.Bytes(seed, line)) {
				return
			}
		}
	}
}
