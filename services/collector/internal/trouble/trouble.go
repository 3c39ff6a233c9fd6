// Package trouble has the board of problems: conditions that last until an operator
// resolves them or decides about them. Each is logged when it begins and when it ends,
// exported as a gauge while it lasts, and listed by GetStatus, from which the exposer's
// landing page shows it.
//
// So no such condition is a single line at INFO while all health signals are green, and a
// lasting condition does not log the same line ten thousand times.
package trouble

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Code names a kind of problem. It is a label value and a word in the log; an alert
// bears its name (docs/operations.md, Problems).
type Code string

// The codes. A leader's codes describe what only the collecting process can know; they
// end with its term, and standbys read them from the store. With several credentials,
// the subject begins with the name of the credential.
const (
	// SelectionUnmatched: an entry of CF_ZONES, CF_EXCLUDE_ZONES or CF_ACCOUNTS
	// matches nothing that the token sees. About: the setting and the entry.
	SelectionUnmatched Code = "SELECTION_UNMATCHED"
	// NoZones: no zone at all is collected.
	NoZones Code = "NO_ZONES"
	// NoAccounts: a dataset is about accounts, and no account is collected.
	NoAccounts Code = "NO_ACCOUNTS"
	// ZonesUnlisted: Cloudflare lists no zones, though some are known and kept.
	ZonesUnlisted Code = "ZONES_UNLISTED"
	// TokenRefused: Cloudflare refuses the API token.
	TokenRefused Code = "TOKEN_REFUSED"
	// ZoneDenied: the token, valid for others, has no access to a zone. About: the
	// zone.
	ZoneDenied Code = "ZONE_DENIED"
	// AccountDenied: the token has no access to the analytics of an account. About: the
	// account.
	AccountDenied Code = "ACCOUNT_DENIED"
	// UnknownRefusal: Cloudflare returns an error that Weir does not recognise.
	// About: zone and dataset, or empty if it concerns every request.
	UnknownRefusal Code = "UNKNOWN_REFUSAL"
	// UpstreamFailing: requests to Cloudflare have failed for minutes. About:
	// empty where it is everything, "list of zones", "list of accounts", or the
	// settings of a zone.
	UpstreamFailing Code = "UPSTREAM_FAILING"
	// DatasetDisabled: Cloudflare does not know a field that a dataset uses.
	// About: the dataset.
	DatasetDisabled Code = "DATASET_DISABLED"
	// BudgetShort: what is selected needs more requests than the share allows.
	BudgetShort Code = "BUDGET_SHORT"
	// BackfillStalled: a running backfill has filled nothing for hours. About: its id.
	BackfillStalled Code = "BACKFILL_STALLED"
	// StoreNotWritable: appends fail. Of the process itself, leading or not.
	StoreNotWritable Code = "STORE_NOT_WRITABLE"
	// StoreUnreadable: stored entries cannot be read.
	StoreUnreadable Code = "STORE_UNREADABLE"
	// InvalidValue: Cloudflare's responses contain values that cannot be stored.
	InvalidValue Code = "INVALID_VALUE"
	// CountersRestarted: within a day, counters began again at zero, since their totals could
	// not be used. About: the epoch that began.
	CountersRestarted Code = "COUNTERS_RESTARTED"
	// LeaseContested: another process with the same name takes the lease.
	LeaseContested Code = "LEASE_CONTESTED"
)

// codes has the log level of each code, and whether it belongs to the leader's term.
var codes = map[Code]struct {
	level  slog.Level
	leader bool
}{
	SelectionUnmatched: {slog.LevelWarn, true},
	NoZones:            {slog.LevelError, true},
	NoAccounts:         {slog.LevelError, true},
	ZonesUnlisted:      {slog.LevelWarn, true},
	TokenRefused:       {slog.LevelError, true},
	ZoneDenied:         {slog.LevelWarn, true},
	AccountDenied:      {slog.LevelWarn, true},
	UnknownRefusal:     {slog.LevelWarn, true},
	UpstreamFailing:    {slog.LevelWarn, true},
	DatasetDisabled:    {slog.LevelError, true},
	BudgetShort:        {slog.LevelWarn, true},
	InvalidValue:       {slog.LevelWarn, true},
	BackfillStalled:    {slog.LevelWarn, true},
	CountersRestarted:  {slog.LevelWarn, true},
	StoreNotWritable:   {slog.LevelError, false},
	StoreUnreadable:    {slog.LevelError, false},
	LeaseContested:     {slog.LevelError, false},
}

// most problems of one code are kept; the rest is counted.
const most = 100

// again is the interval at which a lasting problem is logged again.
const again = time.Hour

// Problem is one condition that lasts.
type Problem struct {
	Code    Code      `json:"code"`
	About   string    `json:"about,omitempty"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`

	logged time.Time // when it was last logged
}

