// Package catalogue holds the declared questions: which datasets there are,
// how Cloudflare is asked for each, and how an answer becomes rows of metric
// families. It is data (datasets/*.yaml, embedded, with a user's file on top)
// and pure functions; it knows no HTTP.
//
// [Load] reads and checks the declarations and expands each to one bucket size.
// [Dataset.Selection] says what to ask, [Dataset.Fold] turns the groups that
// come back into one [Folded] per window. Nothing here has state: everything
// may be used from several goroutines at once.
package catalogue

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Dataset is one question at one bucket size, ready to be asked.
type Dataset struct {
	// Definition is what readers of the buckets need. Its Version is 0 here:
	// the store gives versions.
	bucket.Definition
	// Name is the name in the catalogue: "http", whose ids are http_5m and so on,
	// or "uniques_1d", whose only size is in its name.
	Name string
	// Sizes are those that it could be collected at, ascending.
	Sizes []time.Duration
	// Others are its ids at other sizes. A store may have buckets of them, from
	// before the size was changed; they feed the same families, and no window is
	// covered at two sizes.
	Others []string
	// Enabled: it is collected unless settings say otherwise.
	Enabled bool
	// Confirm is the number of equal readings that make a bucket final, at
	// least 1 (design: K = 2).
	Confirm int
	// Deadline is the age of a window's end at which the last reading is
	// stored even though readings still differ.
	Deadline time.Duration
	// Level is the family whose bucket sum tells an ordinary bucket from a
	// suspect one; always fed by every variant.
	Level string
	// Interval is the last family, [SampleInterval]; empty: no variant says how it
	// was sampled.
	Interval string
	// Limits caps breakdown families, by family name.
	Limits map[string]Limit
	// Variants in order of preference; the first that a scope may use is used.
	Variants []Variant
}

// Limit bounds the label cardinality of one breakdown family. What is folded
// away is summed into one row whose labels are all Other where the family is
// additive, else dropped; either way it is counted.
type Limit struct {
	// Rows of equal value are ranked by their labels.
	Top   int      `yaml:"top" is:"0..1000" doc:"Rows with the largest values that are kept; default: all."`
	Other string   `yaml:"other" is:"value" doc:"Label value of the rest; default: other."`
	By    string   `yaml:"by" doc:"Family of the same labels whose values rank the rows, so that two families keep the same ones; default: the family itself."`
	Allow []string `yaml:"allow" doc:"Only rows with one of these values in every label are kept; default: all."`
	Deny  []string `yaml:"deny" doc:"Rows with one of these values in any label are folded away."`
}

// Variant is one way of asking: a node with the fields to select.
type Variant struct {
	// Name is recorded with every bucket: "rollup_1m", "adaptive".
	Name string
	// Node is the GraphQL node: "httpRequests1mGroups".
	Node string
	// TimeDimension groups rows by time: "datetimeFiveMinutes", "date".
	TimeDimension string
	// FilterField bounds the range: "datetime", or "date" where the node knows
	// nothing finer.
	FilterField string
	// Step is the length of one group; it divides the bucket size. Groups of a
	// finer step are added up, which only additive families survive.
	Step time.Duration
	// Sampled nodes are asked one window per selection. A reading that was sampled
	// needs no equal one.
	Sampled bool
	// Interval is the path of the average sample interval, "avg.sampleInterval";
	// empty: the node does not say.
	Interval string
	// Filter is a fixed part of the filter, by filter field: requestSource: eyeball.
	// Values are strings, int64 and lists of them.
	Filter map[string]any
	// Dimensions are selected besides the time dimension.
	Dimensions []string
	// Rows is the most groups expected in one window and scope, for packing
	// within page sizes.
	Rows int
	// Measures say how groups become rows.
	Measures []Measure
}

// Measure feeds one family from the groups of a node. Optional ones may be left
// out where a scope may not ask for their field; see [Variant.Without].
type Measure struct {
	Family   string              `yaml:"family" required:"id" doc:"Family that is fed."`
	Field    string              `yaml:"field" required:"true" is:"path" doc:"Path of the value in a group, such as sum.requests or count; with map, name of the value in each element."`
	Map      string              `yaml:"map" is:"path" doc:"Path of a list of objects, such as sum.countryMap, each of which is a row."`
	Labels   map[string]string   `yaml:"labels" keys:"label" is:"source" doc:"Where each label of the family comes from: a dimension, with map a field of the element. class(field) makes 4xx of 404."`
	When     map[string][]string `yaml:"when" keys:"condition" doc:"Values that a dimension must have for the group to count; with ! before the dimension, must not have. All conditions must hold."`
	Optional bool                `yaml:"optional" doc:"The variant may be used without this measure where a plan does not grant its field."`
}

// SampleInterval is the family that says which buckets are estimates, without
// which an estimate would look like a count (G12). All datasets share it and are
// told apart by their id. No measure feeds it, and it has no row where nothing was
// sampled.
const SampleInterval = "cloudflare_sample_interval"

// sampleInterval is the same for every dataset, help text included: the exposition
// has one header for the family.
var sampleInterval = bucket.Family{
	Name:   SampleInterval,
	Help:   "Events that one event of Cloudflare's sample stands for: the numbers of the dataset are estimates in this bucket. Absent where all events were counted.",
	Labels: []string{"dataset"},
	// The contract has no totals with labels. A view that is cut short drops it
	// with the dataset's breakdowns.
	Role: bucket.Breakdown,
}
