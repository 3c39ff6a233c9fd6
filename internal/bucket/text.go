package bucket

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of text that becomes a label. [FitLabel] and [FitName] apply them to Cloudflare's
// text before any other use.
const (
	// MaxLabel is the maximum length of a label value in bytes: half of what Mimir accepts
	// by default (2,048), far beyond any dimension that Cloudflare documents.
	MaxLabel = 1024
	// MaxName is the maximum length of a zone's or an account's name in bytes, which every
	// sample carries. Cloudflare allows a zone's 253 characters of ASCII and an
	// account's 100 of any script, which are at most 400 bytes.
	MaxName = 512

	// mark is what FitLabel adds to a text that it changes: "~" and eight digits.
	mark = 1 + 8
)

// FitLabel returns the label value for a text of any length and content, and whether it
// differs from the text. A text that is longer than [MaxLabel] is truncated at a character
// boundary. NUL and invalid UTF-8, which would make a scrape fail, become U+FFFD. A value
// that was changed ends with "~" and eight digits of the text's SHA-256, so that two texts
// remain two rows. The result depends only on the text, so the series is the same for
// every collector.
func FitLabel(text string) (value string, changed bool) { return fit(text, MaxLabel) }

// FitName is [FitLabel] for the name of a zone or an account.
func FitName(text string) (name string, changed bool) { return fit(text, MaxName) }

func fit(text string, most int) (string, bool) {
	if len(text) <= most && utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text, false
	}
	sum := sha256.Sum256([]byte(text))
	// Only the beginning is processed: the text may have megabytes. U+FFFD is longer
	// than the byte that it replaces, so the result is truncated once more.
	kept := strings.ReplaceAll(strings.ToValidUTF8(cut(text, most), "\uFFFD"), "\x00", "\uFFFD")
	return cut(kept, most-mark) + "~" + hex.EncodeToString(sum[:4]), true
}

// cut returns at most n bytes of s, without a partial character at the end.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := n; back > n-utf8.UTFMax && back > 0; back-- {
		if utf8.RuneStart(s[back]) {
			return s[:back]
		}
	}
	return s[:n] // not UTF-8
}

// Clip truncates an external text for a message.
func Clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(cut(text, most), "\uFFFD") + "…"
}

// Printable reports whether a name is readable: it has a visible character, and no control
// character, no character that changes the direction of text, and no U+FFFD, which
// replaces invalid text.
func Printable(name string) bool {
	shows := false
	for _, r := range name {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == utf8.RuneError: // also for invalid UTF-8
			return false
		case unicode.IsGraphic(r) && !unicode.IsSpace(r) && !unicode.Is(unicode.Mn, r):
			shows = true
		}
	}
	return shows
}
