package catalogue

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/yamlspec"
)

// counterSuffixes are suffixes of other types than gauges.
var counterSuffixes = []string{"_total", "_count", "_sum", "_bucket", "_info", "_created", "_stepped", "_summed"}

// reservedLabels are set by Weir or by a scrape, or have a meaning in Prometheus.
var reservedLabels = []string{"zone", "account", "instance", "job", "le", quantileLabel, "dataset", "scope"}

// quantileLabel is the label of the rows of a measure with quantiles, as Prometheus writes
// summaries. It is the last of its family.
const quantileLabel = "quantile"

// baseUnits are the base units of what names and units must not be in.
var baseUnits = map[string]string{
	"ns": "seconds", "us": "seconds", "ms": "seconds", "nanoseconds": "seconds", "microseconds": "seconds", "milliseconds": "seconds",
	"minutes": "seconds", "hours": "seconds", "days": "seconds",
	"bits": "bytes", "kilobytes": "bytes", "megabytes": "bytes", "gigabytes": "bytes", "percent": "ratio",
}

// unitSuffixes are the base units that a name ends in if the family has them.
var unitSuffixes = []string{"seconds", "bytes", "ratio"}

// infoSuffix is the suffix of families whose labels are what matters and whose value is 1:
// states only.
const infoSuffix = "_info"

// lateSuffix is the suffix of the counters of what came late, before _total.
const lateSuffix = "_late"

// intervalSuffix is the suffix of families that mark buckets that are estimates: one for
// all datasets now, one for each dataset in buckets of earlier versions.
const intervalSuffix = "_sample_interval"

// ReservedEndings are the ends of names that no family of a user may have.
func ReservedEndings() []string {
	out := append(slices.Clone(counterSuffixes), lateSuffix, intervalSuffix)
	for unit := range baseUnits {
		out = append(out, "_"+unit)
	}
	return out
}

type sayer func(at yamlspec.Place, format string, args ...any)

// check validates a dataset regardless of its size, beyond the format of the file.
func (s *spec) check(bad *problems) {
	say := func(at yamlspec.Place, format string, args ...any) {
		bad.add(at, "dataset %s: "+format, append([]any{s.Name}, args...)...)
	}
	if s.Description == nil {
		say(s.Place, "needs a description of one line")
	}
	if s.Scope == "" {
		say(s.Place, "needs a scope: zone or account")
	}
	s.checkSizes(say)
	s.checkFamilies(say)
	s.checkValues(say)
	s.checkLimits(say)
	for _, name := range s.Drop {
		if s.family(name) == nil {
			say(s.Place, "drop names %q, which is not a family of the dataset", name)
		}
		if name == s.Level {
			say(s.Place, "drop names %q, which is the level and has to stay", name)
		}
	}
	names, fed := map[string]bool{}, map[string]bool{}
	for i := range s.Variants {
		v := &s.Variants[i]
		for _, m := range v.Measures {
			fed[m.Family] = true
		}
		if names[v.Name] {
			say(v.Place, "variant %s is there twice", v.Name)
		}
		names[v.Name] = true
		s.checkVariant(v, func(at yamlspec.Place, format string, args ...any) {
			say(at, "variant %s: "+format, append([]any{v.Name}, args...)...)
		})
	}
	for _, f := range s.Families {
		if len(s.Variants) > 0 && f.Name != "" && !fed[f.Name] {
			say(f.Place, "family %s has no measure in any variant, so it would have no data", f.Name)
		}
	}
}

func (s *spec) checkSizes(say sayer) {
	for i, size := range s.Sizes {
		if slices.Contains(s.Sizes[:i], size) {
			say(s.Place, "size %s is there twice", short(size))
		}
	}
	switch {
	case len(s.can) == 0:
		say(s.Place, "no variant can make buckets of any size; see times and sizes of the variants and their nodes")
	case s.Size == 0:
		say(s.Place, "can be collected at %s; say with size at which", sizeNames(s.can))
	case !slices.Contains(s.can, s.Size):
		say(s.Place, "size is %s; it must be one of %s", short(s.Size), sizeNames(s.can))
	}
	for _, size := range s.Sizes {
		variants := s.variants(size)
		if len(variants) == 0 {
			say(s.Place, "no variant can ask at size %s", short(size))
		}
		for i := range variants {
			if why := s.unaddable(&variants[i], size); why != "" {
				say(s.Place, "variant %s: %s", variants[i].Name, why)
			}
		}
	}
	// The size is part of the id, so another size in the name would mislead.
	for _, size := range sizes {
		if strings.HasSuffix(s.Name, "_"+bucket.SizeName(size)) && !slices.Equal(s.can, []time.Duration{size}) {
			say(s.Place, "name ends in _%s, so sizes must be [%s]", bucket.SizeName(size), bucket.SizeName(size))
		}
	}
}

