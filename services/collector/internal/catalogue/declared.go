package catalogue

import (
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/yamlspec"
)

// declared has the merged declarations of all files.
type declared struct {
	nodes    map[string]nodeSpec
	datasets []*spec
}

// add reads a file. Its keys for known datasets override those of earlier files.
func (k *declared) add(name string, text []byte, bad *problems) {
	var f file
	*bad = append(*bad, format.Decode(name, text, &f)...)
	for _, node := range slices.Sorted(maps.Keys(f.Nodes)) {
		if had, again := k.nodes[node]; again {
			bad.add(f.Nodes[node].Place, "node %s is declared at %s; say what differs in the variants that use it", node, had.Place)
			continue
		}
		k.nodes[node] = f.Nodes[node]
	}
	for _, s := range f.Datasets {
		if s.Name != "" { // else its name is a problem already
			k.put(s, bad)
		}
	}
}

// put adds a dataset, or overrides the one with its name.
func (k *declared) put(u *spec, bad *problems) {
	s, size := k.find(u.Name)
	if s == nil || size != 0 && !s.builtIn {
		k.datasets = append(k.datasets, u)
		return
	}
	if s.File == u.File {
		bad.add(u.Place, "dataset %s is declared twice; the first is at %s", u.Name, s.Place)
		return
	}
	if u.Scope != "" && u.Scope != s.Scope {
		bad.add(u.Place, "dataset %s is about a %s; that cannot be changed", u.Name, s.Scope)
	}
	if s.builtIn {
		u.keepBuiltIn(bad)
	}
	if size != 0 {
		if u.Size != 0 && u.Size != size {
			bad.add(u.Place, "dataset %s has the size %s, and its name says %s", u.Name, short(u.Size), short(size))
		}
		u.Size = size
	}
	if u.Limits != nil {
		limits := maps.Clone(s.Limits)
		if limits == nil {
			limits = map[string]limitSpec{}
		}
		maps.Copy(limits, u.Limits)
		u.Limits = limits
	}
	u.Name = s.Name
	yamlspec.Overlay(s, *u)
	s.Place = u.Place
}

// keepBuiltIn reports what a user's file would change of a built-in dataset although its
// families would then no longer be what the documents, dashboards and alerts say.
func (s *spec) keepBuiltIn(bad *problems) {
	for _, key := range []struct {
		name string
		set  bool
	}{
		{"families", s.Families != nil},
		{"measures", s.Measures != nil},
		{"variants", s.Variants != nil},
		{"values", s.Values != nil},
		{"level", s.Level != ""},
	} {
		if key.set {
			bad.add(s.Place, "dataset %s is built in, so %s cannot be changed: its families would no longer be what is documented; declare a dataset with a name and families of your own", s.Name, key.name)
		}
	}
}

// find returns the dataset with a name or id, nil if there is none. For an id it also
// returns the size.
func (k *declared) find(name string) (s *spec, size time.Duration) {
	for _, s := range k.datasets {
		if s.Name == name {
			return s, 0
		}
	}
	for _, s := range k.datasets {
		for _, size := range sizes {
			if s.Name+"_"+bucket.SizeName(size) == name {
				return s, size
			}
		}
	}
	return nil, 0
}

// resolve sets what variants inherit, and the sizes that datasets support.
func (k *declared) resolve(bad *problems) {
	for _, s := range k.datasets {
		for i := range s.Variants {
			v := &s.Variants[i]
			node := k.nodes[v.Node]
			yamlspec.Overlay(&node, v.nodeSpec)
			v.nodeSpec = node
			s.inherit(v, bad)
		}
		if s.can = slices.Sorted(slices.Values(s.Sizes)); s.Sizes == nil {
			s.can = slices.DeleteFunc(slices.Clone(sizes), func(size time.Duration) bool {
				variants := s.variants(size)
				return len(variants) == 0 || slices.ContainsFunc(variants, func(v Variant) bool { return s.unaddable(&v, size) != "" })
			})
		}
		if s.Size == 0 && len(s.can) == 1 {
			s.Size = s.can[0]
		}
	}
}

