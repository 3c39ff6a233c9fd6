package bearer

import (
	"slices"
	"strings"
	"testing"
)

// wrong are texts that can never be a token, with what the error must say. Each
// holds the word hidden, which it must not.
var wrong = map[string]string{
	"\"hidden\"":                          "quote",
	"'hidden'":                            "quote",
	"`hidden`":                            "quote",
	"hidden one":                          "space",
	"hidden\tone":                         "space",
	"hidden\none":                         "line break",
	"hidden\r\none":                       "line break",
	"\ufeffhidden":                        "not ASCII",
	"hid\u200bhidden":                     "not ASCII",
	"hidden\u2019":                        "not ASCII",
	"h\x00i\x00hidden":                    "control character",
	"Bearer hidden":                       "word Bearer",
	"hidden" + strings.Repeat("a", 1<<13): "bytes",
}

func TestCheck(t *testing.T) {
	for _, token := range []string{"a", "simulated-token-0123456789abcdef0123456789", "abc.DEF_~+/==", "p!ss:w@rd"} {
		if err := Check(token); err != nil {
			t.Errorf("%s: %v", token, err)
		}
	}
	if Check("") == nil {
		t.Error("an empty token was accepted")
	}
	for token, says := range wrong {
		if err := Check(token); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%.20q: error %v; it must say %q and not show the token", token, err, says)
		}
	}
}

func TestList(t *testing.T) {
	if got, err := List("\n  one \r\ntwo\n\n"); err != nil || !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("got %q, error %v", got, err)
	}
	for _, text := range []string{"", "\n \n"} {
		if _, err := List(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	if _, err := List("one\n\n\"hidden\"\n"); err == nil || !strings.Contains(err.Error(), "line 3: ") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v; it must name line 3 and not show it", err)
	}
}
