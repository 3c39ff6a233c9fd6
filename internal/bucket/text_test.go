package bucket_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
)

func TestLabelsThatDoNotFitAreCutAndStayApart(t *testing.T) {
	long := strings.Repeat("ä", bucket.MaxLabel)
	for _, c := range []struct{ text, begins string }{
		{strings.Repeat("a", bucket.MaxLabel+1), strings.Repeat("a", bucket.MaxLabel-9) + "~"},
		{"x" + long, "x" + strings.Repeat("ä", (bucket.MaxLabel-10)/2) + "~"},
		{long, strings.Repeat("ä", (bucket.MaxLabel-9)/2) + "~"},
		{"a\x00b", "a\uFFFDb~"},
		{"a\xffb", "a\uFFFDb~"},
		{strings.Repeat("\xff", 9<<20), "\uFFFD~"},
		{strings.Repeat("\x00", bucket.MaxLabel), strings.Repeat("\uFFFD", (bucket.MaxLabel-9)/3) + "~"},
	} {
		got, changed := bucket.FitLabel(c.text)
		if !changed || !strings.HasPrefix(got, c.begins) || len(got) != len(c.begins)+8 {
			t.Errorf("%.20q, %d bytes, becomes %.40q, %d bytes; want %.40q and eight digits", c.text, len(c.text), got, len(got), c.begins)
		}
		if other, _ := bucket.FitLabel(c.text + "."); other == got {
			t.Errorf("%.20q and another text become one value", c.text)
		}
		if again, changed := bucket.FitLabel(got); changed || again != got {
			t.Errorf("%.20q is changed once more, to %.20q", got, again)
		}
	}
	for _, text := range []string{"", "text/html", "\t", "line\nbreak", "\u202e", "\uFFFD", strings.Repeat("a", bucket.MaxLabel)} {
		if got, changed := bucket.FitLabel(text); changed || got != text {
			t.Errorf("%.20q, which fits, becomes %.20q", text, got)
		}
	}
}

func TestNamesThatShowNothing(t *testing.T) {
	for name, want := range map[string]bool{
		"shop.example": true, "münchen.example": true, "日本": true, "Acme, Inc.": true, "🦊": true, "#1": true,
		"": false, " ": false, "\u00a0": false, "a\x00b": false, "a\tb": false, "\x7f": false, "\u200b": false, "\u202e": false, "\u0301": false, "a\xff": false, "a\uFFFD": false,
	} {
		if got := bucket.Printable(name); got != want {
			t.Errorf("%q is printable: %t", name, got)
		}
	}
}

// Whatever text comes, what becomes a label is one that every reader takes.
func FuzzFitLabel(f *testing.F) {
	f.Add("a\x00\xff" + strings.Repeat("ä", bucket.MaxLabel))
	f.Fuzz(func(t *testing.T, text string) {
		for most, fit := range map[int]func(string) (string, bool){bucket.MaxLabel: bucket.FitLabel, bucket.MaxName: bucket.FitName} {
			got, changed := fit(text)
			if len(got) > most || !utf8.ValidString(got) || strings.Contains(got, "\x00") || changed != (got != text) {
				t.Fatalf("%q becomes %q, changed %t", text, got, changed)
			}
		}
	})
}

func TestClip(t *testing.T) {
	for text, want := range map[string]string{
		"": "", strings.Repeat("a", 80): strings.Repeat("a", 80), strings.Repeat("a", 81): strings.Repeat("a", 80) + "…",
		strings.Repeat("a", 79) + "ä": strings.Repeat("a", 79) + "…", "\xff" + strings.Repeat("a", 80): "\uFFFD" + strings.Repeat("a", 79) + "…",
	} {
		if got := bucket.Clip(text); got != want {
			t.Errorf("%q is clipped to %q, want %q", text, got, want)
		}
	}
}
