package feedtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

var walkDatasets = []string{"http_5m", "dns_5m"}

const walkZones = 3

// act does one thing, chosen by weight.
func (w *walk) act() {
	choices := []struct {
		weight int
		do     func()
	}{
		{12, w.batch},
		{4, w.progress},
		{2, func() { w.define(pick(w, walkDatasets)) }},
		{2, w.retire},
		{2, w.backup},
		{3, w.restore},
		{2, w.failOver},
		{2, w.restart},
		{2, w.stall},
		{1, w.away},
		{3, w.cutSomebody},
		{2, w.holdSomebody},
		{2, w.releaseSomebody},
		{6, w.openAnywhere},
		{4, w.openSnapshot},
		{2, w.openNonsense},
		{2, w.closeOne},
		{2, w.replaceReader},
		{2, w.moveReader},
	}
	sum := 0
	for _, c := range choices {
		sum += c.weight
	}
	n := w.rng.IntN(sum)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			c.do()
			return
		}
	}
}

func pick[T any](w *walk, from []T) T { return from[w.rng.IntN(len(from))] }

// when is the start of the n-th window of a walk. Four days apart, windows come
// into several months, of which stores drop whole ones.
func when(n int) bucket.Time { return bucket.TimeOf(T0).Add(time.Duration(n) * 4 * 24 * time.Hour) }

func (w *walk) tick(d time.Duration) time.Time {
	w.now = w.now.Add(d)
	return w.now
}

func (w *walk) commit(entries ...Entry) {
	at := w.tick(time.Second)
	if w.fresh += len(entries); w.arena.Lag > 0 && w.fresh > w.arena.Lag {
		w.happens(flooded, -1, nil)
	}
	w.model.commit(at, entries)
	w.arena.Append(w, at, entries...)
}

// batch appends buckets of new windows and of some that were missed, and now
// and then something else.
func (w *walk) batch() {
	var entries []Entry
	for range 1 + w.rng.IntN(6) {
		switch w.rng.IntN(12) {
		case 0:
			from := w.rng.IntN(20)
			entries = append(entries, Entry{Gap: Gap(pick(w, walkDatasets), Zone(w.rng.IntN(walkZones)), from, from+1+w.rng.IntN(5))})
		case 1:
			entries = append(entries, Entry{State: State("tunnels", Zone(w.rng.IntN(walkZones)), w.now, w.rng.Float64())})
		case 2:
			entries = append(entries, Entry{Audit: Audit(pick(w, walkDatasets), Zone(w.rng.IntN(walkZones)), 0, 1+w.rng.IntN(5))})
		default:
			if b := w.bucket(); b != nil {
				entries = append(entries, Entry{Bucket: b})
			}
		}
	}
	if len(entries) == 0 {
		return
	}
	w.say("append %d after %s", len(entries), w.model.now().head.position())
	w.commit(entries...)
}

// bucket returns one with a key that the present history does not have, or nil.
// In another history the same key may get other rows.
func (w *walk) bucket() *bucket.Bucket {
	if w.rng.IntN(2) == 0 {
		w.window++
		if due := when(w.window).Add(15 * time.Minute).Std(); due.After(w.now) {
			w.now = due
		}
	}
	n := max(w.window-w.rng.IntN(4), 0)
	b := Bucket(pick(w, walkDatasets), Zone(w.rng.IntN(walkZones)), n)
	b.Start, b.ReadAt = when(n), when(n).Add(11*time.Minute)
	if w.taken[b.Key.String()] {
		return nil
	}
	w.taken[b.Key.String()] = true
	b.Version = 1 + uint32(w.rng.IntN(int(w.version[b.Dataset])))
	b.Families[0].Values[0] = float64(w.rng.IntN(1_000_000))
	if w.fat {
		b.Variant = strings.Repeat("fat", 5000)
	}
	return b
}

func (w *walk) define(dataset string) {
	w.version[dataset]++
	w.say("define %s, version %d", dataset, w.version[dataset])
	w.commit(Entry{Definition: Definition(dataset, w.version[dataset])})
}

func (w *walk) progress() {
	at := w.tick(time.Minute)
	w.say("progress %s at %s", at.Format(time.TimeOnly), w.model.now().head.position())
	w.model.declare(at)
	w.arena.Progress(w, at)
}

