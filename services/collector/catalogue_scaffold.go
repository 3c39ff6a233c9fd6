package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// scaffold prints an entry for a node as the API's schema describes it. With a zone, the entry
// says what the zone, or its account, may not query.
func (y *way) scaffold(ctx context.Context, w io.Writer, node, scope string) error {
	described, err := y.client.SchemaNode(ctx, scope, node, y.permit)
	if unknown, ok := errors.AsType[*cloudflare.NoNodeError](err); ok {
		return y.unknownNode(ctx, unknown)
	}
	if err != nil {
		return fmt.Errorf("ask the API's schema about node %s: %w", node, err)
	}
	e := scaffolded{node: described, scope: scope}
	if y.zone.ID != "" {
		if err := y.granted(ctx, &e); err != nil {
			return err
		}
	}
	text, err := e.entry()
	if err != nil {
		return err
	}
	// What is printed is valid at once. If it is not, the schema has something that is not
	// known here, and nothing is printed as if it were right.
	if _, err := catalogue.Load([]byte(text), catalogue.Options{File: "entry for " + node}); err != nil {
		return fmt.Errorf("no valid entry can be written for node %s: %w", node, err)
	}
	return printed(io.WriteString(w, text))
}

// unknownNode says which nodes are like one that the scope does not have.
func (y *way) unknownNode(ctx context.Context, e *cloudflare.NoNodeError) error {
	other := "account"
	if e.Scope == other {
		other = "zone"
	}
	var there *cloudflare.NoNodeError
	if _, err := y.client.SchemaNode(ctx, other, e.Name, y.permit); err == nil {
		return fmt.Errorf("%w, but %s has; ask with --scope %s", e, map[string]string{"zone": "a zone", "account": "an account"}[other], other)
	} else if !errors.As(err, &there) {
		return e // what the other kind of scope has is not known
	}
	if near := nearest(e.Name, e.Known); len(near) > 0 {
		return fmt.Errorf("%w; did you mean %s?", e, strings.Join(near, " or "))
	}
	return fmt.Errorf("%w, which has %d nodes; they are listed at https://developers.cloudflare.com/analytics/graphql-api/features/data-sets/", e, len(e.Known))
}

// nearest are up to three names that differ least from one, if they differ by less than a
// third of it or contain it.
func nearest(name string, known []string) []string {
	type near struct {
		name string
		far  int
	}
	var all []near
	lower := strings.ToLower(name)
	for _, k := range known {
		n := near{k, distance(lower, strings.ToLower(k))}
		if strings.Contains(strings.ToLower(k), lower) {
			n.far = 0
		}
		if 3*n.far < len(name) {
			all = append(all, n)
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Or(a.far-b.far, strings.Compare(a.name, b.name)) })
	var out []string
	for _, n := range all[:min(len(all), 3)] {
		out = append(out, n.name)
	}
	return out
}

