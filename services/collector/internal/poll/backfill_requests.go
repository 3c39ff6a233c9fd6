package poll

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// CreateBackfill creates a backfill. A request with the key of an earlier one returns what that
// one created.
func (p *Poller) CreateBackfill(ctx context.Context, sel jobs.Selection, key string, by Asked) (*jobs.Job, error) {
	return answer(ctx, &p.reception, func(ctx context.Context, s *state) (*jobs.Job, error) {
		return s.backfiller.create(ctx, s, sel, key, by)
	})
}

// ChangeBackfill pauses (jobs.Paused), resumes (jobs.Running) or cancels (jobs.Cancelled) a
// backfill.
func (p *Poller) ChangeBackfill(ctx context.Context, id string, to jobs.State, by Asked) (*jobs.Job, error) {
	return answer(ctx, &p.reception, func(ctx context.Context, s *state) (*jobs.Job, error) {
		return s.backfiller.change(ctx, s, id, to, by)
	})
}

// idSpace is the number of different ids of backfills that are created in one second.
const idSpace = 1 << 20

// draft is a job for a selection, evaluated and not stored.
func (b *backfiller) draft(now bucket.Time, sel jobs.Selection) (*jobs.Job, *jobs.Work, []jobs.Series, error) {
	j := &jobs.Job{Selection: sel, State: jobs.Running, Created: now}
	j.Floor, j.Moved = sel.Window.Start, now
	if err := b.resolve(j); err != nil {
		return nil, nil, nil, err
	}
	// As times: a range of centuries is longer than a time.Duration can say.
	if most := b.books.retention; sel.Window.End > sel.Window.Start.Add(most) {
		return nil, nil, nil, refuse(Malformed, "the range %s is longer than the retention of the store, %s", sel.Window, bucket.SizeName(most))
	}
	all := b.of(j, b.series(b.books.claims(now)))
	j.Advance(now, b.books.coverage.Keep, all)
	w := jobs.Evaluate(j, now, all)
	c := w.Count()
	switch {
	case c.Total > jobs.MaxWindows:
		return nil, nil, nil, refuse(Malformed, "the selection has %d windows; at most %d can be requested at once: shorten the range, or select fewer zones or datasets", c.Total, jobs.MaxWindows)
	case len(all) == 0:
		return nil, nil, nil, refuse(Malformed, "the datasets of the selection have none of its zones and accounts")
	case c.Total == 0 && !slices.ContainsFunc(all, func(s jobs.Series) bool {
		return sel.Window.Start.Ceil(s.Dataset.Size) < sel.Window.End.Floor(s.Dataset.Size)
	}):
		return nil, nil, nil, refuse(Malformed, "no whole window of the selection lies in the range %s", sel.Window)
	case c.Total == 0:
		return nil, nil, nil, refuse(Malformed, "no window of the selection is due yet: the range is %s, and it is %s", sel.Window, now)
	}
	j.Total, j.Present = c.Total, c.Filled
	j.Counts = w.Count()
	j.Refused, j.Truncated = w.Refused()
	return j, w, all, nil
}

// resolve finds the datasets and scopes that a selection names.
func (b *backfiller) resolve(j *jobs.Job) error {
	sel := &j.Selection
	for _, id := range sel.Datasets {
		if b.catalogue.Find(id) == nil {
			return refuse(Malformed, "dataset %q is not collected; %s are", id, strings.Join(b.datasetIDs(), ", "))
		}
		if b.catalogue.Find(id).State {
			return refuse(Malformed, "dataset %q is a state, which Cloudflare does not keep: its past cannot be read", id)
		}
	}
	if j.Datasets = slices.Clone(sel.Datasets); len(j.Datasets) == 0 {
		j.Datasets = b.datasetIDs()
	}
	for _, sc := range sel.Scopes {
		if b.books.roster[sc] == nil {
			return refuse(Malformed, "%s %s is not known to this collector", sc.Kind, sc.ID)
		}
		j.Over = append(j.Over, sc)
	}
	for _, name := range sel.Zones {
		found := false
		for sc, who := range b.books.roster {
			// The present name, as the contract says: a former one may be that of another zone.
			if sc.Kind == bucket.Zone && who.ZoneLabel == name {
				found = true
				j.Over = append(j.Over, sc)
			}
		}
		if !found {
			return refuse(Malformed, "no zone is named %q", name)
		}
	}
	slices.SortFunc(j.Over, bucket.Scope.Compare)
	j.Over = slices.Compact(j.Over)
	return nil
}

func (b *backfiller) datasetIDs() (ids []string) {
	for i := range b.catalogue.Datasets {
		if d := &b.catalogue.Datasets[i]; !d.State {
			ids = append(ids, d.Dataset)
		}
	}
	return ids
}

