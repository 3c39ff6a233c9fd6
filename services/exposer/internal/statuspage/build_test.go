package statuspage

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

const shop = "0123456789abcdef0123456789abcdef"

func zone(state bucketv1.ScopeState, entitlements ...*bucketv1.Entitlement) *bucketv1.ScopeInfo {
	return &bucketv1.ScopeInfo{
		Scope: &bucketv1.Scope{Kind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, Id: shop}, Name: "shop.example", ZoneLabel: "shop.example", AccountId: "a", AccountName: "Retail",
		Plan: "Pro Website", State: state, Entitlements: entitlements,
	}
}

func definition() *bucketv1.DatasetVersion {
	return &bucketv1.DatasetVersion{Dataset: "http_5m", ScopeKind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, SizeSeconds: 300, Delay: durationpb.New(5 * time.Minute)}
}

// healthy is a collector with one zone of which all is final.
func healthy() Input {
	return Input{
		Now: now, Query: Query{Show: "all", Range: "replay", Page: 1}, Exposer: Exposer{Hours: 24, LagSeconds: new(int64)},
		Answer: Answer{
			At: now, Datasets: []*bucketv1.DatasetVersion{definition()},
			Scopes: []*bucketv1.ScopeInfo{zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE, &bucketv1.Entitlement{Dataset: "http_5m", Variant: "full"})},
			Status: &bucketv1.GetStatusResponse{
				Leader: "a", Role: bucketv1.Role_ROLE_STANDBY, Datasets: []*bucketv1.DatasetStatus{{Dataset: "http_5m", ScopesActive: 1, CompleteUntilUnixSeconds: at(0)}},
			},
		},
		Coverage: Coverage{At: now, Response: &bucketv1.GetCoverageResponse{AsOf: timestamppb.New(now), Coverages: []*bucketv1.Coverage{{
			Dataset: "http_5m", Scope: &bucketv1.Scope{Id: shop}, HorizonUnixSeconds: at(24 * 60), Ranges: []*bucketv1.CoverageRange{of(final, 24*60, 0)},
		}}}},
	}
}

func built(t *testing.T, in Input) *Page {
	t.Helper()
	s, err := Select(in.Now, in.Query, in.Exposer, in.Answer, in.Survey.Found)
	if err != nil {
		t.Fatal(err)
	}
	return Build(in, s)
}

// What needs attention is said, and nothing else is.
func TestAttention(t *testing.T) {
	for name, test := range map[string]struct {
		change func(in *Input)
		want   string // codes
	}{
		"healthy":       {func(*Input) {}, ""},
		"never asked":   {func(in *Input) { in.Answer, in.Coverage = Answer{Err: errors.New("away")}, Coverage{} }, "COLLECTOR_AWAY"},
		"away":          {func(in *Input) { in.Answer.Err = errors.New("away") }, "COLLECTOR_AWAY"},
		"away for long": {func(in *Input) { in.Answer.Err, in.Now = errors.New("away"), now.Add(time.Hour) }, "COLLECTOR_AWAY DATASET_UNKNOWN"},
		"no leader":     {func(in *Input) { in.Answer.Status.Leader = "" }, "NO_LEADER"},
		"late":          {func(in *Input) { in.Answer.Status.Datasets[0].CompleteUntilUnixSeconds = at(60) }, "DATASET_LATE"},
		"ahead":         {func(in *Input) { in.Answer.Status.Datasets[0].CompleteUntilUnixSeconds = at(-60) }, "DATASET_UNKNOWN"},
		"no figure":     {func(in *Input) { in.Answer.Status.Datasets[0].CompleteUntilUnixSeconds = 0 }, "DATASET_UNKNOWN"},
		"no definition": {func(in *Input) { in.Answer.Datasets = nil }, "SCOPES DATASET_UNKNOWN"},
		"lost": {func(in *Input) {
			in.Coverage.Response.Coverages[0].Ranges[0].State = bucketv1.CoverageState_COVERAGE_STATE_LOST
		}, "SCOPES"},
		"idle":      {func(in *Input) { in.Answer.Status.Datasets[0].ScopesActive = 0 }, ""},
		"problem":   {func(in *Input) { in.Answer.Status.Problems = []*bucketv1.Problem{{Code: "NO_ZONES"}} }, "PROBLEMS"},
		"stale":     {func(in *Input) { *in.Exposer.LagSeconds = 300 }, "STREAM_STALE"},
		"not ready": {func(in *Input) { in.Exposer.NotReady = "x" }, "NOT_READY"},
		"503":       {func(in *Input) { in.Exposer.Refused, in.Exposer.Counters = "x", "y" }, "METRICS_REFUSED COUNTERS_REFUSED"},
		"unserved": {func(in *Input) {
			last := now.Add(-23 * time.Hour)
			in.Exposer.Datasets = map[string]Replay{"http_5m": {Unserved: 3, UnservedAt: &last}}
		}, "UNSERVED"},
		"unserved long ago": {func(in *Input) {
			last := now.Add(-25 * time.Hour)
			in.Exposer.Datasets = map[string]Replay{"http_5m": {Unserved: 3, UnservedAt: &last}}
		}, ""},
		"no coverage": {func(in *Input) { in.Coverage = Coverage{Err: errors.New("busy")} }, "COVERAGE_UNKNOWN"},
	} {
		in := healthy()
		test.change(&in)
		var codes []string
		for _, a := range built(t, in).Attention {
			codes = append(codes, a.Code)
		}
		if got := strings.Join(codes, " "); got != test.want {
			t.Errorf("%s: attention is %q, want %q", name, got, test.want)
		}
	}
}

