package backfill

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// quarters is a store with three steps of 15 minutes of one zone, of which the
// middle one was treated.
func quarters(t *testing.T, treat func(middle []*bucket.Bucket) []*bucket.Bucket) (*store, *recent.State) {
	t.Helper()
	second := feedtest.Definition("http_5m", 2)
	second.Families = second.Families[:1] // the breakdown is gone
	s := &store{}
	var middle []*bucket.Bucket
	for n := range 9 {
		b := feedtest.Bucket("http_5m", feedtest.Zone(0), n)
		if n >= 3 && n < 6 {
			middle = append(middle, b)
			if len(middle) == 3 {
				s.buckets = append(s.buckets, treat(middle)...)
			}
			continue
		}
		s.buckets = append(s.buckets, b)
	}
	return s, state(t, feedtest.Definition("http_5m", 1), second)
}

// A sum is written only of a whole step: what a bucket that is missing would have
// added is not known, and a low number would look like low traffic.
func TestSums(t *testing.T) {
	const total, breakdown = "cloudflare_zone_http_5m_requests", "cloudflare_zone_http_5m_requests_by_status"
	drop := func(family string) func(*bucket.Bucket) {
		return func(b *bucket.Bucket) {
			for i := range b.Families {
				if b.Families[i].Family == family {
					b.Families = append(b.Families[:i:i], b.Families[i+1:]...)
					return
				}
			}
		}
	}
	for name, tc := range map[string]struct {
		treat                 func(b []*bucket.Bucket) []*bucket.Bucket
		family                string
		want                  string // the middle step's lines
		incomplete, estimates int
	}{
		"whole":           {nil, total, `{zone="zone-a000.example",account="Example"} 12144 1772324999.999`, 0, 0},
		"one is missing":  {func(b []*bucket.Bucket) []*bucket.Bucket { return b[1:] }, total, "", 1, 0},
		"all are missing": {func([]*bucket.Bucket) []*bucket.Bucket { return nil }, total, "", 0, 0}, // the coverage has it
		"renamed": {
			func(b []*bucket.Bucket) []*bucket.Bucket { b[2].Zone = "new.example"; return b }, total,
			`{zone="new.example",account="Example"} 12144 1772324999.999`, 0, 0,
		},
		"estimate": {
			func(b []*bucket.Bucket) []*bucket.Bucket { b[1].SampleInterval = 10; return b }, total,
			`{zone="zone-a000.example",account="Example"} 12144 1772324999.999`, 0, 1,
		},
		"a total that its variant does not know": {func(b []*bucket.Bucket) []*bucket.Bucket { drop(total)(b[1]); return b }, total, "", 1, 0},
		"a breakdown without rows is nothing": {
			func(b []*bucket.Bucket) []*bucket.Bucket { drop(breakdown)(b[1]); return b }, breakdown,
			`{zone="zone-a000.example",account="Example",status="2xx"} 8094 1772324999.999` + "\n" +
				`{zone="zone-a000.example",account="Example",status="4xx"} 2 1772324999.999`, 0, 0,
		},
		"a breakdown without rows in any": {func(b []*bucket.Bucket) []*bucket.Bucket {
			for _, b := range b {
				drop(breakdown)(b)
			}
			return b
		}, breakdown, "", 0, 0},
		"a breakdown that another variant may not know": {func(b []*bucket.Bucket) []*bucket.Bucket {
			drop(breakdown)(b[1])
			b[1].Variant = "adaptive"
			return b
		}, breakdown, "", 1, 0},
		"another value of the label": {
			func(b []*bucket.Bucket) []*bucket.Bucket { b[1].Families[1].Labels = []string{"1xx", "5xx"}; return b }, breakdown,
			`{zone="zone-a000.example",account="Example",status="1xx"} 4047 1772324999.999` + "\n" +
				`{zone="zone-a000.example",account="Example",status="2xx"} 8094 1772324999.999` + "\n" +
				`{zone="zone-a000.example",account="Example",status="4xx"} 2 1772324999.999` + "\n" +
				`{zone="zone-a000.example",account="Example",status="5xx"} 1 1772324999.999`, 0, 0,
		},
		"a version without the family": {func(b []*bucket.Bucket) []*bucket.Bucket {
			drop(breakdown)(b[2])
			b[2].Version = 2
			return b
		}, breakdown, "", 1, 0},
		"no number": {func(b []*bucket.Bucket) []*bucket.Bucket {
			b[0].Families[0].Values[0], b[1].Families[0].Values[0] = math.MaxFloat64, math.MaxFloat64
			return b
		}, total, "", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.treat == nil {
				tc.treat = func(b []*bucket.Bucket) []*bucket.Bucket { return b }
			}
			s, st := quarters(t, tc.treat)
			j, err := Prepare(t.Context(), s, st, request(t, st, "step_seconds=900&family="+tc.family))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := j.Write(t.Context(), &out, clockAt, nil); err != nil {
				t.Fatal(err)
			}
			body := out.String()
			var middle []string
			for line := range strings.Lines(body) {
				if of, ok := strings.CutPrefix(strings.TrimSpace(line), tc.family+"_summed"); ok && strings.HasSuffix(of, " 1772324999.999") {
					middle = append(middle, of)
				}
			}
			if diff := cmp.Diff(tc.want, strings.Join(middle, "\n")); diff != "" {
				t.Errorf("the middle step (-want +got):\n%s", diff)
			}
			for _, other := range []string{"1772324099.999", "1772325899.999"} {
				if !strings.Contains(body, other) {
					t.Errorf("the step before or after is not there:\n%s", body)
				}
			}
			if j.Incomplete != tc.incomplete || j.Estimates != tc.estimates {
				t.Errorf("%d incomplete and %d estimates, want %d and %d", j.Incomplete, j.Estimates, tc.incomplete, tc.estimates)
			}
			if told := strings.Contains(body, "left out: 1 sum of steps of which a bucket is missing, in [2026-03-01T00:15:00Z, 2026-03-01T00:30:00Z)"); told != (tc.incomplete > 0) {
				t.Errorf("the file says what it lacks: %t\n%s", told, body)
			}
			if told := strings.Contains(body, "estimates: 1 of 3 sums hold a bucket that Cloudflare answered from a sample"); told != (tc.estimates > 0) {
				t.Errorf("the file says what is an estimate: %t\n%s", told, body)
			}
		})
	}
}

