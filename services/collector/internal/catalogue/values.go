package catalogue

import (
	"slices"
	"strconv"
	"strings"
)

// everyValue matches every value.
const everyValue = "*"

// parseRange parses "1..29"; ok is false for anything else.
func parseRange(text string) (low, high int64, ok bool) {
	from, to, found := strings.Cut(text, "..")
	if !found {
		return 0, 0, false
	}
	low, errLow := strconv.ParseInt(from, 10, 64)
	high, errHigh := strconv.ParseInt(to, 10, 64)
	return low, high, errLow == nil && errHigh == nil
}

// matches reports whether a label value is replaced.
func (v *Value) matches(text string) bool {
	return slices.ContainsFunc(v.From, func(from string) bool {
		if from == everyValue || from == text {
			return true
		}
		low, high, ok := parseRange(from)
		if !ok {
			return false
		}
		n, err := strconv.ParseInt(text, 10, 64)
		return err == nil && low <= n && n <= high
	})
}

// labelValue returns the label value of a dimension's text: the function of its source,
// then the first replacement that matches, then unknown for what is empty, since Prometheus
// treats an empty label as absent and remote write forbids it.
func (s *source) labelValue(text string) string {
	switch s.function {
	case classOf:
		text = statusClass(text)
	case pathOf:
		text = pathPattern(text)
	}
	for i := range s.values {
		if s.values[i].matches(text) {
			return s.values[i].To
		}
	}
	if text == "" {
		return unknown
	}
	return text
}

// statusClass turns 404 into 4xx, and what is no status code into unknown.
func statusClass(text string) string {
	if len(text) == 3 && text[0] >= '1' && text[0] <= '9' {
		if _, err := strconv.ParseUint(text, 10, 16); err == nil {
			return text[:1] + "xx"
		}
	}
	return unknown
}

// maxSegments is the number of segments of a path that are kept: paths that only grow
// longer are no other pages.
const maxSegments = 8

// pathPattern is a path without what differs from request to request: the query is cut,
// and segments that are numbers, UUIDs or long hexadecimal numbers become :id, :uuid and
// :hex. Segments beyond the eighth become one "...".
func pathPattern(path string) string {
	path, _, _ = strings.Cut(path, "?")
	segments := strings.Split(path, "/")
	if len(segments) > maxSegments+1 {
		segments = append(segments[:maxSegments+1:maxSegments+1], "...")
	}
	for i, s := range segments {
		segments[i] = segmentPattern(s)
	}
	return strings.Join(segments, "/")
}

func segmentPattern(s string) string {
	digits, hexes, dashes := 0, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
			hexes++
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			hexes++
		case c == '-':
			dashes++
		}
	}
	switch {
	case s == "":
		return s
	case digits == len(s):
		return ":id"
	case len(s) == 36 && dashes == 4 && hexes == 32 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-':
		return ":uuid"
	case len(s) >= 16 && hexes == len(s) && digits > 0:
		return ":hex"
	}
	return s
}