// The page of a zone says why it is not collected.
func TestVerdict(t *testing.T) {
	plan := &bucketv1.Entitlement{Dataset: "http_5m", Reason: "plan"}
	full := &bucketv1.Entitlement{Dataset: "http_5m", Variant: "full"}
	for name, test := range map[string]struct {
		scope     *bucketv1.ScopeInfo
		collected bool
		want      string
	}{
		"collected": {zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE, full), true, "Collected: 1 of 1 datasets"},
		"plan":      {zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE, plan), false, "plan (http_5m)"},
		"unread":    {zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE, &bucketv1.Entitlement{Dataset: "http_5m"}), false, "not known yet"},
		"paused":    {zone(bucketv1.ScopeState_SCOPE_STATE_PAUSED, full), false, "paused at Cloudflare"},
		"pending":   {zone(bucketv1.ScopeState_SCOPE_STATE_PENDING, full), false, "name servers"},
		"inactive":  {zone(bucketv1.ScopeState_SCOPE_STATE_INACTIVE, full), false, "moved, deactivated"},
		"excluded":  {zone(bucketv1.ScopeState_SCOPE_STATE_EXCLUDED, full), false, "CF_EXCLUDE_ZONES"},
		"gone":      {zone(bucketv1.ScopeState_SCOPE_STATE_GONE, full), false, "no longer in the list"},
		"new state": {zone(77, full), false, "does not know"},
	} {
		in := healthy()
		in.Query.Zone = "shop.example"
		in.Answer.Scopes = []*bucketv1.ScopeInfo{test.scope}
		p := built(t, in)
		if len(p.Scopes) != 1 || p.Scopes[0].Collected != test.collected || !strings.Contains(p.Scopes[0].Verdict, test.want) {
			t.Errorf("%s: %+v, want %q", name, p.Scopes, test.want)
		}
	}
	in := healthy()
	in.Query.ID = shop
	in.Answer.Status.Problems = []*bucketv1.Problem{{Code: "ZONE_DENIED", About: "shop.example"}, {Code: "ZONE_DENIED", About: "myshop.example"}, {Code: "NO_ZONES"}}
	in.Coverage.Response.Coverages[0].Ranges = []*bucketv1.CoverageRange{of(final, 24*60, 120), tried(of(missing, 120, 0, bucketv1.GapReason_GAP_REASON_UNAUTHORIZED), 4)}
	one := built(t, in).Scopes[0]
	if len(one.Problems) != 1 || !one.Attention || !strings.Contains(one.Verdict, "24 missing: unauthorized") {
		t.Errorf("a denied zone is %+v", one)
	}
	if p := one.Series[0].Pieces; len(p) != 1 || p[0].Attempts != 4 || p[0].Reason != "unauthorized" {
		t.Errorf("its ranges are %+v", p)
	}
}

