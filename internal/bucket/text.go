package bucket

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of text that becomes a label. What comes from Cloudflare is brought
// within them by [FitLabel] and [FitName] before anything else sees it.
const (
	// MaxLabel is the most bytes of a label's value: half of what Mimir accepts
	// by default (2,048), far beyond any dimension that Cloudflare documents.
	MaxLabel = 1024
	// MaxName is the most bytes of a zone's or an account's name, which every
	// sample carries. Cloudflare allows a zone's 253 characters of ASCII and an
	// account's 100 of any script, which are at most 400 bytes.
	MaxName = 512

	// mark is what FitLabel adds to a text that it changes: "~" and eight digits.
	mark = 1 + 8
)

// FitLabel returns the value of a label for a text of any length and content,
// and whether it differs from the text. A text that is longer than [MaxLabel]
// is cut at the border of a character; NUL and bytes that are no UTF-8, which
// end a body or a scrape, become U+FFFD. A value that was changed ends with "~"
// and eight digits of the text's SHA-256, so that two texts stay two rows. It
// depends on the text alone: a series goes on whoever collects it.
func FitLabel(text string) (value string, changed bool) { return fit(text, MaxLabel) }

// FitName is [FitLabel] for the name of a zone or an account.
func FitName(text string) (name string, changed bool) { return fit(text, MaxName) }

func fit(text string, most int) (string, bool) {
	if len(text) <= most && utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text, false
	}
	sum := sha256.Sum256([]byte(text))
	// Only the beginning is looked at: the text may have megabytes. U+FFFD is
	// longer than what it replaces, so it is cut once more afterwards.
	kept := strings.ReplaceAll(strings.ToValidUTF8(cut(text, most), "\uFFFD"), "\x00", "\uFFFD")
	return cut(kept, most-mark) + "~" + hex.EncodeToString(sum[:4]), true
}

// cut returns at most n bytes of s, less a character that would be cut in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := n; back > n-utf8.UTFMax && back > 0; back-- {
		if utf8.RuneStart(s[back]) {
			return s[:back]
		}
	}
	return s[:n] // no UTF-8 at all
}

// Clip is the beginning of a text from elsewhere, short enough for a message.
func Clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(cut(text, most), "\uFFFD") + "…"
}

// Printable reports whether a name can be read by people: it shows something,
// and holds neither a control character, nor one that turns the direction of text
// around, nor U+FFFD, which stands for what was no text.
func Printable(name string) bool {
	shows := false
	for _, r := range name {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == utf8.RuneError: // also for bytes that are no UTF-8
			return false
		case unicode.IsGraphic(r) && !unicode.IsSpace(r) && !unicode.Is(unicode.Mn, r):
			shows = true
		}
	}
	return shows
}
