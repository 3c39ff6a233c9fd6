package expo

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Format is an exposition format.
type Format uint8

// The formats, and their number.
const (
	Text        Format = iota // Prometheus text 0.0.4; timestamps in integer milliseconds
	OpenMetrics               // OpenMetrics 1.0.0; timestamps in seconds, closed by "# EOF"
	Formats     = 2
)

// String is the value of the parameter and of the metric label "format".
func (f Format) String() string {
	switch f {
	case Text:
		return "text"
	case OpenMetrics:
		return "openmetrics"
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// ContentType is the value of the HTTP header. Prometheus 3 refuses a body
// without one.
func (f Format) ContentType() string {
	if f == OpenMetrics {
		return "application/openmetrics-text; version=1.0.0; charset=utf-8"
	}
	return "text/plain; version=0.0.4; charset=utf-8"
}

// AppendHeader appends the lines that open a family. The name is given apart
// from the definition because stepped output renames its families.
func AppendHeader(dst []byte, f Format, name string, fam *bucket.Family) []byte {
	dst = append(dst, "# HELP "...)
	dst = append(dst, name...)
	dst = append(dst, ' ')
	dst = appendHelp(dst, f, fam.Help)
	dst = append(dst, "\n# TYPE "...)
	dst = append(dst, name...)
	dst = append(dst, " gauge\n"...)
	// OpenMetrics requires that a family with a unit ends with it, and a
	// breakdown's name ends with its label. Text 0.0.4 knows no unit.
	if f == OpenMetrics && fam.Unit != "" && strings.HasSuffix(name, "_"+fam.Unit) {
		dst = append(dst, "# UNIT "...)
		dst = append(dst, name...)
		dst = append(dst, ' ')
		dst = append(dst, fam.Unit...)
		dst = append(dst, '\n')
	}
	return dst
}

// AppendEnd appends what closes a body: "# EOF" in OpenMetrics, without which
// Prometheus stores nothing of it. It must never be written after a failure.
func AppendEnd(dst []byte, f Format) []byte {
	if f == OpenMetrics {
		return append(dst, "# EOF\n"...)
	}
	return dst
}

// Labels says where the samples of a bucket come from. Zone is empty for an
// account scope, and an empty label is no label to Prometheus: it is left out.
// More are labels of every row besides, as [AppendLabel] writes them.
type Labels struct {
	Zone, Account string
	More          []byte
}

// AppendRows appends one line per row: rows of one family in one bucket, at
// one instant. Rows must have been validated and be as wide as fam.Labels.
func AppendRows(dst []byte, f Format, name string, fam *bucket.Family, of Labels, rows *bucket.Rows, at Millis) []byte {
	var scratch [256]byte
	prefix := append(scratch[:0], name...)
	prefix = append(prefix, '{')
	if of.Zone != "" {
		prefix = AppendLabel(prefix, "zone", of.Zone)
	}
	if of.Account != "" {
		prefix = AppendLabel(prefix, "account", of.Account)
	}
	prefix = append(prefix, of.More...)
	n := len(fam.Labels)
	for i, v := range rows.Values {
		dst = append(dst, prefix...)
		for j, label := range fam.Labels {
			dst = AppendLabel(dst, label, rows.Labels[i*n+j])
		}
		switch dst[len(dst)-1] {
		case ',':
			dst[len(dst)-1] = '}'
		case '{': // neither zone nor account nor labels: a bare name
			dst = dst[:len(dst)-1]
		}
		dst = append(dst, ' ')
		dst = appendValue(dst, v)
		dst = append(dst, ' ')
		if f == OpenMetrics {
			dst = appendSeconds(dst, at)
		} else {
			dst = appendMillis(dst, at)
		}
		dst = append(dst, '\n')
	}
	return dst
}

// AppendLabel appends name="value", with a comma behind it. An empty value is
// written, so that the rows of a family all show the same labels.
func AppendLabel(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, '=', '"')
	dst = appendEscaped(dst, value, true)
	return append(dst, '"', ',')
}

func appendHelp(dst []byte, f Format, help string) []byte {
	return appendEscaped(dst, help, f == OpenMetrics) // text 0.0.4 leaves quotes in HELP as they are
}

// appendEscaped also replaces what would end a body early: Prometheus's lexer
// takes NUL for the end of the input, and bytes that are no UTF-8 fail the
// scrape. One odd label value of one zone must not take all others with it.
func appendEscaped(dst []byte, s string, quotes bool) []byte {
	clean := true
	for i := range len(s) {
		if c := s[i]; c == '\\' || c == '\n' || c == '"' || c == 0 || c >= 0x80 {
			clean = false
			break
		}
	}
	if clean {
		return append(dst, s...)
	}
	for _, r := range s { // invalid bytes come as U+FFFD
		switch {
		case r == '\\':
			dst = append(dst, '\\', '\\')
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '"' && quotes:
			dst = append(dst, '\\', '"')
		case r == 0:
			dst = append(dst, "\uFFFD"...)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// appendValue writes whole numbers as such, because people read these bodies
// and counts are whole, and everything else in the shortest form that reads
// back as the same float.
func appendValue(dst []byte, v float64) []byte {
	const exact = 1 << 53 // above, neighbouring integers share a float
	if v == math.Trunc(v) && math.Abs(v) < exact {
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// AppendNote appends a remark on the body itself, the n-th of it. OpenMetrics has
// no comments, and promtool refuses a file with one; a family of which nothing is
// known but its help is what every reader passes over.
func AppendNote(dst []byte, f Format, n int, text string) []byte {
	dst = append(dst, "# HELP weir_note_"...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, ' ')
	dst = appendHelp(dst, f, text)
	return append(dst, '\n')
}
