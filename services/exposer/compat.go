package exposer

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/services/exposer/internal/compat"
)

// WriteCompat writes the table of what /counters/compat/lablabs serves, in Markdown: for each
// family of theirs the family of Weir that it is made of, or why it is left out.
func WriteCompat(w io.Writer) error {
	type row struct{ name, text string }
	var rows []row
	for _, f := range compat.Lablabs.Families {
		kind := "counter"
		if f.Gauge {
			kind = "gauge"
		}
		var labels []string
		for _, l := range f.Labels {
			labels = append(labels, l.Name)
		}
		rows = append(rows, row{f.Name, fmt.Sprintf("%s | `%s` | `%s` | `%s` | %s", kind, strings.Join(labels, "`, `"), strings.Join(f.Of, "`, `"), f.Dataset, f.Note)})
	}
	for _, one := range compat.Lablabs.LeftOut {
		rows = append(rows, row{one.Name, "– | | | | not served: " + one.Why})
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString("| theirs | type | labels | made of | dataset | difference |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.name, r.text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
