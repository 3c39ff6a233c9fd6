package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const (
	noon = bucket.Time(1_795_262_400) // 2026-11-21T12:00:00Z
	five = 5 * time.Minute
)

// week drives the lane for a week, minute by minute, and returns what it looked
// at, by age. restarts loses the lane's memory, but not its record, every hour.
func week(t *testing.T, size time.Duration, restarts bool) map[string][]bucket.Time {
	t.Helper()
	lane, out := &audit.Lane{}, map[string][]bucket.Time{}
	for now := noon; now < noon.Add(7*24*time.Hour); now = now.Add(time.Minute) {
		for _, age := range audit.Ages {
			check, due := lane.Due(now, "d", size, age)
			if !due || lane.Left(now) == 0 {
				continue
			}
			if late := now.Sub(check.Start.Add(size)) - age.Duration; late < 0 || late > 31*time.Minute {
				t.Fatalf("a window is audited %s after it was %s old", late, age.Name)
			}
			lane.Begin(now, []audit.Check{check})
			out[age.Name] = append(out[age.Name], check.Start)
		}
		if restarts && now.Floor(time.Hour) == now {
			var bad []store.Unreadable
			if lane, bad = audit.ReadLane([]store.Record{lane.Record(func(string) bool { return true })}); bad != nil {
				t.Fatal(bad)
			}
		}
	}
	return out
}

// About one window an hour is looked at, at both ages the same ones, each once,
// whether or not the leader changes.
func TestTheSampleIsSmallFixedAndSurvivesRestarts(t *testing.T) {
	for size, want := range map[time.Duration]int{time.Minute: 168, five: 168, time.Hour: 168, 24 * time.Hour: 7} {
		checks := week(t, size, false)
		if diff := cmp.Diff(checks, week(t, size, true)); diff != "" {
			t.Errorf("with restarts the sample of %s windows is another (-without +with):\n%s", size, diff)
		}
		for age, starts := range checks {
			if !slices.IsSorted(starts) || len(slices.Compact(slices.Clone(starts))) != len(starts) {
				t.Errorf("windows of %s are looked at twice or out of order at the age of %s", size, age)
			}
			if n := len(starts); n < want*2/3-1 || n > want*3/2 {
				t.Errorf("%d windows of %s are looked at in a week at the age of %s, want about %d", n, size, age, want)
			}
		}
		both := 0
		for _, start := range checks["24h"] {
			if slices.Contains(checks["1h"], start) {
				both++
			}
		}
		if len(checks["24h"])-both > len(checks["24h"])/4 { // the first day's were an hour old before the week
			t.Errorf("only %d of %d windows of %s were looked at at both ages", both, len(checks["24h"]), size)
		}
	}
}

func TestNoHourHasMoreRequests(t *testing.T) {
	lane := &audit.Lane{}
	for i := range audit.PerHour {
		if lane.Left(noon) == 0 {
			t.Fatalf("the hour was over after %d requests", i)
		}
		lane.Begin(noon.Add(time.Duration(i)*time.Minute), nil)
	}
	if n := lane.Left(noon.Add(59 * time.Minute)); n != 0 {
		t.Errorf("%d more requests may be sent in the hour", n)
	}
	if n := lane.Left(noon.Add(time.Hour)); n != audit.PerHour {
		t.Errorf("%d requests may be sent in the next hour", n)
	}
	if n := lane.Left(noon.Add(-time.Hour)); n != 0 {
		t.Errorf("a clock that went back gives %d requests", n)
	}
}

// What was settled before the last start is not caught up with: too late for
// its age, it would say something else.
func TestAnAgeThatHasPassedIsNotCaughtUpWith(t *testing.T) {
	lane := &audit.Lane{}
	for now := noon; now < noon.Add(24*time.Hour); now = now.Add(7 * time.Minute) {
		if check, due := lane.Due(now, "d", five, audit.Ages[0]); due && now.Sub(check.Start) > 2*time.Hour {
			t.Fatalf("at %s the window %s is due for its audit after an hour", now, check.Start)
		}
	}
}

// In time every scope is chosen about as often as the others.
func TestTheChoiceGoesRound(t *testing.T) {
	var scopes []bucket.Scope
	for i := range 40 {
		scopes = append(scopes, bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i)})
	}
	n := map[bucket.Scope]int{}
	for i := range 400 {
		chosen := audit.Choose("d", noon.Add(time.Duration(i)*five), scopes)
		if len(chosen) != 10 {
			t.Fatalf("%d scopes are chosen, want the ten of one request", len(chosen))
		}
		for _, sc := range chosen {
			n[sc]++
		}
	}
	for _, sc := range scopes { // 100 expected, binomial: six standard deviations
		if n[sc] < 48 || n[sc] > 152 {
			t.Errorf("%s was chosen %d times of 400", sc, n[sc])
		}
	}
}

