package poll

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

const (
	// turnRequests is how many requests one job sends before regular work, and then
	// another job, has its turn.
	turnRequests = 8
	// turnLasts is the longest time for them.
	turnLasts = 20 * time.Second
	// saveEvery is how often the progress of jobs is written without another reason.
	saveEvery = 15 * time.Second
	// A series is given up after so many failures in a row, over so long a time.
	giveUpFailures = 20
	giveUpAfter    = 24 * time.Hour
	// stalledAfter is how long a running job may fill nothing before it is a problem.
	stalledAfter = 6 * time.Hour
)

// backfiller works on the jobs that operators requested, with the permits that regular work
// leaves. Its asker, judge, faults and settling rules are its own: a failure, a suspect window
// or a back-off of old windows must not affect the newest ones of the same series. The roster
// and the coverage are those of regular work.
type backfiller struct {
	*env
	books   *books // of regular work
	lines   lines
	own     *books
	faults  *faults
	asker   *asker
	judge   *judge
	writer  *writer
	commit  func(context.Context, store.Batch) error
	audited func(context.Context, store.Batch, *bucketv1.AuditEvent) (bucket.Revision, error)
	records *unreadable.Register

	jobs    []*jobs.Job // newest first
	works   map[*jobs.Job]*jobs.Work
	last    *jobs.Job // that had a turn
	unsaved map[*jobs.Job]bool
	savedAt bucket.Time
	more    bool // a job has windows that can be requested now
}

// newBackfiller connects the parts of backfills. They share with regular work what is known
// about Cloudflare: lines, disabled datasets and the versions of definitions.
func newBackfiller(s *state, c Config) *backfiller {
	e := s.env
	b := &backfiller{
		env: e, books: s.books, lines: s.lines, commit: s.writer.commit, audited: s.writer.commitAudited, records: c.Unreadable,
		works: map[*jobs.Job]*jobs.Work{}, unsaved: map[*jobs.Job]bool{},
	}
	b.faults = &faults{env: e, backfills: true, tries: map[ledger.Series]*try{}, off: s.faults.off, invalid: map[ledger.Series]map[bucket.Time]*invalid{}}
	b.own = &books{env: e, faults: b.faults, lines: s.lines, retention: c.Retention, changed: s.books.changed, settling: newSettling(e.catalogue.Datasets)}
	b.writer = &writer{env: e, faults: b.faults, journal: s.journal}
	past := &history{env: e, books: b.own, store: c.Store, unreadable: c.Unreadable, recent: map[ledger.Series][]settle.Final{}}
	b.judge = &judge{
		env: e, faults: b.faults, books: b.own, history: past, backfills: true,
		wanted: b.wanted, commit: b.fill, versions: s.judge.versions, defined: s.judge.defined,
	}
	b.asker = &asker{
		env: e, faults: b.faults, books: b.own, lines: s.lines, journal: s.journal, take: b.judge.take, sends: b.sends, serve: s.serveWaiting,
		sender: &sender{env: e, faults: b.faults, books: b.own, lines: s.lines, journal: s.journal},
		aside:  func(context.Context, *line) (bool, error) { return false, nil },
	}
	return b
}

// load reads the jobs. An unreadable one is reported, is not worked on, and stays as it is: it
// may be of a later build.
func (b *backfiller) load(ctx context.Context, from recordReader) error {
	b.own.roster, b.own.contents, b.own.coverage = b.books.roster, b.books.contents, b.books.coverage
	records, err := from.Records(ctx, jobs.Kind)
	if err != nil {
		return fmt.Errorf("read backfills: %w", err)
	}
	progress, err := from.Records(ctx, jobs.KindProgress)
	if err != nil {
		return fmt.Errorf("read the progress of backfills: %w", err)
	}
	var bad map[string][]store.Unreadable
	b.jobs, bad = jobs.Read(records, progress)
	for kind, damaged := range bad {
		b.records.Records(kind, damaged)
	}
	return nil
}

// loadBelow reads coverage that is older than the book's, for jobs whose windows left the
// retention while no collector led: what was there is counted before it is forgotten.
func (b *backfiller) loadBelow(ctx context.Context, from interface {
	Coverage(ctx context.Context, f store.Filter, since bucket.Time) ([]store.Run, error)
},
) error {
	since := b.books.coverage.Keep
	for _, j := range jobs.Open(b.jobs) {
		since = min(since, j.Floor)
	}
	if since == b.books.coverage.Keep {
		return nil
	}
	runs, err := from.Coverage(ctx, store.Filter{}, since)
	if err != nil {
		return fmt.Errorf("read coverage of backfills: %w", err)
	}
	for _, r := range runs {
		of := ledger.Series{Dataset: r.Dataset, Scope: r.Scope}
		b.books.coverage.Final[of] = b.books.coverage.Final[of].Add(r.Window)
	}
	return nil
}

// wanted are the windows of a dataset and scope that running jobs request.
func (b *backfiller) wanted(d *catalogue.Dataset, sc bucket.Scope, _ bucket.Time) (all bucket.Spans) {
	of := ledger.Series{Dataset: d.Dataset, Scope: sc}
	for j, w := range b.works {
		if j.State != jobs.Running {
			continue
		}
		for _, span := range w.Wanted(of) {
			all = all.Add(span)
		}
	}
	return all
}

// sends counts a request for each job that wants a window of it.
func (b *backfiller) sends(r plan.Request) {
	for j, w := range b.works {
		if j.State == jobs.Running && asksFor(r, w) {
			j.Requests++
			b.unsaved[j] = true
		}
	}
}