// Board holds the problems of one process. Safe for concurrent use; a nil Board
// does nothing.
type Board struct {
	log   *slog.Logger
	now   func() time.Time
	gauge *prometheus.GaugeVec

	mu   sync.Mutex
	open map[Code]map[string]*Problem
	more map[Code]int // beyond most
}

// New returns an empty board. The clock dates problems; reg may be nil.
func New(log *slog.Logger, now func() time.Time, reg prometheus.Registerer) *Board {
	b := &Board{
		log: log, now: now, open: map[Code]map[string]*Problem{}, more: map[Code]int{},
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_collector_problems",
			Help: "Conditions that an operator must resolve or decide about, by code. See Problems in docs/operations.md.",
		}, []string{"code"}),
	}
	for code := range codes {
		b.gauge.WithLabelValues(string(code)) // there at 0 before the first
	}
	if reg != nil {
		reg.MustRegister(b.gauge)
	}
	return b
}

// Set adds or updates a problem. An existing one keeps its Since, and is logged again
// after an hour.
func (b *Board) Set(code Code, about, message string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(code, about, message)
	b.count(code)
}

// Clear removes a problem, if it exists.
func (b *Board) Clear(code Code, about string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear(code, about)
	b.count(code)
}

// Replace replaces all problems of a code; the key is what each is about.
func (b *Board) Replace(code Code, problems map[string]string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.more[code] = 0
	for about := range b.open[code] {
		if _, stays := problems[about]; !stays {
			b.clear(code, about)
		}
	}
	for _, about := range slices.Sorted(maps.Keys(problems)) {
		b.set(code, about, problems[about])
	}
	b.count(code)
}

// StepDown removes the problems that only a leader knows. Nothing is logged: the next
// leader finds them again.
func (b *Board) StepDown() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for code := range b.open {
		if codes[code].leader {
			delete(b.open, code)
			delete(b.more, code)
			b.count(code)
		}
	}
}

// List returns the problems by code and what they are about. With leader only
// those of a leader's term, otherwise only the process's own.
func (b *Board) List(leader bool) []Problem {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Problem
	for code, open := range b.open {
		if codes[code].leader != leader {
			continue
		}
		of := make([]Problem, 0, len(open))
		for _, p := range open {
			of = append(of, *p)
		}
		slices.SortFunc(of, func(x, y Problem) int { return cmp.Compare(x.About, y.About) })
		if n := b.more[code]; n > 0 && len(of) > 0 {
			of[len(of)-1].Message += fmt.Sprintf(" (and %d more with this code)", n)
		}
		out = append(out, of...)
	}
	slices.SortStableFunc(out, func(x, y Problem) int { return cmp.Compare(x.Code, y.Code) })
	return out
}

func (b *Board) set(code Code, about, message string) {
	now := b.now()
	if b.open[code] == nil {
		b.open[code] = map[string]*Problem{}
	}
	p := b.open[code][about]
	if p == nil {
		if len(b.open[code]) >= most {
			b.more[code]++
			return
		}
		p = &Problem{Code: code, About: about, Since: now}
		b.open[code][about] = p
	}
	p.Message = message
	if p.logged.IsZero() || now.Sub(p.logged) >= again {
		p.logged = now
		b.log.Log(context.Background(), codes[code].level, message, "problem", code, "about", about, "since", p.Since.UTC().Format(time.RFC3339))
	}
}

func (b *Board) clear(code Code, about string) {
	p := b.open[code][about]
	if p == nil {
		return
	}
	delete(b.open[code], about)
	b.log.Info("problem is over", "problem", code, "about", about, "lasted", b.now().Sub(p.Since).Round(time.Second))
}

func (b *Board) count(code Code) {
	b.gauge.WithLabelValues(string(code)).Set(float64(len(b.open[code]) + b.more[code]))
}

// KindProblems is the kind of the record that a leader keeps of its problems, so that standbys
// list them too.
const KindProblems = "problems"

// record is a leader's problems as stored. The term identifies the
// leader: one of an earlier release does not change the record.
type record struct {
	Term     store.Term `json:"term"`
	Problems []Problem  `json:"problems"`
}

// Record is what the store keeps of the problems of the leader of a term; it
// deletes the record when there are none.
func Record(term store.Term, problems []Problem) store.Record {
	r := store.Record{Kind: KindProblems, Key: "leader"}
	if len(problems) > 0 {
		value, err := json.Marshal(record{term, problems})
		if err != nil {
			panic(err) // plain strings and times always encode
		}
		r.Value = value
	}
	return r
}

// Read decodes the records of kind [KindProblems], and returns the problems that
// the leader of a term has found. An unreadable record has
// none: no state depends on it.
func Read(term store.Term, records []store.Record) []Problem {
	var out []Problem
	for _, r := range records {
		var stored record
		if json.Unmarshal(r.Value, &stored) == nil && stored.Term == term {
			out = append(out, stored.Problems...)
		}
	}
	return out
}