// retire drops the windows of whole months, never all.
func (w *walk) retire() {
	month := w.month + 1 + w.rng.IntN(2)
	border := bucket.TimeOf(T0.AddDate(0, month, 0))
	if border >= when(w.window-4) || !w.model.retire(border) {
		return
	}
	w.month = month
	w.say("retire before %s: floor is %d", border.Std().Format(time.DateOnly), w.model.now().floor)
	w.happens(retired, -1, nil)
	w.arena.Retire(w, border)
}

func (w *walk) backup() {
	if len(w.backups) == 3 {
		w.backups = slices.Delete(w.backups, 0, 1)
	}
	w.say("back up %s", w.model.now().head.position())
	w.backups = append(w.backups, backup{w.model.now(), maps.Clone(w.taken), maps.Clone(w.version), w.arena.Backup(w)})
}

// restore brings an old state back. Often the new history has passed the old
// one's numbers before anybody looks.
func (w *walk) restore() {
	if len(w.backups) == 0 {
		return
	}
	w.bring(pick(w, w.backups))
	if w.rng.IntN(2) == 0 {
		for range w.rng.IntN(4) {
			w.batch()
		}
	}
}

func (w *walk) bring(b backup) {
	w.say("restore %s over %s", b.version.head.position(), w.model.now().head.position())
	w.happens(restored, -1, nil)
	w.happens(flooded, -1, nil) // a later backup may bring more at once than a stream may lag
	w.model.restore(b.version)
	w.taken, w.version = maps.Clone(b.taken), maps.Clone(b.newest)
	b.restore(w)
}

// failOver goes to a standby that lacks the last commits, whether or not
// anybody has seen them.
func (w *walk) failOver() {
	w.backup()
	for range 1 + w.rng.IntN(3) {
		w.batch()
	}
	if w.rng.IntN(2) == 0 {
		w.progress()
	}
	if w.rng.IntN(2) == 0 {
		time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	}
	w.bring(w.backups[len(w.backups)-1])
	if w.rng.IntN(2) == 0 {
		w.batch()
	}
}

func (w *walk) restart() {
	i := w.rng.IntN(len(w.arena.Processes))
	p := &w.arena.Processes[i]
	if p.Restart == nil {
		return
	}
	w.happens(restarted, i, nil)
	if w.rng.IntN(2) == 0 {
		w.say("kill process %d", i)
		for _, s := range w.taps {
			if s.process == i {
				s.line.cut(0)
			}
		}
		for _, r := range w.readers {
			if r.process == i {
				r.line.cut(0)
			}
		}
	} else {
		w.say("restart process %d", i)
	}
	p.Restart(w)
}

func (w *walk) stall() {
	i := w.rng.IntN(len(w.arena.Processes))
	if p := &w.arena.Processes[i]; p.Stall != nil {
		w.say("process %d falls behind", i)
		w.happens(stalled, i, nil)
		p.Stall(true)
	}
}

func (w *walk) away() {
	i := w.rng.IntN(len(w.arena.Processes))
	if p := &w.arena.Processes[i]; p.Away != nil {
		w.say("process %d loses the store", i)
		w.happens(away, i, nil)
		p.Away(true)
	}
}

func (w *walk) heal(i int) {
	if p := &w.arena.Processes[i]; p.Stall != nil {
		p.Stall(false)
	}
	if p := &w.arena.Processes[i]; p.Away != nil {
		p.Away(false)
	}
}

// somebody's line, or nil.
func (w *walk) somebody() (*line, string) {
	n := w.rng.IntN(len(w.taps) + len(w.readers))
	if n < len(w.readers) {
		return w.readers[n].line, w.readers[n].name
	}
	return w.taps[n-len(w.readers)].line, w.taps[n-len(w.readers)].name
}

func (w *walk) cutSomebody() {
	l, name := w.somebody()
	after := 0
	if w.rng.IntN(3) > 0 {
		after = 1 + w.rng.IntN(1+w.rng.IntN(5000))
	}
	w.say("cut %s after %d bytes", name, after)
	w.happens(cut, -1, l)
	l.cut(after)
}

