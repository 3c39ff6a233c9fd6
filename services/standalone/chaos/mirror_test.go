package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/chaos/tsdbtest"
)

// mirror is what the store holds, turned into samples by other code than the
// exposer's: what any exposition at any revision must show.
type mirror struct {
	w           *world
	parser      *tsdbtest.Parser
	revision    bucket.Revision
	chain       bucket.Chain
	depth       map[string]int // by dataset
	labels      map[string][]string
	definitions map[string]*bucket.Definition // by dataset; a world has one version of each
	buckets     []*shown
	byKey       map[bucket.Key]*shown
	damaged     time.Time // when a row was damaged last

	// What operators' requests have left, by their reason, which is of one request alone.
	audited       map[string][]*bucketv1.AuditEvent
	auditedAt     map[string]bucket.Revision
	restatedFor   map[string]int // windows
	accepted      []*bucketv1.GapDecision
	restated      map[bucket.Key]bucket.Revision // the newest
	backfillsDone map[string]int                 // events, by backfill
}

// shown is one stored bucket as samples.
type shown struct {
	*bucket.Bucket
	revision  bucket.Revision
	committed time.Time
	found     time.Time // in the store, within a minute, whatever clock the collector has
	samples   []tsdbtest.Sample
	digest    uint64 // sum over its samples
	scraped   bool   // some exposition showed it
	damaged   bool   // since it was stored
}

func newMirror(w *world, p *tsdbtest.Parser) *mirror {
	return &mirror{
		w: w, parser: p, depth: map[string]int{}, labels: map[string][]string{}, definitions: map[string]*bucket.Definition{}, byKey: map[bucket.Key]*shown{},
		audited: map[string][]*bucketv1.AuditEvent{}, auditedAt: map[string]bucket.Revision{}, restatedFor: map[string]int{}, restated: map[bucket.Key]bucket.Revision{}, backfillsDone: map[string]int{},
	}
}

// update reads what was appended, and checks that it continues the log.
func (m *mirror) update(ctx context.Context) {
	for m.w.head(ctx) > uint64(m.revision) {
		page, err := m.w.store.ReadLog(ctx, m.revision, 500)
		if err != nil {
			m.w.report("read the log after revision %d: %v", m.revision, err)
			return
		}
		if len(page) == 0 {
			m.w.report("the log ends at revision %d, before its head", m.revision)
			return
		}
		for i := range page {
			e := &page[i]
			if e.Revision != m.revision+1 {
				m.w.report("revision %d follows %d in the store", e.Revision, m.revision)
			}
			if chain := m.chain.Next(e.Kind, e.CommittedAt, e.Payload); e.Damage == "" && chain != e.Chain {
				m.w.report("the chain of revision %d does not follow from its bytes", e.Revision)
			}
			if ahead := time.Until(e.CommittedAt); ahead > skewTolerance {
				m.w.report("revision %d was committed %s in the future", e.Revision, ahead)
			}
			m.revision, m.chain = e.Revision, e.Chain
			if m.w.unreadable.revs[e.Revision] {
				continue // it has its place and its key, and shows nowhere
			}
			if _, taken := m.w.unreadable.windows[e.Key]; taken && e.Kind == bucket.KindBucket {
				m.w.report("bucket %s was stored and could not be read, and is stored again", e.Key)
			}
			if err := m.take(e.Revision, e.CommittedAt, e.Kind, e.Payload); err != nil {
				m.w.report("revision %d: %v", e.Revision, err)
			}
		}
	}
}

func (m *mirror) take(rev bucket.Revision, committed time.Time, kind bucket.Kind, payload []byte) error {
	switch kind {
	case bucket.KindDatasetVersion:
		d, err := wire.DecodeDefinition(payload)
		if err != nil {
			return err
		}
		m.definitions[d.Dataset] = d
		m.depth[d.Dataset] = min(max(d.Depth, 1), 30)
		for _, f := range d.Families {
			m.labels[f.Name] = f.Labels
		}
	case bucket.KindBucket:
		b, err := wire.DecodeBucket(payload)
		if err != nil {
			return err
		}
		if m.byKey[b.Key] != nil {
			return fmt.Errorf("bucket %s is stored twice", b.Key)
		}
		s := &shown{Bucket: b, revision: rev, committed: committed, found: time.Now()}
		m.render(s)
		m.buckets, m.byKey[b.Key] = append(m.buckets, s), s
	default: // shows nowhere
		return m.told(rev, kind, payload)
	}
	return nil
}

// escape is how the text format writes label values.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// scopeLabels are the labels of what a series is about: an account has no zone.
func scopeLabels(of bucket.Scope, zone, account string) string {
	if of.Kind == bucket.Account {
		return fmt.Sprintf(`account="%s"`, escape.Replace(account))
	}
	return fmt.Sprintf(`zone="%s",account="%s"`, escape.Replace(zone), escape.Replace(account))
}

