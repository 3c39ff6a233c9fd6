package backfill

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

const (
	maxLabels     = 8
	maxLabelValue = 256 // bytes; it is repeated in every line
)

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// labels parses the repeatable parameter label=name=value: labels that a scrape job
// would add to each series, for importers that cannot add them.
func (p params) labels(r *Request, state *recent.State) error {
	given := p.Values["label"]
	if len(given) > maxLabels {
		return &ParamError{"label", strings.Join(given, " and "), fmt.Sprintf("given at most %d times", maxLabels)}
	}
	taken := []string{"zone", "account"}
	for _, id := range r.Datasets {
		for _, version := range state.Dataset(id).Versions {
			for i := range version.Families {
				taken = append(taken, version.Families[i].Labels...)
			}
		}
	}
	for _, text := range given {
		bad := func(want string) error { return &ParamError{"label", text, want} }
		name, value, _ := strings.Cut(text, "=")
		switch {
		case !labelName.MatchString(name) || strings.HasPrefix(name, "__"):
			return bad("name=value, such as job=weir; the name consists of letters, digits and underscores and does not start with __")
		case value == "" || len(value) > maxLabelValue || !utf8.ValidString(value):
			return bad(fmt.Sprintf("name=value with a value of 1 to %d bytes of UTF-8", maxLabelValue))
		case slices.Contains(taken, name):
			return bad("a label with another name: this one exists in the data or is given twice")
		}
		taken = append(taken, name)
		r.Labels = append(r.Labels, sample.Label{Name: name, Value: value})
	}
	return nil
}
