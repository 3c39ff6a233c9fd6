package standalone

import (
	"fmt"
	"os/user"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
)

// selection are the flags that say which windows a command is about.
type selection struct {
	datasets, zones, accounts []string
	start, end                time.Time
}

func (s *selection) settings(required bool) []cli.Setting {
	return []cli.Setting{
		{Flag: "dataset", Key: "-", Value: cli.List(&s.datasets), Help: "ids of datasets, comma-separated; not given: all"},
		{Flag: "zone", Key: "-", Value: cli.List(&s.zones), Help: "names of zones, comma-separated; not given, nor an account: all"},
		{Flag: "account", Key: "-", Value: cli.List(&s.accounts), Help: "ids of accounts, comma-separated, for datasets about accounts"},
		{Flag: "start", Key: "-", Value: cli.Time(&s.start), Required: required, Help: "start of the range: a time in RFC 3339, or a date, which begins at midnight UTC"},
		{Flag: "end", Key: "-", Value: cli.Time(&s.end), Required: required, Help: "end of the range, exclusive; only windows wholly inside the range are meant"},
	}
}

// openEnded are the settings of a command whose range may end now. The start is not
// required by the table, since another flag may replace the range.
func (s *selection) openEnded() []cli.Setting {
	table := s.settings(false)
	for i := range table {
		if table[i].Flag == "end" {
			table[i].Help = "end of the range, exclusive; empty, or in the future: now"
		}
	}
	return table
}

// given says whether any of the flags is set.
func (s *selection) given() bool {
	return !s.start.IsZero() || !s.end.IsZero() || len(s.datasets)+len(s.zones)+len(s.accounts) > 0
}

// lastSecond is that of the year 9999, where the API's times end.
var lastSecond = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// validate checks the range and how much is named.
func (s *selection) validate() error {
	for flag, t := range map[string]time.Time{"--start": s.start, "--end": s.end} {
		if !t.IsZero() && (t.Unix() <= 0 || t.After(lastSecond)) {
			return cli.Problem{Setting: flag, Value: t.Format(time.RFC3339), Reason: "must be after 1970-01-01T00:00:00Z and before the year 10000"}
		}
	}
	if !s.end.IsZero() && !s.start.Before(s.end) {
		return cli.Problem{Setting: "--start", Value: s.start.Format(time.RFC3339), Reason: "must be before --end, " + s.end.Format(time.RFC3339)}
	}
	if n := len(s.zones) + len(s.accounts); n > 1000 {
		return cli.Problem{Setting: "--zone", Reason: fmt.Sprintf("and --account have %d names; at most 1000 can be given, and none means all", n)}
	}
	return nil
}

// required checks the range of a backfill, and sets its end if it is not given.
func (s *selection) required() error {
	if s.start.IsZero() {
		return cli.Problem{Setting: "--start", Reason: "is required"}
	}
	if s.end.IsZero() { // a later end stays, since the same command is to create the same backfill
		s.end = clock.System().Now().UTC().Truncate(time.Hour)
	}
	return s.validate()
}

func (s *selection) filter() *bucketv1.Filter {
	f := &bucketv1.Filter{Datasets: s.datasets, Zones: s.zones}
	for _, id := range s.accounts {
		f.Scopes = append(f.Scopes, &bucketv1.Scope{Kind: bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT, Id: id})
	}
	return f
}

func (s *selection) proto() *adminv1.Selection {
	return &adminv1.Selection{Filter: s.filter(), StartUnixSeconds: seconds(s.start), EndUnixSeconds: seconds(s.end)}
}

// past checks the range of stored samples.
func (s *selection) past(now time.Time) error {
	if s.start.After(now) {
		return cli.Problem{Setting: "--start", Value: s.start.Format(time.RFC3339), Reason: "is in the future; it is " + now.UTC().Format(time.RFC3339)}
	}
	return s.validate()
}

// open says that the range ends at the present: it has no end, or one in the future.
func (s *selection) open(now time.Time) bool { return s.end.IsZero() || s.end.After(now) }

// history is the selection of stored samples, of which none is of the future.
func (s *selection) history(now time.Time, restated bool) history.Selection {
	end := s.end
	if s.open(now) {
		end = now
	}
	return history.Selection{
		Range:    bucket.Window{Start: bucket.TimeOf(s.start), End: bucket.TimeOf(end)},
		Datasets: s.datasets, Zones: slices.Concat(s.zones, s.accounts), Restated: restated,
	}
}

func asRestated(p *bool) cli.Setting {
	return cli.Setting{Flag: "as-restated", Key: "-", Default: "false", Value: cli.Bool(p), Help: "use the newest restatement of a bucket that has one; Prometheus has the first value unless it was replaced there"}
}

func dryRun(p *bool) cli.Setting {
	return cli.Setting{Flag: "dry-run", Key: "-", Default: "false", Value: cli.Bool(p), Help: "show what would be done, and change nothing"}
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// record are the flags of what the audit event of a change says.
type record struct{ reason, requester string }

func (r *record) settings(required bool) []cli.Setting {
	return []cli.Setting{
		{Flag: "reason", Key: "-", Required: required, Value: cli.Text(&r.reason), Help: "why, for the audit events: one line of at most 500 bytes"},
		{Flag: "requester", Key: "-", Value: cli.Text(&r.requester), Help: "who asks, for the audit events: one line of at most 100 bytes; not given: the name of the user who runs the command"},
	}
}

func (r *record) validate() error {
	if r.reason != "" {
		if err := wire.CheckRequested(r.reason, wire.MaxReason); err != nil {
			return cli.Problem{Setting: "--reason", Reason: err.Error()}
		}
	}
	if r.requester == "" {
		if u, err := user.Current(); err == nil {
			r.requester = u.Username
		}
	}
	if r.requester == "" {
		return cli.Problem{Setting: "--requester", Reason: "is required: the user who runs the command has no name"}
	}
	if err := wire.CheckRequested(r.requester, wire.MaxActor); err != nil {
		return cli.Problem{Setting: "--requester", Reason: err.Error()}
	}
	return nil
}
