package store

import (
	"strings"
	"unicode/utf8"
)

// MaxText is the maximum length of [Text] in bytes: a message of Cloudflare and its
// context.
const MaxText = 1000

// Text converts an external text (a message of Cloudflare, an error) to one that a record
// can hold: of limited length, UTF-8, without NUL. Otherwise one message that a database
// rejects would fail the append that contains it, again and again.
func Text(s string) string {
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText-len("…")], "") + "…"
	}
	return Valid(s)
}

// Valid replaces what no record or entry can hold: invalid UTF-8, and NUL.
func Valid(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Unreadable is a record whose value does not have the format of its kind. Readers of
// records skip it and report it.
type Unreadable struct {
	Record
	Err error
}

// escapesNUL reports whether JSON contains an escaped NUL, which jsonb cannot hold. If
// the backslash itself is escaped, it is not a NUL.
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

// validText rejects text that Postgres cannot hold as text or jsonb, although SQLite can.
func validText(texts ...string) bool {
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return false
		}
	}
	return true
}
