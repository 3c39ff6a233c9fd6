package chaos

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/collectortest"
)

// poison draws entries that nobody can read: both collectors die, and an older
// release, which did not look at what it stored, leads until they are back.
func (d dice) poison(e *event) {
	e.Kind, e.Amount = poison, 40*time.Second+d.between(0, time.Minute)
	e.Nth = 1 + d.IntN(1000) // what is spoilt, and how
}

// leaseOver is after how long the lease of a leader that died is anybody's.
const leaseOver = 20 * time.Second

// unreadable is what of the store cannot be read, and counts as stored.
type unreadable struct {
	windows map[bucket.Key]bucket.Window
	revs    map[bucket.Revision]bool // that were never readable
	written bool                     // anything
}

// poison does what the event says, unless somebody leads: then the older release
// stands by.
func (w *world) poison(ctx context.Context, e event) {
	for _, name := range collectors {
		w.processes[name].end(true, e.Amount)
	}
	time.Sleep(leaseOver)
	w.prometheus.mirror.update(ctx)
	d := dice{rand.New(rand.NewPCG(w.Seed, uint64(e.Nth)))}
	store := w.store.Unguarded()
	defer store.Close()
	var entries []collectortest.NewEntry
	var keys []bucket.Key
	for _, zone := range zoneNames[:4] {
		newest := w.prometheus.mirror.newest(zone)
		if newest == nil || d.chance(.4) {
			continue
		}
		for range 1 + d.IntN(3) {
			b := *newest
			b.Start = b.Start.Add(b.Size)
			newest = &b
			if b.Window().End.Std().After(time.Now()) {
				break
			}
			spoilt := b
			payload := []byte("no message at all")
			switch d.IntN(4) {
			case 0:
				spoilt.Zone = ""
				payload = wire.EncodeBucket(&spoilt)
			case 1:
				spoilt.Start = 0
				payload = wire.EncodeBucket(&spoilt)
			case 2:
				half := wire.EncodeBucket(&spoilt)
				half = half[:len(half)/2]
				if _, err := wire.DecodeBucket(half); err != nil { // the first half of a bucket may be one
					payload = half
				}
			}
			entries = append(entries, collectortest.NewEntry{
				Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant, Payload: payload,
			})
			keys = append(keys, b.Key)
		}
	}
	var records []collectortest.Record
	for _, kind := range []string{"gap", "decided", "audit", "drift"} {
		stored, err := w.store.Records(ctx, kind)
		if err != nil {
			w.report("%v", err)
		}
		for _, r := range append(stored, collectortest.Record{Kind: kind, Key: "of/another/kind"}) {
			if d.chance(.3) {
				records = append(records, collectortest.Record{Kind: kind, Key: r.Key, Value: []byte(d.one(`{}`, `"damaged"`, `{"spans":7}`))})
			}
		}
	}
	before := w.prometheus.mirror.revision
	if err := collectortest.Write(ctx, store, entries, records); err != nil {
		w.tally.faults["unreadable entries: somebody led"]++
		return
	}
	u := &w.unreadable
	for i, key := range keys {
		u.revs[before+bucket.Revision(i)+1] = true
		u.windows[key] = bucket.Window{Start: key.Start, End: entries[i].End}
	}
	w.damage(d)
	u.written = true
	w.tally.faults["unreadable entries: of them buckets"] += len(keys)
	w.tally.faults["unreadable entries: of them records"] += len(records)
}

// damage takes rows that were readable and are neither among the newest nor a reason for
// rounds any more. An exposer that holds them in a page shows them until that is over, and
// one that fetches the page now does not.
func (w *world) damage(d dice) {
	m := w.prometheus.mirror
	c := newCarousel(fiveMinutes, m.depth["http_5m"])
	for _, s := range m.buckets {
		if s.Dataset == "http_5m" && time.Since(s.committed) > 2*c.round()+2*turn && slices.Contains(zoneNames[:4], zonesByID()[s.Scope.ID]) && d.chance(.05) {
			w.store.Damage(s.revision)
			s.damaged, m.damaged = true, time.Now()
			w.unreadable.windows[s.Key] = s.Window()
			w.tally.faults["unreadable entries: of them rows that were damaged"]++
		}
	}
}

// newest is the zone's newest readable bucket of http_5m.
func (m *mirror) newest(zone string) (newest *bucket.Bucket) {
	for _, s := range m.buckets {
		if s.Dataset == "http_5m" && zonesByID()[s.Scope.ID] == zone && (newest == nil || s.Start > newest.Start) {
			newest = s.Bucket
		}
	}
	return newest
}

// checkBackfill: what cannot be read is left out and counted, and the rest is there.
func (w *world) checkBackfill() {
	for _, name := range exposers {
		response, err := w.prometheus.http.Get("http://" + name + ":80/backfill?hours=24&dataset=http_5m&format=openmetrics")
		if err != nil {
			w.report("backfill of %s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			w.report("backfill of %s: %s, %v", name, response.Status, err)
			continue
		}
		if !bytes.HasSuffix(body, []byte("# EOF\n")) {
			w.report("backfill of %s has %d bytes and no end", name, len(body))
		}
		told := response.Header.Get("X-Weir-Unreadable") + response.Trailer.Get("X-Weir-Unreadable")
		want := ""
		if n := len(w.unreadable.windows); n > 0 { // no world is older than the range
			want = strconv.Itoa(n)
		}
		if told != want {
			w.report("backfill of %s says that %q entries cannot be read; want %q", name, told, want)
		}
	}
}

// readUnreadable takes a range that coverage says cannot be read.
func (w *world) readUnreadable(c *bucketv1.Coverage, r *bucketv1.CoverageRange, told map[bucket.Key]bool) {
	for at := r.GetStartUnixSeconds(); at < r.GetEndUnixSeconds(); at += int64(fiveMinutes / time.Second) {
		key := bucket.Key{Dataset: c.GetDataset(), Scope: bucket.Scope{Kind: bucket.Zone, ID: c.GetScope().GetId()}, Start: bucket.Time(at)}
		if told[key] = true; w.unreadable.windows[key].Empty() {
			w.report("%s is said to be unreadable, and is not", key)
		}
	}
}

// fiveMinutes is the size of what is spoilt.
const fiveMinutes = 5 * time.Minute

// checkUnreadable: at the end everything that cannot be read is said to be. Coverage begins
// where a scope is collected from: what a backfill brought from before that is not in it.
func (w *world) checkUnreadable(name string, told map[bucket.Key]bool) {
	begins := bucket.TimeOf(w.Began.Add(-w.Lookback))
	for key := range w.unreadable.windows {
		if !told[key] && key.Start >= begins {
			w.report("%s does not say that %s cannot be read", name, key)
		}
	}
}

func newUnreadable() unreadable {
	return unreadable{windows: map[bucket.Key]bucket.Window{}, revs: map[bucket.Revision]bool{}}
}
