package catalogue

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed datasets/*.yaml
var embedded embed.FS

// Defaults of the catalogue.
const (
	defaultSize    = 5 * time.Minute
	defaultDelay   = 5 * time.Minute
	defaultConfirm = 2
	// graceAfterDelay: at delay + 15 min the last reading is stored.
	graceAfterDelay = 15 * time.Minute
	// mostDeadline: after as long nobody waits for readings that agree.
	mostDeadline = 7 * 24 * time.Hour
	// minDepth: a window must be shown for two more after it falls due.
	minDepth = 3
	// maxDepth: from 33 samples per series on, Prometheus appends every repeat
	// again for ever.
	maxDepth = 30
)

// Options are the settings that affect the catalogue.
type Options struct {
	// HTTPSize is the bucket size of the dataset "http" (CF_BUCKET_SECONDS);
	// 0: five minutes.
	HTTPSize time.Duration
	// Delay is the delay of datasets that do not set one (CF_DELAY_SECONDS); 0:
	// five minutes.
	Delay time.Duration
	// Enable and Disable override which datasets the catalogue enables, by name
	// ("countries") or id; the id "countries_5m" in Enable also selects the bucket
	// size. A dataset in both is an error.
	Enable, Disable []string
	// Profile is a set of built-in datasets, one of [Profiles]; empty: the default one. The
	// user's file, Enable and Disable change it.
	Profile string
	// RequestSource is whose requests are counted, one of [RequestSources]; empty: those of end
	// users. See [declared.countAll].
	RequestSource string
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

// Lookup returns the available dataset with the given name or id. If there is none, the error
// says which there are.
func (c *Catalogue) Lookup(name string) (*Dataset, error) {
	all := make([]named, len(c.Available))
	for i := range c.Available {
		d := &c.Available[i]
		if d.Dataset == name || d.Name == name {
			return d, nil
		}
		all[i] = named{d.Name, d.Dataset, d.Sizes}
	}
	return nil, noDataset(name, all)
}

// KnownNode returns the lengths of group and the bucket sizes of a node that the built-in files
// say how to ask; no sizes are all.
func KnownNode(node string) (steps, sizes []time.Duration, ok bool) {
	known, _ := embeddedFiles()
	n, ok := known.nodes[node]
	return slices.Sorted(maps.Keys(n.Times)), n.Sizes, ok
}

// Load reads the embedded datasets and applies the user's YAML, which is nil if there is no
// file, and otherwise must not be empty: a dataset
// with a new name is added; for a known name, the keys that it sets replace the declared
// ones (lists as a whole, limits by family). The error has every problem, each on a line
// with its position.
func Load(user []byte, o Options) (*Catalogue, error) {
	if o.HTTPSize == 0 {
		o.HTTPSize = defaultSize
	}
	if o.Delay == 0 {
		o.Delay = defaultDelay
	}
	if o.File == "" {
		o.File = "catalogue"
	}
	var bad problems
	known := base(&bad)
	known.profile(o.Profile, &bad)
	if user != nil {
		known.add(o.File, user, &bad)
	}
	known.countAll(&o, &bad)
	known.resolve(&bad)
	known.choose(&o, &bad)
	var all []Dataset
	ids := known.checkTogether(&bad)
	for _, s := range known.datasets {
		s.check(&bad)
		if s.Size == 0 {
			continue // which is a problem by now
		}
		d := s.expand(s.Size, o.Delay)
		for _, size := range sizes {
			if id := s.id(size); size != s.Size && (ids[id] == nil || ids[id] == s) {
				d.Others = append(d.Others, id)
			}
		}
		s.checkExpanded(&d, o.StartTimestamps, &bad)
		s.checkContract(&d, &bad)
		all = append(all, d)
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("load catalogue:\n%w", errors.Join(bad...))
	}
	setFiltered(all)
	slices.SortFunc(all, func(a, b Dataset) int { return strings.Compare(a.Dataset, b.Dataset) })
	c := &Catalogue{Available: all}
	for _, d := range all {
		if d.Enabled {
			c.Datasets = append(c.Datasets, d)
		}
	}
	return c, nil
}

// base returns the declarations of the embedded files.
func base(bad *problems) *declared {
	from, wrong := embeddedFiles()
	*bad = append(*bad, wrong...)
	known := &declared{nodes: maps.Clone(from.nodes)}
	for _, s := range from.datasets {
		// What is changed later: keys as a whole, and variants in place.
		own := *s
		own.Variants = slices.Clone(s.Variants)
		known.datasets = append(known.datasets, &own)
	}
	return known
}

// embeddedFiles reads the embedded files, once: it takes as long as a thousand folds.
var embeddedFiles = sync.OnceValues(func() (*declared, problems) {
	names, err := fs.Glob(embedded, "datasets/*.yaml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	known, bad := &declared{nodes: map[string]nodeSpec{}}, problems{}
	for _, name := range names {
		text, err := embedded.ReadFile(name)
		if err != nil {
			panic(err) // it was just listed
		}
		known.add(name, text, &bad)
	}
	for _, s := range known.datasets {
		s.builtIn = true
	}
	return known, bad
})

// sizes has all bucket sizes, ascending.
var sizes = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 24 * time.Hour}

func sizeNames(of []time.Duration) string {
	names := make([]string, len(of))
	for i, size := range of {
		names[i] = short(size)
	}
	return strings.Join(names, ", ")
}
