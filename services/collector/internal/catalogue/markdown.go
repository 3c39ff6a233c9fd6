package catalogue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// DatasetsMarkdown describes every available dataset: the data part of
// docs/datasets.md, and what `collector catalogue` prints. The same catalogue
// gives the same text.
//
// The cost, if it is not nil, returns what a dataset costs.
func (c *Catalogue) DatasetsMarkdown(cost func(*Dataset) string) string {
	if cost == nil {
		cost = func(*Dataset) string { return "" }
	}
	var b strings.Builder
	b.WriteString("| dataset | scope | bucket | collected | plans | requests | delay | deadline | depth | other sizes | what |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for i := range c.Available {
		d := &c.Available[i]
		others := slices.DeleteFunc(slices.Clone(d.Sizes), func(size time.Duration) bool { return size == d.Size })
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s | %d buckets | %s | %s |\n", d.Dataset, d.ScopeKind, short(d.Size),
			yesNo(d.Enabled, "by default", "on request"), d.Plans(), cost(d), short(d.Delay), short(d.Deadline), d.Depth, sizeNames(others), cell(d.Description))
	}
	for i := range c.Available {
		c.Available[i].section(&b)
	}
	return b.String()
}

// Plans is the lowest plan that includes one of the variants and the products that they are
// about, as far as Cloudflare publishes it, such as "pro, Load Balancing".
func (d *Dataset) Plans() string {
	order := []string{"free", "pro", "business", "enterprise"}
	lowest, products := len(order), []string(nil)
	for i := range d.Variants {
		v := &d.Variants[i]
		if at := slices.Index(order, v.Plan); at >= 0 {
			lowest = min(lowest, at)
		}
		if v.Product != "" && !slices.Contains(products, v.Product) {
			products = append(products, v.Product)
		}
	}
	if lowest < len(order) {
		products = slices.Insert(products, 0, order[lowest])
	}
	return strings.Join(products, ", ")
}

// Markdown describes the dataset and its families.
func (d *Dataset) Markdown() string {
	var b strings.Builder
	d.section(&b)
	b.WriteString("\n| metric | labels | unit | may be added up | help |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range d.Families {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, strings.Join(f.Labels, ", "), f.Unit, yesNo(f.Additive, "yes", "**no**"), cell(f.Help))
	}
	return strings.TrimPrefix(b.String(), "\n")
}