func total(family string, v float64) bucket.Rows {
	return bucket.Rows{Family: family, Values: []float64{v}}
}

func byLabel(family string, pairs ...any) bucket.Rows {
	r := bucket.Rows{Family: family}
	for i := 0; i < len(pairs); i += 2 {
		r.Labels, r.Values = append(r.Labels, pairs[i].(string)), append(r.Values, float64(pairs[i+1].(int)))
	}
	return r
}

func TestCompare(t *testing.T) {
	all := func(string) bool { return true }
	for name, c := range map[string]struct {
		stored, later []bucket.Rows
		empty         bool
		fed           func(string) bool
		result        audit.Result
		changes       []audit.Change
		ratio         float64
	}{
		"the same": {
			stored: []bucket.Rows{total("a", 5), byLabel("b", "x", 2, "y", 3)}, later: []bucket.Rows{total("a", 5), byLabel("b", "x", 2, "y", 3)},
			result: audit.Same, changes: []audit.Change{{Family: "a", Stored: 5, Later: 5}, {Family: "b", Stored: 5, Later: 5}},
		},
		"grown": {
			stored: []bucket.Rows{total("a", 90)}, later: []bucket.Rows{total("a", 100)},
			result: audit.Moved, changes: []audit.Change{{Family: "a", Stored: 90, Later: 100, Up: 10}}, ratio: .1,
		},
		"shrunk": {
			stored: []bucket.Rows{total("a", 100)}, later: []bucket.Rows{total("a", 75)},
			result: audit.Moved, changes: []audit.Change{{Family: "a", Stored: 100, Later: 75, Down: 25}}, ratio: .25,
		},
		"a false zero": {
			stored: []bucket.Rows{total("a", 0)}, later: []bucket.Rows{total("a", 3)},
			result: audit.Moved, changes: []audit.Change{{Family: "a", Later: 3, Up: 3}}, ratio: 1,
		},
		"rows that changed places": {
			stored: []bucket.Rows{byLabel("b", "x", 4, "y", 6)}, later: []bucket.Rows{byLabel("b", "w", 4, "y", 6)},
			result: audit.Moved, changes: []audit.Change{{Family: "b", Stored: 10, Later: 10, Up: 4, Down: 4}}, ratio: .8,
		},
		"a breakdown that appeared": {
			stored: []bucket.Rows{total("a", 1)}, later: []bucket.Rows{total("a", 1), byLabel("b", "x", 1)},
			result: audit.Moved, changes: []audit.Change{{Family: "a", Stored: 1, Later: 1}, {Family: "b", Later: 1, Up: 1}}, ratio: 1,
		},
		"empty, where something is stored": {
			stored: []bucket.Rows{total("a", 5)}, later: []bucket.Rows{total("a", 0)}, empty: true, result: audit.Gone,
		},
		"empty, where nothing is": {
			stored: []bucket.Rows{total("a", 0)}, later: []bucket.Rows{total("a", 0)}, empty: true,
			result: audit.Same, changes: []audit.Change{{Family: "a"}},
		},
		"a measure that may no longer be asked": {
			stored: []bucket.Rows{total("a", 5), total("threats", 9)}, later: []bucket.Rows{total("a", 5)},
			fed:    func(family string) bool { return family == "a" },
			result: audit.Same, changes: []audit.Change{{Family: "a", Stored: 5, Later: 5}},
		},
		"a measure that could not be asked then": {
			stored: []bucket.Rows{total("a", 5)}, later: []bucket.Rows{total("a", 5), total("threats", 9)},
			result: audit.Same, changes: []audit.Change{{Family: "a", Stored: 5, Later: 5}},
		},
	} {
		if c.fed == nil {
			c.fed = all
		}
		result, changes := audit.Compare(c.stored, c.later, c.empty, c.fed)
		if diff := cmp.Diff(c.changes, changes); result != c.result || diff != "" {
			t.Errorf("%s: %s, want %s (-want +got)\n%s", name, result, c.result, diff)
		}
		a := audit.Audited{Changes: changes}
		if got := a.Ratio(); got != c.ratio {
			t.Errorf("%s: ratio %v, want %v", name, got, c.ratio)
		}
	}
}

// settled notes n windows that had their final value at an age.
func settled(d *audit.Drift, n int, age time.Duration) {
	first := noon.Add(five)
	for range n {
		d.Settled(noon.Add(time.Hour), five, audit.Window{End: noon, First: first, Since: noon.Add(age), Equal: 2, Ground: bucket.Confirmed})
	}
}

func audited(d *audit.Drift, result audit.Result, zone string, changes ...audit.Change) {
	d.Audited(noon.Add(time.Hour), five, audit.Audited{
		Check: audit.Check{Dataset: d.Dataset, Start: noon, Age: audit.Ages[1]}, Zone: zone, ReadAt: noon.Add(25 * time.Hour), Result: result, Changes: changes,
	})
}

