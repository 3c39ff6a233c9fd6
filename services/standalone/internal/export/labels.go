package export

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weir-metrics/weir/services/standalone/internal/history"
)

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// ParseLabels parses name=value pairs, and returns them in order of name.
func ParseLabels(pairs []string) ([]Label, error) {
	var out []Label
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok || !labelName.MatchString(name) || strings.HasPrefix(name, "__"):
			return nil, fmt.Errorf("label %q must be name=value, with a name of letters, digits and underscores", pair)
		case value == "" || !utf8.ValidString(value):
			return nil, fmt.Errorf("label %q must have a value: an empty label is none to Prometheus", pair)
		case slices.ContainsFunc(out, func(l Label) bool { return l.Name == name }):
			return nil, fmt.Errorf("label %s is given twice", name)
		}
		out = append(out, Label{name, value})
	}
	slices.SortFunc(out, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// checkLabels refuses labels that would make other series than a scrape does.
func checkLabels(labels []Label, groups []history.Group) error {
	for _, required := range []string{"job", "instance"} {
		if !slices.ContainsFunc(labels, func(l Label) bool { return l.Name == required }) {
			return fmt.Errorf("label %s is required: without it the samples become series beside those that are scraped", required)
		}
	}
	for _, l := range labels {
		if l.Name == "zone" || l.Name == "account" {
			return fmt.Errorf("label %s belongs to the data; it cannot be set", l.Name)
		}
		for _, g := range groups {
			for family, own := range g.Families {
				if slices.Contains(own, l.Name) {
					return fmt.Errorf("label %s is one of family %s; it cannot be set", l.Name, family)
				}
			}
		}
	}
	return nil
}
