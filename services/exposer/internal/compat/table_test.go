package compat_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer/internal/compat"
)

type theirs struct {
	kind   string
	labels []string
}

// families are those of the exporter: what each of them is there.
func families(t testing.TB) map[string]theirs {
	t.Helper()
	text, err := os.ReadFile("testdata/lablabs.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]theirs{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "#" {
			all[f[0]] = theirs{f[1], strings.Split(f[2], ",")}
		}
	}
	return all
}

// Each family of theirs is shown, with its type and its labels, or left out with a reason, and
// the list is that of the catalogue, which docs/migration.md is checked by.
func TestTableHasEveryFamily(t *testing.T) {
	all := families(t)
	peers := map[string]string{}
	for line := range strings.Lines(string(testkit.RepoFile(t, "services/collector/internal/catalogue/peers.txt"))) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == compat.Lablabs.Exporter {
			peers[f[0]] = f[1]
		}
	}
	kinds := map[string]string{}
	for name, f := range all {
		kinds[name] = f.kind
	}
	if diff := cmp.Diff(peers, kinds); diff != "" || len(peers) < 50 {
		t.Fatalf("testdata/lablabs.txt is not what peers.txt has (-peers +here):\n%s", diff)
	}
	for _, f := range compat.Lablabs.Families {
		want, known := all[f.Name]
		delete(all, f.Name)
		var labels []string
		for _, l := range f.Labels {
			labels = append(labels, l.Name)
		}
		slices.Sort(labels)
		slices.Sort(want.labels)
		if !known || f.Gauge != (want.kind == "gauge") || !slices.Equal(labels, want.labels) {
			t.Errorf("%s (gauge: %t) has the labels %v, want %+v", f.Name, f.Gauge, labels, want)
		}
		if f.Help == "" || f.Dataset == "" || len(f.Of) == 0 {
			t.Errorf("%s lacks something: %+v", f.Name, f)
		}
		if !f.Gauge && (len(f.Of) > 1 || f.Sum != nil || f.Scale != 0 || f.Round) {
			t.Errorf("%s: a counter is one counter of ours as it is", f.Name)
		}
	}
	for _, one := range compat.Lablabs.LeftOut {
		if _, known := all[one.Name]; !known || one.Why == "" {
			t.Errorf("%s is left out (%q), and is shown or no family of theirs", one.Name, one.Why)
		}
		delete(all, one.Name)
	}
	if len(all) > 0 {
		t.Errorf("neither shown nor left out: %v", slices.Sorted(maps.Keys(all)))
	}
	byName := func(a, b compat.Family) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(compat.Lablabs.Families, byName) {
		t.Error("families are not in order of name")
	}
}

// Each family that the table names is one of the catalogue, of the dataset that it names, has
// the labels that it needs, and may be added up if it is to be a counter.
func TestTableFitsTheCatalogue(t *testing.T) {
	catalogue := string(testkit.RepoFile(t, "services/collector/internal/catalogue/testdata/metrics.md"))
	for _, f := range compat.Lablabs.Families {
		for _, name := range f.Of {
			row := regexp.MustCompile("(?m)^\\| `" + name + "` \\| (.*?) \\| (.*?) \\| (.*?) \\| `(\\w+?)(?:_5m|_1h|_1d)?` \\|").FindStringSubmatch(catalogue)
			if row == nil {
				t.Errorf("%s is made of %s, which is no family", f.Name, name)
				continue
			}
			if row[4] != f.Dataset {
				t.Errorf("%s is said to be of %s; %s is of %s", f.Name, f.Dataset, name, row[4])
			}
			if additive := row[3] == "yes"; additive == f.Gauge {
				t.Errorf("%s (gauge: %t) is made of %s, which may be added up: %t", f.Name, f.Gauge, name, additive)
			}
			if scaled := f.Scale != 0; scaled != (row[2] == "seconds") && f.Gauge {
				t.Errorf("%s is multiplied by %v, and the unit of %s is %q", f.Name, f.Scale, name, row[2])
			}
			need := slices.Clone(f.Sum)
			if f.Only != nil {
				need = append(need, f.Only.Label)
			}
			for _, l := range f.Labels {
				need = append(need, strings.Fields(l.From)[0])
			}
			for _, label := range need {
				if !strings.Contains(row[1], "`"+label+"`") {
					t.Errorf("%s needs the label %s, which %s lacks: it has %s", f.Name, label, name, row[1])
				}
			}
		}
	}
}
