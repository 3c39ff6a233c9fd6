package doctor

import (
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
)

// Observed is everything that was asked. A nil pointer or an empty list means that the
// thing was not given.
type Observed struct {
	Now        time.Time
	Cloudflare *Cloudflare
	Collectors []Collector
	Log        *Log
	Store      *Store
	Exposers   []Exposer
	Own        *Own
	Prometheus *Prometheus
	Panels     *Panels
	Backfill   *Backfill
}

// Replay is the age of the oldest sample that the Prometheus can be shown.
func (o *Observed) Replay() (age time.Duration, known bool) {
	for _, x := range o.Exposers {
		age = max(age, x.Replay)
	}
	if p := o.Prometheus; p != nil && p.Config != nil && p.Config.ReplayHours >= 0 {
		return time.Duration(p.Config.ReplayHours) * time.Hour, true
	}
	return age, age > 0
}

// Cloudflare is what its API answered.
type Cloudflare struct {
	Err         error // nothing could be asked
	Credentials []collector.CredentialReport
}

// Collector is the status of one collector.
type Collector struct {
	Address string
	// Beside: no collector was asked. The status was computed from the store.
	Beside bool
	Err    error
	Status *bucketv1.GetStatusResponse
	Admin  *Admin // nil: there is no token to ask with
}

// Admin is how the AdminService answers to what the commands of operators would send.
type Admin struct {
	Read bool // the token is accepted, for read access
	Err  error
}

// Log is what the BucketService has about the log.
type Log struct {
	From     string // the collector or the store
	Err      error
	Datasets []*bucketv1.DatasetVersion
	Scopes   []*bucketv1.ScopeInfo
	Reads    []Reads
	// OldestCommit is the earliest time of commit among the oldest stored buckets; zero
	// if there is none.
	OldestCommit time.Time
}

// Reads sums up when the newest buckets of a dataset were read.
type Reads struct {
	Dataset string
	Buckets int
	Delay   time.Duration // of the dataset's version
	Least   time.Duration // shortest time from the end of a window to its reading
	Early   int           // buckets read before the delay had passed
	Window  string        // of the first of those
}

// Store is what the database says about itself.
type Store struct {
	Err      error
	Facts    collector.StoreFacts
	Capacity int64 // bytes that the store may use, as given; 0: not given
}

// Exposer is what one exposer answered.
type Exposer struct {
	URL      string
	Err      error  // it could not be asked
	NotReady string // what it says about itself if it is not ready
	StoreID  string
	Revision uint64
	Age      time.Duration // of the stream time
	HasAge   bool
	Replay   time.Duration // no sample of /metrics is older
	Missing  int           // datasets without their page
	Turn     int64
	Bytes    int64 // of the body without compression
	Samples  int
	Families []string // with a series for each zone or account and no other label
	Counters Counters
}

// Counters is what one exposer answered to /counters.
type Counters struct {
	Err            error  // the answer is no page of counters
	Off            bool   // it does not serve them
	Why            string // it cannot serve them now
	StoreID, Epoch string
	Series         int
}

// Own are Weir's metrics about itself.
type Own struct {
	From    string // the URLs, or Prometheus
	Errs    []string
	Samples []Sample
	// Asked is the number of processes that said whether they are ready, and NotReady what
	// those said that are not. Prometheus is not asked.
	Asked    int
	NotReady []string
}

// Sample is one value of a metric.
type Sample struct {
	Name   string
	Labels map[string]string
	From   string // distinguishes processes
	Value  float64
}

// of returns the samples of a metric.
func (o *Own) of(name string) (list []Sample) {
	if o == nil {
		return nil
	}
	for _, s := range o.Samples {
		if s.Name == name {
			list = append(list, s)
		}
	}
	return list
}

// Kinds of Prometheus.
const (
	KindPrometheus = "Prometheus"
	KindVictoria   = "VictoriaMetrics"
)

// Prometheus is what a Prometheus, or a VictoriaMetrics, says about itself and holds.
type Prometheus struct {
	URL     string
	Err     error // it could not be asked, so nothing else is known
	Kind    string
	Version string

	Job string // that is looked for

	Targets    []Target // of the job
	Others     []string // jobs that there are besides
	TargetsErr error
	// Stores are those of the exposers whose own metrics it scrapes, whatever the job.
	Stores []string

	Config    *JobConfig // of the job, in force
	Window    time.Duration
	ConfigErr error

	Flags    map[string]string // of VictoriaMetrics
	FlagsErr error

	// Refused are the samples that it refused in the last hour, by counter, or since it
	// started if it does not scrape itself.
	Refused     map[string]float64
	RefusedErr  error
	SelfScraped bool

	Duplicates    []string // series that there are several of
	DuplicatesErr error
}

// Target is one target of the scrape job.
type Target struct {
	URL       string
	Health    string
	LastError string
	// Store is the one that it serves, as it says itself; StoreErr: it could not be asked
	// from here.
	Store    string
	StoreErr error
}

// JobConfig is a scrape job as it is in force.
type JobConfig struct {
	HonorTimestamps bool
	TrackStaleness  bool
	Interval        time.Duration
	Timeout         time.Duration
	SampleLimit     int64
	BodyLimit       int64         // bytes; 0: none
	ReplayHours     int           // the parameter of the scrape; -1: not given
	Round           time.Duration // its parameter; 0: not given
}

// Panels are the expressions of a dashboard or a file of rules, as they were run.
type Panels struct {
	From        string
	Err         error
	Expressions int
	Alerts      int // of these: they return nothing while nothing is wrong
	WithData    int
	Broken      []string // refused by Prometheus
	// Absent are the names of metrics that had no series in the last hour, save for those
	// of Weir that have none while nothing happens.
	Absent []string
	// Buckets: some metric of Weir's data had series.
	Buckets bool
}

// Backfill is a range that was exported, checked for an import, and compared.
type Backfill struct {
	Err        error
	From, To   time.Time
	Bytes      int64
	Samples    int
	Labels     []string // sets of labels among which an import has to be told which it is; none: there is one
	Flaws      []string // why an import would be refused
	Equal      int
	Missing    int
	NotDue     int // missing, and need not be there yet
	Different  int
	Extra      int
	Repeated   int    // stored more than once
	Example    string // one of those that differ or are missing
	CompareErr error
	Compared   bool
}
