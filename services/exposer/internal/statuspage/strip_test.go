package statuspage

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// now is not at the border of any cell.
var now = time.Date(2026, 11, 29, 10, 7, 0, 0, time.UTC)

const (
	final   = bucketv1.CoverageState_COVERAGE_STATE_FINAL
	missing = bucketv1.CoverageState_COVERAGE_STATE_MISSING
)

// at is so many minutes before ten o'clock.
func at(minutes int) int64 {
	return time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC).Add(-time.Duration(minutes) * time.Minute).Unix()
}

func of(s bucketv1.CoverageState, from, to int, reason ...bucketv1.GapReason) *bucketv1.CoverageRange {
	r := &bucketv1.CoverageRange{State: s, StartUnixSeconds: at(from), EndUnixSeconds: at(to)}
	if len(reason) > 0 {
		r.Reason = reason[0]
	}
	return r
}

func tried(r *bucketv1.CoverageRange, attempts uint32) *bucketv1.CoverageRange {
	r.Attempts = attempts
	return r
}

// The strip of four hours of buckets of five minutes: 07:00 to 11:00, in cells of an hour. What
// is due by 10:07 with a delay of five minutes ends at 10:00.
func TestCells(t *testing.T) {
	whole := []*bucketv1.CoverageRange{of(final, 180, 0)}
	for name, test := range map[string]struct {
		ranges   []*bucketv1.CoverageRange
		unserved []*bucketv1.UnservedRange
		horizon  int // minutes before ten
		ended    int // minutes before ten; 0: not
		mark     State
		want     []State
	}{
		"final":                   {ranges: whole, want: []State{Final, Final, Final, NotDue}},
		"missing":                 {ranges: []*bucketv1.CoverageRange{of(final, 180, 65), of(missing, 65, 60, bucketv1.GapReason_GAP_REASON_UNAUTHORIZED), of(final, 60, 0)}, want: []State{Final, Missing, Final, NotDue}},
		"being read":              {ranges: []*bucketv1.CoverageRange{of(final, 180, 5), of(missing, 5, 0, bucketv1.GapReason_GAP_REASON_PENDING)}, want: []State{Final, Final, Due, NotDue}},
		"pending for long":        {ranges: []*bucketv1.CoverageRange{of(final, 180, 70), of(missing, 70, 0, bucketv1.GapReason_GAP_REASON_PENDING)}, want: []State{Final, Missing, Missing, NotDue}},
		"pending and failed":      {ranges: []*bucketv1.CoverageRange{of(final, 180, 5), tried(of(missing, 5, 0, bucketv1.GapReason_GAP_REASON_PENDING), 2)}, want: []State{Final, Final, Missing, NotDue}},
		"waiting":                 {ranges: []*bucketv1.CoverageRange{of(bucketv1.CoverageState_COVERAGE_STATE_WAITING, 180, 0, bucketv1.GapReason_GAP_REASON_SUSPECT)}, want: []State{Waiting, Waiting, Waiting, NotDue}},
		"refused":                 {ranges: []*bucketv1.CoverageRange{of(bucketv1.CoverageState_COVERAGE_STATE_REFUSED, 180, 0)}, want: []State{Refused, Refused, Refused, NotDue}},
		"lost":                    {ranges: []*bucketv1.CoverageRange{of(bucketv1.CoverageState_COVERAGE_STATE_LOST, 180, 120), of(final, 120, 0)}, want: []State{Lost, Final, Final, NotDue}},
		"accepted":                {ranges: []*bucketv1.CoverageRange{of(bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED, 180, 120), of(final, 120, 0)}, want: []State{Accepted, Final, Final, NotDue}},
		"unreadable":              {ranges: []*bucketv1.CoverageRange{of(final, 180, 10), of(bucketv1.CoverageState_COVERAGE_STATE_UNREADABLE, 10, 5), of(final, 5, 0)}, want: []State{Final, Final, Unreadable, NotDue}},
		"stored late":             {ranges: whole, unserved: []*bucketv1.UnservedRange{{StartUnixSeconds: at(120), EndUnixSeconds: at(115)}}, mark: Late, want: []State{Final, Late, Final, NotDue}},
		"never shown":             {ranges: whole, unserved: []*bucketv1.UnservedRange{{StartUnixSeconds: at(120), EndUnixSeconds: at(115)}}, mark: Unserved, want: []State{Final, Unserved, Final, NotDue}},
		"a new zone":              {ranges: []*bucketv1.CoverageRange{of(final, 60, 0)}, horizon: 60, want: []State{NotWanted, NotWanted, Final, NotDue}},
		"lost before the horizon": {ranges: []*bucketv1.CoverageRange{of(bucketv1.CoverageState_COVERAGE_STATE_LOST, 120, 60), of(final, 60, 0)}, horizon: 60, want: []State{NotWanted, Lost, Final, NotDue}},
		"gone":                    {ranges: []*bucketv1.CoverageRange{of(final, 180, 60)}, ended: 60, want: []State{Final, Final, NotWanted, NotWanted}},

		"no answer":    {want: []State{Unknown, Unknown, Unknown, NotDue}},
		"no range":     {ranges: []*bucketv1.CoverageRange{}, want: []State{Unknown, Unknown, Unknown, NotDue}},
		"a hole":       {ranges: []*bucketv1.CoverageRange{of(final, 180, 120), of(final, 60, 0)}, want: []State{Final, Unknown, Final, NotDue}},
		"ends early":   {ranges: []*bucketv1.CoverageRange{of(final, 180, 60)}, want: []State{Final, Final, Unknown, NotDue}},
		"begins late":  {ranges: []*bucketv1.CoverageRange{of(final, 60, 0)}, horizon: 180, want: []State{Unknown, Unknown, Final, NotDue}},
		"a new state":  {ranges: []*bucketv1.CoverageRange{of(99, 180, 120), of(final, 120, 0)}, want: []State{Unknown, Final, Final, NotDue}},
		"unspecified":  {ranges: []*bucketv1.CoverageRange{of(0, 180, 0)}, want: []State{Unknown, Unknown, Unknown, NotDue}},
		"overlapping":  {ranges: []*bucketv1.CoverageRange{of(final, 180, 0), of(missing, 120, 60)}, want: []State{Final, Missing, Final, NotDue}},
		"not in order": {ranges: []*bucketv1.CoverageRange{of(final, 60, 0), of(final, 0, 60), of(final, 180, 60)}, want: []State{Final, Final, Final, NotDue}},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRange("replay", 4*time.Hour, now)
			r.CellSeconds, r.Cells = 3600, 4
			r.Start, r.End = time.Unix(at(180), 0).UTC(), time.Unix(at(-60), 0).UTC()
			a := asked{size: 5 * time.Minute, delay: 5 * time.Minute, asOf: bucket.TimeOf(now), in: r.window(), mark: test.mark}
			if test.ended != 0 {
				a.ended = bucket.Time(at(test.ended))
			}
			if test.ranges != nil {
				horizon := test.horizon
				if horizon == 0 {
					horizon = 180
				}
				a.cov = &bucketv1.Coverage{HorizonUnixSeconds: at(horizon), Ranges: test.ranges, Unserved: test.unserved}
			}
			if diff := cmp.Diff(test.want, cells(r, a.pieces())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A bucket of a day spans all cells of a day, and is not late because its delay is long.
func TestCellsOfDays(t *testing.T) {
	r := NewRange("replay", 24*time.Hour, now)
	day := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC).Unix()
	a := asked{size: 24 * time.Hour, delay: 2 * time.Hour, asOf: bucket.TimeOf(now), in: r.window(), mark: Late, cov: &bucketv1.Coverage{
		HorizonUnixSeconds: day, Ranges: []*bucketv1.CoverageRange{{State: final, StartUnixSeconds: day, EndUnixSeconds: day + 86400}},
		Unserved: []*bucketv1.UnservedRange{{StartUnixSeconds: day, EndUnixSeconds: day + 86400}},
	}}
	pieces := a.pieces()
	got := cells(r, pieces)
	if got[0] != Final || got[r.Cells-1] != NotDue || slices.Contains(got, Late) || slices.Contains(got, Unknown) {
		t.Errorf("the cells are %v", got)
	}
	if n := count(pieces, a.size); n[Final] != 1 {
		t.Errorf("counted are %v, want one final", n)
	}
}

func TestRanges(t *testing.T) {
	for hours, want := range map[int]struct {
		width time.Duration
		cells int
	}{
		1: {30 * time.Minute, 2}, 24: {30 * time.Minute, 48}, 30: {time.Hour, 30}, 168: {6 * time.Hour, 28}, 720: {24 * time.Hour, 30},
		24 * 90: {2 * 24 * time.Hour, 45}, 24 * 400: {10 * 24 * time.Hour, 40}, 24 * 100_000: {100 * 24 * time.Hour, 48},
	} {
		r := NewRange("x", time.Duration(hours)*time.Hour, now)
		if r.CellSeconds != int64(want.width/time.Second) || r.Cells != want.cells || r.End.Before(now) || r.End.Sub(r.Start) != time.Duration(r.Cells)*want.width {
			t.Errorf("%d hours are %+v, want %d cells of %s", hours, r, want.cells, want.width)
		}
	}
}

// Every state has a place in the order and a line in the legend.
func TestStatesAreExplained(t *testing.T) {
	var explained []State
	for _, m := range Legend() {
		explained = append(explained, m.State)
	}
	slices.Sort(explained)
	if got := slices.Sorted(slices.Values(worst)); !slices.Equal(got, explained) {
		t.Errorf("the legend has %v, and there are %v", explained, got)
	}
	for number, name := range bucketv1.CoverageState_name {
		if s := stateOf(bucketv1.CoverageState(number)); number != 0 && s == Unknown {
			t.Errorf("%s is not known", name)
		}
	}
	for number := range bucketv1.GapReason_name {
		if reason := reasonOf(bucketv1.GapReason(number)); number != 0 && Help(reason) == "" {
			t.Errorf("reason %s is not explained", reason)
		}
	}
	for number, name := range bucketv1.ScopeState_name {
		if s, _ := scopeState(bucketv1.ScopeState(number)); number != 0 && s == string(Unknown) {
			t.Errorf("%s is not known", name)
		}
	}
	if instant(&timestamppb.Timestamp{Seconds: 1 << 60}) != nil || unix(1<<60) != nil || unix(-1) != nil {
		t.Error("a time that no calendar has is shown")
	}
}
