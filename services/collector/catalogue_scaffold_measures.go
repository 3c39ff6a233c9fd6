package collector

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// scaffoldMeasure is a measure with its family.
type scaffoldMeasure struct {
	field, family, help, unit, scale string
	statistic                        bool
	quantiles                        []string
	weight, join                     string
	optional                         bool
}

func (m *scaffoldMeasure) additive() string {
	if m.statistic {
		return ", additive: false"
	}
	return ""
}

func (m *scaffoldMeasure) labels() string {
	if m.quantiles != nil {
		return ", labels: [quantile]"
	}
	return ""
}

func (m *scaffoldMeasure) quantileList() string {
	if m.quantiles == nil {
		return ""
	}
	return ", quantiles: [" + strings.Join(m.quantiles, ", ") + "]"
}

// most is how many fields one query may have: as the plan says, or what is documented.
func (e *scaffolded) most() int { return cmp.Or(e.fields, 30) }

// fit returns the first measures whose fields fit into one query, with fewer quantiles if they
// do not fit otherwise, and the fields that are left out.
func (e *scaffolded) fit(all []scaffoldMeasure) (out []scaffoldMeasure, left []string) {
	const others = 2 // the time and the sample interval
	needed := func(list []scaffoldMeasure) int {
		n := others
		for i := range list {
			n += max(1, len(list[i].quantiles))
		}
		return n
	}
	if needed(all) > e.most() {
		for i := range all {
			var kept []string
			for _, q := range all[i].quantiles {
				if slices.Contains([]string{"0.5", "0.95", "0.99"}, q) {
					kept = append(kept, q)
				} else {
					left = append(left, all[i].field+" "+q)
				}
			}
			if kept != nil {
				all[i].quantiles = kept
			}
		}
	}
	for i := range all {
		if needed(append(slices.Clip(out), all[i])) <= e.most() {
			out = append(out, all[i])
		} else {
			left = append(left, strings.TrimSpace(all[i].field+" "+strings.Join(all[i].quantiles, " ")))
		}
	}
	return out, left
}

// levelOf is the measure that tells ordinary buckets from suspect ones best: a count, a sum,
// a distinct count, then a maximum or minimum; -1: none can.
func levelOf(all []scaffoldMeasure) int {
	best, rank := -1, 0
	for i, m := range all {
		r := 0
		switch first, _, _ := strings.Cut(m.field, "."); {
		case m.scale != "" || m.weight != "" || m.quantiles != nil:
			continue
		case first == "count" || m.field == "sum.requests":
			r = 5
		case first == "sum":
			r = 4
		case first == "uniq":
			r = 3
		case m.join != "":
			r = 2
		default:
			r = 1
		}
		if m.optional {
			r -= 10 // of two that a plan refuses, the better one
		}
		if best < 0 || r > rank {
			best, rank = i, r
		}
	}
	return best
}

// quantileName splits edgeTimeToFirstByteMsP95.
var quantileName = regexp.MustCompile(`^(.*)P(\d{2,3})$`)

