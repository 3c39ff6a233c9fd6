package backfill

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// various is a store of two datasets that share families of every shape, with values of
// every kind, in buckets of which many lack some family.
func various(t *testing.T) (*store, *recent.State) {
	t.Helper()
	define := func(dataset string, version uint32, size time.Duration) *bucket.Definition {
		d := feedtest.Definition(dataset, version)
		d.Size, d.Families = size, nil
		for width, name := range []string{"a", "b", "c"} {
			for n := range 3 {
				d.Families = append(d.Families, bucket.Family{
					Name: fmt.Sprintf("cloudflare_zone_%s%d", name, n), Help: "Something.", Labels: []string{"x", "y"}[:width], Role: bucket.Breakdown, Additive: n < 2,
				})
			}
		}
		return d
	}
	quarter, five := define("http_15m", 1, 15*time.Minute), define("http_5m", 1, 5*time.Minute)
	r := rand.New(rand.NewPCG(3, 4))
	values := []float64{0, 1, 127, 128, 1e6, 1<<53 - 1, 1 << 53, 1 << 60, 0.5, -1, -0.25, math.Copysign(0, -1), 1e300, math.SmallestNonzeroFloat64}
	s := &store{}
	for _, d := range []*bucket.Definition{quarter, five} {
		for w := range int(45 * time.Minute / d.Size) {
			for zone := range 4 {
				b := feedtest.Bucket(d.Dataset, feedtest.Zone(zone), 0)
				b.Start, b.Size, b.Families = bucket.TimeOf(feedtest.T0).Add(time.Duration(w)*d.Size), d.Size, nil
				if d == five && zone == 1 && w >= 4 {
					b.Zone, b.Variant, b.SampleInterval = "renamed.example", "adaptive", 9.75
				}
				for i := range d.Families {
					f := &d.Families[i]
					rows := bucket.Rows{Family: f.Name}
					for n := range r.IntN(4) {
						if len(f.Labels) == 0 && n > 0 {
							break
						}
						for range f.Labels {
							rows.Labels = append(rows.Labels, fmt.Sprintf("%d-%d", n, r.IntN(3)))
						}
						rows.Values = append(rows.Values, values[r.IntN(len(values))])
					}
					if len(rows.Values) > 0 {
						b.Families = append(b.Families, rows)
					}
				}
				s.buckets = append(s.buckets, b)
			}
		}
	}
	return s, state(t, quarter, five)
}

// within writes with so much memory for families to come.
func within(t *testing.T, most int, w io.Writer, s *store, st *recent.State, query string, passed func(uint64, error)) *Job {
	t.Helper()
	j, err := Prepare(t.Context(), s, st, request(t, st, query))
	if err != nil {
		t.Fatal(err)
	}
	j.most = most
	if err := j.Write(t.Context(), w, clockAt, passed); err != nil {
		t.Fatal(err)
	}
	return j
}

// Whatever the spool has room for, the output is that of one list for each family.
func TestTheSpoolChangesNothing(t *testing.T) {
	for _, query := range []string{"", "step_seconds=900", "step_seconds=1800", "step_seconds=300", "extend_to_now=1&step_seconds=600", "format=text&dataset=http_5m"} {
		s, st := various(t)
		var want bytes.Buffer
		alone := within(t, 0, &want, s, st, query, nil)
		most, lists := s.calls, s.calls
		for _, room := range []int{1 << 10, 4 << 10, 8 << 10, 16 << 10, 1 << 20} {
			s.calls = 0
			var got bytes.Buffer
			j := within(t, room, &got, s, st, query, nil)
			if got.String() != want.String() || j.Incomplete != alone.Incomplete || j.Estimates != alone.Estimates {
				t.Errorf("%q with %d bytes: the output is\n%s\nwant\n%s", query, room, got.String(), want.String())
			}
			if s.calls > most {
				t.Errorf("%q with %d bytes: %d lists, and with less room %d", query, room, s.calls, most)
			}
			most = s.calls
		}
		if most > lists/2 {
			t.Errorf("%q: with room for all there are %d lists, and without any %d", query, most, lists)
		}
	}
}