// inherit adds the dataset's measures to a variant. The variant's own measure of a family
// replaces the dataset's in its place; its others come last.
func (s *spec) inherit(v *variantSpec, bad *problems) {
	feeds := func(list []measureSpec, family string) int {
		return slices.IndexFunc(list, func(m measureSpec) bool { return m.Family == family })
	}
	for _, family := range v.Without {
		if feeds(s.Measures, family) < 0 || feeds(v.Measures, family) >= 0 {
			bad.add(v.Place, "dataset %s: variant %s: without names %q; it must be a family that a measure of the dataset feeds and none of the variant", s.Name, v.Name, family)
		}
	}
	var all []measureSpec
	own := slices.Clone(v.Measures)
	for _, m := range s.Measures {
		if slices.Contains(v.Without, m.Family) {
			continue
		}
		if i := feeds(own, m.Family); i >= 0 {
			m = own[i]
			own = slices.Delete(own, i, i+1)
		}
		all = append(all, m)
	}
	v.Measures = append(all, own...)
}

// httpDataset is the dataset whose size has its own setting.
const httpDataset = "http"

// choose applies the settings to the declarations.
func (k *declared) choose(o *Options, bad *problems) {
	settings := yamlspec.Place{}
	if s, _ := k.find(httpDataset); s != nil {
		if s.Size != 0 && s.Size != o.HTTPSize {
			bad.add(s.Place, "size of dataset http is %s, but the setting CF_BUCKET_SECONDS makes it %s; leave it out here", short(s.Size), short(o.HTTPSize))
		}
		s.Size = o.HTTPSize
	}
	chosen := func(name string) (*spec, time.Duration) {
		s, size := k.find(name)
		if s == nil {
			var all []named
			for _, s := range k.datasets {
				all = append(all, named{s.Name, s.id(s.Size), s.can})
			}
			bad.add(settings, "%v", noDataset(name, all))
		}
		return s, size
	}
	enabled := map[*spec]time.Duration{} // at this size; 0: at its own
	for _, name := range o.Enable {
		s, size := chosen(name)
		if s == nil {
			continue
		}
		s.Enabled = new(bool)
		*s.Enabled = true
		switch had := enabled[s]; {
		case size == 0 || size == s.Size && had == 0:
		case s.Name == httpDataset:
			bad.add(settings, "dataset %q: the bucket size of http is %s by CF_BUCKET_SECONDS; set it there", name, short(o.HTTPSize))
		case had != 0 && had != size:
			bad.add(settings, "dataset %s is enabled at two bucket sizes, %s and %s; no window is collected at two", s.Name, short(had), short(size))
		case !slices.Contains(s.can, size):
			bad.add(settings, "dataset %q: %s can be collected at %s", name, s.Name, sizeNames(s.can))
		default:
			s.Size = size
		}
		enabled[s] = max(size, enabled[s])
	}
	for _, name := range o.Disable {
		s, size := chosen(name)
		if s == nil {
			continue
		}
		if _, both := enabled[s]; both {
			bad.add(settings, "dataset %q is both enabled and disabled", name)
		}
		if size != 0 && size != s.Size {
			bad.add(settings, "dataset %q is not what would be collected; that is %s", name, s.id(s.Size))
		}
		s.Enabled = new(bool)
	}
}

// checkTogether checks datasets against each other, and returns the dataset of each id.
func (k *declared) checkTogether(bad *problems) map[string]*spec {
	ids, families := map[string]*spec{}, map[string]*spec{}
	for _, s := range k.datasets {
		for _, size := range s.can {
			id := s.id(size)
			if o, taken := ids[id]; taken && o != s {
				bad.add(s.Place, "datasets %s and %s share the id %s", o.Name, s.Name, id)
			}
			ids[id] = s
		}
		for _, f := range s.Families {
			if o, taken := families[f.Name]; taken && o != s {
				bad.add(f.Place, "family %s belongs to the datasets %s and %s; a family has one source", f.Name, o.Name, s.Name)
			}
			families[f.Name] = s
		}
	}
	return ids
}
