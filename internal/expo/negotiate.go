package expo

import (
	"strconv"
	"strings"
)

// Negotiate chooses the format for an Accept header. It chooses OpenMetrics 1.0 if
// the header names it with at least the quality of text, and text otherwise, which
// every scraper reads. It ignores versions that Weir does not write (0.0.1, 2.0.0):
// a body must match its Content-Type.
func Negotiate(accept string) Format {
	text, open := -1.0, -1.0
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		q, version := 1.0, ""
		for param := range strings.SplitSeq(params, ";") {
			key, value, _ := strings.Cut(param, "=")
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(key)) {
			case "q":
				q = quality(value)
			case "version":
				version = value
			}
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "application/openmetrics-text":
			if version == "" || version == "1.0.0" {
				open = max(open, q)
			}
		case "text/plain":
			// 1.0.0 is 0.0.4 with quoted names, of which Weir has none.
			if version == "" || version == "0.0.4" || version == "1.0.0" {
				text = max(text, q)
			}
		case "text/*", "*/*":
			text = max(text, q)
		}
	}
	if open > 0 && open >= text {
		return OpenMetrics
	}
	return Text
}

// Encoding is a content encoding of HTTP.
type Encoding uint8

// The encodings, and their number. Prometheus understands no other by default.
const (
	Identity Encoding = iota
	Gzip
	Encodings = 2
)

// String is the encoding's name in HTTP.
func (e Encoding) String() string {
	if e == Gzip {
		return "gzip"
	}
	return "identity"
}

// NegotiateEncoding chooses the encoding for an Accept-Encoding header: gzip if it is
// accepted and preferred, identity otherwise.
func NegotiateEncoding(accept string) Encoding {
	gzip, identity, any := -1.0, -1.0, -1.0
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		q := 1.0
		for param := range strings.SplitSeq(params, ";") {
			if key, value, _ := strings.Cut(param, "="); strings.EqualFold(strings.TrimSpace(key), "q") {
				q = quality(strings.TrimSpace(value))
			}
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip":
			gzip = q
		case "identity":
			identity = q
		case "*":
			any = q
		}
	}
	if gzip < 0 { // not named: the wildcard applies
		gzip = any
	}
	if gzip > 0 && gzip >= identity {
		return Gzip
	}
	return Identity
}

// quality parses a q-value. A malformed one is 0 (not acceptable), so that it cannot
// win over a valid one.
func quality(s string) float64 {
	q, err := strconv.ParseFloat(s, 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}