func (s *spec) checkFamilies(say sayer) {
	if len(s.Families) == 0 {
		say(s.Place, "needs families")
	}
	names := map[string]bool{}
	for _, f := range s.Families {
		if names[f.Name] {
			say(f.Place, "family %s is there twice", f.Name)
		}
		names[f.Name] = true
		if s.Scope != "" && f.Name != "" && !strings.HasPrefix(f.Name, "cloudflare_"+s.Scope+"_") {
			say(f.Place, "family %s belongs to a %s dataset; its name must begin with cloudflare_%s_", f.Name, s.Scope, s.Scope)
		}
		for _, suffix := range counterSuffixes {
			if strings.HasSuffix(f.Name, suffix) && (suffix != infoSuffix || !s.state()) {
				say(f.Place, "family %s ends in %s, but every family is a gauge: the amount in one bucket", f.Name, suffix)
			}
		}
		if strings.HasSuffix(f.Name, lateSuffix) {
			say(f.Place, "family %s ends in %s; such names are for the counters of buckets that were stored late", f.Name, lateSuffix)
		}
		if strings.HasSuffix(f.Name, intervalSuffix) {
			say(f.Place, "family %s ends in %s; such names are for the families that say which buckets are estimates", f.Name, intervalSuffix)
		}
		if boundName.MatchString(f.Name) {
			say(f.Place, "family %s has %s in its name; such names are for the bounds of estimates, which confidence adds", f.Name, strings.Trim(boundName.FindString(f.Name), "_"))
		}
		s.checkUnit(&f, say)
		if p, ok := peers[f.Name]; ok {
			say(f.Place, "family %s is a %s of %s with another meaning (the amount in one bucket is a gauge of its own); choose another name", f.Name, p.kind, p.by)
		}
		if p, ok := peers[f.Name+"_total"]; ok && f.additive() && !slices.Contains(peerCounters, f.Name+"_total") {
			say(f.Place, "the counter of family %s, %s_total, has the name of a %s of %s; choose another name", f.Name, f.Name, p.kind, p.by)
		}
		for i, l := range f.Labels {
			if l == quantileLabel && i == len(f.Labels)-1 && !f.additive() {
				continue // each measure has to give quantiles
			}
			if strings.HasPrefix(l, "exported_") || slices.Contains(reservedLabels, l) {
				say(f.Place, "family %s has label %q; it must be none of %v and not begin with exported_", f.Name, l, reservedLabels)
			}
			if slices.Contains(f.Labels[:i], l) {
				say(f.Place, "family %s has label %q twice", f.Name, l)
			}
		}
	}
	switch {
	case s.state():
		if s.Level != "" {
			say(s.Place, "level is %q; a state has none, since nothing of it is suspect", s.Level)
		}
	case s.family(s.Level) == nil:
		say(s.Place, "level is %q; it must be a family of the dataset", s.Level)
	}
}

// checkUnit checks that a family is in a base unit, and that its name says so.
func (s *spec) checkUnit(f *familySpec, say sayer) {
	last := f.Name[strings.LastIndex(f.Name, "_")+1:]
	for _, unit := range []string{f.Unit, last} {
		if base, ok := baseUnits[unit]; ok {
			say(f.Place, "family %s is in %s; the base unit is %s, to which scale of a measure converts", f.Name, unit, base)
			return
		}
	}
	switch {
	case f.Unit != "" && !strings.HasSuffix(f.Name, "_"+f.Unit):
		say(f.Place, "family %s has unit %s; OpenMetrics wants its name to end in _%s", f.Name, f.Unit, f.Unit)
	case f.Unit == "" && slices.Contains(unitSuffixes, last):
		say(f.Place, "family %s ends in _%s and has no unit; it must be unit: %s", f.Name, last, last)
	}
}