func (w *walk) holdSomebody() {
	l, name := w.somebody()
	w.say("%s stops reading", name)
	w.happens(slow, -1, l)
	l.hold()
}

func (w *walk) releaseSomebody() {
	l, name := w.somebody()
	w.say("%s reads on", name)
	l.release()
}

func (w *walk) filter() *bucketv1.Filter {
	f := &bucketv1.Filter{}
	if w.rng.IntN(2) == 0 {
		f.Datasets = []string{pick(w, walkDatasets)}
	}
	if w.rng.IntN(3) == 0 {
		f.Datasets = append(f.Datasets, "tunnels")
	}
	for range w.rng.IntN(3) {
		f.Scopes = append(f.Scopes, wire.ProtoScope(Zone(w.rng.IntN(walkZones))))
	}
	return f
}

func (w *walk) anyFilter() *bucketv1.Filter {
	if w.rng.IntN(2) == 0 {
		return nil
	}
	return w.filter()
}

// anywhere is an entry of any history, mostly of the present one.
func (w *walk) anywhere() *node {
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	v := pick(w, w.model.versions)
	if w.rng.IntN(3) > 0 {
		v = w.model.versions[len(w.model.versions)-1]
	}
	n := v.head
	for back := w.rng.IntN(1 + min(w.rng.IntN(40), int(n.at.Revision))); back > 0; back-- {
		n = n.parent
	}
	return n
}

func (w *walk) openAnywhere() {
	n := w.anywhere()
	w.open(resume(w.model.point(n), w.anyFilter()), n, "")
}

func (w *walk) snapshotRequest(f *bucketv1.Filter) *bucketv1.WatchBucketsRequest {
	age := time.Duration(0)
	if w.rng.IntN(4) > 0 {
		age = time.Duration(w.rng.IntN(1+int(when(w.window).Sub(bucket.TimeOf(T0))/time.Hour))) * time.Hour
	}
	return fromSnapshot(age, uint32(w.rng.IntN(4)*w.rng.IntN(6)), f)
}

func (w *walk) openSnapshot() {
	w.open(w.snapshotRequest(w.anyFilter()), nil, "")
}

// openNonsense asks for what cannot be had.
func (w *walk) openNonsense() {
	n := w.anywhere()
	p := w.model.point(n)
	switch w.rng.IntN(4) {
	case 0:
		p.StoreId = fmt.Sprintf("%032x", w.rng.Uint64())
		w.open(resume(p, nil), nil, "OTHER_STORE")
	case 1:
		p.Revision += 1_000_000
		p.Chain = slices.Repeat([]byte{byte(w.rng.IntN(256))}, 16)
		w.open(resume(p, nil), nil, "FUTURE_REVISION")
	case 2:
		if n.parent == nil {
			return
		}
		p.Chain = slices.Clone(p.Chain)
		p.Chain[w.rng.IntN(16)] ^= 1 << w.rng.IntN(8)
		w.open(resume(p, nil), &node{at: bucket.Position{Revision: n.at.Revision, Chain: bucket.Chain(p.Chain)}, parent: n.parent}, "HISTORY_CHANGED")
	default:
		p.Chain = append(p.Chain, 0)
		w.open(resume(p, nil), nil, "BAD_REQUEST")
	}
}

func (w *walk) closeOne() {
	if len(w.taps) == 0 {
		return
	}
	i := w.rng.IntN(len(w.taps))
	w.say("%s leaves", w.taps[i].name)
	w.taps[i].stop()
	w.taps = slices.Delete(w.taps, i, i+1)
}

// replaceReader stops a follower and starts another where it was, as a process
// does that keeps its point over restarts.
func (w *walk) replaceReader() {
	i := w.rng.IntN(len(w.readers))
	r := w.readers[i]
	r.stop()
	at := r.place()
	if w.rng.IntN(3) == 0 {
		at = nil // it has forgotten
	}
	w.readers = slices.Delete(w.readers, i, i+1)
	w.follow(r.filter, at)
}

// moveReader leads a follower's next connection to another process.
func (w *walk) moveReader() {
	r := pick(w, w.readers)
	r.process = w.rng.IntN(len(w.arena.Processes))
	w.say("%s will connect to process %d", r.name, r.process)
	r.line.lead(w.arena.Processes[r.process].Dial)
}
