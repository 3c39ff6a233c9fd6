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
	// Name is the name in the catalogue: "http", whose ids are http_5m and so
	// on, or "uniques_1h", whose only size is in its name. Two datasets of one
	// name feed the same families and never cover the same window.
	Name string
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
	// Interval is the last family: the sample interval of a bucket that Cloudflare
	// answered from a sample, without which an estimate would look like a count (G12).
	// Fed by no measure, and without rows where nothing was sampled; empty: no
	// variant says.
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
	// Top keeps the rows with the largest values, 1 to 1000; 0 keeps all. Rows
	// of equal value are ranked by their labels.
	Top int
	// Other is the label value of the rest: "other".
	Other string
	// By names the family of the same dataset and labels whose values rank the
	// label values, so that two families keep the same ones; empty: itself.
	By string
	// Allow keeps only rows that have one of these values in every label;
	// empty: all.
	Allow []string
	// Deny folds rows that have one of these values in any label.
	Deny []string
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

// Measure feeds one family from the groups of a node.
type Measure struct {
	// Family is the family that is fed.
	Family string
	// Field is the path of the value inside a group: "sum.requests", "count".
	// With Map it is the value field inside each element: "requests".
	Field string
	// Map is the path of an array of objects: "sum.countryMap".
	Map string
	// Labels says where each of the family's labels comes from: label name to
	// field of the map's element, or to dimension. "class(field)" makes status
	// classes of it: 404 becomes "4xx".
	Labels map[string]string
	// When keeps only groups whose dimension has one of the values; a leading
	// "!" on the dimension inverts. Several conditions must all hold.
	When map[string][]string
	// Optional measures may be left out where a scope may not ask for their
	// field; see [Variant.Without].
	Optional bool
}