// stored sends figures through the store and reports on them.
func stored(t *testing.T, d *audit.Drift) audit.Report {
	t.Helper()
	back, bad := audit.ReadDrifts([]store.Record{d.Record()})
	if bad != nil {
		t.Fatal(bad)
	}
	reports := audit.Reports(back)
	if len(reports) != 1 {
		t.Fatalf("%d reports of one dataset", len(reports))
	}
	return reports[0]
}

func TestTheDelayThatIsRecommended(t *testing.T) {
	for name, c := range map[string]struct {
		windows map[time.Duration]int
		never   int
		moved   int // of 1000 audited
		want    int64
		advice  string
	}{
		"all were right at once":          {map[time.Duration]int{five: 1000}, 0, 0, 300, "100 % of 1000 windows"},
		"a minute longer would do":        {map[time.Duration]int{five: 9900, 6 * time.Minute: 95, 9 * time.Minute: 5}, 0, 0, 360, "99.95 % of 10000 windows"},
		"one in a thousand is let pass":   {map[time.Duration]int{five: 999, 6 * time.Minute: 1}, 0, 0, 300, "99.9 % of 1000 windows"},
		"too few to tell":                 {map[time.Duration]int{five: 999}, 0, 0, 0, "not enough data: 999 windows"},
		"too many never stood still":      {map[time.Duration]int{five: 1000}, 2, 0, 0, "no observed delay is long enough: 99.8 % of 1002 windows had their final value after 5m0s"},
		"they move later":                 {map[time.Duration]int{five: 5000}, 0, 4, 0, "a delay of minutes would not help: at the age of 24h, 4 of 1000 audited buckets had moved (0.4 %)"},
		"hardly any moves later":          {map[time.Duration]int{five: 5000}, 0, 1, 300, "100 % of 5000 windows"},
		"both together cross the line":    {map[time.Duration]int{five: 9993, 7 * time.Minute: 7}, 0, 1, 420, "100 % of 10000 windows"},
		"ages are rounded up, never down": {map[time.Duration]int{five: 900, 361 * time.Second: 100}, 0, 0, 375, "100 % of 1000 windows"},
	} {
		d := audit.NewDrift("http_5m")
		for age, n := range c.windows {
			settled(d, n, age)
		}
		for range c.never {
			d.Settled(noon, five, audit.Window{End: noon, First: noon.Add(five), Since: noon.Add(20 * time.Minute), Equal: 1, Ground: bucket.Deadline})
		}
		for i := range 1000 {
			if i < c.moved {
				audited(d, audit.Moved, "z", audit.Change{Family: "a", Stored: 1, Later: 2, Up: 1})
			} else if c.moved > 0 {
				audited(d, audit.Same, "z")
			}
		}
		r := stored(t, d)
		got := int64(0)
		if r.RecommendedSeconds != nil {
			got = *r.RecommendedSeconds
		}
		if got != c.want || !strings.Contains(r.Advice, c.advice) {
			t.Errorf("%s: %d s (%s); want %d s, %q", name, got, r.Advice, c.want, c.advice)
		}
	}
}

// Windows that say nothing about the delay are in no figure.
func TestWhatTellsNothingIsNotCounted(t *testing.T) {
	d := audit.NewDrift("http_5m")
	settled(d, 3, five)
	w := audit.Window{End: noon, First: noon.Add(five), Since: noon.Add(five), Equal: 2, Ground: bucket.Confirmed}
	late, sampled, once, suspect := w, w, w, w
	late.First, late.Since = noon.Add(time.Hour), noon.Add(time.Hour)
	sampled.Sampled = true
	once.Equal = 1
	suspect.Ground = bucket.SuspectConfirmed
	for _, w := range []audit.Window{late, sampled, once, suspect} {
		d.Settled(noon, five, w)
	}
	if r := stored(t, d); r.Windows != 3 || r.Suspect != 1 {
		t.Errorf("%d windows and %d suspect ones are counted, want 3 and 1", r.Windows, r.Suspect)
	}
}

