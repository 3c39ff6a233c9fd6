package totals_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
)

var (
	noon   = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	http5m = &bucket.Definition{
		Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30,
		Families: []bucket.Family{{Name: "cloudflare_zone_requests_by_method", Help: "Requests.", Labels: []string{"method"}, Role: bucket.Breakdown, Additive: true}},
	}
)

// rig is a leader with a store.
type rig struct {
	t    *testing.T
	s    *sqlite.Store
	term store.Term
	at   bucket.Position
	log  []*bucket.Entry
}

func newRig(t *testing.T) *rig {
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	lease, err := s.Acquire(t.Context(), "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, s: s, term: lease.Term, at: lease.Head.Position}
	r.append(noon.Add(-time.Hour), store.NewEntry{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: http5m.Dataset}, Payload: wire.EncodeDefinition(http5m)})
	return r
}

func (r *rig) write(b store.Batch) {
	r.t.Helper()
	at, err := r.s.Append(r.t.Context(), r.term, r.at, b)
	if err != nil {
		r.t.Fatal(err)
	}
	r.at = at
}

func (r *rig) append(at time.Time, e store.NewEntry) {
	r.write(store.Batch{CommittedAt: at, Entries: []store.NewEntry{e}})
}

// commit appends the n-th bucket of a zone.
func (r *rig) commit(zone, n int, value float64) {
	start := noon.Add(time.Duration(n) * http5m.Size)
	at := start.Add(11 * time.Minute)
	b := &bucket.Bucket{
		Key:  bucket.Key{Dataset: http5m.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", zone)}, Start: bucket.TimeOf(start)},
		Size: http5m.Size, Version: 1, Zone: fmt.Sprintf("zone-%d.example", zone), Account: "Acme", Variant: "rollup",
		Finality: bucket.Confirmed, Origin: bucket.Live, SampleInterval: 1,
		Families: []bucket.Rows{{Family: http5m.Families[0].Name, Labels: []string{"GET", "POST"}, Values: []float64{value, 2 * value}}},
	}
	r.append(at, store.NewEntry{
		Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant,
		Rows: 2, SampleInterval: 1, Payload: wire.EncodeBucket(b),
	})
	r.log = append(r.log, &bucket.Entry{Position: r.at, CommittedAt: at, Kind: bucket.KindBucket, Bucket: b, Definition: http5m})
}

// save writes batches of records; fewer than all if the leader dies.
func (r *rig) save(a *totals.Advanced, batches int) {
	for _, records := range a.Batches[:batches] {
		r.write(store.Batch{CommittedAt: noon, Records: records})
	}
}

func (r *rig) begin(id string) {
	r.t.Helper()
	a, err := totals.Begin(r.t.Context(), r.s, id, totals.First, r.at, noon)
	if err != nil {
		r.t.Fatal(err)
	}
	r.save(a, len(a.Batches))
}

func (r *rig) advance(now time.Time) *totals.Advanced {
	r.t.Helper()
	a, err := totals.Advance(r.t.Context(), r.s, r.at, now, func() error { return nil })
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// values is what a reader shows that begins with the stored totals.
func (r *rig) values(at time.Time) map[string]counter.Value {
	r.t.Helper()
	stored, err := totals.Read(r.t.Context(), r.s)
	if err != nil {
		r.t.Fatal(err)
	}
	f := counter.New()
	if err := stored.Each(func(m *bucketv1.CounterTotals) error {
		t, err := wire.DecodeCounterTotals(m)
		if err != nil {
			return err
		}
		return f.Load(t)
	}); err != nil {
		r.t.Fatal(err)
	}
	return show(r.t, f, r.log, stored.Position.Revision, at)
}

func show(t *testing.T, f *counter.Fold, log []*bucket.Entry, after bucket.Revision, at time.Time) map[string]counter.Value {
	t.Helper()
	for _, e := range log {
		if e.Revision > after {
			if err := f.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	out := map[string]counter.Value{}
	for fam := range f.Families {
		for _, s := range fam.Series() {
			if v, shown := s.At(sample.MillisOf(at)); shown {
				out[fam.Name+s.Zone+strings.Join(s.Values, ",")] = v
			}
		}
	}
	return out
}

// A reader that begins with stored totals shows what one shows that has read the whole epoch,
// wherever leaders died between two writes (G10).
func TestTotalsContinueTheLog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 13))
		r := newRig(t)
		r.commit(1, -1, 7) // before the epoch
		before := r.at.Revision
		r.begin("first")
		died := 0
		for n := range 60 {
			for zone := range 3 {
				if rnd.IntN(9) > 0 {
					r.commit(zone, n, float64(rnd.IntN(1000)))
				}
			}
			now := noon.Add(time.Duration(n)*http5m.Size + 12*time.Minute)
			if rnd.IntN(6) == 0 {
				a := r.advance(now)
				whole := len(a.Batches)
				if rnd.IntN(2) == 0 {
					whole = rnd.IntN(whole)
					died++
				}
				r.save(a, whole)
			}
			at := now.Add(time.Duration(rnd.IntN(300)) * time.Second)
			if want, got := show(t, counter.New(), r.log, before, at), r.values(at); !cmp.Equal(want, got) {
				t.Fatalf("seed %d, after %d windows (-whole +with totals):\n%s", seed, n, cmp.Diff(want, got))
			}
		}
		if died == 0 {
			t.Errorf("seed %d: no leader died", seed)
		}
		records, err := r.s.Records(t.Context(), totals.Kind)
		if err != nil || len(records) > 2 {
			t.Errorf("%d records are left (%v), want two sets of one chunk", len(records), err)
		}
	}
}