// A step that reaches across an end of the range is left out, and samples carry
// the instant that a bucket of the step's length would have.
func TestStepsLieWhollyInside(t *testing.T) {
	s, st := quarters(t, func(b []*bucket.Bucket) []*bucket.Bucket { return b })
	for stamp, want := range map[sample.Stamp]string{sample.End: " 12144 1772324999.999\n", sample.Start: " 12144 1772324100.000\n"} {
		st.Store.Stamp = stamp
		r := request(t, st, "step_seconds=900&family=cloudflare_zone_http_5m_requests&start=2026-03-01T00:05:00Z&end=2026-03-01T00:40:00Z")
		var out bytes.Buffer
		if err := Write(t.Context(), &out, s, st, r, clockAt, nil); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "_summed{"); n != 1 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: want one sample with %q:\n%s", stamp, want, out.String())
		}
	}
}

// A sum that would need too much memory is refused, not written in part.
func TestSumsAreBounded(t *testing.T) {
	s, st := quarters(t, func(b []*bucket.Bucket) []*bucket.Bucket { return b })
	rows := &s.buckets[0].Families[1]
	rows.Labels, rows.Values = nil, nil
	for n := range mostRows + 1 {
		rows.Labels, rows.Values = append(rows.Labels, fmt.Sprintf("%07d", n)), append(rows.Values, 1)
	}
	var out bytes.Buffer
	err := Write(t.Context(), &out, s, st, request(t, st, "step_seconds=900&family=cloudflare_zone_http_5m_requests_by_status"), clockAt, nil)
	var refused *ParamError
	if !errors.As(err, &refused) || refused.Name != "step_seconds" || !strings.Contains(err.Error(), "combined with zone") {
		t.Errorf("error is %v", err)
	}
}

func span(state bucketv1.CoverageState, reason bucketv1.GapReason, from, to int) *bucketv1.CoverageRange {
	at := func(n int) int64 { return feedtest.T0.Unix() + int64(n)*300 }
	return &bucketv1.CoverageRange{State: state, Reason: reason, StartUnixSeconds: at(from), EndUnixSeconds: at(to)}
}