func asksFor(r plan.Request, w *jobs.Work) bool {
	for _, sel := range r.Selections {
		for _, sc := range r.Scopes {
			if len(w.Wanted(ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}).Within(sel.Window)) > 0 {
				return true
			}
		}
	}
	return false
}

// fill commits buckets together with the progress of the jobs.
func (b *backfiller) fill(ctx context.Context, batch store.Batch) error {
	batch.Records = append(batch.Records, b.progress()...)
	if err := b.writer.commit(ctx, batch); err != nil {
		return err
	}
	clear(b.unsaved)
	return nil
}

func (b *backfiller) progress() (records []store.Record) {
	for _, j := range b.jobs {
		if b.unsaved[j] {
			records = append(records, j.ProgressRecord())
		}
	}
	return records
}

// Series implements [jobs.Ready].
func (b *backfiller) Series(s *jobs.Series) bool {
	l := b.lines[s.Group]
	if t := b.faults.tries[s.Of()]; t != nil && b.trusted.Second() < t.Next {
		return false
	}
	return l.blocked == 0 && b.trusted.Second() >= l.noHistory && !b.faults.isOff(s.Dataset.Dataset)
}

// Window implements [jobs.Ready].
func (b *backfiller) Window(s *jobs.Series, start bucket.Time) bool {
	return b.own.Again(s.Dataset.Dataset, s.Scope, start) <= b.trusted.Second()
}

// work gives a job its turn: the next one that has something to request.
func (b *backfiller) work(ctx context.Context, now bucket.Time, idle map[*line]bool) error {
	b.more = false
	open := jobs.Open(b.jobs)
	if len(open) == 0 {
		b.reset()
		return nil
	}
	claims := b.books.claims(now)
	if err := b.evaluate(ctx, now, claims, open); err != nil {
		return err
	}
	requests := b.next(now, idle)
	if len(requests) > 0 {
		if err := b.asker.askBriefly(ctx, requests, b.clock.Now().Add(turnLasts)); err != nil {
			return err
		}
		after, err := b.now(ctx)
		if err != nil {
			return err
		}
		b.giveUp(after)
		if err := b.evaluate(ctx, after, b.books.claims(after), jobs.Open(b.jobs)); err != nil {
			return err
		}
		now = after
	}
	return b.save(ctx, now)
}

// reset drops what the parts remember while there is no job.
func (b *backfiller) reset() {
	if len(b.works) == 0 {
		return
	}
	clear(b.works)
	clear(b.faults.tries)
	clear(b.faults.invalid)
	maps.Copy(b.own.settling, newSettling(b.catalogue.Datasets))
}

// next plans the requests of the job whose turn it is.
func (b *backfiller) next(now bucket.Time, idle map[*line]bool) []plan.Request {
	running := slices.DeleteFunc(jobs.Open(b.jobs), func(j *jobs.Job) bool { return j.State != jobs.Running })
	slices.Reverse(running) // oldest first
	if i := slices.Index(running, b.last); i >= 0 {
		running = slices.Concat(running[i+1:], running[:i+1])
	}
	ready := readyLines{b, idle}
	for _, j := range running {
		wants := b.works[j].Page(ready)
		if len(wants) == 0 {
			continue
		}
		requests := plan.Make(now, wants, b.own, plan.DefaultCeilings).Requests
		if len(requests) == 0 {
			continue
		}
		b.last, b.more = j, true
		return requests[:min(len(requests), turnRequests)]
	}
	return nil
}

// readyLines is what may be requested with the lines that regular work leaves idle.
type readyLines struct {
	*backfiller
	idle map[*line]bool
}

// Series implements [jobs.Ready].
func (r readyLines) Series(s *jobs.Series) bool {
	return r.idle[r.lines[s.Group]] && r.backfiller.Series(s)
}

// evaluate compares the jobs with what is there, and ends those that have nothing left to do.
func (b *backfiller) evaluate(ctx context.Context, now bucket.Time, claims []roster.Claim, open []*jobs.Job) error {
	clear(b.works)
	all := b.series(claims)
	for _, j := range open {
		of := b.of(j, all)
		if j.Advance(now, b.books.coverage.Keep, of) {
			b.unsaved[j] = true
		}
		w := jobs.Evaluate(j, now, of)
		b.works[j] = w
		if c := w.Count(); c != j.Counts {
			j.Counts, j.Moved = c, now
			b.unsaved[j] = true
		}
		if failing := b.failing(w); failing != j.LastError {
			j.LastError = failing
			b.unsaved[j] = true
		}
		if j.State == jobs.Running && j.Counts.Missing == 0 {
			if err := b.end(ctx, now, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// end ends a job, with its report and an audit event in the append that ends it.
func (b *backfiller) end(ctx context.Context, now bucket.Time, j *jobs.Job) error {
	before := describeJob(j)
	j.Refused, j.Truncated = b.works[j].Refused()
	j.Finish(now)
	event := eventOf(j, bucketv1.AuditEvent_ACTION_BACKFILL_DONE, Asked{})
	event.Before, event.After = before, describeJob(j)
	kept, deleted := jobs.Forget(b.jobs)
	if _, err := b.audited(ctx, store.Batch{Records: append(deleted, j.Records()...)}, event); err != nil {
		return err
	}
	b.jobs = kept
	delete(b.unsaved, j)
	delete(b.works, j)
	b.metrics.backfillsEnded.WithLabelValues(string(j.State)).Inc()
	c := j.Counts
	b.log.Info("backfill is done", "backfill", j.ID, "windows", c.Total, "filled", c.Filled, "present", c.Present, "refused", c.Refused, "lost", c.Lost, "requests", j.Requests)
	return nil
}
