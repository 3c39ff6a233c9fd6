package catalogue

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

//go:embed datasets/*.yaml
var embedded embed.FS

// What holds where neither the catalogue nor the settings say otherwise
// of their own.
const (
	defaultDelay   = 5 * time.Minute
	defaultConfirm = 2
	// graceAfterDelay: at delay + 15 min the last reading is stored.
	graceAfterDelay = 15 * time.Minute
	// maxDepth: from 33 samples per series on, Prometheus appends every repeat
	// again for ever.
	maxDepth = 30
)

// Options are the settings that bear on the catalogue.
type Options struct {
	// HTTPSize is the bucket size of the dataset "http" (CF_BUCKET_SECONDS);
	// 0: five minutes.
	HTTPSize time.Duration
	// Delay is for datasets that do not say their own (CF_DELAY_SECONDS); 0:
	// five minutes.
	Delay time.Duration
	// Enable and Disable name datasets, "http" or "countries_1h", to collect or
	// not besides what the catalogue itself enables. A name in both is a mistake.
	Enable, Disable []string
	// File names the user's file in error messages; empty: "catalogue".
	File string
	// StartTimestamps: samples carry the window's start (CF_SAMPLE_TIMESTAMP),
	// which needs one more window in the replay.
	StartTimestamps bool
}

// Catalogue is the set of known datasets.
type Catalogue struct {
	// Datasets are those to collect, ordered by id.
	Datasets []Dataset
	// Available are all, enabled or not, at their chosen sizes, ordered by id.
	Available []Dataset
}

// Find returns the dataset to collect with the given id ("http_5m"), nil if
// there is none.
func (c *Catalogue) Find(id string) *Dataset {
	i := slices.IndexFunc(c.Datasets, func(d Dataset) bool { return d.Dataset == id })
	if i < 0 {
		return nil
	}
	return &c.Datasets[i]
}

// Load reads the embedded datasets with the user's YAML, which may be nil, on
// top: a dataset of a new name is added; of a known name, what it says replaces
// what was declared (lists as a whole, limits family by family). The error
// names every problem of the result, each on a line with its place.
func Load(user []byte, o Options) (*Catalogue, error) {
	if o.HTTPSize == 0 {
		o.HTTPSize = bucketDefault
	}
	if o.Delay == 0 {
		o.Delay = defaultDelay
	}
	if o.File == "" {
		o.File = "catalogue"
	}
	var bad problems
	specs := base(&bad)
	for _, s := range (reader{o.File, &bad}).specs(user) {
		specs = overlay(specs, s, &bad)
	}
	o.apply(specs, &bad)
	var all []Dataset
	for _, s := range specs {
		s.check(&bad)
		for _, size := range s.sizes {
			d := s.expand(size, o.Delay)
			checkDataset(&d, s, size == s.size && o.StartTimestamps, &bad)
			if size == s.size {
				checkDelay(&d, s, o.StartTimestamps, &bad)
				if d.Enabled && d.ScopeKind == bucket.Account {
					bad.add(s.place, "dataset %s is about accounts, and only zones are collected so far: disable it", s.name)
				}
				all = append(all, d)
			}
		}
	}
	checkTogether(specs, &bad)
	if err := bad.err(); err != nil {
		return nil, fmt.Errorf("load catalogue:\n%w", err)
	}
	slices.SortFunc(all, func(a, b Dataset) int { return strings.Compare(a.Dataset, b.Dataset) })
	c := &Catalogue{Available: all}
	for _, d := range all {
		if d.Enabled {
			c.Datasets = append(c.Datasets, d)
		}
	}
	return c, nil
}

const bucketDefault = 5 * time.Minute

