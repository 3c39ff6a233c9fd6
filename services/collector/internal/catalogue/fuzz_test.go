package catalogue

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
)

// problemLine is what every problem of a user's file begins with: the place.
var problemLine = regexp.MustCompile(`^(user\.yaml|datasets/[a-z]+\.yaml)(:[0-9]+)?: .`)

// FuzzLoad: whatever YAML a user writes, each problem is a line with its place,
// and a catalogue that is accepted can be used: its definitions go over the
// wire and come back the same, every variant asks for something and folds an
// answer without groups into windows without rows, no family has two meanings,
// and the documents can be written. To load it again gives the same.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(asn))
	f.Add([]byte("datasets: [{name: http, depth: 4, drop: [a], limits: {b: {top: 1}}}]"))
	f.Add([]byte("datasets:\n- name: |\n    x\n  sizes: {a: *b}\n  variants: [{times: {1d: date}, filter: {a: [1, b]}}]"))
	f.Add([]byte("datasets:\n- {name: http, delay: 10m, deadline: 1h, confirm: 3, drop: [cloudflare_zone_threats]}\n- {name: uniques_1h, enabled: false}\n- {name: countries_1h, limits: {cloudflare_zone_requests_by_country: {top: 3, deny: [T1]}}}"))
	for _, name := range []string{"datasets/http.yaml", "datasets/breakdowns.yaml"} {
		text, err := embedded.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		mine := strings.NewReplacer("cloudflare_zone_", "cloudflare_mine_", "name: http", "name: mine", "name: countries", "name: mine", "name: content", "name: more").Replace(string(text))
		f.Add([]byte(mine))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Load(text, Options{File: "user.yaml"})
		if err != nil {
			if c != nil {
				t.Fatal("a catalogue beside an error")
			}
			lines := strings.Split(err.Error(), "\n")
			if lines[0] != "load catalogue:" || len(lines) < 2 {
				t.Fatalf("error %q", err)
			}
			for _, line := range lines[1:] {
				if !problemLine.MatchString(line) {
					t.Fatalf("a problem without its place: %q in\n%s", line, err)
				}
			}
			return
		}
		again, err := Load(text, Options{File: "user.yaml"})
		if err != nil || again.DatasetsMarkdown(nil) != c.DatasetsMarkdown(nil) || again.MetricsMarkdown() != c.MetricsMarkdown() {
			t.Fatalf("the second time it is another catalogue: %v", err)
		}
		meaning := map[string]bucket.Family{}
		for i := range c.Available {
			usable(t, &c.Available[i])
			for _, fam := range c.Available[i].Families {
				if had, ok := meaning[fam.Name]; ok && (had.Unit != fam.Unit || had.Role != fam.Role || had.Additive != fam.Additive || !slices.Equal(had.Labels, fam.Labels)) {
					t.Fatalf("family %s has two meanings: %+v and %+v", fam.Name, had, fam)
				}
				meaning[fam.Name] = fam
			}
		}
	})
}

func usable(t *testing.T, d *Dataset) {
	t.Helper()
	def := d.Definition
	def.Version = 1
	back, err := wire.DecodeDefinition(wire.EncodeDefinition(&def))
	if err != nil {
		t.Fatalf("dataset %s cannot be read: %v", d.Dataset, err)
	}
	if diff := cmp.Diff(&def, back); diff != "" {
		t.Fatalf("dataset %s is read as another (-want +got):\n%s", d.Dataset, diff)
	}
	if len(d.Variants) == 0 {
		t.Fatalf("dataset %s cannot be asked for: no variant", d.Dataset)
	}
	w := bucket.Window{Start: 0, End: bucket.Time(2 * d.Size / time.Second)}
	for i := range d.Variants {
		v := &d.Variants[i]
		if s := d.Selection(v); len(s.Fields) == 0 || s.TimeDimension == "" || s.Node == "" {
			t.Fatalf("dataset %s: variant %s selects nothing: %+v", d.Dataset, v.Name, s)
		}
		folded, err := d.Fold(v, w, nil)
		if err != nil || len(folded) != 2 {
			t.Fatalf("dataset %s: variant %s folds an empty answer into %d windows: %v", d.Dataset, v.Name, len(folded), err)
		}
	}
}