func (s *spec) checkValues(say sayer) {
	labels := map[string]bool{}
	for i := range s.Families {
		for _, l := range s.Families[i].Labels {
			labels[l] = l != quantileLabel
		}
	}
	all := map[string]bool{} // labels of which each value is replaced
	for i := range s.Values {
		v := &s.Values[i]
		if all[v.Label] {
			say(v.Place, "values of label %q: * before it replaces every value; it must be the last of its label", v.Label)
		}
		all[v.Label] = all[v.Label] || slices.Contains(v.From, "*")
		if v.Label != "" && !labels[v.Label] {
			say(v.Place, "values of label %q, which no family of the dataset has", v.Label)
		}
		if len(v.From) == 0 {
			say(v.Place, "values of label %q: from is empty; it must be values, ranges such as 1..29, or *", v.Label)
		}
		for _, from := range v.From {
			low, high, ok := parseRange(from)
			if !ok && strings.Contains(from, "..") || ok && low > high {
				say(v.Place, "values of label %q: from has the range %q; it must be two whole numbers, the smaller first, such as 1..29", v.Label, from)
			}
		}
	}
}

func (s *spec) checkLimits(say sayer) {
	for _, name := range sortedKeys(s.Limits) {
		l, f := s.Limits[name], s.family(name)
		switch {
		case f == nil:
			say(l.Place, "limit for %q, which is not a family of the dataset", name)
			continue
		case len(f.Labels) == 0:
			say(l.Place, "limit for %s, which has one series per scope", name)
		}
		own := slices.DeleteFunc(slices.Clone(f.Labels), func(l string) bool { return l == quantileLabel })
		if l.By != "" {
			if by := s.family(l.By); by == nil || slices.Contains(s.Drop, l.By) || !slices.Equal(by.Labels, own) {
				say(l.Place, "limit of %s ranks by %q; that must be a family of the dataset, not dropped, with labels %v", name, l.By, own)
			}
		} else if l.Top > 0 && len(own) < len(f.Labels) {
			say(l.Place, "limit of %s has top and no by; quantiles do not rank rows, so by must name a family with labels %v", name, own)
		}
		for _, label := range append(sortedKeys(l.Only), sortedKeys(l.Except)...) {
			if !slices.Contains(own, label) {
				say(l.Place, "limit of %s names label %q; it must be one of %v", name, label, own)
			}
		}
		for _, label := range sortedKeys(l.Only) {
			if !slices.ContainsFunc(l.Only[label], func(v string) bool { return !slices.Contains(l.Deny, v) && !slices.Contains(l.Except[label], v) }) {
				say(l.Place, "limit of %s keeps nothing: only has no value of label %q that neither deny nor except has", name, label)
			}
		}
		if len(l.Allow) > 0 && !slices.ContainsFunc(l.Allow, func(v string) bool { return !slices.Contains(l.Deny, v) }) {
			say(l.Place, "limit of %s keeps nothing: deny has all values of allow", name)
		}
	}
}

func (s *spec) checkVariant(v *variantSpec, say sayer) {
	switch {
	case v.REST != "":
		if v.FilterField != "" || len(v.Times) > 0 || len(v.Filter) > 0 || or(v.Sampled, false) || v.Interval != "" || len(v.Bounds) > 0 || v.Calls == 0 {
			say(v.Place, "is a state, so it needs calls, and filter_field, times, filter, sampled, interval and bounds do not apply")
		}
	case s.state():
		say(v.Place, "is of GraphQL, and another variant is a state; a dataset is one or the other")
	case v.FilterField == "" || len(v.Times) == 0:
		say(v.Place, "needs filter_field and times, since no file says under nodes how %q is asked", v.Node)
	}
	if v.REST == "" && v.Calls != 0 {
		say(v.Place, "calls is %d; it is for states, which are read with the REST API", v.Calls)
	}
	for step := range v.Times {
		if step < time.Minute || 24*time.Hour%step != 0 {
			say(v.Place, "groups of %s; the length must be at least a minute and divide a day", short(step))
		}
		if (v.FilterField == "date" || v.Times[step] == "date") && step != 24*time.Hour {
			say(v.Place, "groups of %s by a date; they must be 1d", short(step))
		}
	}
	if or(v.Sampled, false) && v.Interval == "" {
		say(v.Place, "is sampled and needs interval, or nobody sees how coarse its numbers are")
	}
	for i, part := range v.Bounds {
		if slices.Contains(v.Bounds[:i], part) {
			say(v.Place, "bounds has %s twice", part)
		}
	}
	for _, name := range sortedKeys(v.Filter) {
		if strings.HasPrefix(name, "date") {
			say(v.Place, "filter %s; times are filtered by the planner alone", name)
		}
		if why := badFilter(name, v.Filter[name]); why != "" {
			say(v.Place, "filter %s %s", name, why)
		}
	}
	for i, dim := range v.Dimensions {
		if slices.Contains(v.Dimensions[:i], dim) || strings.HasPrefix(dim, "date") {
			say(v.Place, "dimension is %q; it must not be a time, and be there once", dim)
		}
	}
	fed := map[string]bool{}
	for i := range v.Measures {
		m := &v.Measures[i]
		if fed[m.Family] {
			say(m.Place, "two measures feed %s", m.Family)
		}
		fed[m.Family] = true
		s.checkMeasure(v, m, func(format string, args ...any) {
			say(m.Place, "measure of %s: "+format, append([]any{m.Family}, args...)...)
		})
	}
	if s.Level != "" && !fed[s.Level] {
		say(v.Place, "does not feed the level %q", s.Level)
	}
}

