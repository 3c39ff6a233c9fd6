package statuspage

import (
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Format is the number of the shape of /status.json. It changes when a name or a meaning
// does, and not when names are added.
const Format = 1

// Answer is what the collector said at one time.
type Answer struct {
	// At is when it answered; zero: it never has.
	At time.Time
	// Err is why a newer answer could not be had; nil: this is the newest.
	Err error
	// Status, Scopes and Datasets are its answers; nil before the first.
	Status   *bucketv1.GetStatusResponse
	Scopes   []*bucketv1.ScopeInfo
	Datasets []*bucketv1.DatasetVersion
}

// Coverage is an answer to GetCoverage.
type Coverage struct {
	At       time.Time
	Err      error
	Response *bucketv1.GetCoverageResponse // nil before the first
}

// Exposer is what the exposer knows itself.
type Exposer struct {
	Version string `json:"version"`
	// Ready is empty while the exposer is ready, else the reason why not. Refused is why
	// /metrics answers 503, and Counters why /counters does.
	NotReady string `json:"not_ready,omitempty"`
	Refused  string `json:"metrics_refused,omitempty"`
	Counters string `json:"counters_refused,omitempty"`
	// CountersOff: /counters is switched off by a setting.
	CountersOff bool `json:"counters_off,omitempty"`
	Simulated   bool `json:"simulated"`
	// Store and Revision are what /metrics serves.
	Store    string `json:"store,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
	// Progress is the stream time; nil: no collector has led yet.
	Progress   *time.Time `json:"progress_time,omitempty"`
	LagSeconds *int64     `json:"lag_seconds,omitempty"`
	// Hours is the length of the replay.
	Hours int `json:"replay_hours"`
	// Samples is the number of samples on /metrics, Soft and Hard are its limits.
	Samples int `json:"replay_samples"`
	// Datasets are those that it holds, by id.
	Datasets map[string]Replay `json:"-"`
}

// Replay is what an exposer shows of one dataset.
type Replay struct {
	Windows int `json:"windows"`
	Held    int `json:"held"`
	// Trimmed is the number of windows that limits on samples leave out.
	Trimmed int `json:"trimmed"`
	// SpanSeconds is how long a Prometheus may be down without missing samples.
	SpanSeconds int64 `json:"span_seconds"`
	// Unserved is the number of buckets that were never shown, since the exposer started.
	Unserved int `json:"unserved_buckets"`
	// UnservedAt is when the last of them was stored; nil if there is none.
	UnservedAt *time.Time `json:"unserved_at,omitempty"`
	// Short is why the replay of the dataset is too short.
	Short string `json:"short,omitempty"`
}

// Input is what a page is made from.
type Input struct {
	Now      time.Time
	Query    Query
	Exposer  Exposer
	Answer   Answer
	Coverage Coverage
	// Survey is of all scopes; on the page of one it is not needed.
	Survey Survey
}

// Page is the model of a page, and the body of /status.json.
type Page struct {
	Format int       `json:"format"`
	At     time.Time `json:"at"`
	// Attention is what somebody should look at, the worst first.
	Attention []Attention `json:"attention"`
	Collector Collector   `json:"collector"`
	Exposer   Exposer     `json:"exposer"`
	Problems  []Problem   `json:"problems"`
	Datasets  []Dataset   `json:"datasets"`
	// Counts is the number of zones and accounts by state.
	Counts map[string]int `json:"scope_states"`
	Range  Range          `json:"range"`
	// Coverage says how old the coverage is.
	Coverage Freshness `json:"coverage"`
	// Survey says how old ByState is, which is the number of zones and accounts that match the
	// query but for show, by what is wrong with their windows; nil: that is not known.
	Survey  Freshness      `json:"survey"`
	ByState map[string]int `json:"by_state"`
	// Matches is the number of scopes that match the query, on Pages pages.
	Matches int `json:"matches"`
	Page    int `json:"page"`
	Pages   int `json:"pages"`
	// PageAsked is the page that was asked for, if it is after the last one.
	PageAsked int `json:"page_asked,omitempty"`
	// Scopes are those of this page, by account and name; chosen by state, the worst first.
	Scopes []Scope `json:"scopes"`

	Query    Query     `json:"-"`
	Accounts []Account `json:"-"` // those that have scopes
}

// Freshness says whether and when the collector answered.
type Freshness struct {
	Known bool `json:"known"`
	// At is when it answered, AgeSeconds how long ago that is.
	At         *time.Time `json:"at,omitempty"`
	AgeSeconds int64      `json:"age_seconds"`
	// Error is why there is no newer answer.
	Error string `json:"error,omitempty"`
}

// Account is an account by which scopes are grouped.
type Account struct{ ID, Name string }

// Attention is one thing to look at.
type Attention struct {
	// Code is stable: COLLECTOR_AWAY, NO_LEADER, STREAM_STALE, NOT_READY, METRICS_REFUSED,
	// COUNTERS_REFUSED, DATASET_LATE, DATASET_UNKNOWN, UNSERVED, COVERAGE_UNKNOWN, SCOPES, PROBLEMS.
	Code string `json:"code"`
	// Text is for people.
	Text string `json:"text"`
	// Anchor is the heading in docs/operations.md that helps.
	Anchor string `json:"anchor"`
}

// Collector is what the collector says about itself.
type Collector struct {
	Freshness
	// Role and Version are of the process that answered, Leader is the name of the one
	// that leads; empty: none does.
	Role    string `json:"role,omitempty"`
	Version string `json:"version,omitempty"`
	Leader  string `json:"leader,omitempty"`
	Store   string `json:"store,omitempty"`
	// Revision is the head of the log.
	Revision         uint64     `json:"revision,omitempty"`
	Progress         *time.Time `json:"progress_time,omitempty"`
	RetentionSeconds int64      `json:"retention_seconds,omitempty"`
}

// Problem is a problem that the collector reports.
type Problem struct {
	Code    string     `json:"code"`
	About   string     `json:"about,omitempty"`
	Message string     `json:"message"`
	Since   *time.Time `json:"since,omitempty"`
	// Anchor is the heading of its runbook in docs/operations.md.
	Anchor string `json:"anchor"`
}

// Dataset is the state of a dataset in all scopes.
type Dataset struct {
	ID            string `json:"id"`
	Description   string `json:"description,omitempty"`
	Kind          string `json:"scope_kind"`
	BucketSeconds int64  `json:"bucket_seconds,omitempty"`
	DelaySeconds  int64  `json:"delay_seconds,omitempty"`
	// State is "fresh", "late", "idle" (no scope is collected) or "unknown".
	State string `json:"state"`
	// CompleteUntil and Newest are ends of windows.
	CompleteUntil *time.Time `json:"complete_until,omitempty"`
	Newest        *time.Time `json:"newest_end,omitempty"`
	// AgeSeconds is the age of CompleteUntil, and ExpectedSeconds what it is at most if
	// nothing is late.
	AgeSeconds      *int64 `json:"age_seconds,omitempty"`
	ExpectedSeconds int64  `json:"expected_seconds,omitempty"`
	Active          uint32 `json:"scopes_active"`
	Refused         uint32 `json:"scopes_refused"`
	Missing         uint64 `json:"windows_missing"`
	Waiting         uint64 `json:"windows_waiting"`
	Unreadable      uint64 `json:"windows_unreadable"`
	// Replay is what this exposer shows of it; nil: nothing.
	Replay *Replay `json:"replay,omitempty"`
}

// Scope is a zone or an account.
type Scope struct {
	Kind  string `json:"kind"`
	ID    string `json:"id"`
	Name  string `json:"name"`
	Label string `json:"label,omitempty"` // the value of the label zone or account
	// AccountID, Account and AccountLabel are of the account that a zone is in.
	AccountID    string `json:"account_id,omitempty"`
	Account      string `json:"account,omitempty"`
	AccountLabel string `json:"account_label,omitempty"`
	Plan         string `json:"plan,omitempty"`
	// State is that at Cloudflare: active, paused, pending, inactive, gone, excluded, unknown.
	State string `json:"state"`
	// Collected: at least one dataset is collected. Verdict says why not, or what is wrong.
	Collected bool       `json:"collected"`
	Verdict   string     `json:"verdict"`
	Attention bool       `json:"attention"`
	FirstSeen *time.Time `json:"first_seen,omitempty"`
	Start     *time.Time `json:"start,omitempty"` // windows from here on are wanted
	End       *time.Time `json:"end,omitempty"`   // and until here
	// Problems are those that name it.
	Problems []Problem `json:"problems,omitempty"`
	Series   []Series  `json:"series"`
}

// Series is a dataset of a scope.
type Series struct {
	Dataset string `json:"dataset"`
	// Variant in use; empty: none is allowed, for the reason in Refused.
	Variant string     `json:"variant,omitempty"`
	Refused string     `json:"refused,omitempty"`
	Checked *time.Time `json:"checked_at,omitempty"`
	// State is the worst in the range, Words what is wrong for people.
	State State  `json:"state"`
	Words string `json:"words"`
	// Windows is the number of windows in each state.
	Windows map[State]int64 `json:"windows"`
	Cells   []State         `json:"cells"`
	// Pieces are the ranges that are not final, the newest first, on the page of one scope;
	// LeftOut is the number of further ones.
	Pieces  []Piece `json:"ranges,omitempty"`
	LeftOut int     `json:"ranges_left_out,omitempty"`
}
