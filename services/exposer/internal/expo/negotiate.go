package expo

import (
	"strconv"
	"strings"
)

// Negotiate chooses the format for an Accept header. OpenMetrics 1.0 must be
// asked for by name and at least as eagerly as text; everything else gets
// text, which every scraper reads. Versions that Weir does not write (0.0.1,
// 2.0.0) are passed over: a body must be what its Content-Type says.
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

// NegotiateEncoding chooses the encoding for an Accept-Encoding header: gzip
// where it is welcome, identity otherwise, and never anything else.
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
	if gzip < 0 { // not named: the wildcard speaks for it
		gzip = any
	}
	if gzip > 0 && gzip >= identity {
		return Gzip
	}
	return Identity
}

// quality reads a q-value; what is none counts as a refusal, so that a
// malformed wish cannot win over a well-formed one.
func quality(s string) float64 {
	q, err := strconv.ParseFloat(s, 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}