// checkExpanded validates a dataset at the size at which it would be collected.
func (s *spec) checkExpanded(d *Dataset, start bool, bad *problems) {
	say := func(format string, args ...any) {
		bad.add(s.Place, "dataset %s: "+format, append([]any{d.Dataset}, args...)...)
	}
	switch {
	case d.State:
		if d.Delay != 0 {
			say("delay is %s; a state is read at the end of its window, so it must not be set", d.Delay)
		}
	case d.Delay < time.Minute || d.Delay > 24*time.Hour || d.Delay%time.Second != 0:
		say("delay is %s; it must be whole seconds from 1m to 24h", d.Delay)
	}
	switch {
	case s.Confidence == nil:
	case d.State:
		say("confidence is %s; a state is no estimate and has no bounds", *s.Confidence)
	case len(d.boundless) > 0:
		say("confidence is %s, and no family can have bounds: %s", *s.Confidence, strings.Join(d.boundless, "; "))
	}
	switch {
	case s.ZeroFill == nil:
	case d.State:
		say("zero_fill is set; what a state does not have is gone, not zero")
	case d.ZeroFill < 1 || d.ZeroFill > mostFill:
		say("zero_fill must be 1 to %d buckets of %s, or a duration of as many", mostFill, short(d.Size))
	case !slices.ContainsFunc(d.Families, func(f bucket.Family) bool { return d.fillable(&f) }):
		say("zero_fill is set, and no family is an amount with labels, which alone can be filled")
	}
	if d.Deadline < d.Delay || d.Deadline > mostDeadline {
		say("deadline is %s; it must not be before the delay, %s, and at most %s", d.Deadline, d.Delay, short(mostDeadline))
	}
	// A window must be shown for two more after it falls due. With its start as
	// the timestamp, its samples are one window older.
	delay := d.Delay
	if s.Delay == nil && !d.State {
		delay = defaultDelay // whether that of the settings fits, is said below
	}
	least := shown(start) + int((delay+d.Size-1)/d.Size)
	if d.Depth < least || d.Depth > maxDepth {
		say("depth is %d; it must be %d (delay and %d buckets) to %d", d.Depth, least, shown(start), maxDepth)
	}
	if most := time.Duration(d.Depth-shown(start)) * d.Size; s.Delay == nil && !d.State && d.Enabled && d.Delay > max(most, defaultDelay) {
		*bad = append(*bad, &DelayError{Dataset: d.Dataset, Most: most})
	}
	for i := range d.Variants {
		if v := &d.Variants[i]; v.Rows > 10000 {
			say("variant %s: %d rows in one window are more than a page of 10000", v.Name, v.Rows)
		}
	}
}

// checkContract validates what readers are told of a dataset as strictly as they do: a
// definition that they refuse cannot be stored. If there are other problems already, these
// are what is wrong.
func (s *spec) checkContract(d *Dataset, bad *problems) {
	if len(*bad) > 0 {
		return
	}
	def := d.Definition
	def.Version = 1
	if err := wire.CheckDefinition(&def); err != nil {
		bad.add(s.Place, "%v", err)
	}
}

// shown is for how many buckets a sample must be shown, not counting the delay.
func shown(start bool) int {
	if start {
		return 3
	}
	return 2
}

// DelayError reports that the configured delay is too long for a collected dataset: its
// buckets would leave the replay before they are scraped.
type DelayError struct {
	Dataset string
	Most    time.Duration // that would do
}

func (e *DelayError) Error() string {
	return fmt.Sprintf("settings: the delay must be at most %s for %s", e.Most, e.Dataset)
}
