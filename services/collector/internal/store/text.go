package store

import (
	"strings"
	"unicode/utf8"
)

// MaxText is the most bytes that [Text] keeps: a message of Cloudflare's and
// what we say around it.
const MaxText = 1000

// Text is a text from elsewhere (Cloudflare's words, an error) as a record can
// hold it: of a length that does no harm, UTF-8, without NUL. One message that
// a database refuses would otherwise fail the append that carries it, again and
// again.
func Text(s string) string {
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText-len("…")], "") + "…"
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Unreadable is a record whose value is not what its kind has. It costs itself:
// whoever reads records goes on without it, and says so.
type Unreadable struct {
	Record
	Err error
}

// escapesNUL reports whether JSON spells a NUL, which jsonb cannot hold. A text
// about it has its backslash escaped, and says nothing wrong.
func escapesNUL(json string) bool {
	for {
		i := strings.Index(json, `\u0000`)
		if i < 0 {
			return false
		}
		before := len(json[:i]) - len(strings.TrimRight(json[:i], `\`))
		if before%2 == 0 {
			return true
		}
		json = json[i+len(`\u0000`):]
	}
}

// validText refuses what Postgres cannot hold as text or jsonb and SQLite could.
func validText(texts ...string) bool {
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return false
		}
	}
	return true
}