func TestSelect(t *testing.T) {
	a := Answer{Scopes: []*bucketv1.ScopeInfo{}, Datasets: []*bucketv1.DatasetVersion{definition()}}
	for i := range 50 {
		sc := zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE, &bucketv1.Entitlement{Dataset: "http_5m", Variant: "full"})
		sc.Scope.Id, sc.Name, sc.ZoneLabel = fmt.Sprintf("%032d", i), fmt.Sprintf("zone-%02d.example", i), ""
		if i >= 40 {
			sc.AccountId, sc.AccountName, sc.State = "b", "Another", bucketv1.ScopeState_SCOPE_STATE_PAUSED
		}
		a.Scopes = append(a.Scopes, sc)
	}
	for raw, test := range map[string]struct {
		matches, pages int
		first          string
	}{
		"":                                    {50, 3, "zone-40.example"}, // the account Another comes first
		"page=3":                              {50, 3, "zone-30.example"},
		"q=ZONE-07":                           {1, 1, "zone-07.example"},
		"q=another":                           {10, 1, "zone-40.example"},
		"q=" + strings.Repeat("0", 30) + "12": {1, 1, "zone-12.example"},
		"account=a":                           {40, 2, "zone-00.example"},
		"show=collected":                      {40, 2, "zone-00.example"},
		"show=uncollected":                    {10, 1, "zone-40.example"},
		"show=uncollected&q=zone-0":           {0, 1, ""},
		"dataset=http_5m":                     {50, 3, "zone-40.example"},
	} {
		q, err := Parse(raw, Overview)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Select(now, q, Exposer{Hours: 24}, a, nil)
		first := ""
		if len(s.Scopes) > 0 {
			first = s.Scopes[0].GetName()
		}
		if err != nil || s.Matches != test.matches || s.Pages != test.pages || first != test.first {
			t.Errorf("%q: %d matches on %d pages, first %q (%v); want %+v", raw, s.Matches, s.Pages, first, err, test)
		}
	}
	q, err := Parse("dataset=x", Overview)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Select(now, q, Exposer{Hours: 24}, a, nil); !errors.Is(err, ErrNoPage) {
		t.Errorf("a dataset that does not exist: %v, want ErrNoPage", err)
	}
	for raw, want := range map[string]int{"page=4": 3, "page=1000000": 3, "q=zone-07&page=2": 1, "q=nothing&page=2": 1} {
		q, err := Parse(raw, Overview)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Select(now, q, Exposer{Hours: 24}, a, nil)
		if p := Build(Input{Now: now, Query: q, Answer: a}, s); err != nil || p.Page != want || p.Pages != want || p.PageAsked != q.Page || len(p.Scopes) != s.Matches-(want-1)*PageSize {
			t.Errorf("%q: page %d of %d with %d zones, asked for %d (%v); want the last, %d", raw, p.Page, p.Pages, len(p.Scopes), p.PageAsked, err, want)
		}
	}
}

// strange returns answers that no collector of this release gives.
func strange(random *rand.Rand) Input {
	texts := []string{"", "http_5m", shop, "\x00", "<script>", strings.Repeat("ä", 9000), "COVERAGE", "\xff\xfe", "a.example"}
	text := func() string { return texts[random.IntN(len(texts))] }
	numbers := []int64{0, -1, 1, at(0), at(60), at(24 * 60), at(90 * 24 * 60), at(-600), 1 << 62, -1 << 63, 1<<63 - 1, 253402300800}
	number := func() int64 { return numbers[random.IntN(len(numbers))] + random.Int64N(7)*300 }
	stamp := func() *timestamppb.Timestamp {
		if random.IntN(3) == 0 {
			return nil
		}
		return &timestamppb.Timestamp{Seconds: number(), Nanos: int32(random.IntN(2)) * -5}
	}
	scope := func() *bucketv1.Scope {
		return &bucketv1.Scope{Kind: bucketv1.ScopeKind(random.IntN(5)), Id: text()}
	}
	in := Input{Now: now, Query: Query{Show: "all", Range: []string{"replay", "retention"}[random.IntN(2)], Page: 1}, Exposer: Exposer{Hours: random.IntN(800)}}
	if random.IntN(2) == 0 {
		in.Query.ID = shop
	}
	status := &bucketv1.GetStatusResponse{
		Info: &bucketv1.StoreInfo{Retention: &durationpb.Duration{Seconds: number()}}, Role: bucketv1.Role(random.IntN(5)), Leader: text(), ProgressTime: stamp(),
		Problems: []*bucketv1.Problem{nil, {Code: text(), About: text(), Message: text(), Since: stamp()}},
		Datasets: []*bucketv1.DatasetStatus{{Dataset: text(), CompleteUntilUnixSeconds: number(), NewestEndUnixSeconds: number(), ScopesActive: uint32(random.IntN(2))}, nil},
	}
	in.Answer = Answer{At: now.Add(time.Duration(random.IntN(3)-1) * time.Hour), Status: status, Scopes: []*bucketv1.ScopeInfo{}}
	for range random.IntN(4) {
		in.Answer.Datasets = append(in.Answer.Datasets, &bucketv1.DatasetVersion{
			Dataset: text(), SizeSeconds: []uint32{0, 1, 300, 3600, 86400, 1 << 31}[random.IntN(6)], Delay: &durationpb.Duration{Seconds: number()},
		})
		sc := zone(bucketv1.ScopeState(random.IntN(9)), &bucketv1.Entitlement{Dataset: text(), Variant: text(), Reason: text(), CheckedAt: stamp()}, nil)
		sc.Scope, sc.Name, sc.FirstSeen, sc.StartUnixSeconds, sc.EndUnixSeconds = scope(), text(), stamp(), number(), number()
		in.Answer.Scopes = append(in.Answer.Scopes, sc)
	}
	in.Coverage = Coverage{At: now, Response: &bucketv1.GetCoverageResponse{AsOf: stamp()}}
	for range random.IntN(4) {
		c := &bucketv1.Coverage{Dataset: text(), Scope: scope(), HorizonUnixSeconds: number()}
		for range random.IntN(6) {
			c.Ranges = append(c.Ranges, &bucketv1.CoverageRange{
				State: bucketv1.CoverageState(random.IntN(12)), Reason: bucketv1.GapReason(random.IntN(14)), StartUnixSeconds: number(), EndUnixSeconds: number(),
				Detail: text(), Attempts: random.Uint32(), NextAttempt: stamp(), LostAt: stamp(),
			})
			c.Unserved = append(c.Unserved, &bucketv1.UnservedRange{StartUnixSeconds: number(), EndUnixSeconds: number()})
		}
		in.Coverage.Response.Coverages = append(in.Coverage.Response.Coverages, c)
	}
	return in
}