// render turns a bucket into samples at its end less a millisecond.
func (m *mirror) render(s *shown) {
	at := s.Window().End.Std().UnixMilli() - 1
	for _, rows := range s.Families {
		names := m.labels[rows.Family]
		for i, v := range rows.Values {
			series := fmt.Appendf(nil, `%s{%s`, rows.Family, scopeLabels(s.Scope, s.Zone, s.Account))
			for j, name := range names {
				series = fmt.Appendf(series, `,%s="%s"`, name, escape.Replace(rows.Labels[i*len(names)+j]))
			}
			sample := tsdbtest.Sample{Series: m.parser.ID(append(series, '}')), At: at, Value: v}
			s.samples = append(s.samples, sample)
			s.digest += digest(sample)
		}
	}
}

const (
	turn   = 5 * time.Minute
	young  = 55 * time.Minute // up to which age a window of an hour or a day is among the newest
	replay = 24 * time.Hour
)

// carousel is the rule of docs/decisions/0013-carousel.md for one dataset, in numbers of
// windows and turns: the newest n windows, and pages of m older ones.
type carousel struct{ size, n, m, pages int64 }

func newCarousel(size time.Duration, depth int) carousel {
	c := carousel{size: int64(size / time.Second)}
	c.n = min(int64(depth), min(10, max(2, int64((30*time.Minute+size-1)/size))))
	covered := c.n * c.size
	if size >= time.Hour {
		c.n, covered = 1, int64(young/time.Second)
	}
	if c.m = min(24, int64(depth)-c.n); c.m > 0 {
		older := int64(replay/time.Second) - covered
		c.pages = (older+c.m*c.size-1)/(c.m*c.size) + 1
	}
	return c
}

// round is how long one takes.
func (c carousel) round() time.Duration { return time.Duration(c.pages) * turn }

// due reports whether a round is, in a turn: one after another for two rounds after a late
// commit, or where a scrape asks for that, and otherwise one in twelve hours.
func (c carousel) due(at int64, late time.Time, rounds bool) bool {
	begin := time.Unix(at*300, 0)
	return c.pages > 0 && (rounds || !late.IsZero() && begin.Sub(late) < 2*c.round() || at%144 < c.pages)
}

// shows reports whether a window is on the page in turn.
func (c carousel) shows(start bucket.Time, at int64) bool {
	page := int64(start) / c.size / c.m
	oldest := (at*300 - int64(replay/time.Second)) / c.size / c.m
	return page >= oldest && page < oldest+c.pages && (page-at)%c.pages == 0
}

// replay are the buckets that an exposition at a revision must show at now, no
// more and no less, in a turn, where a scrape asks for one round after another or not.
func (m *mirror) replay(at bucket.Revision, now time.Time, turn int64, rounds bool) []*shown {
	newest, late := map[string]bucket.Time{}, map[string]time.Time{}
	in := func(s *shown) bool {
		stamp := s.Window().End.Std().Add(-time.Millisecond)
		return s.revision <= at && stamp.After(now.Add(-replay)) && !stamp.After(now)
	}
	of := map[string]carousel{}
	for _, s := range m.buckets {
		if s.revision > at {
			continue
		}
		if _, known := of[s.Dataset]; !known {
			of[s.Dataset] = newCarousel(s.Size, m.depth[s.Dataset])
		}
		if in(s) {
			newest[s.Dataset] = max(newest[s.Dataset], s.Start)
		}
		// What is older at its commit than what all scrapes show, unless it is silence, or an
		// operator asked for it.
		age := s.committed.Sub(s.Window().End.Std())
		cover := max(2*s.Size, min(10*s.Size, 30*time.Minute))
		if s.Size >= time.Hour {
			cover = 45 * time.Minute
		}
		if age > cover && age < replay && !s.silent() && s.Origin != bucket.Backfill && s.committed.After(late[s.Dataset]) {
			late[s.Dataset] = s.committed
		}
	}
	var out []*shown
	for _, s := range m.buckets {
		c := of[s.Dataset]
		fresh := int64(s.Start) > int64(newest[s.Dataset])-c.n*c.size && (s.Size < time.Hour || now.Sub(s.Window().End.Std()) < young)
		if in(s) && (fresh || c.due(turn, late[s.Dataset], rounds) && c.shows(s.Start, turn)) {
			out = append(out, s)
		}
	}
	return out
}

func (s *shown) silent() bool {
	for _, rows := range s.Families {
		for _, v := range rows.Values {
			if v != 0 {
				return false
			}
		}
	}
	return true
}

// digest of one sample; sums of them are equal for equal sets.
func digest(s tsdbtest.Sample) uint64 {
	h := uint64(s.Series)*0x9e3779b97f4a7c15 ^ uint64(s.At)*0xbf58476d1ce4e5b9 ^ uint64(int64(s.Value*8))*0x94d049bb133111eb
	h ^= h >> 31
	h *= 0x7fb5d329728ea185
	return h ^ h>>27
}
