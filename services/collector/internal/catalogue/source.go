package catalogue

import (
	"maps"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/services/collector/internal/yamlspec"
)

// Sources of requests that are counted.
const (
	// EyeballSource is requests by end users.
	EyeballSource = "eyeball"
	// AllSources is every request: also subrequests of Workers, health checks and the like.
	AllSources = "all"
)

// RequestSources are the values of Options.RequestSource.
var RequestSources = []string{EyeballSource, AllSources}

// sourceFilter is the filter field by which a variant counts requests of one source.
const sourceFilter = "requestSource"

// countAll adds, for each built-in dataset that counts requests of end users by a filter, one
// that counts all. It has a name and families of its own, which end in or contain "all": a
// family never changes its meaning, neither in the store, nor in Prometheus, nor as a counter.
//
// A dataset is collected in place of the one that it counts more than, unless that has roll-ups
// too: Cloudflare computes these of end users only.
func (k *declared) countAll(o *Options, bad *problems) {
	switch o.RequestSource {
	case "", EyeballSource:
		return
	case AllSources:
	default:
		bad.add(yamlspec.Place{}, "the request source is %q; it must be one of %s", o.RequestSource, strings.Join(RequestSources, ", "))
		return
	}
	for _, s := range slices.Clone(k.datasets) {
		if !s.builtIn {
			continue // its file says what it counts
		}
		all := s.ofAllSources()
		if all == nil {
			continue
		}
		if s.Name == httpDataset {
			all.Size = o.HTTPSize
		}
		k.datasets = append(k.datasets, all)
		if len(all.Variants) == len(s.Variants) {
			s.Enabled = new(bool)
		}
	}
}

// ofAllSources returns the dataset that counts requests of all sources; nil if this one has no
// variant that counts those of end users by a filter.
func (s *spec) ofAllSources() *spec {
	rename := func(family string) string {
		for _, prefix := range []string{"cloudflare_zone_", "cloudflare_account_"} {
			if rest, is := strings.CutPrefix(family, prefix); is {
				return prefix + "all_" + rest
			}
		}
		return family
	}
	renameAll := func(families []string) (out []string) {
		for _, f := range families {
			out = append(out, rename(f))
		}
		return out
	}
	measures := func(list []measureSpec) (out []measureSpec) {
		for _, m := range list {
			m.Family = rename(m.Family)
			out = append(out, m)
		}
		return out
	}
	all := *s
	all.Name, all.Variants, all.Families, all.Limits = s.Name+"_all", nil, nil, nil
	all.Level, all.Drop, all.Measures = rename(s.Level), renameAll(s.Drop), measures(s.Measures)
	fed := map[string]bool{} // by a variant that is left
	for _, v := range s.Variants {
		if v.Filter[sourceFilter] != EyeballSource {
			continue
		}
		v.Filter = maps.Clone(v.Filter)
		delete(v.Filter, sourceFilter)
		v.Measures, v.Without = measures(v.Measures), renameAll(v.Without)
		for _, m := range slices.Concat(all.Measures, v.Measures) {
			fed[m.Family] = fed[m.Family] || !slices.Contains(v.Without, m.Family)
		}
		all.Variants = append(all.Variants, v)
	}
	if all.Variants == nil {
		return nil
	}
	all.Measures = slices.DeleteFunc(all.Measures, func(m measureSpec) bool { return !fed[m.Family] })
	for i := range all.Variants {
		v := &all.Variants[i]
		v.Without = slices.DeleteFunc(v.Without, func(f string) bool { return !fed[f] })
	}
	for _, f := range s.Families {
		if f.Name = rename(f.Name); fed[f.Name] {
			f.Help += " Of all sources: also subrequests of Workers, health checks and the like."
			all.Families = append(all.Families, f)
		}
	}
	for name, l := range s.Limits {
		if l.By != "" {
			l.By = rename(l.By)
		}
		if name = rename(name); fed[name] {
			if all.Limits == nil {
				all.Limits = map[string]limitSpec{}
			}
			all.Limits[name] = l
		}
	}
	if s.Description != nil {
		text := *s.Description + ", requests of all sources"
		all.Description = &text
	}
	return &all
}