// One list of a dataset serves all families, if there is room.
func TestOneListServesAllFamilies(t *testing.T) {
	s, st := various(t)
	within(t, mostSpooled, io.Discard, s, st, "", nil)
	if s.calls != 2 {
		t.Errorf("%d lists of two datasets", s.calls)
	}
}

// A spool never holds more than it may, apart from one piece of a tape.
func TestTheSpoolIsBounded(t *testing.T) {
	const most = 400 << 10
	s := spool{most: most, held: map[stretch]*held{}}
	families := map[string]int{}
	for i := range 20 {
		families[fmt.Sprint("family", i)] = i + 1
	}
	of := stretch{dataset: "http_5m"}
	h := s.open(of, families)
	b := feedtest.Bucket("http_5m", feedtest.Zone(0), 0)
	b.Families = nil
	for name := range families {
		b.Families = append(b.Families, bucket.Rows{Family: name, Labels: []string{"x"}, Values: []float64{math.Pi}})
	}
	for n := range 2000 {
		b.Families[0].Labels = []string{fmt.Sprint(n)}
		b.Zone = fmt.Sprint("zone", n%100)
		s.add(h, b, bucket.Revision(n), nil)
		if s.used > most {
			t.Fatalf("%d bytes after %d buckets", s.used, n)
		}
	}
	if n := len(h.columns); n == 0 || n == len(families) {
		t.Fatalf("%d families of %d are left", n, len(families))
	}
	// What is left is what is needed first.
	for n := range len(h.columns) {
		name := fmt.Sprint("family", n)
		r := s.take(of, name)
		if r == nil {
			t.Fatalf("%s was dropped before one that is needed later", name)
		}
		buckets := 0
		for _, _, err := r.next(); err == nil; _, _, err = r.next() {
			buckets++
		}
		if buckets != 2000 {
			t.Errorf("%s has %d buckets", name, buckets)
		}
	}
	if s.used != 0 {
		t.Errorf("%d bytes are counted when nothing is held", s.used)
	}
}

// A family whose rows cannot be read costs the other families of its bucket nothing, and
// is told of once, in one list as in many and across cuts.
func TestAFamilyThatCannotBeReadIsPassed(t *testing.T) {
	const family = "cloudflare_zone_b0"
	others := func(body string) (lines string) {
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, family) {
				lines += line
			}
		}
		return lines
	}
	for _, query := range []string{"dataset=http_5m", "dataset=http_5m&step_seconds=900"} {
		s, st := various(t)
		var whole bytes.Buffer
		within(t, 0, &whole, s, st, query, nil)
		spoiled := slices.IndexFunc(s.buckets, func(b *bucket.Bucket) bool {
			return b.Dataset == "http_5m" && slices.ContainsFunc(b.Families, func(r bucket.Rows) bool { return r.Family == family })
		}) + 1
		s.spoil = func(n int, e *bucketv1.Entry) {
			for _, f := range e.GetBucket().GetFamilies() {
				if n == spoiled && f.GetFamily() == family {
					f.Values = append(f.Values[:len(f.Values):len(f.Values)], math.NaN())
				}
			}
		}
		var want bytes.Buffer
		alone := within(t, 0, &want, s, st, query, nil)
		if others(whole.String()) != others(want.String()) || whole.String() == want.String() {
			t.Errorf("%s: the output is\n%s\nwant some rows of %s less than\n%s", query, want.String(), family, whole.String())
		}
		for _, room := range []int{4 << 10, 1 << 20} {
			for cut := range 3 {
				s.cut, s.err = 5*cut, status.Error(codes.Unavailable, "cut")
				synctest.Test(t, func(t *testing.T) {
					var got bytes.Buffer
					told := map[uint64]int{}
					j := within(t, room, &got, s, st, query, func(revision uint64, _ error) { told[revision]++ })
					if got.String() != want.String() || j.Incomplete != alone.Incomplete {
						t.Errorf("%s, %d bytes, cut %d: the output is\n%s\nwant\n%s", query, room, cut, got.String(), want.String())
					}
					if len(told) != 1 || told[uint64(spoiled)] != 1 {
						t.Errorf("%s, %d bytes, cut %d: told of %v, want %d once", query, room, cut, told, spoiled)
					}
				})
			}
			s.cut = 0
		}
	}
}