// A file says at its start what it lacks.
func TestCoverageIsTold(t *testing.T) {
	const (
		final   = bucketv1.CoverageState_COVERAGE_STATE_FINAL
		missing = bucketv1.CoverageState_COVERAGE_STATE_MISSING
		lost    = bucketv1.CoverageState_COVERAGE_STATE_LOST
		refused = bucketv1.CoverageState_COVERAGE_STATE_REFUSED
		none    = bucketv1.GapReason_GAP_REASON_UNSPECIFIED
	)
	s, st := quarters(t, func(b []*bucket.Bucket) []*bucket.Bucket { return b })
	of := func(n int, ranges ...*bucketv1.CoverageRange) *bucketv1.Coverage {
		return &bucketv1.Coverage{Dataset: "http_5m", Scope: wire.ProtoScope(feedtest.Zone(n)), Ranges: ranges}
	}
	outage := func() *bucketv1.CoverageRange {
		return span(missing, bucketv1.GapReason_GAP_REASON_UPSTREAM_ERROR, 3, 5)
	}
	s.coverage = []*bucketv1.Coverage{
		of(0, span(final, none, 0, 3), outage(), span(final, none, 5, 9)),
		of(1, span(final, none, 0, 3), outage(), span(final, none, 5, 9)),
		of(2, span(final, none, 0, 1), span(lost, bucketv1.GapReason_GAP_REASON_NOT_VISIBLE, 1, 3), outage(), span(final, none, 5, 9)),
		of(3, outage(), span(final, none, 5, 9)), // wanted from window 3 on
		of(4, span(refused, none, 0, 9)),
		of(5), // nothing
	}
	j, err := Prepare(t.Context(), s, st, request(t, st, "start=2026-03-01T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"weir backfill of [2026-03-01T00:00:00Z, 2026-03-01T00:55:00Z): windows that lie wholly inside",
		"coverage of http_5m: 23 of 33 windows of 5m from 2026-03-01T00:00:00Z to 2026-03-01T00:45:00Z, of 5 scopes; 1 of them were not wanted from the beginning of the range; to 1 of them Cloudflare refuses some or all",
		"lacks of http_5m: [2026-03-01T00:05:00Z, 2026-03-01T00:15:00Z) of zone-a002.example: lost (not_visible)",
		"lacks of http_5m: [2026-03-01T00:15:00Z, 2026-03-01T00:25:00Z) of zone-a000.example, zone-a001.example, zone-a002.example, 1 more: missing (upstream_error)",
	}
	if diff := cmp.Diff(want, j.notes()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if !j.Coverage.Known || j.Coverage.Lacking != 10 {
		t.Errorf("known %t, %d lacking, want 10", j.Coverage.Known, j.Coverage.Lacking)
	}
	var out bytes.Buffer
	if err := j.Write(t.Context(), &out, clockAt, nil); err != nil || !strings.HasPrefix(out.String(), "# HELP weir_note_1 "+want[0]+"\n# HELP weir_note_2 "+want[1]+"\n") {
		t.Errorf("%v, the file begins %.500s", err, out.String())
	}

	// What the output would not have anyway is not asked for.
	hourly := feedtest.Definition("uniques_1h", 1)
	hourly.Size = time.Hour
	two := state(t, feedtest.Definition("http_5m", 1), hourly)
	j, err = Prepare(t.Context(), s, two, request(t, two, "family=cloudflare_zone_uniques_1h_requests"))
	if err != nil || j.Coverage.Lacking != 0 || strings.Contains(strings.Join(j.notes(), "\n"), "http_5m") {
		t.Errorf("%v, %d lacking, %q", err, j.Coverage.Lacking, j.notes())
	}

	// A window across an end of the range is not in the output, so it is not counted.
	j, err = Prepare(t.Context(), s, st, request(t, st, "start=2026-03-01T00:07:00Z&end=2026-03-01T00:18:00Z"))
	if err != nil || j.Coverage.Lacking != 1 {
		t.Errorf("%v, %d lacking, want 1", err, j.Coverage.Lacking)
	}

	s.coverage = nil
	for n := range mostGaps + 5 {
		s.coverage = append(s.coverage, of(0, span(lost, none, n, n+1)))
	}
	j, err = Prepare(t.Context(), s, st, request(t, st, "start=2026-02-28T22:00:00Z"))
	if got := j.notes(); err != nil || len(got) > mostGaps+3 {
		t.Errorf("%v, %d notes", err, len(got))
	}

	// That the collector cannot say is said, and costs nothing else.
	s.noCoverage = status.Error(codes.Internal, "bug 12")
	j, err = Prepare(t.Context(), s, st, request(t, st, ""))
	if err != nil || j.Coverage.Known || !strings.Contains(strings.Join(j.notes(), "\n"), "coverage of http_5m: not known, the collector did not say (Internal)") {
		t.Errorf("%v: known %t, %q", err, j.Coverage.Known, j.notes())
	}
}

// Whatever comes, a sum of rows is that of the plain way.
func TestPlus(t *testing.T) {
	for n := range 200 {
		a, b := bucket.Rows{Family: "f"}, bucket.Rows{Family: "f"}
		want := map[string]float64{}
		for i := range 8 {
			for bit, r := range []*bucket.Rows{&a, &b} {
				if (n*2654435761>>(2*i+bit))&1 == 1 {
					label := fmt.Sprint(i)
					r.Labels, r.Values = append(r.Labels, label, "x"), append(r.Values, float64(i+10*bit))
					want[label] += float64(i + 10*bit)
				}
			}
		}
		got := plus(&a, &b)
		if len(b.Values) == 0 { // families without rows are absent
			continue
		}
		if err := got.Validate(); err != nil || len(got.Values) != len(want) {
			t.Fatalf("%v + %v = %v: %v", a, b, got, err)
		}
		for i, v := range got.Values {
			if want[got.Labels[2*i]] != v {
				t.Fatalf("%v + %v = %v", a, b, got)
			}
		}
	}
}
