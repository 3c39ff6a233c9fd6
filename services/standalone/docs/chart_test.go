package docs

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
	"github.com/weir-metrics/weir/services/standalone"
)

const chart = "../../../deploy/helm/weir"

// durations are the texts that cli.ParseDuration reads; an empty one is as good as none.
const durations = `^([0-9]+|([0-9.]+(ns|us|µs|ms|s|m|h|d|w))+)?$`

var (
	wordDuration = regexp.MustCompile(`^a duration from (\S+) to (\S+) \(`)
	wordSeconds  = regexp.MustCompile(`^one of (.+) \(a bare number is seconds\)$`)
	wordWords    = regexp.MustCompile(`^one of ([^(]+)$`)
	wordNumber   = regexp.MustCompile(`^a whole number from (-?\d+) to (-?\d+)$`)
	wordShare    = regexp.MustCompile(`^a share from ([\d.]+)% to ([\d.]+)%$`)
	wordURL      = regexp.MustCompile(`^a URL that begins with (\S+):// or (\S+)://`)
)

// schemaOf is the JSON Schema of a setting's value in the chart, from what the setting
// says that it allows. It never refuses what the binary takes.
func schemaOf(t *testing.T, s cli.Setting) map[string]any {
	t.Helper()
	seconds := func(text string) float64 {
		d, err := cli.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %v", s.Env, err)
		}
		return d.Seconds()
	}
	number := func(text string) float64 {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %v", s.Env, err)
		}
		return f
	}
	ranged := func(lowest, highest float64, pattern string, types ...string) map[string]any {
		return map[string]any{"type": append(types, "string", "null"), "minimum": lowest, "maximum": highest, "pattern": pattern}
	}
	allowed := s.Value.Allowed()
	if m := wordDuration.FindStringSubmatch(allowed); m != nil {
		return ranged(seconds(m[1]), seconds(m[2]), durations, "integer")
	}
	if m := wordSeconds.FindStringSubmatch(allowed); m != nil {
		var each []float64
		for word := range strings.SplitSeq(m[1], ", ") {
			each = append(each, seconds(word))
		}
		return map[string]any{"anyOf": []any{map[string]any{"enum": each}, map[string]any{"type": []string{"string", "null"}, "pattern": durations}}}
	}
	if m := wordWords.FindStringSubmatch(allowed); m != nil {
		words := []any{"", nil}
		for word := range strings.SplitSeq(m[1], ", ") {
			for _, as := range []string{word, strings.ToUpper(word)} { // the log's levels are taken in either case
				if s.Value.Set(as) == nil {
					words = append(words, as)
				}
			}
		}
		return map[string]any{"enum": words}
	}
	if m := wordNumber.FindStringSubmatch(allowed); m != nil {
		return ranged(number(m[1]), number(m[2]), `^([+-]?[0-9]+)?$`, "integer")
	}
	if m := wordShare.FindStringSubmatch(allowed); m != nil {
		return ranged(number(m[1])/100, number(m[2])/100, `^([0-9.eE+-]+%?)?$`, "number")
	}
	if m := wordURL.FindStringSubmatch(allowed); m != nil {
		return map[string]any{"type": []string{"string", "null"}, "pattern": fmt.Sprintf(`^((%s|%s)://[^@?#]+)?$`, m[1], m[2])}
	}
	switch {
	case allowed == "true or false":
		return ranged(0, 1, `^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)?$`, "boolean", "integer")
	case strings.HasPrefix(allowed, "a list"):
		return map[string]any{"type": []string{"array", "string", "integer", "null"}, "items": map[string]any{"type": "string"}}
	}
	return map[string]any{"type": []string{"string", "integer", "number", "boolean", "null"}}
}

// settingsOf are the settings of a command by the names that values have: those of files of
// secrets too.
func settingsOf(commands []cli.Command, name string) map[string]cli.Setting {
	out := map[string]cli.Setting{}
	for _, c := range commands {
		if c.Name == name {
			for _, s := range c.Settings {
				out[s.Env] = s
			}
		}
	}
	return out
}

var settingLine = regexp.MustCompile(`^        "([A-Z_]+)": (\{.*\})(,?)$`)

// The values of settings have the schema that the binaries' tables give, so that a value that
// a collector refuses does not replace the only one. What the chart refuses with a reason,
// and which settings there are, is the file's own.
func TestGeneratedSchemaOfTheChart(t *testing.T) {
	path := filepath.Join(chart, "values.schema.json")
	tables := map[string]map[string]cli.Setting{
		"collectorSettings": settingsOf(collector.Commands(), "run"), "exposerSettings": settingsOf(exposer.Commands(), "run"),
		"pushSettings": settingsOf(standalone.Commands(), "push"),
	}
	var b strings.Builder
	block, checked := "", 0
	for line := range strings.Lines(string(content(t, path))) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, `    "`), `Settings": {`); ok && strings.HasPrefix(line, `    "`) {
			block = name + "Settings"
		} else if strings.HasPrefix(line, "    }") {
			block = ""
		}
		m := settingLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if block == "" || m == nil || strings.Contains(m[2], "refusedWithAReason") {
			b.WriteString(line)
			continue
		}
		schema := map[string]any{"type": []string{"string", "null"}} // the name of a secret's file
		if s, ok := tables[block][m[1]]; ok {
			schema = schemaOf(t, s)
		} else if _, ok := tables[block][strings.TrimSuffix(m[1], "_FILE")]; !ok {
			t.Errorf("%s of %s is no setting", m[1], block)
		}
		text, err := json.Marshal(schema)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "        %q: %s%s\n", m[1], text, m[3])
		checked++
	}
	if checked < 40 {
		t.Errorf("%d settings were found in %s", checked, path)
	}
	testkit.Golden(t, path, []byte(b.String()))
}

