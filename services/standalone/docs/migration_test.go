package docs

import (
	"regexp"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/services/collector"
)

// peerFamilies are the names in the catalogue's list of other exporters' families.
func peerFamilies(t *testing.T) (names map[string][]string) {
	t.Helper()
	names = map[string][]string{}
	for line := range strings.Lines(string(content(t, "../../collector/internal/catalogue/peers.txt"))) {
		if f := strings.Fields(line); len(f) == 3 && !strings.HasPrefix(line, "#") {
			names[f[2]] = append(names[f[2]], f[0])
		}
	}
	return names
}

// Every family of the other exporters is on the page, in its exporter's table, with a family
// of Weir that exists and the dataset that it is of, or with the reason why there is none.
func TestMigrationNamesEveryFamily(t *testing.T) {
	text := read(t).page(t, "docs/migration.md")
	var datasets strings.Builder
	var config collector.Config
	if err := config.WriteCatalogue(&datasets); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for exporter, names := range peerFamilies(t) {
		_, table, found := strings.Cut(text, "\n## "+exporter+"\n")
		if !found {
			t.Fatalf("docs/migration.md has no section %s", exporter)
		}
		table, _, _ = strings.Cut(table, "\n## ")
		for _, name := range names {
			row := regexp.MustCompile("(?m)^\\| `" + name + "` \\| (.+) \\| (.+) \\|(.*)\\|$").FindStringSubmatch(table)
			if row == nil {
				t.Errorf("docs/migration.md: the table of %s has no row for %s", exporter, name)
				continue
			}
			rows++
			if row[1] == "–" && len(strings.TrimSpace(row[3])) < 4 {
				t.Errorf("docs/migration.md: %s has no counterpart and no reason", name)
			}
			dataset := strings.Trim(row[2], "`")
			for _, family := range regexp.MustCompile("cloudflare_[a-z0-9_]+").FindAllString(row[1], -1) {
				section := regexp.MustCompile("(?m)^## `" + dataset + "(_1d|_1h|_5m)?`$").FindStringIndex(datasets.String())
				if section == nil {
					t.Errorf("docs/migration.md: %s is said to be in %s, which is no dataset", name, dataset)
				}
				if !strings.Contains(string(content(t, folder+"/metrics.md")), "| `"+family+"` |") {
					t.Errorf("docs/migration.md: %s is said to be %s, which is no family", name, family)
				}
			}
		}
	}
	if rows < 130 {
		t.Errorf("docs/migration.md has %d rows; either the list has become thin or this test no longer understands it", rows)
	}
}
