package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/standalone/chaos/tsdbtest"
)

// mirror is what the store holds, turned into samples by other code than the
// exposer's: what any exposition at any revision must show.
type mirror struct {
	w        *world
	parser   *tsdbtest.Parser
	revision bucket.Revision
	chain    bucket.Chain
	depth    map[string]int // by dataset
	labels   map[string][]string
	buckets  []*shown
	byKey    map[bucket.Key]*shown
}

// shown is one stored bucket as samples.
type shown struct {
	*bucket.Bucket
	revision bucket.Revision
	found    time.Time // in the store, within a minute, whatever clock the collector has
	samples  []tsdbtest.Sample
	digest   uint64 // sum over its samples
	scraped  bool   // some exposition showed it
}

func newMirror(w *world, p *tsdbtest.Parser) *mirror {
	return &mirror{w: w, parser: p, depth: map[string]int{}, labels: map[string][]string{}, byKey: map[bucket.Key]*shown{}}
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
			if err := m.take(e.Revision, e.Kind, e.Payload); err != nil {
				m.w.report("revision %d: %v", e.Revision, err)
			}
		}
	}
}

func (m *mirror) take(rev bucket.Revision, kind bucket.Kind, payload []byte) error {
	switch kind {
	case bucket.KindDatasetVersion:
		d, err := wire.DecodeDefinition(payload)
		if err != nil {
			return err
		}
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
		s := &shown{Bucket: b, revision: rev, found: time.Now()}
		m.render(s)
		m.buckets, m.byKey[b.Key] = append(m.buckets, s), s
	default: // decisions and such show nowhere
	}
	return nil
}

// escape is how the text format writes label values.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// render turns a bucket into samples at its end less a millisecond.
func (m *mirror) render(s *shown) {
	at := s.Window().End.Std().UnixMilli() - 1
	for _, rows := range s.Families {
		names := m.labels[rows.Family]
		for i, v := range rows.Values {
			series := fmt.Appendf(nil, `%s{zone="%s",account="%s"`, rows.Family, escape.Replace(s.Zone), escape.Replace(s.Account))
			for j, name := range names {
				series = fmt.Appendf(series, `,%s="%s"`, name, escape.Replace(rows.Labels[i*len(names)+j]))
			}
			sample := tsdbtest.Sample{Series: m.parser.ID(append(series, '}')), At: at, Value: v}
			s.samples = append(s.samples, sample)
			s.digest += digest(sample)
		}
	}
}

// replay are the buckets that an exposition at a revision must show at now, no
// more and no less.
func (m *mirror) replay(at bucket.Revision, now time.Time) []*shown {
	oldest, newest := now.Add(-24*time.Hour), now
	starts := map[string][]bucket.Time{}
	in := func(s *shown) bool {
		stamp := s.Window().End.Std().Add(-time.Millisecond)
		return s.revision <= at && stamp.After(oldest) && !stamp.After(newest)
	}
	for _, s := range m.buckets {
		if in(s) {
			starts[s.Dataset] = append(starts[s.Dataset], s.Start)
		}
	}
	first := map[string]bucket.Time{}
	for dataset, all := range starts {
		slices.Sort(all)
		all = slices.Compact(all)
		first[dataset] = all[max(0, len(all)-m.depth[dataset])]
	}
	var out []*shown
	for _, s := range m.buckets {
		if in(s) && s.Start >= first[s.Dataset] {
			out = append(out, s)
		}
	}
	return out
}

// digest of one sample; sums of them are equal for equal sets.
func digest(s tsdbtest.Sample) uint64 {
	h := uint64(s.Series)*0x9e3779b97f4a7c15 ^ uint64(s.At)*0xbf58476d1ce4e5b9 ^ uint64(int64(s.Value*8))*0x94d049bb133111eb
	h ^= h >> 31
	h *= 0x7fb5d329728ea185
	return h ^ h>>27
}
