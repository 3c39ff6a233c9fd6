package expo

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Segment is one family of one bucket in both formats. It is immutable and may
// be shared between goroutines; nobody may write to its bytes.
type Segment struct {
	Family string
	Role   bucket.Role
	// Series identifies each sample's series inside this process: equal
	// numbers, equal labels. Its length is the number of samples.
	Series []uint64

	lines [Formats][]byte
}

// Samples is the number of lines.
func (s *Segment) Samples() int { return len(s.Series) }

// Lines are the segment's samples, each line closed by a line feed.
func (s *Segment) Lines(f Format) []byte { return s.lines[f] }

// Equal reports whether two segments show the same.
func (s *Segment) Equal(o *Segment) bool {
	return s.Family == o.Family && bytes.Equal(s.lines[Text], o.lines[Text])
}

// seed makes series numbers of different processes incomparable, which is as
// it should be: they are for counting, not for identity.
var seed = maphash.MakeSeed()

// Render renders b, which was collected under d, into one segment per family,
// sorted by family name. A bucket that does not fit its definition, or whose
// instant cannot be right, is an error: rendered, it could cost the whole scrape.
func Render(b *bucket.Bucket, d *bucket.Definition, stamp Stamp) ([]Segment, error) {
	at := stamp.Of(b.Window())
	if at <= Earliest {
		return nil, fmt.Errorf("render bucket %s: sample timestamp is %d ms; it must be above %d", b.Key, at, Earliest)
	}
	of := Labels{Zone: b.Zone, Account: b.Account}
	segments := make([]Segment, 0, len(b.Families))
	// One buffer for all lines of both formats: a held bucket then costs two
	// allocations however many families it has.
	buf := make([]byte, 0, 2*112*b.Len())
	var ends [][Formats]int
	series := make([]uint64, 0, b.Len())
	for i := range b.Families {
		rows := &b.Families[i]
		fam := FamilyOf(d, rows.Family)
		if fam == nil {
			return nil, fmt.Errorf("render bucket %s: version %d of the dataset has no family %q", b.Key, b.Version, rows.Family)
		}
		if err := fits(rows, fam); err != nil {
			return nil, fmt.Errorf("render bucket %s: %w", b.Key, err)
		}
		first, start := len(series), len(buf)
		buf = AppendRows(buf, Text, fam.Name, fam, of, rows, at)
		series = appendSeries(series, buf[start:])
		textEnd := len(buf)
		buf = AppendRows(buf, OpenMetrics, fam.Name, fam, of, rows, at)
		ends = append(ends, [Formats]int{textEnd, len(buf)})
		segments = append(segments, Segment{Family: fam.Name, Role: fam.Role, Series: series[first:len(series):len(series)]})
	}
	buf, start := slices.Clone(buf), 0 // held for hours: without spare capacity
	for i, end := range ends {
		segments[i].lines[Text] = buf[start:end[Text]:end[Text]]
		segments[i].lines[OpenMetrics] = buf[end[Text]:end[OpenMetrics]:end[OpenMetrics]]
		start = end[OpenMetrics]
	}
	slices.SortFunc(segments, func(a, b Segment) int { return strings.Compare(a.Family, b.Family) })
	return segments, nil
}

// FamilyOf returns the family of d with this name, or nil.
func FamilyOf(d *bucket.Definition, name string) *bucket.Family {
	for i := range d.Families {
		if d.Families[i].Name == name {
			return &d.Families[i]
		}
	}
	return nil
}

func fits(rows *bucket.Rows, fam *bucket.Family) error {
	if err := rows.Validate(); err != nil {
		return err
	}
	if rows.Width() != len(fam.Labels) {
		return fmt.Errorf("family %s has rows with %d labels; its definition has %d (%s)",
			fam.Name, rows.Width(), len(fam.Labels), strings.Join(fam.Labels, ", "))
	}
	return nil
}

// appendSeries hashes what stands before each line's value. A line ends with
// " value timestamp", neither of which holds a blank.
func appendSeries(dst []uint64, lines []byte) []uint64 {
	for line := range bytes.Lines(lines) {
		line = line[:bytes.LastIndexByte(line, ' ')]
		line = line[:bytes.LastIndexByte(line, ' ')]
		dst = append(dst, maphash.Bytes(seed, line))
	}
	return dst
}
