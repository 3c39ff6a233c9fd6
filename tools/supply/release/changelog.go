package release

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// heading begins a section of a changelog: [1.2.3] - 2026-12-01, or [Unreleased].
var heading = regexp.MustCompile(`(?m)^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?[ \t]*$`)

// Section is what a changelog says of a version, without its heading. The section must be
// the newest release of the file, have a date, and say something.
func Section(changelog, version string) (string, error) {
	sections, err := split(changelog)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(sections, func(s section) bool { return s.name == version })
	if i < 0 {
		return "", fmt.Errorf("CHANGELOG.md has no section %q: rename [Unreleased] and begin a new one above it", "## ["+version+"] - YYYY-MM-DD")
	}
	for _, s := range sections[:i] {
		if s.name != unreleased {
			return "", fmt.Errorf("CHANGELOG.md: the section of %s stands above that of %s, so %s is not the newest release", s.name, version, version)
		}
		if s.text != "" {
			return "", fmt.Errorf("CHANGELOG.md: [Unreleased] is not empty in the commit of %s; what it says belongs to the release", version)
		}
	}
	if sections[i].date == "" {
		return "", fmt.Errorf("CHANGELOG.md: the section of %s has no date (## [%s] - YYYY-MM-DD)", version, version)
	}
	if sections[i].text == "" {
		return "", fmt.Errorf("CHANGELOG.md: the section of %s is empty", version)
	}
	return sections[i].text + "\n", nil
}

const unreleased = "Unreleased"

type section struct{ name, date, text string }

// split returns the sections of a changelog from the top, each name once.
func split(changelog string) ([]section, error) {
	begins := heading.FindAllStringSubmatchIndex(changelog, -1)
	var sections []section
	for i, at := range begins {
		end := len(changelog)
		if i+1 < len(begins) {
			end = begins[i+1][0]
		}
		s := section{name: changelog[at[2]:at[3]], text: strings.TrimSpace(changelog[at[1]:end])}
		if at[4] >= 0 {
			s.date = changelog[at[4]:at[5]]
		}
		if slices.ContainsFunc(sections, func(before section) bool { return before.name == s.name }) {
			return nil, fmt.Errorf("CHANGELOG.md has two sections [%s]", s.name)
		}
		sections = append(sections, s)
	}
	if n := strings.Count("\n"+changelog, "\n## "); n != len(sections) {
		return nil, fmt.Errorf("CHANGELOG.md: %d of %d headings are not written as [1.2.3] - YYYY-MM-DD or [Unreleased]", n-len(sections), n)
	}
	return sections, nil
}
