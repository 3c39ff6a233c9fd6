package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"two\nlines, Bücher.example, 例え.テスト, \u00a0, \ufffd": "two\nlines, Bücher.example, 例え.テスト, \u00a0, \ufffd",
		"\x1b[2J\x1b]0;title\a":                              `\x1b[2J\x1b]0;title\a`,
		"\u009b31m, \u202eevil, \u2066x\u2069, \x7f, \r, \t": `\u009b31m, \u202eevil, \u2066x\u2069, \x7f, \r, \t`,
		"\u200b\ufeff\u2028":                                 `\u200b\ufeff\u2028`,
		"not UTF-8: \xff\xc3":                                `not UTF-8: \xff\xc3`,
	} {
		if got := Plain(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// What the program itself prints must arrive too, and what its errors quote must not reach the
// terminal as it is.
func TestOutputOfTheProgram(t *testing.T) {
	p := Program{Name: "weir", Commands: []Command{{Name: "fail", Summary: "fail", Settings: []Setting{{Flag: "why", Help: "why", Value: Text(new(string))}}, Run: func(context.Context, []string) error { return errors.New("refused: \x1b[2J") }}}}
	for _, args := range [][]string{{"version"}, {"help"}, {"fail", "--help"}, {"fail", "--print-config"}} {
		var stderr bytes.Buffer
		p.Stdout, p.Stderr, p.Environ = full{}, &stderr, []string{}
		if code := p.Main(t.Context(), args); code != ExitError || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%q onto a full disk: exit code %d, %s", args, code, stderr.String())
		}
	}
	var stderr bytes.Buffer
	p.Stderr = &stderr
	if code := p.Main(t.Context(), []string{"fail"}); code != ExitError || stderr.String() != "weir fail: refused: \\x1b[2J\n" {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}