// distance is how many characters are inserted, deleted or replaced between two texts.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := before
			if a[i] != b[j] {
				replaced++
			}
			before = row[j+1]
			row[j+1] = min(replaced, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// granted asks what the zone, or its account, may query of the node.
func (y *way) granted(ctx context.Context, e *scaffolded) error {
	id, zones, account := y.zone.ID, []string{y.zone.ID}, ""
	if e.scope == "account" {
		id, zones, account = y.zone.Account.ID, nil, y.zone.Account.ID
	}
	if err := y.permit(ctx); err != nil {
		return err
	}
	settings, err := y.client.Settings(ctx, account, zones, []string{e.node.Name})
	if err != nil {
		return fmt.Errorf("ask for the settings of %s: %w", e.node.Name, err)
	}
	e.of = fmt.Sprintf("%s %s", e.scope, cmp.Or(map[string]string{"zone": y.zone.Name}[e.scope], id))
	if s, ok := settings[id][e.node.Name]; ok && s.Enabled {
		e.available, e.fields = s.Available, s.MaxFields
		return nil
	}
	e.refused = true
	return nil
}

// scaffolded is what an entry is written from.
type scaffolded struct {
	node  *cloudflare.SchemaNode
	scope string
	// Of the zone or account that was asked; empty: none was.
	of        string
	refused   bool     // it may not query the node
	available []string // fields that it may query, flattened; empty: not restricted
	fields    int      // that one query of it may have; 0: not known
}

// may reports whether the zone or account that was asked may query a field.
func (e *scaffolded) may(path string) bool {
	return len(e.available) == 0 || slices.Contains(e.available, strings.ReplaceAll(path, ".", "_"))
}

// steps are the time dimensions by the length of their groups.
var steps = []struct {
	length          time.Duration
	name, dimension string
}{
	{time.Minute, "1m", "datetimeMinute"},
	{5 * time.Minute, "5m", "datetimeFiveMinutes"},
	{15 * time.Minute, "15m", "datetimeFifteenMinutes"},
	{30 * time.Minute, "30m", "datetimeHalfOfHour"},
	{time.Hour, "1h", "datetimeHour"},
	{24 * time.Hour, "1d", "date"},
}

// entry is a catalogue entry with all measures of the node, or why there is none.
func (e *scaffolded) entry() (string, error) {
	dimensions := e.node.Container("dimensions")
	if dimensions == nil || dimensions.Fields == nil {
		return "", fmt.Errorf("node %s has rows of single events and no groups, which a dataset needs; ask for a node whose name ends in Groups", e.node.Name)
	}
	n, err := e.declare(dimensions.Fields)
	if err != nil {
		return "", err
	}
	measured, others := e.measures()
	level := levelOf(measured)
	if level < 0 {
		return "", fmt.Errorf("node %s has no field that can be the level of a dataset: a count, a sum, a distinct count, a maximum or a minimum", e.node.Name)
	}
	measured = slices.Concat(measured[level:level+1], measured[:level], measured[level+1:])
	measured[0].optional = false
	measured, left := e.fit(measured)

	var b strings.Builder
	fmt.Fprintf(&b, "# A first entry for %s, from the schema of Cloudflare's API. Name the families, keep what you need,\n", e.node.Name)
	b.WriteString("# choose dimensions as labels, and validate it with \"collector catalogue check\".\n")
	if e.node.Description != "" {
		fmt.Fprintf(&b, "# Cloudflare: %s\n", line(e.node.Description))
	}
	switch {
	case e.refused:
		fmt.Fprintf(&b, "# The plan of %s does not include this node now.\n", e.of)
	case slices.ContainsFunc(measured, func(m scaffoldMeasure) bool { return m.optional }):
		fmt.Fprintf(&b, "# Optional measures are those that %s may not query now.\n", e.of)
	}
	b.WriteString(n.text)
	fmt.Fprintf(&b, "datasets:\n  - name: %s\n    description: %s\n    scope: %s\n    size: %s\n    depth: 6h\n    level: %s\n    families:\n",
		e.name(), quoted("What "+e.node.Name+" reports"), e.scope, n.size(measured), measured[0].family)
	for _, m := range measured {
		fmt.Fprintf(&b, "      - {name: %s, help: %s%s%s%s}\n", m.family, quoted(m.help), optional("unit", m.unit), m.labels(), m.additive())
	}
	fmt.Fprintf(&b, "    variants:\n      - name: groups\n        node: %s\n        rows: 1 # groups in one step of time: more with dimensions\n        dimensions: []\n", e.node.Name)
	for _, d := range dimensions.Fields {
		if !strings.HasPrefix(d.Name, "date") {
			fmt.Fprintf(&b, "        #  - %s\n", e.remark(d, "dimensions."+d.Name))
		}
	}
	b.WriteString("        measures:\n")
	for _, m := range measured {
		fmt.Fprintf(&b, "          - {family: %s, field: %s%s%s%s%s%s}\n", m.family, m.field, m.quantileList(), optional("scale", m.scale),
			optional("weight", m.weight), optional("join", m.join), map[bool]string{true: ", optional: true"}[m.optional])
	}
	if len(left) > 0 {
		fmt.Fprintf(&b, "        # Left out, since a query may have %d fields: %s\n", e.most(), strings.Join(left, ", "))
	}
	for _, other := range others {
		fmt.Fprintf(&b, "        # Not a number: %s\n", other)
	}
	return b.String(), nil
}

// remark is a field in a comment: its name, type, description, and whether it may be queried.
func (e *scaffolded) remark(f cloudflare.SchemaField, path string) string {
	text := f.Name + " (" + f.Type + ")"
	if f.List {
		text = f.Name + " (list of " + f.Type + ")"
	}
	if f.Fields != nil {
		var members []string
		for _, m := range f.Fields {
			members = append(members, m.Name+" ("+m.Type+")")
		}
		text = f.Name + " (list of " + strings.Join(members, ", ") + ")"
	}
	if f.Description != "" {
		text += ": " + line(f.Description)
	}
	if !e.may(path) {
		text += " [not for " + e.of + "]"
	}
	return text
}

// scaffoldNode is how a node is asked.
type scaffoldNode struct {
	text  string // its entry under nodes; empty: it is built in
	steps []time.Duration
	sizes []time.Duration // empty: all
}

// declare finds how the node is asked, by its dimensions and filters.
func (e *scaffolded) declare(dimensions []cloudflare.SchemaField) (scaffoldNode, error) {
	if steps, sizes, ok := catalogue.KnownNode(e.node.Name); ok {
		return scaffoldNode{steps: steps, sizes: sizes}, nil
	}
	filter := ""
	for _, f := range []string{"datetime", "datetimeMinute", "datetimeHour", "date"} {
		if slices.Contains(e.node.Filters, f+"_geq") && slices.Contains(e.node.Filters, f+"_lt") {
			filter = f
			break
		}
	}
	var n scaffoldNode
	var times []string
	for _, t := range steps {
		usable := filter != "date" && (filter != "datetimeHour" || t.length >= time.Hour) || t.dimension == "date"
		if usable && slices.ContainsFunc(dimensions, func(f cloudflare.SchemaField) bool { return f.Name == t.dimension }) {
			times = append(times, t.name+": "+t.dimension)
			n.steps = append(n.steps, t.length)
		}
	}
	if filter == "" || len(times) == 0 {
		return n, fmt.Errorf("node %s cannot be asked for windows: the schema has no filter datetime_geq, datetimeMinute_geq, datetimeHour_geq or date_geq, or no dimension for minutes, hours or days", e.node.Name)
	}
	n.text = fmt.Sprintf("nodes:\n  %s:\n    filter_field: %s\n    times: {%s}\n", e.node.Name, filter, strings.Join(times, ", "))
	if avg := e.node.Container("avg"); avg != nil && slices.ContainsFunc(avg.Fields, func(f cloudflare.SchemaField) bool { return f.Name == "sampleInterval" }) {
		n.text += "    sampled: true\n    interval: avg.sampleInterval\n"
	}
	if of := e.node.Container("confidence"); of != nil {
		var bounds []string
		for _, f := range of.Fields {
			if f.Name == "count" || f.Name == "sum" {
				bounds = append(bounds, f.Name)
			}
		}
		if bounds != nil {
			n.text += "    bounds: [" + strings.Join(bounds, ", ") + "]\n"
		}
	}
	return n, nil
}

// size is a bucket size that all measures can be collected at: an hour if possible.
func (n *scaffoldNode) size(measured []scaffoldMeasure) string {
	whole := slices.ContainsFunc(measured, func(m scaffoldMeasure) bool { return m.statistic && m.join == "" && m.weight == "" })
	fits := func(size time.Duration) bool {
		if len(n.sizes) > 0 && !slices.Contains(n.sizes, size) {
			return false
		}
		if slices.Contains(n.steps, size) {
			return true
		}
		return !whole && slices.ContainsFunc(n.steps, func(step time.Duration) bool { return size%step == 0 })
	}
	for _, size := range []time.Duration{time.Hour, 24 * time.Hour, 30 * time.Minute, 15 * time.Minute, 5 * time.Minute, time.Minute} {
		if fits(size) {
			return bucket.SizeName(size)
		}
	}
	return "1h" // which the check refuses, with the reason
}
