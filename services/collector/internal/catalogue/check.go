package catalogue

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

var (
	namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	// familyPattern: the prefix says whose numbers these are, and the scope what
	// the labels zone and account mean.
	familyPattern = regexp.MustCompile(`^cloudflare_(zone|account)_[a-z0-9]+(_[a-z0-9]+)*$`)
	labelPattern  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	fieldPattern  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	pathPattern   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$`)
)

// counterSuffixes would claim a type that a gauge does not have.
var counterSuffixes = []string{"_total", "_count", "_sum", "_bucket", "_info", "_created", "_stepped"}

// reservedLabels are set by Weir, by a scrape, or mean something to Prometheus.
var reservedLabels = []string{"zone", "account", "instance", "job", "le", "quantile", "dataset", "scope"}

// check says what is wrong with a dataset whatever its size.
func (s *spec) check(bad *problems) {
	say := func(at place, format string, args ...any) {
		bad.add(at, "dataset %s: "+format, append([]any{s.name}, args...)...)
	}
	if !namePattern.MatchString(s.name) {
		say(s.place, "name must match %s", namePattern)
	}
	if s.description == nil || *s.description == "" || strings.Contains(*s.description, "\n") {
		say(s.place, "needs a description of one line")
	}
	if s.scope == 0 {
		say(s.place, "needs a scope: zone or account")
	}
	s.checkSizes(say)
	s.checkFamilies(say)
	s.checkLimits(say)
	for _, name := range s.drop {
		if !slices.ContainsFunc(s.families, func(f familySpec) bool { return f.Name == name }) {
			say(s.place, "drop names %q, which is not a family of the dataset", name)
		}
		if name == s.level {
			say(s.place, "drop names %q, which is the level and has to stay", name)
		}
	}
	names := map[string]bool{}
	for i := range s.variants {
		v := &s.variants[i]
		if !namePattern.MatchString(v.Name) || names[v.Name] {
			say(v.place, "variant name is %q; it must match %s and be used once", v.Name, namePattern)
		}
		names[v.Name] = true
		s.checkVariant(v, say)
	}
}

type sayer func(at place, format string, args ...any)

func (s *spec) checkSizes(say sayer) {
	if len(s.sizes) == 0 {
		say(s.place, "needs sizes, for example [5m, 1h]")
	}
	for i, size := range s.sizes {
		if err := bucket.ValidSize(size); err != nil {
			say(s.place, "%v", err)
		}
		if slices.Contains(s.sizes[:i], size) {
			say(s.place, "size %s is there twice", size)
		}
	}
	if s.size == 0 {
		say(s.place, "has several sizes; say with size which one to collect")
	} else if len(s.sizes) > 0 && !slices.Contains(s.sizes, s.size) {
		say(s.place, "size is %s; it must be one of %v", s.size, s.sizes)
	}
	// The size is part of the id, and a family is never covered at two sizes: a
	// dataset of one size has it in its name, so that the name is the id.
	if len(s.sizes) == 1 && !strings.HasSuffix(s.name, "_"+bucket.SizeName(s.sizes[0])) {
		say(s.place, "has one size, so its name must end in _%s", bucket.SizeName(s.sizes[0]))
	}
}

func (s *spec) checkFamilies(say sayer) {
	if len(s.families) == 0 {
		say(s.place, "needs families")
	}
	names := map[string]bool{}
	for _, f := range s.families {
		if names[f.Name] {
			say(f.place, "family %s is there twice", f.Name)
		}
		names[f.Name] = true
		if !familyPattern.MatchString(f.Name) {
			say(f.place, "family name is %q; it must match %s", f.Name, familyPattern)
		} else if s.scope != 0 && !strings.HasPrefix(f.Name, "cloudflare_"+s.scope.String()+"_") {
			say(f.place, "family %s belongs to a %s dataset; its name must begin with cloudflare_%s_", f.Name, s.scope, s.scope)
		}
		for _, suffix := range counterSuffixes {
			if strings.HasSuffix(f.Name, suffix) {
				say(f.place, "family %s ends in %s, but every family is a gauge: the amount in one bucket", f.Name, suffix)
			}
		}
		if strings.HasSuffix(f.Name, intervalSuffix) {
			say(f.place, "family %s ends in %s; such names are for the families that say which buckets are estimates", f.Name, intervalSuffix)
		}
		if p, ok := peers[f.Name]; ok {
			say(f.place, "family %s is a %s of %s with another meaning (the amount in one bucket is a gauge of its own); choose another name", f.Name, p.kind, p.by)
		}
		if f.Help == "" || strings.ContainsAny(f.Help, "\n\r") {
			say(f.place, "family %s needs a help text of one line", f.Name)
		}
		if f.Unit != "" && !strings.HasSuffix(f.Name, "_"+f.Unit) {
			say(f.place, "family %s has unit %s; OpenMetrics wants its name to end in _%s", f.Name, f.Unit, f.Unit)
		}
		for i, l := range f.Labels {
			if !labelPattern.MatchString(l) || strings.HasPrefix(l, "exported_") || slices.Contains(reservedLabels, l) {
				say(f.place, "family %s has label %q; it must match %s and be none of %v", f.Name, l, labelPattern, reservedLabels)
			}
			if slices.Contains(f.Labels[:i], l) {
				say(f.place, "family %s has label %q twice", f.Name, l)
			}
		}
	}
	if i := slices.IndexFunc(s.families, func(f familySpec) bool { return f.Name == s.level }); i < 0 {
		say(s.place, "level is %q; it must be a family of the dataset", s.level)
	}
}

func (s *spec) family(name string) *familySpec {
	for i := range s.families {
		if s.families[i].Name == name {
			return &s.families[i]
		}
	}
	return nil
}

func (s *spec) checkLimits(say sayer) {
	for name, l := range s.limits {
		f := s.family(name)
		switch {
		case f == nil:
			say(l.place, "limit for %q, which is not a family of the dataset", name)
			continue
		case f.Role != bucket.Breakdown:
			say(l.place, "limit for %s, which has one series per scope", name)
		}
		if l.Top < 0 || l.Top > 1000 {
			say(l.place, "limit top of %s is %d; it must be 1 to 1000, or left out", name, l.Top)
		}
		if l.Other == "" {
			say(l.place, "limit other of %s must not be empty: Prometheus drops empty labels", name)
		}
		if l.By != "" {
			if by := s.family(l.By); by == nil || slices.Contains(s.drop, l.By) || !slices.Equal(by.Labels, f.Labels) {
				say(l.place, "limit of %s ranks by %q; that must be a family of the dataset, not dropped, with labels %v", name, l.By, f.Labels)
			}
		}
	}
}

func (s *spec) checkVariant(v *variantSpec, say sayer) {
	if !fieldPattern.MatchString(v.Node) {
		say(v.place, "variant %s: node is %q; it must be a GraphQL name", v.Name, v.Node)
	}
	if v.FilterField != "datetime" && v.FilterField != "date" {
		say(v.place, "variant %s: filter_field is %q; it must be datetime or date", v.Name, v.FilterField)
	}
	if len(v.times) == 0 {
		say(v.place, "variant %s: needs times, for example {5m: datetimeFiveMinutes}", v.Name)
	}
	for step, dimension := range v.times {
		if !fieldPattern.MatchString(dimension) {
			say(v.place, "variant %s: time dimension is %q; it must be a GraphQL name", v.Name, dimension)
		}
		if step < time.Minute || 24*time.Hour%step != 0 {
			say(v.place, "variant %s: groups of %s; the length must be at least a minute and divide a day", v.Name, step)
		}
		if (v.FilterField == "date" || dimension == "date") && step != 24*time.Hour {
			say(v.place, "variant %s: groups of %s by a date; they must be 1d", v.Name, step)
		}
	}
	for _, size := range v.sizes {
		if !slices.Contains(s.sizes, size) {
			say(v.place, "variant %s: size %s is not one of the dataset's %v", v.Name, size, s.sizes)
		}
	}
	if v.Interval != "" && !pathPattern.MatchString(v.Interval) {
		say(v.place, "variant %s: interval is %q; it must be a path such as avg.sampleInterval", v.Name, v.Interval)
	}
	if v.Sampled && v.Interval == "" {
		say(v.place, "variant %s: is sampled and needs interval, or nobody sees how coarse its numbers are", v.Name)
	}
	if v.Rows < 1 || v.Rows > 10000 {
		say(v.place, "variant %s: rows is %d; it must be 1 to 10000, the page size", v.Name, v.Rows)
	}
	for name := range v.Filter {
		if !fieldPattern.MatchString(name) {
			say(v.place, "variant %s: filter field is %q; it must be a GraphQL name", v.Name, name)
		}
		if strings.HasPrefix(name, "date") {
			say(v.place, "variant %s: filter %s; times are filtered by the planner alone", v.Name, name)
		}
	}
	for i, dim := range v.Dimensions {
		if !fieldPattern.MatchString(dim) || slices.Contains(v.Dimensions[:i], dim) || strings.HasPrefix(dim, "date") {
			say(v.place, "variant %s: dimension is %q; it must be a GraphQL name, not a time, and there once", v.Name, dim)
		}
	}
	fed := map[string]bool{}
	for i := range v.measures {
		m := &v.measures[i]
		if fed[m.Family] {
			say(m.place, "variant %s: two measures feed %s", v.Name, m.Family)
		}
		fed[m.Family] = true
		s.checkMeasure(v, m, say)
	}
	if !fed[s.level] {
		say(v.place, "variant %s: does not feed the level %q", v.Name, s.level)
	}
}

func (s *spec) checkMeasure(v *variantSpec, m *measureSpec, say sayer) {
	wrong := func(format string, args ...any) {
		say(m.place, "variant %s: measure of %s: "+format, append([]any{v.Name, m.Family}, args...)...)
	}
	f := s.family(m.Family)
	if f == nil {
		wrong("is not a family of the dataset")
		return
	}
	if !pathPattern.MatchString(m.Field) {
		wrong("field is %q; it must be a path such as sum.requests", m.Field)
	}
	if m.Map != "" && (!pathPattern.MatchString(m.Map) || strings.Contains(m.Field, ".")) {
		wrong("map is %q and field %q; they must be a path and a name, such as sum.countryMap and requests", m.Map, m.Field)
	}
	if m.Optional && m.Family == s.level {
		wrong("is the level and cannot be optional")
	}
	if len(m.Labels) != len(f.Labels) {
		wrong("gives %d labels; the family has %v", len(m.Labels), f.Labels)
	}
	for label, src := range m.Labels {
		field, _ := labelSource(src)
		if !slices.Contains(f.Labels, label) {
			wrong("gives label %q; the family has %v", label, f.Labels)
		}
		if !fieldPattern.MatchString(field) {
			wrong("label %s comes from %q; it must be a field, or class(field)", label, src)
		}
		if m.Map == "" && !slices.Contains(v.Dimensions, field) {
			wrong("label %s comes from %q, which is not a dimension of the variant", label, field)
		}
	}
	if m.Map != "" && len(f.Labels) == 0 {
		wrong("a map feeds a family without labels")
	}
	for dim, values := range m.When {
		if !slices.Contains(v.Dimensions, strings.TrimPrefix(dim, "!")) {
			wrong("condition on %q, which is not a dimension of the variant", dim)
		}
		if len(values) == 0 {
			wrong("condition on %q without values", dim)
		}
	}
	if f.Additive {
		return
	}
	// Distinct counts cannot be added up: one group has to be one row.
	for _, dim := range v.Dimensions {
		if !labelled(m.Labels, dim) {
			wrong("the family is not additive, so dimension %s must be one of its labels", dim)
		}
	}
	for label, src := range m.Labels {
		if _, class := labelSource(src); class {
			wrong("the family is not additive, so label %s cannot be a class", label)
		}
	}
}

func labelled(labels map[string]string, dim string) bool {
	for _, src := range labels {
		if src == dim {
			return true
		}
	}
	return false
}

// checkDataset says what is wrong with a dataset at one of its sizes.
func checkDataset(d *Dataset, s *spec, start bool, bad *problems) {
	say := func(format string, args ...any) {
		bad.add(s.place, "dataset %s: "+format, append([]any{d.Dataset}, args...)...)
	}
	if d.Delay < time.Minute || d.Delay > 24*time.Hour || d.Delay%time.Second != 0 {
		say("delay is %s; it must be whole seconds from 1m to 24h", d.Delay)
	}
	if d.Deadline < d.Delay {
		say("deadline is %s; it must not be before the delay, %s", d.Deadline, d.Delay)
	}
	if d.Confirm < 1 || d.Confirm > 10 {
		say("confirm is %d; it must be 1 to 10", d.Confirm)
	}
	// A window has to be repeated by at least two scrapes after it fell due;
	// with its start as timestamp it is one window older from the beginning.
	delay := d.Delay
	if s.delay == nil {
		delay = defaultDelay // whether that of the settings fits, is for checkDelay
	}
	least := shown(start) + int((delay+d.Size-1)/d.Size)
	if d.Depth < least || d.Depth > maxDepth {
		say("depth is %d; it must be %d (delay and two buckets) to %d", d.Depth, least, maxDepth)
	}
	if len(d.Variants) == 0 {
		say("no variant can ask at size %s", d.Size)
	}
	for i := range d.Variants {
		v := &d.Variants[i]
		for j := range v.Measures {
			if f := d.family(v.Measures[j].Family); f >= 0 && !d.Families[f].Additive && v.Step != d.Size {
				say("variant %s: groups of %s make buckets of %s, but family %s cannot be added up", v.Name, v.Step, d.Size, d.Families[f].Name)
			}
		}
		if v.Rows > 10000 {
			say("variant %s: %d rows in one window are more than a page of 10000", v.Name, v.Rows)
		}
	}
}

// shown is for how many buckets a sample has to be repeated, delay apart.
func shown(start bool) int {
	if start {
		return 3
	}
	return 2
}

// DelayError says that the delay of the settings is too long for a dataset that is
// collected: its buckets would leave the replay before scrapes have seen them.
type DelayError struct {
	Dataset string
	Most    time.Duration // that would do
}

func (e *DelayError) Error() string {
	return fmt.Sprintf("settings: the delay must be at most %s for %s", e.Most, e.Dataset)
}

// checkDelay says whether a dataset can be collected with the settings' delay.
func checkDelay(d *Dataset, s *spec, start bool, bad *problems) {
	if most := time.Duration(d.Depth-shown(start)) * d.Size; s.delay == nil && d.Enabled && d.Delay > max(most, defaultDelay) {
		bad.list = append(bad.list, &DelayError{Dataset: d.Dataset, Most: most})
	}
}

// checkTogether says what is wrong between datasets.
func checkTogether(specs []*spec, bad *problems) {
	ids := map[string]*spec{}
	families := map[string]*spec{}
	for _, s := range specs {
		for _, size := range s.sizes {
			id := s.id(size)
			if o, taken := ids[id]; taken && o != s {
				bad.add(s.place, "datasets %s and %s share the id %s", o.name, s.name, id)
			}
			ids[id] = s
		}
		for _, f := range s.families {
			if o, taken := families[f.Name]; taken && o != s {
				bad.add(f.place, "family %s belongs to the datasets %s and %s; a family has one source", f.Name, o.name, s.name)
			}
			families[f.Name] = s
		}
	}
}