// Whatever a collector answers, there is a page, its JSON is valid, and a cell is good only if
// a final range touches it.
func FuzzBuild(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		in := strange(rand.New(rand.NewPCG(seed, 1)))
		p := built(t, in)
		if _, err := json.Marshal(p); err != nil {
			t.Fatal(err)
		}
		for _, sc := range p.Scopes {
			for _, s := range sc.Series {
				if len(s.Cells) != p.Range.Cells {
					t.Fatalf("%d cells, want %d", len(s.Cells), p.Range.Cells)
				}
				for i, cell := range s.Cells {
					from := p.Range.Start.Unix() + int64(i)*p.Range.CellSeconds
					if (cell == Final || cell == Late) && !told(in, sc.ID, s.Dataset, from, from+p.Range.CellSeconds) {
						t.Errorf("cell %d of %q is %s, and no final range touches it", i, s.Dataset, cell)
					}
				}
			}
		}
	})
}

// told reports whether a final range of a series touches a time.
func told(in Input, scope, dataset string, from, to int64) bool {
	for _, c := range in.Coverage.Response.GetCoverages() {
		if c.GetDataset() != dataset || c.GetScope().GetId() != scope {
			continue
		}
		for _, r := range c.GetRanges() {
			if r.GetState() == final && r.GetStartUnixSeconds() < to && r.GetEndUnixSeconds() > from {
				return true
			}
		}
	}
	return false
}

// BenchmarkBuild is the model of a page of 20 of 1,000 zones with 20 datasets.
func BenchmarkBuild(b *testing.B) {
	in := healthy()
	in.Answer.Scopes, in.Answer.Datasets = nil, nil
	for d := range 20 {
		def := definition()
		def.Dataset = fmt.Sprintf("dataset%02d_5m", d)
		in.Answer.Datasets = append(in.Answer.Datasets, def)
	}
	for i := range 1000 {
		sc := zone(bucketv1.ScopeState_SCOPE_STATE_ACTIVE)
		sc.Scope.Id, sc.Name = fmt.Sprintf("%032d", i), fmt.Sprintf("zone-%04d.example", i)
		for _, d := range in.Answer.Datasets {
			sc.Entitlements = append(sc.Entitlements, &bucketv1.Entitlement{Dataset: d.Dataset, Variant: "full"})
			if i < PageSize {
				c := &bucketv1.Coverage{Dataset: d.Dataset, Scope: sc.Scope, HorizonUnixSeconds: at(90 * 24 * 60)}
				for h := 90 * 24; h > 0; h -= 2 { // a gap every two hours
					c.Ranges = append(c.Ranges, of(final, 60*h, 60*h-60), of(missing, 60*h-60, 60*h-120))
				}
				in.Coverage.Response.Coverages = append(in.Coverage.Response.Coverages, c)
			}
		}
		in.Answer.Scopes = append(in.Answer.Scopes, sc)
	}
	for _, name := range []string{"replay", "retention"} {
		b.Run(name, func(b *testing.B) {
			in.Query.Range = name
			b.ReportAllocs()
			for b.Loop() {
				s, err := Select(in.Now, in.Query, in.Exposer, in.Answer, in.Survey.Found)
				if err != nil {
					b.Fatal(err)
				}
				Build(in, s)
			}
		})
	}
}
