// Package bearer validates the bearer tokens that Weir sends and accepts.
//
// Token files that are edited by hand often have the same mistakes: a byte-order mark,
// quotes, two lines instead of one. Such a text is never a valid token, so it must not
// replace a valid one.
package bearer

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// longest token that is accepted; servers refuse headers of 8 KiB.
const longest = 4096

// Check reports what keeps a text from being a token: it must be printable ASCII
// without blanks and quotes. The error does not show the text.
func Check(token string) error {
	switch {
	case token == "":
		return errors.New("the token is empty")
	case len(token) > longest:
		return fmt.Errorf("the token has %d bytes; it must have at most %d", len(token), longest)
	case len(token) > len(scheme) && strings.EqualFold(token[:len(scheme)], scheme):
		return errors.New("the token begins with the word Bearer; remove it")
	}
	if name, _, assigned := strings.Cut(token, "="); assigned && assignment.MatchString(name) {
		return fmt.Errorf("the token begins with %s=; remove it", name)
	}
	for i, r := range token {
		what := ""
		switch {
		case r == '"' || r == '\'' || r == '`':
			what = "a quote"
		case r == '\n' || r == '\r':
			what = "a line break"
		case r == ' ' || r == '\t':
			what = "a space"
		case r < ' ' || r == '\x7f':
			what = "a control character"
		case r > '~':
			what = "a character that is not ASCII"
		default:
			continue
		}
		return fmt.Errorf("the token has %s at byte %d of %d; it must be printable ASCII without spaces and quotes", what, i+1, len(token))
	}
	return nil
}

const scheme = "Bearer "

// assignment is the name of a variable, which a line of an environment file begins
// with.
var assignment = regexp.MustCompile(`^(export +)?(CF|CLOUDFLARE|WEIR)_[A-Z_]+$`)

// List returns the tokens of a text, one a line; blanks around a token and empty
// lines are dropped. The error names the line and does not show it.
func List(text string) ([]string, error) {
	var all []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		token := strings.TrimSpace(line)
		if token == "" {
			continue
		}
		if err := Check(token); err != nil {
			return nil, fmt.Errorf("line %d: %w; want one token per line", n, err)
		}
		all = append(all, token)
	}
	if len(all) == 0 {
		return nil, errors.New("no token found: want one token per line")
	}
	return all, nil
}