// measures are those of all numbers of the node, and what else it has.
func (e *scaffolded) measures() (out []scaffoldMeasure, others []string) {
	counted := e.node.Container("count")
	for _, c := range e.node.Containers {
		switch {
		case c.Name == "dimensions" || c.Name == "confidence":
			continue
		case c.Fields == nil:
			if c.Name == "count" && c.Whole() {
				out = append(out, e.measure(c, "count", "", "events"))
			}
			continue
		}
		for _, f := range c.Fields {
			path := c.Name + "." + f.Name
			quantile := quantileName.FindStringSubmatch(f.Name)
			switch {
			case path == "avg.sampleInterval":
				continue
			case !f.Number():
				others = append(others, c.Name+"."+e.remark(f, path))
				continue
			case c.Name == "quantiles" || c.Name == "avgWeighted":
				if quantile == nil {
					others = append(others, c.Name+"."+e.remark(f, path))
					continue
				}
				q := "0." + strings.TrimRight(quantile[2], "0")
				stem := c.Name + "." + quantile[1]
				if at := slices.IndexFunc(out, func(m scaffoldMeasure) bool { return m.field == stem }); at >= 0 {
					out[at].quantiles = append(out[at].quantiles, q)
					out[at].optional = out[at].optional || !e.may(path)
					continue
				}
				m := e.measure(cloudflare.SchemaField{}, stem, "quantiles", quantile[1]) // the description is of one quantile
				m.statistic, m.quantiles, m.optional = true, []string{q}, !e.may(path)
				out = append(out, m)
				continue
			}
			var m scaffoldMeasure
			switch c.Name {
			case "sum":
				m = e.measure(f, path, "", f.Name)
			case "uniq":
				m = e.measure(f, path, "", f.Name)
				m.statistic = true
			case "avg", "ratio":
				m = e.measure(f, path, map[string]string{"avg": "average"}[c.Name], f.Name+map[string]string{"ratio": "Ratio"}[c.Name])
				if m.statistic = true; counted != nil {
					m.weight = "count"
				}
			case "max", "min":
				m = e.measure(f, path, c.Name, f.Name)
				m.statistic, m.join = true, c.Name
			default:
				others = append(others, c.Name+"."+e.remark(f, path)+" [no container that is known]")
				continue
			}
			m.optional = !e.may(path)
			out = append(out, m)
		}
	}
	order := []string{"count", "sum", "uniq", "avg", "ratio", "quantiles", "avgWeighted", "max", "min"}
	rank := func(m scaffoldMeasure) int {
		first, _, _ := strings.Cut(m.field, ".")
		return slices.Index(order, first)
	}
	slices.SortStableFunc(out, func(a, b scaffoldMeasure) int { return rank(a) - rank(b) })
	for i := range out { // names that differ at Cloudflare in case alone
		for n := 2; slices.ContainsFunc(out[:i], func(m scaffoldMeasure) bool { return m.family == out[i].family }); n++ {
			out[i].family, out[i].unit, out[i].scale = fmt.Sprintf("%s_%d", out[i].family, n), "", ""
		}
	}
	return out, others
}

// word is a part of a name in camel case.
var word = regexp.MustCompile(`[A-Z]+[a-z0-9]*|[a-z0-9]+`)

func snake(name string) string {
	return strings.ToLower(strings.Join(word.FindAllString(name, -1), "_"))
}

// name is that of the dataset.
func (e *scaffolded) name() string {
	const most = 63
	name := "own_" + snake(strings.TrimSuffix(strings.TrimSuffix(e.node.Name, "Groups"), "Adaptive"))
	return strings.TrimRight(name[:min(len(name), most)], "_")
}

// measure names the family after the field, in its base unit.
func (e *scaffolded) measure(f cloudflare.SchemaField, path, prefix, name string) scaffoldMeasure {
	m := scaffoldMeasure{field: path, help: "Field " + path + " of " + e.node.Name + " in the bucket."}
	if f.Description != "" {
		if m.help = line(f.Description); !strings.HasSuffix(m.help, ".") {
			m.help += "."
		}
	}
	for _, end := range [][3]string{{"Ms", "Seconds", "ms"}, {"Us", "Seconds", "us"}, {"bits", "bytes", "bits"}, {"Bits", "Bytes", "bits"}} {
		if rest, ok := strings.CutSuffix(name, end[0]); ok {
			name, m.scale = rest+end[1], end[2]
			break
		}
	}
	m.family = strings.Join(slices.DeleteFunc([]string{"cloudflare", e.scope, e.name(), prefix, snake(name)}, func(s string) bool { return s == "" }), "_")
	if slices.ContainsFunc(catalogue.ReservedEndings(), func(end string) bool { return strings.HasSuffix(m.family, end) }) {
		m.family += "_reported"
	}
	for _, unit := range []string{"bytes", "seconds", "ratio"} {
		if strings.HasSuffix(m.family, "_"+unit) {
			m.unit = unit
		}
	}
	return m
}

// line is a text on one line that can stand in a comment and in a help text.
func line(text string) string {
	const most = 200
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if runes := []rune(text); len(runes) > most {
		text = strings.TrimSpace(string(runes[:most])) + "…"
	}
	return text
}

// quoted is a text as YAML: JSON's strings are YAML's.
func quoted(text string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always encodes
	return strings.TrimSpace(b.String())
}

func optional(key, value string) string {
	if value == "" {
		return ""
	}
	return ", " + key + ": " + value
}
