package yamldoc

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/smallfile"
)

// laughs is ten levels of aliases to ten aliases: ten thousand million words if
// anybody wrote them out.
func laughs() string {
	text := "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n"
	for c := 'b'; c <= 'k'; c++ {
		text += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	return text
}

// Whatever stands in a file that is within the size limit, parsing it takes
// bounded memory, as a tree or as an error (G8). Each text is tried at the limit
// of bytes and at that of elements, which would else hide the others.
func TestParseIsBounded(t *testing.T) {
	for _, size := range []int{int(smallfile.YAML), mostTokens * 3 / 4} {
		fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
		stairs := func(step string) string {
			var b strings.Builder
			for i := 0; b.Len()+i+len(step) < size; i++ {
				b.WriteString(strings.Repeat(" ", i) + step + "\n")
			}
			return b.String()
		}
		var keys strings.Builder
		for i := 0; keys.Len() < size-20; i++ {
			fmt.Fprintf(&keys, "k%d: 1\n", i)
		}
		for name, text := range map[string]string{
			"alias bomb": laughs(), "sequences": fill("["), "mappings": fill("{"), "closed": fill("[")[:size/2] + fill("]")[:size/2],
			"lists in a line": fill("- "), "lists in lines": fill("-\n"), "complex keys": fill("? "), "anchors": fill("&a "), "anchors in lines": fill("&a\n"),
			"tags": fill("!a "), "tags in lines": fill("!a\n"), "colons": fill("a: "), "colons in brackets": "{" + fill("a: ")[3:],
			"brackets in lines": fill("[\n"), "many keys": keys.String(), "aliases": "a: &a x\n" + fill("- *a\n")[10:], "stairs": stairs("a:"),
			"stairs of lists": stairs("-"), "comments": fill("#\n"), "quotes": fill("'a\n"), "scalars": fill("a, "), "one scalar": fill("a"),
			"zeros": fill("\x00"), "literal": "a: |\n" + fill(" a\n")[6:],
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Parse([]byte(text))
			runtime.ReadMemStats(&after)
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 150 {
				t.Errorf("%s: %d MB for %d kB (error %.100v)", name, took, len(text)>>10, err)
			}
		}
	}
	if _, err := Parse([]byte(strings.Repeat("a", int(smallfile.YAML)+1))); err == nil {
		t.Error("a text beyond the limit was parsed")
	}
}

// The bounds are no obstacle for what people write.
func TestParseTakesLargeOnes(t *testing.T) {
	var b strings.Builder
	b.WriteString("cf_zones:\n")
	for i := range 8000 {
		fmt.Fprintf(&b, "- zone-%d.example\n", i)
	}
	for _, text := range []string{
		b.String(),
		"cf_zones: [" + strings.Repeat("shop.example, ", 10_000) + "x]",
		`{"datasets": [` + strings.Repeat(`{"name": "a", "by": ["b", {"c": "d"}]},`, 1000) + "{}]}",
		"a: \"[start, end)\"\n# [[[[[\nb: &x {c: d}\ne: *x\n",
	} {
		if _, err := Parse([]byte(text)); err != nil {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}
