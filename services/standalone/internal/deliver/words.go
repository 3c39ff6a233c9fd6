package deliver

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"unicode"
)

// The messages of Prometheus, Mimir, Cortex and Thanos Receive about a sample, in the order in
// which they are looked for: Mimir's text about a sample beyond its out-of-order window has
// two of them, and so has Prometheus's about one of the future. Each names the sample or its timestamp, so that the words alone are no match.
var words = []struct {
	reason Reason
	text   *regexp.Regexp
}{
	{Duplicate, regexp.MustCompile(`(?i)duplicate (sample|timestamp)|sample-duplicate|same timestamp`)},
	{Future, regexp.MustCompile(`(?i)\b(sample|timestamp)\b[^;\n]*\b(future|too new)\b|too-far-in-future`)},
	{TooOld, regexp.MustCompile(`(?im)too.old sample|\b(sample|timestamp)\b[^;\n]*\btoo.old\b|(^|[:;] *|\bsample )out of bounds|beyond the out-of-order`)},
	{OutOfOrder, regexp.MustCompile(`(?i)out.of.order samples?\b|\b(sample|timestamp)\b[^;\n]*\bout.of.order\b`)},
}

func classify(e *RejectedError) Reason {
	if e.Status == http.StatusRequestEntityTooLarge {
		return TooLarge
	}
	own := unquoted(e.Text)
	for _, w := range words {
		if w.text.MatchString(own) {
			return w.reason
		}
	}
	return Other
}

// unquoted returns a message without what it cites: quoted parts and series in braces, whose
// labels may have any words. A part that has no end, since the message was cut, is left out
// up to the end.
func unquoted(text string) string {
	var out strings.Builder
	depth, quote, escaped, last := 0, rune(0), false, ' '
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case quote != 0:
			if c == '\\' && quote != '`' {
				escaped = true
			} else if c == quote {
				quote = 0
			}
		case c == '"', c == '`', c == '\'' && !unicode.IsLetter(last) && !unicode.IsDigit(last):
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case depth == 0:
			out.WriteRune(c)
		}
		last = c
	}
	return out.String()
}

// said is the message of a response: what it has of it in JSON, or its text.
func said(body string) string {
	var m struct{ Error, Message string }
	if json.Unmarshal([]byte(body), &m) == nil {
		if m.Error != "" {
			return m.Error
		}
		if m.Message != "" {
			return m.Message
		}
	}
	return body
}
