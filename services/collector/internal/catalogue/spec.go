package catalogue

import (
	"errors"
	"regexp"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/yamlspec"
)

// The structs here are the format of a catalogue file. The tags of a field define what
// [Load] accepts and what the JSON Schema contains. Nil and zero mean "not set", so that a
// user's file needs only what differs.

// format holds the rules that the tags name.
var format = yamlspec.Format{
	"dataset": {Regexp: regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`), Want: "match ^[a-z][a-z0-9_]{0,62}$"},
	// The prefix names the source, and the scope defines the meaning of the labels zone
	// and account.
	"family":    {Regexp: familyPattern, Want: "match " + familyPattern.String()},
	"label":     {Regexp: labelPattern, Want: "match " + labelPattern.String()},
	"graphql":   {Regexp: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`), Want: "be a GraphQL name"},
	"path":      {Regexp: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$`), Want: "be a path such as sum.requests"},
	"source":    {Regexp: regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_]*|(class|path)\([A-Za-z][A-Za-z0-9_]*\))$`), Want: "be a field, class(field) or path(field)"},
	"condition": {Regexp: regexp.MustCompile(`^!?[A-Za-z][A-Za-z0-9_]*$`), Want: "be a dimension, with or without ! before it"},
	// Control characters do to a terminal what nobody wants. NUL is in no label value.
	"line":  {Regexp: regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]{1,1000}$`), Want: "be one line of text, at most 1000 characters"},
	"value": {Regexp: regexp.MustCompile(`^[^\x00]+$`), Want: "not be empty: Prometheus drops empty labels"},
}

var (
	familyPattern = regexp.MustCompile(`^cloudflare_(zone|account)_[a-z0-9]+(_[a-z0-9]+)*$`)
	labelPattern  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
)

// file is a catalogue file.
type file struct {
	Nodes    map[string]nodeSpec `yaml:"nodes" keys:"graphql" each:"node" doc:"Properties of nodes of Cloudflare's GraphQL API, by name. They apply to every variant that uses the node."`
	Datasets []*spec             `yaml:"datasets" each:"dataset" doc:"Datasets. A dataset with a new name is added. For a known name, the keys that are set here replace the declared ones: lists as a whole, limits by family."`
}

// nodeSpec has the properties of a node of the API.
type nodeSpec struct {
	yamlspec.Place
	FilterField string                   `yaml:"filter_field" is:"datetime|datetimeMinute|datetimeHour|date" doc:"Field that limits the time range: datetime, or what the node has instead, such as datetimeMinute; date only if it has nothing finer."`
	Times       map[time.Duration]string `yaml:"times" is:"graphql" doc:"Time dimension for each length of group, for example {5m: datetimeFiveMinutes}. The longest that divides the bucket size is used."`
	Sizes       []time.Duration          `yaml:"sizes" is:"1m|5m|15m|30m|1h|1d" doc:"Bucket sizes for which this is used; default: all."`
	Sampled     *bool                    `yaml:"sampled" doc:"Whether Cloudflare may compute the response from a sample of events."`
	Interval    string                   `yaml:"interval" is:"path" doc:"Path of the average sample interval, for example avg.sampleInterval."`
	Bounds      []string                 `yaml:"bounds" is:"count|sum" doc:"Of what Cloudflare gives confidence intervals, for datasets with confidence: count, sum or both."`
	REST        string                   `yaml:"rest" is:"line" doc:"Path of the REST API below the zone or account that has the state. Only the nodes that this release reads as states have it."`
	Calls       int                      `yaml:"calls" is:"1..50" doc:"Number of requests that one reading of a state is expected to take."`
	Permission  string                   `yaml:"permission" is:"line" doc:"Permission of the token that a state needs. Documentation only."`
	Plan        string                   `yaml:"plan" is:"free|pro|business|enterprise" doc:"Lowest plan of a zone that includes it, as far as Cloudflare publishes it. Documentation only: what is collected follows from the settings that Cloudflare reports for each zone and account."`
	Product     string                   `yaml:"product" is:"line" doc:"Product of Cloudflare without which there is nothing to report, such as Load Balancing. Documentation only."`
}

// spec is a dataset as declared.
type spec struct {
	yamlspec.Place
	Name        string               `yaml:"name" required:"id" is:"dataset" doc:"Name of the dataset. Name and bucket size make the id: http_5m. A file that changes a known dataset may use the id, which also selects the bucket size."`
	Description *string              `yaml:"description" is:"line" doc:"Description of the dataset, in one line."`
	Enabled     *bool                `yaml:"enabled" doc:"Whether it is collected unless the settings enable or disable it; default true."`
	Scope       string               `yaml:"scope" is:"zone|account" doc:"Kind of scope that the dataset is about."`
	Sizes       []time.Duration      `yaml:"sizes" is:"1m|5m|15m|30m|1h|1d" doc:"Bucket sizes at which it can be collected; default: all that its variants support."`
	Size        time.Duration        `yaml:"size" is:"1m|5m|15m|30m|1h|1d" doc:"Bucket size at which it is collected unless the settings select another."`
	Delay       *time.Duration       `yaml:"delay" doc:"Time after the end of a window at which it is first queried; default: CF_DELAY_SECONDS."`
	Deadline    *time.Duration       `yaml:"deadline" doc:"Time after the end of a window at which the last reading is stored even if readings still differ; default: the delay plus 15 minutes."`
	Confirm     *int                 `yaml:"confirm" is:"1..10" doc:"Number of equal readings that make a bucket final; default 2."`
	Confidence  *Confidence          `yaml:"confidence" doc:"Level of confidence intervals, such as 0.95. With it, amounts of sampled nodes that have bounds get two more families each, with the interval that Cloudflare gives for the estimate: …_estimate_lower and …_estimate_upper, before the unit. Default: none are queried."`
	ZeroFill    *fillSpan            `yaml:"zero_fill" doc:"How long an amount with labels is stored as 0 after it was last there: 1 to 12 buckets, or a duration of as many. Without it, what falls silent has no row. Default: not at all."`
	Depth       *depth               `yaml:"depth" doc:"The most windows of the dataset that one scrape shows, the newest and a page of older ones: a number of buckets, or a duration such as 6h, which is limited to 4 to 30 buckets; default: a day."`
	Level       string               `yaml:"level" doc:"Family whose sum distinguishes an ordinary bucket from a suspect one. Every variant must feed it."`
	Families    []familySpec         `yaml:"families" each:"family" doc:"Metric families of the dataset."`
	Measures    []measureSpec        `yaml:"measures" each:"measure" doc:"How groups become rows, in every variant that does not override it."`
	Variants    []variantSpec        `yaml:"variants" each:"variant" doc:"Ways to query the dataset, in order of preference. The first that a zone's plan allows is used."`
	Values      []valueSpec          `yaml:"values" each:"value" doc:"Replacements of label values, in all families of the dataset. The first that matches is used; a value that none matches stays."`
	Limits      map[string]limitSpec `yaml:"limits" each:"limit" doc:"Limits of the number of label values, by family."`
	Drop        []string             `yaml:"drop" doc:"Families that are not collected."`

	builtIn bool
	can     []time.Duration // sizes that it can be collected at, ascending; see [spec.resolve]
}

type familySpec struct {
	yamlspec.Place
	Name     string   `yaml:"name" required:"id" is:"family" doc:"Name of the metric family: cloudflare_zone_…"`
	Help     string   `yaml:"help" required:"true" is:"line" doc:"Help text, in one line."`
	Unit     string   `yaml:"unit" doc:"Base unit. The name must end in it, as OpenMetrics requires."`
	Labels   []string `yaml:"labels" is:"label" doc:"Labels in addition to zone and account."`
	Additive *bool    `yaml:"additive" doc:"Whether values of disjoint windows may be added; default true, false for distinct counts."`
}

// valueSpec replaces label values.
type valueSpec struct {
	yamlspec.Place
	Value
}

type limitSpec struct {
	yamlspec.Place
	Limit
}

type variantSpec struct {
	yamlspec.Place
	nodeSpec
	Name       string         `yaml:"name" required:"id" is:"dataset" doc:"Name of the variant. It is recorded with every bucket."`
	Node       string         `yaml:"node" required:"true" is:"graphql" doc:"Node of Cloudflare's GraphQL API."`
	Filter     map[string]any `yaml:"filter" keys:"graphql" doc:"Fixed part of the filter, for example {requestSource: eyeball}."`
	Dimensions []string       `yaml:"dimensions" is:"graphql" doc:"Dimensions of the groups in addition to time."`
	Rows       int            `yaml:"rows" required:"true" is:"1..10000" doc:"Expected maximum number of groups in one step of time and one scope."`
	Measures   []measureSpec  `yaml:"measures" each:"measure" doc:"Measures of this variant. They replace the dataset's measures of the same family or are added to them."`
	Without    []string       `yaml:"without" doc:"Families of the dataset's measures that this variant does not feed."`
}

type measureSpec struct {
	yamlspec.Place
	Measure
}

var quantilePattern = regexp.MustCompile(`^0\.([0-9]{0,2}[1-9])$`)

// Quantile is a quantile between 0 and 1 as it is written, without zeros at its end: it is a
// label value.
type Quantile string

// UnmarshalText reads 0.5 or 0.999.
func (q *Quantile) UnmarshalText(text []byte) error {
	if !quantilePattern.Match(text) {
		return errors.New("a quantile between 0 and 1 without zeros at its end, such as 0.5 or 0.999")
	}
	*q = Quantile(text)
	return nil
}

// YAMLSchema describes a quantile.
func (*Quantile) YAMLSchema() map[string]any {
	return map[string]any{"type": []string{"string", "number"}, "pattern": quantilePattern.String(), "exclusiveMinimum": 0, "exclusiveMaximum": 1}
}

// depth is a number of buckets or a duration.
type depth struct {
	buckets int
	span    time.Duration
}

// UnmarshalText reads 6 or 6h.
func (d *depth) UnmarshalText(text []byte) error {
	if n, err := strconv.Atoi(string(text)); err == nil {
		*d = depth{buckets: n}
		return nil
	}
	span, ok := yamlspec.ParseDuration(string(text))
	if !ok || span == 0 {
		return errors.New("a number of buckets such as 6, or a duration such as 6h")
	}
	*d = depth{span: span}
	return nil
}

// YAMLSchema describes a depth.
func (*depth) YAMLSchema() map[string]any {
	s := yamlspec.DurationSchema()
	s["minimum"], s["maximum"] = minDepth, maxDepth
	return s
}

// at is the depth at a bucket size.
func (d depth) at(size time.Duration) int {
	if d.span == 0 {
		return d.buckets
	}
	return min(max(int(d.span/size), 4), maxDepth)
}

// problems collects errors in the order in which they are found.
type problems []error

func (p *problems) add(at yamlspec.Place, format string, args ...any) {
	*p = append(*p, at.Problemf(format, args...))
}

// Schema returns the JSON Schema of catalogue files.
func Schema() map[string]any {
	return format.Schema("Weir catalogue", file{})
}
