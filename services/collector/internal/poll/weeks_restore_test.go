package poll_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
)

// uncounted is the store as a release sees it that does not know totals: it appends, and
// neither reads nor writes their records.
type uncounted struct{ store.Store }

func ofTotals(kind string) bool { return kind == totals.Kind || kind == totals.KindHeader }

func (u uncounted) Records(ctx context.Context, kind string) ([]store.Record, error) {
	if ofTotals(kind) {
		return nil, nil
	}
	return u.Store.Records(ctx, kind)
}

func (u uncounted) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	had := len(b.Records)
	b.Records = slices.DeleteFunc(slices.Clone(b.Records), func(r store.Record) bool { return ofTotals(r.Kind) })
	if had > 0 && len(b.Records)+len(b.Entries) == 0 {
		return at, nil // such a release would not have made the batch
	}
	return u.Store.Append(ctx, term, at, b)
}

// older lets a release lead until a time that does not count.
func (w *weeks) older(until time.Time) {
	w.t.Helper()
	read := func() (*totals.Stored, bucket.Revision) {
		s, err := totals.Read(w.t.Context(), w.world.store)
		if err != nil {
			w.t.Fatal(err)
		}
		return s, w.head()
	}
	before, from := read()
	c := w.process("older")
	c.Store = uncounted{w.store}
	for w.clock.Now().Before(until) {
		w.lead("older", c, until)
	}
	after, to := read()
	if after.Position != before.Position || after.Epoch != before.Epoch {
		w.t.Errorf("until %s a release that does not count changed the totals from %+v to %+v", until, before.Position, after.Position)
	}
	if to < from+200 {
		w.t.Errorf("until %s it appended %d entries, which is not what it is for", until, to-from)
	}
}

// dumped is a backup of the store, and what had been read of the log by then.
type dumped struct {
	path string
	log  weekLog
	head bucket.Revision
}

// dump makes a backup.
func (w *weeks) dump() dumped {
	w.t.Helper()
	w.readLog()
	d := dumped{path: filepath.Join(w.t.TempDir(), "dump.db"), log: w.log, head: w.head()}
	d.log.payloads, d.log.definitions = maps.Clone(w.log.payloads), maps.Clone(w.log.definitions)
	d.log.entries, d.log.lost = slices.Clone(w.log.entries), map[ledger.Series]bucket.Spans{}
	for of, spans := range w.log.lost {
		d.log.lost[of] = slices.Clone(spans)
	}
	w.exec(`VACUUM INTO '` + d.path + `'`)
	return d
}

// restore puts a backup in the store's place, and restarts the counters as the command does.
func (w *weeks) restore(d dumped) {
	w.t.Helper()
	if lost := w.head() - d.head; lost < 100 {
		w.t.Errorf("the restore takes %d entries away, which is not what it is for", lost)
	}
	statements := `ATTACH '` + d.path + `' AS dump; BEGIN IMMEDIATE;`
	for _, table := range []string{"log", "bucket", "event", "record", "permit"} {
		statements += fmt.Sprintf(" DELETE FROM main.%[1]s; INSERT INTO main.%[1]s SELECT * FROM dump.%[1]s;", table)
	}
	w.exec(statements + " COMMIT")
	if head := w.head(); head != d.head {
		w.t.Fatalf("the head of the restored store is %d, that of the backup was %d", head, d.head)
	}
	audits := w.log.audits
	w.log = d.log
	w.log.audits = audits // of the processes, which know nothing of it

	won, err := w.store.Acquire(w.t.Context(), "restart", 15*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	now := w.clock.Now()
	id := totals.NewID(now, w.rng.Uint32())
	payload, err := wire.EncodeAuditEvent(&bucketv1.AuditEvent{
		Action: bucketv1.AuditEvent_ACTION_COUNTERS_RESTARTED, Actor: "the story", Reason: "a restore", After: "epoch " + id,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := totals.Begin(w.t.Context(), w.store, id, totals.Requested, won.Head.Position, now)
	if err != nil {
		w.t.Fatal(err)
	}
	b := store.Batch{CommittedAt: now, Entries: []store.NewEntry{{Kind: bucket.KindAudit, Payload: payload}}, Records: slices.Concat(a.Batches...)}
	if _, err := w.store.Append(w.t.Context(), won.Term, won.Head.Position, b); err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Release(w.t.Context(), won.Term); err != nil {
		w.t.Fatal(err)
	}
	w.log.restarted, w.log.whole, w.log.counted, w.log.due, w.log.first = id, nil, 0, nil, map[string]time.Time{}
}

// exec runs statements on the database's file, beside the store.
func (w *weeks) exec(statements string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.world.store.(*sqlite.Store).Path())
	if err != nil {
		w.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(w.t.Context(), statements); err != nil {
		w.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
}