// What cannot be continued is said, and a new epoch replaces it.
func TestTotalsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	record := func(key, value string) func(*rig) {
		return func(r *rig) {
			rec := store.Record{Kind: totals.Kind, Key: key}
			if key == "header" {
				rec.Kind = totals.KindHeader
			}
			if value != "" {
				rec.Value = []byte(value)
			}
			r.write(store.Batch{CommittedAt: noon, Records: []store.Record{rec}})
		}
	}
	for name, tc := range map[string]struct {
		spoil func(*rig)
		want  error
		says  string
		why   totals.Reason
	}{
		"none": {func(r *rig) {
			record("header", "")(r)
			record("d/000000", "")(r)
		}, totals.ErrNone, "", totals.None},
		"no header":       {record("header", ""), totals.ErrUnusable, "the header is missing, of 1 chunks", totals.Damaged},
		"header":          {record("header", `{}`), totals.ErrUnusable, "the header is {}", totals.Damaged},
		"a missing chunk": {record("d/000000", ""), totals.ErrUnusable, "chunk d/000000 of 1 is missing", totals.Damaged},
		"a damaged chunk": {record("d/000000", `{"data":"AAAA"}`), totals.ErrUnusable, "chunk 0", totals.Damaged},
		"no gzip":         {record("d/000000", `{"data":7}`), totals.ErrUnusable, "chunk d/000000", totals.Damaged},
		"other rules": {func(r *rig) {
			records, err := r.s.Records(r.t.Context(), totals.KindHeader)
			if err != nil || len(records) != 1 {
				r.t.Fatal(records, err)
			}
			mark := fmt.Sprintf(`"rules":%d`, counter.Rules)
			earlier := strings.Replace(string(records[0].Value), ","+mark, "", 1) // of a release that had no versions
			if strings.Contains(earlier, "rules") {
				r.t.Fatalf("the header is %s", records[0].Value)
			}
			record("header", earlier)(r)
			if _, err := totals.EpochOf(r.t.Context(), r.s); !errors.Is(err, totals.ErrUnusable) {
				r.t.Errorf("the epoch of totals of other rules: %v", err)
			}
		}, totals.ErrUnusable, "counted by other rules: version 0", totals.Rules},
		"dropped entries": {func(r *rig) {
			if _, err := r.s.Retire(t.Context(), r.term, bucket.TimeOf(noon.Add(time.Hour)), noon.Add(time.Hour)); err != nil {
				r.t.Fatal(err)
			}
		}, totals.ErrUnusable, "were dropped", totals.Compacted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.begin("first")
			r.commit(1, 0, 1)
			r.commit(1, 1, 1)
			a := r.advance(noon.Add(20 * time.Minute))
			r.save(a, len(a.Batches))
			r.commit(1, 2, 1)
			r.commit(1, 3, 1)
			tc.spoil(r)
			_, err := totals.Advance(t.Context(), r.s, r.at, noon.Add(time.Hour), func() error { return nil })
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v, want %v with %q", err, tc.want, tc.says)
			}
			if why, err := totals.ReasonOf(t.Context(), r.s, err, r.at); err != nil || why != tc.why {
				t.Errorf("the reason to begin is %q (%v), want %q", why, err, tc.why)
			}
			r.begin("second")
			if got := r.advance(noon.Add(time.Hour)).Epoch.ID; got != "second" {
				t.Errorf("the epoch is %s", got)
			}
			if got := r.values(noon.Add(2 * time.Hour)); len(got) != 0 {
				t.Errorf("the new epoch shows %v", got)
			}
		})
	}
	// Another history.
	r := newRig(t)
	r.commit(1, 0, 1)
	other := r.at
	other.Chain[0] ^= 1
	a, err := totals.Begin(t.Context(), r.s, "first", totals.First, other, noon)
	if err != nil {
		t.Fatal(err)
	}
	r.save(a, len(a.Batches))
	_, err = totals.Advance(t.Context(), r.s, r.at, noon, func() error { return nil })
	if !errors.Is(err, totals.ErrUnusable) || !strings.Contains(err.Error(), "of another history") {
		t.Errorf("totals of another history: %v", err)
	}
	if why, err := totals.ReasonOf(t.Context(), r.s, err, r.at); err != nil || why != totals.History {
		t.Errorf("the reason to begin is %q (%v), want %q", why, err, totals.History)
	}
	// A log without a bucket.
	r = newRig(t)
	if why, err := totals.ReasonOf(t.Context(), r.s, totals.ErrNone, r.at); err != nil || why != totals.First {
		t.Errorf("the reason to begin is %q (%v), want %q", why, err, totals.First)
	}
}
