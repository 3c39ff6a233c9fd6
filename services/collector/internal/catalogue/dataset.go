// Package catalogue has the datasets: how Cloudflare is queried for each, and how a
// response becomes rows of metric families. The datasets are declared in YAML files
// (datasets/*.yaml, embedded, and an optional file of the user, which changes them); the
// rest are pure functions that do not know HTTP.
//
// [Load] reads and validates the declarations and expands each to one bucket size.
// [Dataset.Selection] returns what to query, and [Dataset.Fold] converts the groups of the
// response to one [Folded] per window. Everything is immutable and safe for concurrent
// use.
package catalogue

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Dataset is a dataset at one bucket size.
type Dataset struct {
	// Definition is what readers of the buckets need. Its Version is 0; the store
	// assigns versions.
	bucket.Definition
	// Name is the name in the catalogue: "http", whose ids are http_5m and so on,
	// or "uniques_1d", whose only size is in its name.
	Name string
	// Sizes are the bucket sizes at which it can be collected, ascending.
	Sizes []time.Duration
	// Others are its ids at other sizes. A store may have buckets of them from before
	// a change of the size. They feed the same families, and no window is covered at
	// two sizes.
	Others []string
	// Enabled: it is collected by default.
	Enabled bool
	// Own: the user's file declares it. Nobody but Cloudflare knows whether its names exist.
	Own bool
	// State: it is a state at a moment, which the REST API has, and nothing that happened in
	// a window. A bucket has the state at the end of its window, read once, at most
	// [Dataset.Within] after it; a window that was not read then is lost. Delay is 0 and Level
	// is empty.
	State bool
	// Confirm is the number of equal readings that make a bucket final, at
	// least 1 (design: K = 2).
	Confirm int
	// Deadline is the age of a window's end at which the last reading is
	// stored even though readings still differ.
	Deadline time.Duration
	// Level is the family whose sum distinguishes an ordinary bucket from a suspect
	// one. Every variant feeds it. Empty: nothing is suspect.
	Level string
	// Interval is the last family, [SampleInterval]; empty if no variant has the
	// sample interval.
	Interval string
	// Values replace label values. The first that matches is used.
	Values []Value
	// ZeroFill is how many buckets back [Dataset.FillZeros] looks; 0: nothing is filled.
	ZeroFill int
	// Limits caps breakdown families, by family name.
	Limits map[string]Limit
	// Variants in order of preference. The first that a scope's plan allows is used.
	Variants []Variant

	boundless []string // why no family has the bounds that are declared
}

// Within is how long after the end of its window a state is read for it: until the deadline,
// and never for a window that is not the newest.
func (d *Dataset) Within() time.Duration { return min(d.Size, d.Deadline) }

// Value replaces values of one label.
type Value struct {
	Label string   `yaml:"label" required:"true" is:"label" doc:"Label whose values are replaced."`
	From  []string `yaml:"from" doc:"Values, ranges of whole numbers such as 1..29 with both ends included, or * for every value."`
	To    string   `yaml:"to" required:"true" is:"value" doc:"Value that replaces them."`
}

// Limit limits the label cardinality of one breakdown family. Rows beyond it are summed
// into one row whose labels are all Other if the family is additive, and dropped
// otherwise, because averages, quantiles and distinct counts have no sum. They are counted
// in both cases. The quantiles of one set of labels are kept or dropped together.
type Limit struct {
	// Rows of equal value are ranked by their labels.
	Top   int      `yaml:"top" is:"0..1000" doc:"Rows with the largest values that are kept; default: all."`
	Other string   `yaml:"other" is:"value" doc:"Label value of the rest; default: other."`
	By    string   `yaml:"by" doc:"Family of the same labels, not counting quantile, whose values rank the rows, so that two families keep the same ones; default: the family itself."`
	Allow []string `yaml:"allow" doc:"Only rows with one of these values in every label are kept; default: all."`
	Deny  []string `yaml:"deny" doc:"Rows with one of these values in any label are summed into other."`
	// Only and Except are the same for one label each.
	Only   map[string][]string `yaml:"only" keys:"label" doc:"By label: only rows with one of these values are kept."`
	Except map[string][]string `yaml:"except" keys:"label" doc:"By label: rows with one of these values are summed into other."`
}

