package expo

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
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

// AppendHeader appends the lines that open a family of gauges. The name is given apart
// from the definition because stepped output renames its families.
func AppendHeader(dst []byte, f Format, name string, fam *bucket.Family) []byte {
	return appendHeader(dst, f, name, fam.Help, "gauge", fam.Unit)
}

// CounterSuffix ends the names of counters. In OpenMetrics it belongs to the sample and
// not to the family.
const CounterSuffix = "_total"

// AppendCounterHeader appends the lines that open a family of counters. The name is
// without [CounterSuffix].
func AppendCounterHeader(dst []byte, f Format, name, help, unit string) []byte {
	if f == Text {
		name += CounterSuffix
	}
	return appendHeader(dst, f, name, help, "counter", unit)
}

// AppendForeignHeader appends the lines that open a family under the name that another program
// gave it, with no unit. OpenMetrics has no counters but those with [CounterSuffix]: another
// one is of type unknown there.
func AppendForeignHeader(dst []byte, f Format, name, help string, counter bool) []byte {
	if !counter {
		return appendHeader(dst, f, name, help, "gauge", "")
	}
	bare, suffixed := strings.CutSuffix(name, CounterSuffix)
	switch {
	case suffixed:
		return AppendCounterHeader(dst, f, bare, help, "")
	case f == OpenMetrics:
		return appendHeader(dst, f, name, help, "unknown", "")
	}
	return appendHeader(dst, f, name, help, "counter", "")
}

func appendHeader(dst []byte, f Format, name, help, kind, unit string) []byte {
	dst = append(dst, "# HELP "...)
	dst = append(dst, name...)
	dst = append(dst, ' ')
	dst = appendHelp(dst, f, help)
	dst = append(dst, "\n# TYPE "...)
	dst = append(dst, name...)
	dst = append(dst, ' ')
	dst = append(dst, kind...)
	dst = append(dst, '\n')
	// OpenMetrics requires that a family with a unit ends with it, and a
	// breakdown's name ends with its label. Text 0.0.4 knows no unit.
	if f == OpenMetrics && unit != "" && strings.HasSuffix(name, "_"+unit) {
		dst = append(dst, "# UNIT "...)
		dst = append(dst, name...)
		dst = append(dst, ' ')
		dst = append(dst, unit...)
		dst = append(dst, '\n')
	}
	return dst
}

// AppendEnd appends the end of a body: "# EOF" in OpenMetrics, without which
// Prometheus rejects the body. It must never be written after a failure.
func AppendEnd(dst []byte, f Format) []byte {
	if f == OpenMetrics {
		return append(dst, "# EOF\n"...)
	}
	return dst
}

// AppendSet appends one line per sample of the set.
func AppendSet(dst []byte, f Format, set *sample.Set) []byte {
	var scratch [256]byte
	prefix := append(scratch[:0], set.Name...)
	prefix = append(prefix, '{')
	for name, value := range set.Common() {
		prefix = AppendLabel(prefix, name, value)
	}
	for i := range set.Len() {
		dst = append(dst, prefix...)
		own := set.Own(i)
		for j, name := range set.Family.Labels {
			dst = AppendLabel(dst, name, own[j])
		}
		switch dst[len(dst)-1] {
		case ',':
			dst[len(dst)-1] = '}'
		case '{': // no label at all: a bare name
			dst = dst[:len(dst)-1]
		}
		dst = append(dst, ' ')
		dst = AppendValue(dst, set.Value(i))
		dst = append(dst, ' ')
		if f == OpenMetrics {
			dst = AppendSeconds(dst, set.At)
		} else {
			dst = appendMillis(dst, set.At)
		}
		dst = append(dst, '\n')
	}
	return dst
}

// appendMillis formats a timestamp for text 0.0.4: 1795341599999.
func appendMillis(dst []byte, t sample.Millis) []byte {
	return strconv.AppendInt(dst, int64(t), 10)
}

// AppendSeconds formats an instant in seconds, as timestamps are in OpenMetrics:
// 1795341599.999. Prometheus
// parses three decimals to exactly the same millisecond. t must not be negative.
func AppendSeconds(dst []byte, t sample.Millis) []byte {
	dst = strconv.AppendInt(dst, int64(t/1000), 10)
	ms := t % 1000
	return append(dst, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}

// AppendLabel appends name="value", with a comma behind it.
func AppendLabel(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, '=', '"')
	dst = appendEscaped(dst, value, true)
	return append(dst, '"', ',')
}

func appendHelp(dst []byte, f Format, help string) []byte {
	return appendEscaped(dst, help, f == OpenMetrics) // text 0.0.4 leaves quotes in HELP as they are
}

// appendEscaped also replaces bytes that would end a body early: Prometheus's lexer
// treats NUL as the end of the input, and invalid UTF-8 fails the scrape. One odd
// label value must not lose the samples of all other zones.
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
	for _, r := range s { // invalid bytes are read as U+FFFD
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

// AppendValue writes whole numbers as integers, for readability, and everything else
// in the shortest form that parses to the same float.
func AppendValue(dst []byte, v float64) []byte {
	const exact = 1 << 53 // above, neighbouring integers share a float
	if v == math.Trunc(v) && math.Abs(v) < exact {
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// AppendNote appends the n-th note about the body itself. OpenMetrics has no
// comments, and promtool rejects a file with one. Every parser skips a family that
// has only a HELP line.
func AppendNote(dst []byte, f Format, n int, text string) []byte {
	dst = append(dst, "# HELP weir_note_"...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, ' ')
	dst = appendHelp(dst, f, text)
	return append(dst, '\n')
}
