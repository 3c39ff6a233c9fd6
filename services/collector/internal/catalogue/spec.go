package catalogue

import (
	"errors"
	"regexp"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/yamlspec"
)

// The structs here are the format of a catalogue file: what a field's tags say is
// what [Load] accepts and what the JSON Schema tells an editor. Nil and zero mean
// "not said", so that a user's file can say only what differs.

// format holds the rules that the tags name.
var format = yamlspec.Format{
	"dataset": {Regexp: regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`), Want: "match ^[a-z][a-z0-9_]{0,62}$"},
	// The prefix says whose numbers these are, and the scope what the labels zone
	// and account mean.
	"family":    {Regexp: familyPattern, Want: "match " + familyPattern.String()},
	"label":     {Regexp: labelPattern, Want: "match " + labelPattern.String()},
	"graphql":   {Regexp: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`), Want: "be a GraphQL name"},
	"path":      {Regexp: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$`), Want: "be a path such as sum.requests"},
	"source":    {Regexp: regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_]*|class\([A-Za-z][A-Za-z0-9_]*\))$`), Want: "be a field, or class(field)"},
	"condition": {Regexp: regexp.MustCompile(`^!?[A-Za-z][A-Za-z0-9_]*$`), Want: "be a dimension, or a dimension after !"},
	"line":      {Regexp: regexp.MustCompile(`^[^\r\n]+$`), Want: "be one line of text"},
	"value":     {Regexp: regexp.MustCompile(`^(.|\n)+$`), Want: "not be empty: Prometheus drops empty labels"},
}

var (
	familyPattern = regexp.MustCompile(`^cloudflare_(zone|account)_[a-z0-9]+(_[a-z0-9]+)*$`)
	labelPattern  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// file is a catalogue file.
type file struct {
	Nodes    map[string]nodeSpec `yaml:"nodes" keys:"graphql" each:"node" doc:"What nodes of Cloudflare's GraphQL API can make, by name. A variant that names the node need not repeat it."`
	Datasets []*spec             `yaml:"datasets" each:"dataset" doc:"Datasets. One of a new name is added; of a known name, what is said here replaces what was declared: lists whole, limits family by family."`
}

// nodeSpec says how a node of the API is asked.
type nodeSpec struct {
	yamlspec.Place
	FilterField string                   `yaml:"filter_field" is:"datetime|date" doc:"Field that bounds the time range: datetime, or date where the node has nothing finer."`
	Times       map[time.Duration]string `yaml:"times" is:"graphql" doc:"Time dimension for each length of group, for example {5m: datetimeFiveMinutes}. The longest that divides the bucket size is used."`
	Sizes       []time.Duration          `yaml:"sizes" is:"1m|5m|15m|30m|1h|1d" doc:"The only bucket sizes that this is used for."`
	Sampled     *bool                    `yaml:"sampled" doc:"The node may answer from a sample of events."`
	Interval    string                   `yaml:"interval" is:"path" doc:"Path of the average sample interval, for example avg.sampleInterval."`
}

// spec is a dataset as declared.
type spec struct {
	yamlspec.Place
	Name        string               `yaml:"name" required:"id" is:"dataset" doc:"Name of the dataset. Name and bucket size make the id: http_5m. In a file that changes a known dataset, the id may stand here; it also chooses the bucket size."`
	Description *string              `yaml:"description" is:"line" doc:"What the dataset is about, in one line."`
	Enabled     *bool                `yaml:"enabled" doc:"Whether it is collected where the settings do not say; default true."`
	Scope       string               `yaml:"scope" is:"zone|account" doc:"Whom the dataset is about."`
	Sizes       []time.Duration      `yaml:"sizes" is:"1m|5m|15m|30m|1h|1d" doc:"Bucket sizes that it can be collected at; default: all that its variants can make."`
	Size        time.Duration        `yaml:"size" is:"1m|5m|15m|30m|1h|1d" doc:"Bucket size that it is collected at where the settings do not say."`
	Delay       *time.Duration       `yaml:"delay" doc:"Age of a window's end at which the window is first asked for; default: CF_DELAY_SECONDS."`
	Deadline    *time.Duration       `yaml:"deadline" doc:"Age at which the last reading is stored even if readings still differ; default: the delay and 15 minutes."`
	Confirm     *int                 `yaml:"confirm" is:"1..10" doc:"Number of equal readings that make a bucket final; default 2."`
	Depth       *depth               `yaml:"depth" doc:"How much each scrape repeats: a number of buckets, or a time such as 6h, which is at least 4 and at most 30 buckets; default: a day."`
	Level       string               `yaml:"level" doc:"Family whose sum tells an ordinary bucket from a suspect one. Every variant feeds it."`
	Families    []familySpec         `yaml:"families" each:"family" doc:"Metric families that the answers become."`
	Measures    []measureSpec        `yaml:"measures" each:"measure" doc:"How groups become rows, in every variant that does not say otherwise."`
	Variants    []variantSpec        `yaml:"variants" each:"variant" doc:"Ways of asking, in order of preference. The first that a zone may use is used."`
	Limits      map[string]limitSpec `yaml:"limits" each:"limit" doc:"Bounds of the number of label values, by family."`
	Drop        []string             `yaml:"drop" doc:"Families that are not asked for."`

	builtIn bool
	can     []time.Duration // sizes that it can be collected at, ascending; see [spec.resolve]
}

type familySpec struct {
	yamlspec.Place
	Name     string   `yaml:"name" required:"id" is:"family" doc:"Name of the metric family: cloudflare_zone_…"`
	Help     string   `yaml:"help" required:"true" is:"line" doc:"Help text, in one line."`
	Unit     string   `yaml:"unit" doc:"Base unit. OpenMetrics wants the name to end in it."`
	Labels   []string `yaml:"labels" is:"label" doc:"Labels besides zone and account."`
	Additive *bool    `yaml:"additive" doc:"Whether values of disjoint windows may be added; default true, false for distinct counts."`
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
	Dimensions []string       `yaml:"dimensions" is:"graphql" doc:"Dimensions that groups are made by besides time."`
	Rows       int            `yaml:"rows" required:"true" is:"1..10000" doc:"Most groups to expect in one group of time and scope."`
	Measures   []measureSpec  `yaml:"measures" each:"measure" doc:"Measures that this variant has instead of the dataset's of the same family, or besides them."`
	Without    []string       `yaml:"without" doc:"Families of the dataset's measures that this variant does not feed."`
}

type measureSpec struct {
	yamlspec.Place
	Measure
}

// depth is a number of buckets, or the time that they cover.
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

// problems collects what is wrong, in the order found.
type problems []error

func (p *problems) add(at yamlspec.Place, format string, args ...any) {
	*p = append(*p, at.Problemf(format, args...))
}

// Schema returns the JSON Schema of catalogue files.
func Schema() map[string]any {
	return format.Schema("Weir catalogue", file{})
}
