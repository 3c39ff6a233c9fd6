package coverage_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const noon = bucket.Time(1_795_262_400) // 2026-11-21T12:00:00Z

var zone = bucket.Scope{Kind: bucket.Zone, ID: "0000000000000000000000000000000a"}

// A new bucket size begins where both sizes have a border and the old one ended.
func TestNoWindowIsCoveredAtTwoSizes(t *testing.T) {
	c, err := catalogue.Load(nil, catalogue.Options{HTTPSize: time.Hour, Enable: []string{"countries_30m"}, Disable: []string{"uniques_1d"}})
	if err != nil {
		t.Fatal(err)
	}
	hour := bucket.Window{Start: noon, End: noon.Add(time.Hour)}
	b := coverage.New([]store.Run{
		{Dataset: "http_5m", Scope: zone, Window: bucket.Window{Start: noon, End: noon.Add(25 * time.Minute)}},
		{Dataset: "countries_1h", Scope: zone, Window: hour},
		{Dataset: "uniques_1d", Scope: zone, Window: bucket.Window{Start: noon, End: noon.Add(24 * time.Hour)}}, // of other families than those of the hour
		{Dataset: "uniques_1h", Scope: zone, Window: hour},
	}, c.Datasets)
	for dataset, want := range map[string]bucket.Time{"http_1h": hour.End, "countries_30m": hour.End, "uniques_1h": 0, "content_types_1h": 0} {
		if got := b.Terms().Begin(dataset, zone); got != want {
			t.Errorf("%s begins at %s, want %s", dataset, got, want)
		}
	}
	if uniques := b.Final[ledger.Series{Dataset: "uniques_1h", Scope: zone}]; !uniques.Contains(hour) {
		t.Errorf("coverage is lost: %v", b.Final)
	}
}

// Decisions and absences close windows; they do not make them final.
func TestClosedLeavesWhatIsFinalAlone(t *testing.T) {
	of := ledger.Series{Dataset: "http_5m", Scope: zone}
	b := coverage.New(nil, nil)
	b.Final[of] = bucket.Spans{{Start: 0, End: 300}, {Start: 600, End: 900}}
	b.Decided[of] = &ledger.Decision{Spans: []ledger.Decided{{Window: bucket.Window{Start: 300, End: 600}}}}
	before := slices.Clone(b.Final[of])
	closed := b.Closed(dataset(), &roster.Scope{Scope: zone})
	if !closed.Contains(bucket.Window{Start: 0, End: 900}) {
		t.Errorf("closed is %v, want everything from 0 to 900", closed)
	}
	if !slices.Equal(b.Final[of], before) {
		t.Errorf("what is final became %v, was %v", b.Final[of], before)
	}
}

func dataset() *catalogue.Dataset {
	d := &catalogue.Dataset{}
	d.Dataset, d.Size = "http_5m", 5*time.Minute
	return d
}

// Whatever is stored, each window has one state, and all that is told of a claim
// is of the same picture: what is missing in the ranges are the holes, and nothing
// is missing before the time that it is complete until.
func TestOnePicture(t *testing.T) {
	const windows = 40
	d := dataset()
	of := ledger.Series{Dataset: d.Dataset, Scope: zone}
	at := func(i int) bucket.Time { return noon.Add(time.Duration(i) * d.Size) }
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		drawn := func() bucket.Window { // of up to six windows, some beyond the claim
			from := rng.IntN(windows + 10)
			return bucket.Window{Start: at(from - 5), End: at(from - 5 + 1 + rng.IntN(6))}
		}
		b := coverage.New(nil, nil)
		for range rng.IntN(8) {
			b.Final[of] = b.Final[of].Add(drawn())
		}
		for range rng.IntN(3) {
			b.Unreadable[of] = b.Unreadable[of].Add(drawn())
		}
		decided := &ledger.Decision{Dataset: of.Dataset, Scope: zone}
		for i := 0; i < windows && rng.IntN(2) == 0; i += 10 {
			decided.Spans = append(decided.Spans, ledger.Decided{Window: bucket.Window{Start: at(i), End: at(i + 1 + rng.IntN(3))}, Accepted: rng.IntN(2) == 0})
		}
		b.Decided[of] = decided
		var gaps []ledger.Gap
		for i := rng.IntN(5); i < windows; i += 1 + rng.IntN(12) {
			g := ledger.Gap{Dataset: of.Dataset, Scope: zone, Window: bucket.Window{Start: at(i), End: at(i + 1)}, Reason: ledger.Suspect}
			if rng.IntN(2) == 0 {
				g.WaitsUntil = at(windows + rng.IntN(4) - 1) // some should have been believed by now
			}
			gaps = append(gaps, g)
		}
		b.SetGaps(gaps)
		now := at(windows + 1)
		claim := roster.Claim{
			Dataset: d, Scope: &roster.Scope{Scope: zone, State: roster.Active}, Variant: &catalogue.Variant{},
			Window: bucket.Window{Start: at(3), End: at(windows)}, Wanted: at(rng.IntN(4)),
		}
		if rng.IntN(3) == 0 {
			claim.Scope.Away = []roster.Away{{Window: bucket.Window{Start: at(20) + 7, End: at(22) + 9}, State: roster.Paused}}
		}
		if rng.IntN(10) == 0 {
			claim.Variant, claim.Refused = nil, "plan"
		}
		view := b.View(claim, now)
		asked := bucket.Window{Start: claim.Wanted, End: claim.Window.End}
		end, missing, count := asked.Start, bucket.Spans{}, coverage.Count{}
		for _, r := range view.Ranges(asked) {
			if r.Start != end || r.Empty() || r.Start.Floor(d.Size) != r.Start {
				t.Fatalf("seed %d: range %s %s follows what ends at %s", seed, r.Window, r.State, end)
			}
			end = r.End
			count[r.State] += uint64(r.Len() / d.Size)
			if r.State == coverage.Missing {
				missing = missing.Add(r.Window)
			}
		}
		if end != asked.End {
			t.Fatalf("seed %d: the ranges end at %s, want %s", seed, end, asked.End)
		}
		if got := view.Count(); got != count {
			t.Fatalf("seed %d: counts are %v, the ranges have %v", seed, got, count)
		}
		if claim.Variant == nil {
			if count[coverage.Missing]+count[coverage.Waiting] != 0 {
				t.Fatalf("seed %d: windows of a refused dataset are missing: %v", seed, count)
			}
			continue
		}
		holes := view.Holes()
		if got := missing.Within(claim.Window); !slices.Equal(got, holes) {
			t.Fatalf("seed %d: missing ranges are %v, holes %v", seed, got, holes)
		}
		until := view.CompleteUntil()
		if len(holes) == 0 && until != claim.Window.End || len(holes) > 0 && until != holes[0].Start {
			t.Fatalf("seed %d: complete until %s, holes %v", seed, until, holes)
		}
	}
}