func (b *backfiller) create(ctx context.Context, s *state, sel jobs.Selection, key string, by Asked) (*jobs.Job, error) {
	for _, j := range b.jobs {
		if key == "" || j.Key != key {
			continue
		}
		if !sameSelection(j.Selection, sel) {
			return nil, refuse(Malformed, "the idempotency key %q created backfill %s, which has another selection", key, j.ID)
		}
		return cloneJob(j), nil
	}
	now, err := b.now(ctx)
	if err != nil {
		return nil, err
	}
	j, w, _, err := b.draft(now, sel)
	if err != nil {
		return nil, err
	}
	j.Key, j.Requester, j.Reason = key, by.Requester, by.Reason
	event := eventOf(j, bucketv1.AuditEvent_ACTION_BACKFILL_CREATED, by)
	if open := jobs.Open(b.jobs); len(open) >= jobs.MaxOpen {
		return nil, s.writer.refused(ctx, event, refuse(TooMany, "%d backfills are unfinished, which is the limit; wait, or cancel one", len(open)))
	}
	j.ID = b.newID(now)
	event.BackfillId, event.After = j.ID, describeJob(j)
	if _, err := s.writer.commitAudited(ctx, store.Batch{Records: j.Records()}, event); err != nil {
		return nil, err
	}
	b.jobs = slices.Insert(b.jobs, 0, j)
	b.log.Info("backfill is created", "backfill", j.ID, "range", sel.Window.String(), "windows", j.Counts.Total, "missing", j.Counts.Missing, "requester", by.Requester, "reason", by.Reason)
	if j.Counts.Missing == 0 { // its report is all there is to do
		b.works[j] = w
		if err := b.end(ctx, now, j); err != nil {
			return nil, err
		}
	}
	s.changed = true
	return cloneJob(j), nil
}

func (b *backfiller) newID(now bucket.Time) string {
	for {
		id := fmt.Sprintf("%s-%05x", now.Std().Format("20060102-150405"), b.rng.IntN(idSpace))
		if b.find(id) == nil {
			return id
		}
	}
}

func (b *backfiller) find(id string) *jobs.Job {
	if i := slices.IndexFunc(b.jobs, func(j *jobs.Job) bool { return j.ID == id }); i >= 0 {
		return b.jobs[i]
	}
	return nil
}

var changes = map[jobs.State]bucketv1.AuditEvent_Action{
	jobs.Paused:    bucketv1.AuditEvent_ACTION_BACKFILL_PAUSED,
	jobs.Running:   bucketv1.AuditEvent_ACTION_BACKFILL_RESUMED,
	jobs.Cancelled: bucketv1.AuditEvent_ACTION_BACKFILL_CANCELLED,
}

func (b *backfiller) change(ctx context.Context, s *state, id string, to jobs.State, by Asked) (*jobs.Job, error) {
	j := b.find(id)
	if j == nil {
		event := &bucketv1.AuditEvent{Action: changes[to], Actor: by.Requester, Reason: by.Reason, BackfillId: id}
		return nil, s.writer.refused(ctx, event, refuse(NotFound, "there is no backfill %q", id))
	}
	now, err := b.now(ctx)
	if err != nil {
		return nil, err
	}
	next := *j // what is stored counts only when it is stored
	var changed bool
	switch to {
	case jobs.Paused:
		changed, err = next.Pause()
	case jobs.Running:
		changed, err = next.Resume(now)
	default:
		if w := b.works[j]; w != nil {
			next.Refused, next.Truncated = w.Refused()
		}
		changed, err = next.Cancel(now)
	}
	event := eventOf(j, changes[to], by)
	event.Before = describeJob(j)
	switch {
	case err != nil:
		return nil, s.writer.refused(ctx, event, refuse(Refused, "%v", err))
	case !changed:
		return cloneJob(j), nil
	}
	event.After = describeJob(&next)
	kept, deleted := jobs.Forget(replaced(b.jobs, j, &next))
	if _, err := s.writer.commitAudited(ctx, store.Batch{Records: append(deleted, next.Records()...)}, event); err != nil {
		return nil, err
	}
	*j = next
	b.jobs = replaced(kept, &next, j)
	delete(b.unsaved, j)
	if j.State.Ended() {
		delete(b.works, j)
		b.metrics.backfillsEnded.WithLabelValues(string(j.State)).Inc()
	}
	b.log.Info("backfill is "+string(j.State), "backfill", j.ID, "requester", by.Requester, "reason", by.Reason)
	s.changed = true
	return cloneJob(j), nil
}

func replaced(all []*jobs.Job, old, by *jobs.Job) []*jobs.Job {
	all = slices.Clone(all)
	for i := range all {
		if all[i] == old {
			all[i] = by
		}
	}
	return all
}

func cloneJob(j *jobs.Job) *jobs.Job {
	c := *j
	c.Failed = slices.Clone(j.Failed)
	return &c
}

func sameSelection(a, b jobs.Selection) bool {
	return a.Window == b.Window && slices.Equal(a.Datasets, b.Datasets) && slices.Equal(a.Scopes, b.Scopes) && slices.Equal(a.Zones, b.Zones)
}