// Variant is one way to query a dataset: a node with the fields to select.
type Variant struct {
	// Name is recorded with every bucket: "rollup_1m", "adaptive".
	Name string
	// Node is the GraphQL node: "httpRequests1mGroups". Of a state it is its name in
	// package cloudflare.
	Node string
	// REST is the path of a state below the zone or account, for people; empty: GraphQL.
	REST string
	// Calls is how many requests a reading of a state is expected to take; 0 for GraphQL.
	Calls int
	// Permission is what the token needs for a state. Documentation.
	Permission string
	// TimeDimension groups rows by time: "datetimeFiveMinutes", "date".
	TimeDimension string
	// FilterField is the field that limits the range: "datetime", what the node has
	// instead, such as "datetimeMinute", or "date" if it has nothing finer.
	FilterField string
	// Step is the length of one group. It divides the bucket size. Groups of a shorter
	// step are added up, which only additive families allow.
	Step time.Duration
	// Sampled nodes are queried one window per selection. A sampled reading needs no
	// second, equal one.
	Sampled bool
	// Interval is the path of the average sample interval, "avg.sampleInterval";
	// empty: the node does not have it.
	Interval string
	// Level and Bounds are the confidence intervals that are selected; empty: none.
	Level  Confidence
	Bounds []Bound
	// Filter is a fixed part of the filter, by filter field: requestSource: eyeball.
	// Values are strings, int64 and lists of them.
	Filter map[string]any
	// Filtered are the flattened names of the dimensions that Filter is about, as far as any
	// dataset selects them from the node: a plan that does not include a dimension does not
	// include the filter either. Other filter fields are in no list of what a plan includes.
	Filtered []string
	// Dimensions are selected in addition to the time dimension.
	Dimensions []string
	// Plan is the lowest plan of a zone that includes it and Product what has to be bought
	// besides, as far as Cloudflare publishes it; empty: not known, or none. Documentation.
	Plan, Product string
	// Rows is the expected maximum number of groups in one window and scope, for
	// packing requests within page sizes.
	Rows int
	// Measures define how groups become rows.
	Measures []Measure
}

// Measure feeds one family from the groups of a node. Optional measures are left out if a
// scope may not query their field; see [Variant.Without].
//
// What a field is follows from the first name of its path: count and sum are amounts, which
// are added up; uniq is a distinct count, which is not; avg, max, min, quantiles, ratio and
// dimensions are statistics. Of a statistic every group must be one row, unless Weight or Join says how
// groups are joined. A statistic that Cloudflare reports as null or negative is of no events
// and has no row.
type Measure struct {
	Family    string              `yaml:"family" required:"id" doc:"Family that the measure feeds."`
	Field     string              `yaml:"field" required:"true" is:"path" doc:"Path of the value in a group, such as sum.requests or count; with map, name of the value in each element; with quantiles, path without the part from P on, such as quantiles.cpuTime."`
	Map       string              `yaml:"map" is:"path" doc:"Path of a list of objects, such as sum.countryMap. Each object is a row."`
	Labels    map[string]string   `yaml:"labels" keys:"label" is:"source" doc:"Source of each label of the family: a dimension or, with map, a field of the element. class(field) turns 404 into 4xx; path(field) replaces the parts of a path that are ids."`
	When      map[string][]string `yaml:"when" keys:"condition" doc:"Values that a dimension must have for the group to count or, with ! before the dimension, must not have. All conditions must hold."`
	Scale     string              `yaml:"scale" is:"ns|us|ms|minutes|bits|percent" doc:"Unit of the field at Cloudflare if it is not the family's unit, to which values are converted: ns, us, ms and minutes to seconds, bits to bytes, percent to ratio."`
	Quantiles []Quantile          `yaml:"quantiles" doc:"Quantiles to query, such as [0.5, 0.99]: each is a row with the label quantile, the last of the family."`
	Weight    string              `yaml:"weight" is:"path" doc:"Path of the number of events behind an average, such as count: groups of one row are joined as the average weighted with it."`
	Join      string              `yaml:"join" is:"max|min" doc:"How groups of one row are joined if they are not added up: the largest or the smallest value."`
	Optional  bool                `yaml:"optional" doc:"The variant may be used without this measure if a plan does not include its field."`
}

// SampleInterval is the family that marks buckets that are estimates, which would
// otherwise look like counts (G12). All datasets share it; a label has the dataset's id.
// No measure feeds it, and it has no row if nothing was sampled.
const SampleInterval = "cloudflare_sample_interval"

// sampleInterval is the same for every dataset, including the help text: the exposition
// has one header for the family.
var sampleInterval = bucket.Family{
	Name:   SampleInterval,
	Help:   "Events that one event of Cloudflare's sample stands for: the numbers of the dataset are estimates in this bucket. Absent where all events were counted.",
	Labels: []string{"dataset"},
	// The contract has no totals with labels. A view that exceeds its limit drops it
	// with the dataset's breakdowns.
	Role: bucket.Breakdown,
}
