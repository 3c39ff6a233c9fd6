package promtest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// ShippedVictoria returns the scrape jobs that are shipped for VictoriaMetrics,
// and the flags of the command in their first lines, without the one that names
// the file.
func ShippedVictoria(t testing.TB) (config string, flags []string) {
	t.Helper()
	text := testkit.RepoFile(t, "deploy/victoriametrics/scrape.yml")
	command := regexp.MustCompile(`(?m)^#   victoria-metrics -promscrape.config=scrape.yml((?: .*\\\n#)* .*)$`).FindSubmatch(text)
	if command == nil {
		t.Fatal("deploy/victoriametrics/scrape.yml does not say with which flags it is used")
	}
	return string(text), strings.Fields(strings.ReplaceAll(string(command[1]), "\\\n#", " "))
}
