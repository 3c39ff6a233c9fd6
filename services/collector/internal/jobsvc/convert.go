package jobsvc

import (
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
)

// Limits of requests, as the API documents them.
const (
	maxFilter = 1000         // elements of each list
	maxID     = 100          // bytes, of a backfill's id or an idempotency key
	endOfTime = 253402300799 // the last second of the year 9999, where Timestamp ends
)

// parseSelection validates a selection as far as that needs no state of the collector.
func parseSelection(m *adminv1.Selection) (sel jobs.Selection, err error) {
	if m == nil {
		return sel, reason.BadRequest("selection is missing; it must have a range")
	}
	f := m.GetFilter()
	for _, list := range []struct {
		name string
		n    int
	}{{"datasets", len(f.GetDatasets())}, {"scopes", len(f.GetScopes())}, {"zones", len(f.GetZones())}} {
		if list.n > maxFilter {
			return sel, reason.BadRequest("selection.filter.%s has %d elements; at most %d", list.name, list.n, maxFilter)
		}
	}
	for i, id := range f.GetDatasets() {
		if err := wire.CheckDataset(id); err != nil {
			return sel, reason.BadRequest("selection.filter.datasets[%d]: %v", i, err)
		}
		sel.Datasets = append(sel.Datasets, id)
	}
	for i, p := range f.GetScopes() {
		sc, err := wire.Scope(p)
		if err != nil {
			return sel, reason.BadRequest("selection.filter.scopes[%d]: %v", i, err)
		}
		sel.Scopes = append(sel.Scopes, sc)
	}
	for i, name := range f.GetZones() {
		if name == "" || len(name) > bucket.MaxName || !utf8.ValidString(name) {
			return sel, reason.BadRequest("selection.filter.zones[%d] has %d bytes; it must be a zone name of 1 to %d bytes", i, len(name), bucket.MaxName)
		}
		sel.Zones = append(sel.Zones, name)
	}
	start, end := m.GetStartUnixSeconds(), m.GetEndUnixSeconds()
	switch {
	case start < 1 || start > endOfTime:
		return sel, reason.BadRequest("selection.start_unix_seconds is %d; it must be 1 to %d", start, int64(endOfTime))
	case end <= start || end > endOfTime:
		return sel, reason.BadRequest("selection.end_unix_seconds is %d; it must be greater than start_unix_seconds, %d, and at most %d", end, start, int64(endOfTime))
	}
	sel.Window = bucket.Window{Start: bucket.Time(start), End: bucket.Time(end)}
	return sel, nil
}

type asked interface {
	GetReason() string
	GetRequester() string
}

func parseAsked(m asked) (by poll.Asked, err error) {
	if err := wire.CheckRequested(m.GetReason(), wire.MaxReason); err != nil {
		return by, reason.BadRequest("reason %v", err)
	}
	if err := wire.CheckRequested(m.GetRequester(), wire.MaxActor); err != nil {
		return by, reason.BadRequest("requester %v", err)
	}
	return poll.Asked{Requester: m.GetRequester(), Reason: m.GetReason()}, nil
}

func checkText(name, text string, least, most int) error {
	if len(text) < least || len(text) > most {
		return reason.BadRequest("%s has %d bytes; it must have %d to %d", name, len(text), least, most)
	}
	for _, r := range text {
		if r == utf8.RuneError || r < ' ' {
			return reason.BadRequest("%s is %q; it must be text in UTF-8 without control characters", name, text)
		}
	}
	return nil
}

var protoStates = map[jobs.State]adminv1.BackfillState{
	jobs.Running:   adminv1.BackfillState_BACKFILL_STATE_RUNNING,
	jobs.Paused:    adminv1.BackfillState_BACKFILL_STATE_PAUSED,
	jobs.Done:      adminv1.BackfillState_BACKFILL_STATE_DONE,
	jobs.Cancelled: adminv1.BackfillState_BACKFILL_STATE_CANCELLED,
}

var protoReasons = map[jobs.Reason]adminv1.RefusedReason{
	jobs.NotCollected:        adminv1.RefusedReason_REFUSED_REASON_NOT_COLLECTED,
	jobs.OtherSize:           adminv1.RefusedReason_REFUSED_REASON_OTHER_SIZE,
	jobs.BeforeCreation:      adminv1.RefusedReason_REFUSED_REASON_BEFORE_CREATION,
	jobs.StoreRetention:      adminv1.RefusedReason_REFUSED_REASON_STORE_RETENTION,
	jobs.NotEntitled:         adminv1.RefusedReason_REFUSED_REASON_NOT_ENTITLED,
	jobs.CloudflareRetention: adminv1.RefusedReason_REFUSED_REASON_CLOUDFLARE_RETENTION,
	jobs.Failed:              adminv1.RefusedReason_REFUSED_REASON_FAILED,
}

func protoJob(j *jobs.Job) *adminv1.Backfill {
	out := &adminv1.Backfill{
		Id: j.ID, Reason: j.Reason, Requester: j.Requester, State: protoStates[j.State], CreatedAt: timestamppb.New(j.Created.Std()),
		Selection: &adminv1.Selection{StartUnixSeconds: int64(j.Selection.Window.Start), EndUnixSeconds: int64(j.Selection.Window.End)},
		Windows:   protoCounts(j.Counts), Requests: j.Requests, Truncated: j.Truncated, LastError: j.LastError,
	}
	if j.Ended != 0 {
		out.EndedAt = timestamppb.New(j.Ended.Std())
	}
	if sel := j.Selection; len(sel.Datasets)+len(sel.Scopes)+len(sel.Zones) > 0 {
		out.Selection.Filter = &bucketv1.Filter{Datasets: sel.Datasets, Zones: sel.Zones}
		for _, sc := range sel.Scopes {
			out.Selection.Filter.Scopes = append(out.Selection.Filter.Scopes, wire.ProtoScope(sc))
		}
	}
	for i := range j.Refused {
		out.Refused = append(out.Refused, protoRefused(&j.Refused[i]))
	}
	return out
}

func protoCounts(c jobs.Counts) *adminv1.WindowCounts {
	return &adminv1.WindowCounts{Total: c.Total, Present: c.Present, Filled: c.Filled, Missing: c.Missing, Refused: c.Refused, Lost: c.Lost}
}

func protoRefused(r *jobs.Refusal) *adminv1.RefusedRange {
	out := &adminv1.RefusedRange{
		Dataset: r.Dataset, Name: r.Name, StartUnixSeconds: int64(r.Window.Start), EndUnixSeconds: int64(r.Window.End),
		Reason: protoReasons[r.Reason], Detail: r.Detail, Lost: r.Lost,
	}
	if r.Scope != (bucket.Scope{}) {
		out.Scope = wire.ProtoScope(r.Scope)
	}
	return out
}

func protoMissing(m *poll.MissingRange) *adminv1.MissingRange {
	out := &adminv1.MissingRange{
		Dataset: m.Of.Dataset, Scope: wire.ProtoScope(m.Of.Scope), Name: m.Name,
		StartUnixSeconds: int64(m.Start), EndUnixSeconds: int64(m.End), Detail: m.Detail,
		Accepted: m.State == coverage.Accepted, Lost: m.State == coverage.Lost, Attempts: uint32(m.Attempts),
	}
	if m.Regular {
		out.Reason = m.Reason.Proto()
	}
	if m.Next != 0 {
		out.NextAttempt = timestamppb.New(m.Next.Std())
	}
	if m.LostAt != 0 {
		out.LostAt = timestamppb.New(m.LostAt.Std())
	}
	return out
}