// base reads the embedded files.
func base(bad *problems) []*spec {
	names, err := fs.Glob(embedded, "datasets/*.yaml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	var out []*spec
	for _, name := range names {
		text, err := embedded.ReadFile(name)
		if err != nil {
			panic(err) // it was just listed
		}
		for _, s := range (reader{name, bad}).specs(text) {
			if slices.ContainsFunc(out, func(have *spec) bool { return have.name == s.name }) {
				bad.add(s.place, "dataset %s is declared twice", s.name)
				continue
			}
			out = append(out, s)
		}
	}
	return out
}

// overlay puts the user's dataset on top of those declared so far.
func overlay(specs []*spec, u *spec, bad *problems) []*spec {
	i := slices.IndexFunc(specs, func(s *spec) bool { return s.name == u.name })
	if i < 0 {
		return append(specs, u)
	}
	s := specs[i]
	if s.file == u.file {
		bad.add(u.place, "dataset %s is declared twice; the first is at %s", u.name, s.place)
		return specs
	}
	if u.scope != 0 && u.scope != s.scope {
		bad.add(u.place, "dataset %s is about a %s; that cannot be changed", u.name, s.scope)
	}
	s.place = u.place
	replace(&s.description, u.description)
	replace(&s.enabled, u.enabled)
	replace(&s.delay, u.delay)
	replace(&s.deadline, u.deadline)
	replace(&s.confirm, u.confirm)
	replace(&s.depth, u.depth)
	if u.size != 0 {
		s.size = u.size
	}
	if u.level != "" {
		s.level = u.level
	}
	if u.sizes != nil {
		s.sizes = u.sizes
	}
	if u.families != nil {
		s.families = u.families
	}
	if u.variants != nil {
		s.variants = u.variants
	}
	if u.drop != nil {
		s.drop = u.drop
	}
	if u.limits != nil {
		merged := maps.Clone(s.limits)
		if merged == nil {
			merged = map[string]limitSpec{}
		}
		maps.Copy(merged, u.limits)
		s.limits = merged
	}
	return specs
}

func replace[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

// httpDataset is the dataset whose size is a setting of its own.
const httpDataset = "http"

// apply brings the settings into the declarations.
func (o *Options) apply(specs []*spec, bad *problems) {
	for _, s := range specs {
		if s.name == httpDataset {
			if s.size != 0 && s.size != o.HTTPSize {
				bad.add(s.place, "size of dataset http is %s, but the setting CF_BUCKET_SECONDS makes it %s; leave it out here", s.size, o.HTTPSize)
			}
			s.size = o.HTTPSize
		}
		if s.size == 0 && len(s.sizes) == 1 {
			s.size = s.sizes[0]
		}
	}
	set := func(names []string, to bool) {
		for _, name := range names {
			i := slices.IndexFunc(specs, func(s *spec) bool { return s.name == name || s.id(s.size) == name })
			if i < 0 {
				known := make([]string, len(specs))
				for i, s := range specs {
					known[i] = s.name
				}
				slices.Sort(known)
				bad.add(place{}, "dataset %q is not in the catalogue; known are %s", name, strings.Join(known, ", "))
				continue
			}
			specs[i].enabled = &to
		}
	}
	set(o.Enable, true)
	set(o.Disable, false)
	for _, name := range o.Enable {
		if slices.Contains(o.Disable, name) {
			bad.add(place{}, "dataset %q is both enabled and disabled", name)
		}
	}
}

// id is the dataset's id at a size. A dataset of one size has it in its name.
func (s *spec) id(size time.Duration) string {
	if len(s.sizes) == 1 {
		return s.name
	}
	return s.name + "_" + bucket.SizeName(size)
}

// expand makes the dataset at one size. What is wrong with it is for
// checkDataset to say.
func (s *spec) expand(size, delay time.Duration) Dataset {
	d := Dataset{
		Definition: bucket.Definition{
			Dataset: s.id(size), ScopeKind: s.scope, Size: size, Delay: or(s.delay, delay),
			Depth: or(s.depth, defaultDepth(size)), Description: or(s.description, ""),
		},
		Name: s.name, Enabled: or(s.enabled, true), Confirm: or(s.confirm, defaultConfirm), Level: s.level,
		Limits: map[string]Limit{},
	}
	d.Deadline = or(s.deadline, d.Delay+graceAfterDelay)
	for _, f := range s.families {
		if !slices.Contains(s.drop, f.Name) {
			d.Families = append(d.Families, f.Family)
		}
	}
	for name, l := range s.limits {
		if !slices.Contains(s.drop, name) {
			d.Limits[name] = l.Limit
		}
	}
	for i := range s.variants {
		if v, ok := s.variants[i].at(size, s.drop); ok {
			d.Variants = append(d.Variants, v)
		}
	}
	if slices.ContainsFunc(d.Variants, func(v Variant) bool { return v.Interval != "" }) {
		d.Interval = "cloudflare_" + s.scope.String() + "_" + s.name + intervalSuffix
		d.Families = append(d.Families, bucket.Family{
			Name: d.Interval, Role: bucket.Total,
			Help: "Events that one event of Cloudflare's sample stands for: the numbers of " + s.name + " are estimates in this bucket. Absent where all events were counted.",
		})
	}
	return d
}

// intervalSuffix ends the name of [Dataset.Interval], and of no other family.
const intervalSuffix = "_sample_interval"

// at is the variant at a bucket size, if it has one: with the longest group
// that its node can make, since fewer groups fit more windows into a page.
func (vs *variantSpec) at(size time.Duration, drop []string) (Variant, bool) {
	if len(vs.sizes) > 0 && !slices.Contains(vs.sizes, size) {
		return Variant{}, false
	}
	v := vs.Variant
	for step, dimension := range vs.times {
		if step > 0 && size%step == 0 && step > v.Step {
			v.Step, v.TimeDimension = step, dimension
		}
	}
	if v.Step == 0 {
		return Variant{}, false
	}
	// Rows are declared for one group of time.
	v.Rows *= int(size / v.Step)
	for _, m := range vs.measures {
		if !slices.Contains(drop, m.Family) {
			v.Measures = append(v.Measures, m.Measure)
		}
	}
	return v, len(v.Measures) > 0
}

// defaultDepth is a day, at most what Prometheus bears, and at least what a
// window needs to be seen at all.
func defaultDepth(size time.Duration) int {
	return min(max(int(24*time.Hour/size), 4), maxDepth)
}

func or[T any](p *T, def T) T {
	if p != nil {
		return *p
	}
	return def
}
