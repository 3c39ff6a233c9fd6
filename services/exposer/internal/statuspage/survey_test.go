package statuspage

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

func surveyed(in Input) *Found {
	f := NewFound(in.Answer, RangeOf(in.Now, in.Query, in.Exposer, in.Answer), in.Now)
	f.Add(in.Coverage.Response)
	f.End()
	return f
}

// Whatever a collector answers, the survey finds the states that the rows of a page show.
func TestSurveyAgreesWithThePage(t *testing.T) {
	compared := 0
	for seed := range uint64(2000) {
		in := strange(rand.New(rand.NewPCG(seed, 2)))
		in.Query.ID = ""
		if twice(in) {
			continue // of two that bear one id either may be shown
		}
		found := surveyed(in)
		infos := map[string]*bucketv1.ScopeInfo{}
		for _, sc := range in.Answer.Scopes {
			infos[sc.GetScope().GetId()] = sc
		}
		for _, sc := range built(t, in).Scopes {
			got, absent := found.in(infos[sc.ID], "")
			var want states
			windows := 0
			for _, s := range sc.Series {
				for state := range s.Windows {
					want |= setOf(state)
				}
				windows += int(s.Windows[Missing] + s.Windows[Lost])
			}
			if counted := setOf(shown...); got&counted != want&counted || windows < 1<<20 && absent != windows {
				t.Errorf("seed %d: the survey finds %b and %d windows of %q, the page shows %b and %d", seed, got&counted, absent, sc.ID, want&counted, windows)
			}
			compared++
		}
	}
	if compared < 500 {
		t.Errorf("only %d zones were compared", compared)
	}
}

// twice reports whether two scopes, definitions, entitlements or coverages are about the same.
func twice(in Input) bool {
	seen := map[string]bool{}
	again := func(key string) bool {
		was := seen[key]
		seen[key] = true
		return was
	}
	for _, sc := range in.Answer.Scopes {
		if again("scope " + sc.GetScope().GetId()) {
			return true
		}
	}
	for _, d := range in.Answer.Datasets {
		if again("dataset " + d.GetDataset()) {
			return true
		}
	}
	return slices.ContainsFunc(in.Coverage.Response.GetCoverages(), func(c *bucketv1.Coverage) bool {
		return again(fmt.Sprintf("coverage %q %q", c.GetScope().GetId(), c.GetDataset()))
	})
}

// A zone that appeared after the survey is not taken for a healthy one.
func TestSurveyOfBefore(t *testing.T) {
	in := healthy()
	found := surveyed(in)
	later := zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE, &bucketv1.Entitlement{Dataset: "http_5m", Variant: "full"})
	later.Scope.Id, later.Name = "later", "later.example"
	in.Answer.Scopes = append(in.Answer.Scopes, later)
	s, err := Select(in.Now, Query{Show: "problems", Range: "replay", Page: 1}, in.Exposer, in.Answer, found)
	if err != nil || len(s.Scopes) != 1 || s.Scopes[0] != later || s.ByState["unknown"] != 1 || s.ByState["none"] != 1 {
		t.Errorf("the problems are %v, by state %v (%v); want the zone of which nothing is known", s.Scopes, s.ByState, err)
	}
}

// large is 1,000 zones with 45 datasets, those of the profile all that are about zones, of which
// each lacks an hour.
func large() Input {
	in := healthy()
	in.Answer.Scopes, in.Answer.Datasets = nil, nil
	for d := range 45 {
		def := definition()
		def.Dataset = fmt.Sprintf("dataset%02d_5m", d)
		in.Answer.Datasets = append(in.Answer.Datasets, def)
	}
	in.Coverage.Response = &bucketv1.GetCoverageResponse{AsOf: timestamppb.New(now)}
	for i := range 1000 {
		sc := zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE)
		sc.Scope.Id, sc.Name = fmt.Sprintf("%032d", i), fmt.Sprintf("zone-%04d.example", i)
		for _, d := range in.Answer.Datasets {
			sc.Entitlements = append(sc.Entitlements, &bucketv1.Entitlement{Dataset: d.GetDataset(), Variant: "full"})
			in.Coverage.Response.Coverages = append(in.Coverage.Response.Coverages, &bucketv1.Coverage{
				// As from a message: strings of its own.
				Dataset: string([]byte(d.GetDataset())), Scope: &bucketv1.Scope{Id: string([]byte(sc.GetScope().GetId()))}, HorizonUnixSeconds: at(24 * 60),
				Ranges: []*bucketv1.CoverageRange{of(final, 24*60, 120), of(missing, 120, 60), of(final, 60, 0)},
			})
		}
		in.Answer.Scopes = append(in.Answer.Scopes, sc)
	}
	return in
}

// What is kept of a survey is small, and nothing of the answer.
func TestSurveyIsSmall(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	in := large()
	answer := in.Coverage.Response
	in.Coverage.Response = nil
	withAnswer := heap()
	found := NewFound(in.Answer, RangeOf(in.Now, in.Query, in.Exposer, in.Answer), in.Now)
	found.Add(answer)
	found.End()
	withBoth := heap()
	runtime.KeepAlive(answer) // and no longer
	without := heap()
	if kept, message := int64(withBoth-withAnswer), int64(withBoth-without); kept > 3<<20 || message < 5*kept {
		t.Errorf("a survey of 45,000 series keeps %d bytes, and frees %d of the answer", kept, message)
	}
	runtime.KeepAlive(found)
	runtime.KeepAlive(in)
	if _, absent := found.in(in.Answer.Scopes[999], ""); absent != 45*12 {
		t.Errorf("%d windows of a zone are missing, want 12 of each dataset", absent)
	}
}

// BenchmarkSurvey is that of 1,000 zones with 45 datasets, without the question, and the choice
// of a page with it.
func BenchmarkSurvey(b *testing.B) {
	in := large()
	b.Run("make", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			surveyed(in)
		}
	})
	found := surveyed(in)
	in.Query.Show = "problems"
	b.Run("choose", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if s, err := Select(in.Now, in.Query, in.Exposer, in.Answer, found); err != nil || s.Matches != 1000 {
				b.Fatal(s.Matches, err)
			}
		}
	})
}