// Figures are dropped when they are old, and with another delay at once; what is
// kept is bounded.
func TestFiguresDoNotOutliveTheirTime(t *testing.T) {
	d := audit.NewDrift("http_5m")
	day := 24 * time.Hour
	for i := range 100 {
		at := noon.Add(time.Duration(i) * day)
		d.Settled(at, five, audit.Window{End: at, First: at.Add(five), Since: at.Add(five + time.Duration(i)*time.Hour), Equal: 2, Ground: bucket.Confirmed})
	}
	if r := stored(t, d); r.Windows < 28 || r.Windows > 56 {
		t.Errorf("after 100 days the figures are of %d days, want 28 to 56", r.Windows)
	}
	for i := range 1000 {
		audited(d, audit.Moved, fmt.Sprint(i), audit.Change{Family: "a", Stored: 1000, Later: 1000 + float64(i), Up: float64(i)})
	}
	r := stored(t, d)
	if len(r.Worst) != 10 || r.Worst[0].Zone != "999" || r.Worst[9].Zone != "990" {
		t.Errorf("the worst are %v", r.Worst)
	}
	if n := len(d.Record().Value); n > 16<<10 {
		t.Errorf("the record has %d bytes", n)
	}
	d.Settled(noon.Add(100*day), 2*five, audit.Window{End: noon, First: noon.Add(2 * five), Since: noon.Add(2 * five), Equal: 2, Ground: bucket.Confirmed})
	if r := stored(t, d); r.Windows != 1 || r.DelaySeconds != 600 || len(r.Worst) != 0 {
		t.Errorf("with another delay: %d windows, delay %d s, %d movements", r.Windows, r.DelaySeconds, len(r.Worst))
	}
}

func TestTheReportForPeople(t *testing.T) {
	d := audit.NewDrift("http_5m")
	settled(d, 1990, five)
	settled(d, 10, 6*time.Minute)
	for range 1998 {
		audited(d, audit.Same, "shop.example", audit.Change{Family: "cloudflare_zone_requests", Stored: 1000, Later: 1000})
	}
	audited(d, audit.Moved, "shop.example", audit.Change{Family: "cloudflare_zone_requests", Stored: 1000, Later: 1030, Up: 30})
	audited(d, audit.Gone, "blog.example")
	r := stored(t, d)
	text := audit.Text([]audit.Report{r})
	want := `http_5m: delay 5m0s, recommended 6m0s (100 % of 2000 windows had their final value by then)
statistics since 2026-11-21T13:00:00Z, 0 suspect windows left out
  AGE   WINDOWS WITH THEIR FINAL VALUE  SHARE
  5m0s  1990 of 2000                    99.5 %
  6m0s  2000 of 2000                    100 %
  AUDIT  SAME  MOVED  GONE  UNANSWERED
  24h    1998  1      1     0
  AUDIT  FAMILY                    MOVED      UP  DOWN  OF ALL     LARGEST
  24h    cloudflare_zone_requests  1 of 1999  30  0     0.001501 %   2.913 %
  WORST         WINDOW                FAMILY                    STORED  LATER  BY       READ AT
  shop.example  2026-11-21T12:00:00Z  cloudflare_zone_requests  1000    1030   2.913 %  2026-11-22T13:00:00Z
`
	squeeze := func(s string) string {
		lines := strings.Split(s, "\n")
		for i, l := range lines {
			lines[i] = strings.Join(strings.Fields(l), " ")
		}
		return strings.Join(lines, "\n")
	}
	if diff := cmp.Diff(squeeze(want), squeeze(text)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if text := audit.Text(nil); !strings.Contains(text, "No data yet") {
		t.Errorf("without figures: %q", text)
	}
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"recommended_delay_seconds":360`, `"delay_seconds":300`, `"age":"24h","family":"cloudflare_zone_requests","buckets":1999`} {
		if !strings.Contains(string(out), part) {
			t.Errorf("%s lacks %s", out, part)
		}
	}
}

// A record that cannot be read costs itself.
func TestBrokenRecordsAreReturnedApart(t *testing.T) {
	good := audit.NewDrift("http_5m").Record()
	for _, value := range []string{`{`, `[]`, `"x"`, `{"dataset":7}`, `{"done":7}`} {
		broken := store.Record{Key: "k", Value: []byte(value)}
		if lane, bad := audit.ReadLane([]store.Record{broken}); value != `{"dataset":7}` && (len(bad) != 1 || lane == nil) {
			t.Errorf("a lane of %s: %+v, unreadable %v", value, lane, bad)
		}
		if drifts, bad := audit.ReadDrifts([]store.Record{broken, good}); len(bad) != 1 || len(drifts) != 1 || drifts["http_5m"] == nil {
			t.Errorf("figures of %s: %v, unreadable %v", value, drifts, bad)
		}
	}
}

// A dataset that is no longer collected leaves nothing behind in the lane.
func TestTheLaneForgetsDatasetsThatWent(t *testing.T) {
	lane := &audit.Lane{}
	for _, dataset := range []string{"http_5m", "http_1h"} {
		lane.Pass(audit.Check{Dataset: dataset, Start: noon, Age: audit.Ages[0]})
	}
	back, bad := audit.ReadLane([]store.Record{lane.Record(func(d string) bool { return d == "http_1h" })})
	if bad != nil || len(back.Done) != 1 || back.Done["http_1h/1h"] != noon {
		t.Errorf("the lane comes back as %+v, %v", back, bad)
	}
}