// Texts that a setting takes have a place in its schema, and plainly wrong ones have not.
func TestSchemaOfSettingsRefusesNothingThatTheyTake(t *testing.T) {
	texts := []string{
		"", "0", "1", "60", "300", "86400", "300s", "5m", "2h30m", "1.5h", "400d", "1w", "50%", "0.5", "1e-1", "1", "true", "T", "false", "off",
		"debug", "DEBUG", "info", "json", "text", "end", "start", "session", "transaction", "http://a.example/b", "https://a.example",
		"remote-write", "otlp", "a,b", "127.0.0.1:1", ":1", "2026-11-01", "now", "x y", "-5m", "abc",
	}
	var refused []string
	for _, table := range []map[string]cli.Setting{
		settingsOf(collector.Commands(), "run"), settingsOf(exposer.Commands(), "run"), settingsOf(standalone.Commands(), "push"),
	} {
		for name, s := range table {
			if name == "" {
				continue
			}
			schema := schemaOf(t, s)
			for _, text := range texts {
				takes := text == "" || s.Value.Set(text) == nil
				if ok := fits(schema, text); takes && !ok {
					t.Errorf("%s takes %q, and its schema %v does not", name, text, schema)
				} else if !takes && !ok {
					refused = append(refused, name+" "+text)
				}
			}
		}
	}
	for _, wrong := range []string{"WEIR_RETENTION abc", "WEIR_BUDGET_SHARE abc", "WEIR_LOG_FORMAT end", "WEIR_PPROF abc", "WEIR_CLOUDFLARE_URL abc", "CF_METRICS_REPLAY_HOURS abc"} {
		if !slices.Contains(refused, wrong) {
			t.Errorf("the schema takes %s", wrong)
		}
	}
}

// fits reports whether a schema of schemaOf takes a text.
func fits(schema map[string]any, text string) bool {
	if of, ok := schema["anyOf"].([]any); ok {
		return slices.ContainsFunc(of, func(s any) bool { return fits(s.(map[string]any), text) })
	}
	switch enum := schema["enum"].(type) {
	case []any:
		return slices.Contains(enum, any(text))
	case []float64: // of numbers
		return false
	}
	if types, ok := schema["type"].([]string); ok && !slices.Contains(types, "string") {
		return false
	}
	pattern, ok := schema["pattern"].(string)
	return !ok || regexp.MustCompile(pattern).MatchString(text)
}

// value is one leaf of values.yaml.
type value struct{ path, fallback, meaning string }

var valueLine = regexp.MustCompile(`^( *)([A-Za-z_]+):(?: (.*))?$`)

// readValues are the leaves of values.yaml with the comments above them. One without a
// comment is explained by that of a group above it.
func readValues(t *testing.T) (all []value) {
	t.Helper()
	var keys, comments []string // of the groups that are open, and of the next key
	explained := map[string]bool{}
	lines := strings.Split(string(content(t, filepath.Join(chart, "values.yaml"))), "\n")
	for i, line := range lines {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if text, ok := strings.CutPrefix(line[indent:], "#"); ok {
			comments = append(comments, fmt.Sprintf("%d%s", indent, text))
			continue
		}
		m := valueLine.FindStringSubmatch(line)
		if m == nil {
			comments = nil
			continue
		}
		keys = append(keys[:indent/2], m[2])
		path, meaning := strings.Join(keys, "."), ""
		for _, c := range comments {
			if text, ok := strings.CutPrefix(c, strconv.Itoa(indent)+" "); ok {
				meaning += " " + text
			}
		}
		comments = nil
		fallback, _, _ := strings.Cut(m[3], " #")
		explained[path] = meaning != "" || indent > 0 && explained[strings.Join(keys[:len(keys)-1], ".")]
		if fallback == "" && i+1 < len(lines) {
			continue // a group
		}
		if !explained[path] {
			t.Errorf("values.yaml: %s has no comment, nor has its group", path)
		}
		all = append(all, value{path, fallback, strings.TrimSpace(meaning)})
	}
	return all
}

// The README of the chart has a table of all values.
func TestGeneratedValuesOfTheChart(t *testing.T) {
	const begin, end = "<!-- values: `make generate` writes them from values.yaml -->\n", "<!-- end of values -->\n"
	path := filepath.Join(chart, "README.md")
	before, rest, found := strings.Cut(string(content(t, path)), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for values", path)
	}
	var b strings.Builder
	b.WriteString(before + begin + "\n| value | default | meaning |\n| --- | --- | --- |\n")
	for _, v := range readValues(t) {
		cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.path, cell(v.fallback), cell(v.meaning))
	}
	b.WriteString("\n" + end + after)
	testkit.Golden(t, path, []byte(b.String()))
}

// The chart's default images are those that make image tags.
func TestImagesHaveTheTagOfTheChart(t *testing.T) {
	makefile := string(content(t, "../../../Makefile"))
	for _, want := range []string{"s/^appVersion: *//p' deploy/helm/weir/Chart.yaml", "--tag weir/$$name:$(app_version)"} {
		if !strings.Contains(makefile, want) {
			t.Errorf("the Makefile does not have %q: make image does not tag with the chart's appVersion", want)
		}
	}
	if !regexp.MustCompile(`(?m)^appVersion: \d+\.\d+\.\d+$`).Match(content(t, filepath.Join(chart, "Chart.yaml"))) {
		t.Error("appVersion of Chart.yaml is no plain version")
	}
}