func (d *Dataset) section(b *strings.Builder) {
	fmt.Fprintf(b, "\n## `%s`\n\n%s.\n\n", d.Dataset, strings.TrimSuffix(d.Description, "."))
	b.WriteString("| variant | node | groups | asked with | rows | feeds |\n| --- | --- | --- | --- | --- | --- |\n")
	for i := range d.Variants {
		v := &d.Variants[i]
		var with []string
		for _, k := range slices.Sorted(maps.Keys(v.Filter)) {
			with = append(with, fmt.Sprintf("`%s: %v`", k, v.Filter[k]))
		}
		for _, dim := range v.Dimensions {
			with = append(with, "`"+dim+"`")
		}
		feeds := "all families"
		if missing := d.notFed(v); len(missing) > 0 {
			feeds = "all but `" + strings.Join(missing, "`, `") + "`"
		}
		if v.REST != "" {
			fmt.Fprintf(b, "| `%s` | `%s` | the state | %s | %d | %s |\n", v.Name, v.REST, strings.Join(with, ", "), v.Rows, feeds)
			continue
		}
		fmt.Fprintf(b, "| `%s`%s | `%s` | %s of `%s` | %s | %d | %s |\n", v.Name, yesNo(v.Sampled, " (sampled)", ""), v.Node,
			short(v.Step), v.TimeDimension, strings.Join(with, ", "), v.Rows, feeds)
	}
	if d.State {
		b.WriteString("\nA state from the REST API, below " + article(d.ScopeKind) + ", read once at the end of each bucket. It cannot be read later. The token needs the permission *" + d.Variants[0].Permission + "*.\n")
	} else {
		b.WriteString("\nThe first variant that " + article(d.ScopeKind) + " may use is used.\n")
	}
	if at := slices.IndexFunc(d.Variants, func(v Variant) bool { return v.Level != "" }); at >= 0 {
		fmt.Fprintf(b, "\nConfidence intervals of the level %s are asked for where a variant has them.\n", d.Variants[at].Level)
	}
	if d.ZeroFill > 0 {
		fmt.Fprintf(b, "\nAmounts with labels are stored as 0 where they fall silent, for up to %d buckets.\n", d.ZeroFill)
	}
	for _, f := range d.Families {
		l, ok := d.Limits[f.Name]
		if !ok {
			continue
		}
		fmt.Fprintf(b, "\n`%s`: ", f.Name)
		if l.Top > 0 {
			fmt.Fprintf(b, "the %d largest", l.Top)
			if l.By != "" {
				fmt.Fprintf(b, " by `%s`", l.By)
			}
		} else {
			b.WriteString("all")
		}
		b.WriteString(yesNo(f.Additive, fmt.Sprintf("; the rest is summed into `%s`", l.Other), "; the rest is dropped"))
		if len(l.Allow) > 0 {
			fmt.Fprintf(b, "; only %v", l.Allow)
		}
		if len(l.Deny) > 0 {
			fmt.Fprintf(b, "; without %v", l.Deny)
		}
		for _, label := range sortedKeys(l.Only) {
			fmt.Fprintf(b, "; only %s %v", label, l.Only[label])
		}
		for _, label := range sortedKeys(l.Except) {
			fmt.Fprintf(b, "; without %s %v", label, l.Except[label])
		}
		b.WriteString(".\n")
	}
}

func article(k bucket.ScopeKind) string {
	if k == bucket.Account {
		return "an account"
	}
	return "a zone"
}

// notFed are the families that a variant leaves out.
func (d *Dataset) notFed(v *Variant) []string {
	var out []string
	for _, f := range d.Families {
		if f.Name == d.Interval {
			continue // no measure does
		}
		bound := slices.ContainsFunc(v.Bounds, func(b Bound) bool { return b.Lower == f.Name || b.Upper == f.Name })
		if !bound && !slices.ContainsFunc(v.Measures, func(m Measure) bool { return m.Family == f.Name }) {
			out = append(out, f.Name)
		}
	}
	return out
}

// MetricsMarkdown lists every family of the available datasets: the data part
// of docs/metrics.md. Families that several sizes of one dataset could feed are
// there once.
func (c *Catalogue) MetricsMarkdown() string {
	var b strings.Builder
	b.WriteString("| metric | labels | unit | may be added up | dataset | help |\n| --- | --- | --- | --- | --- | --- |\n")
	type line struct {
		bucket.Family
		d *Dataset
	}
	var lines []line
	for i := range c.Available {
		for _, f := range c.Available[i].Families {
			if f.Name != SampleInterval {
				lines = append(lines, line{f, &c.Available[i]})
			}
		}
	}
	lines = append(lines, line{sampleInterval, &Dataset{Definition: bucket.Definition{Dataset: "any", ScopeKind: bucket.Zone}}})
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.Name, b.Name) })
	for _, l := range lines {
		labels := []string{"account"}
		if l.d.ScopeKind == bucket.Zone {
			labels = []string{"zone", "account"}
		}
		labels = append(labels, l.Labels...)
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | `%s` | %s |\n", l.Name, strings.Join(labels, "`, `"), l.Unit,
			yesNo(l.Additive, "yes", "**no**"), l.d.Dataset, cell(l.Help))
	}
	return b.String()
}

func yesNo(v bool, yes, no string) string {
	if v {
		return yes
	}
	return no
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// short writes a duration as people write it: 5m, 1h30m, 1d.
func short(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
