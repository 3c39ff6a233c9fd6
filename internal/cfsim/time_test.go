package cfsim_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

func TestRollupsFilterOnTheTruncatedTime(t *testing.T) {
	w := newWorld(t, nil)
	query := `{ viewer { zones(filter: {zoneTag: $zone}) { httpRequests1mGroups(limit: 10, orderBy: [datetime_ASC],
		filter: {datetime_geq: $from, datetime_lt: $to}) { dimensions { datetime } sum { requests } } } } }`
	minute := epoch.Add(-time.Hour)
	truth, _ := w.sim.True(zone("shop"), minute, minute.Add(time.Minute))
	// An upper bound inside a bucket brings the whole bucket.
	got := rows(t, w.good(query, span("shop", minute, minute.Add(44*time.Second))), "httpRequests1mGroups")
	if len(got) != 1 || num(t, got[0], "sum", "requests") != truth.Requests {
		t.Errorf("upper bound inside the bucket: got %v, want the whole bucket %d", got, truth.Requests)
	}
	// A lower bound inside a bucket leaves it out.
	got = rows(t, w.good(query, span("shop", minute.Add(44*time.Second), minute.Add(2*time.Minute))), "httpRequests1mGroups")
	if len(got) != 1 || text(t, got[0], "dimensions", "datetime") != stamp(minute.Add(time.Minute)) {
		t.Errorf("lower bound inside the bucket: got %v, want only the next", got)
	}
}

func TestAdaptiveFiltersOnTheSecond(t *testing.T) {
	w := newWorld(t, nil)
	query := `{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 10, filter: {datetime_geq: $from, datetime_lt: $to}) { count } } } }`
	minute := epoch.Add(-time.Hour)
	count := func(from, to time.Time) uint64 {
		return num(t, rows(t, w.good(query, span("shop", from, to)), "httpRequestsAdaptiveGroups")[0], "count")
	}
	cut := minute.Add(44 * time.Second)
	a, b, whole := count(minute, cut), count(cut, minute.Add(time.Minute)), count(minute, minute.Add(time.Minute))
	if a+b != whole || a == 0 || b == 0 || a > whole*50/60 {
		t.Errorf("parts %d and %d of %d: want them to be cut at the second and to add up", a, b, whole)
	}
}

func TestTimeDimensionsTruncate(t *testing.T) {
	w := newWorld(t, nil)
	at := time.Date(2026, 11, 22, 9, 47, 0, 0, time.UTC)
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) {
		httpRequests1mGroups(limit: 10, filter: {datetime: $from}) { dimensions { datetime datetimeMinute datetimeFiveMinutes
			datetimeFifteenMinutes datetimeHalfOfHour datetimeHour datetimeDay date } sum { requests } }
		httpRequestsAdaptiveGroups(limit: 100, orderBy: datetime_ASC, filter: {datetime_geq: $from, datetime_lt: $to}) {
			dimensions { datetime datetimeMinute datetimeHour date } count } } } }`, span("shop", at, at.Add(time.Minute)))
	d := dig(t, rows(t, a, "httpRequests1mGroups")[0], "dimensions").(map[string]any)
	for name, want := range map[string]string{
		"datetime": "2026-11-22T09:47:00Z", "datetimeMinute": "2026-11-22T09:47:00Z",
		"datetimeFiveMinutes": "2026-11-22T09:45:00Z", "datetimeFifteenMinutes": "2026-11-22T09:45:00Z", "datetimeHalfOfHour": "2026-11-22T09:30:00Z",
		"datetimeHour": "2026-11-22T09:00:00Z", "datetimeDay": "2026-11-22T00:00:00Z", "date": "2026-11-22",
	} {
		if d[name] != want {
			t.Errorf("%s is %v, want %s", name, d[name], want)
		}
	}
	seconds := rows(t, a, "httpRequestsAdaptiveGroups")
	if len(seconds) != 60 || text(t, seconds[59], "dimensions", "datetime") != "2026-11-22T09:47:59Z" || text(t, seconds[59], "dimensions", "datetimeMinute") != "2026-11-22T09:47:00Z" {
		t.Errorf("got %d seconds, last %v", len(seconds), seconds[len(seconds)-1])
	}
}

func TestTimeOperators(t *testing.T) {
	w := newWorld(t, nil)
	from := epoch.Add(-time.Hour) // 11:00
	for _, c := range []struct {
		filter string
		want   int
	}{
		{`{datetime_geq: "2026-11-22T11:00:00Z", datetime_lt: "2026-11-22T11:10:00Z"}`, 10},
		{`{datetime_gt: "2026-11-22T11:00:00Z", datetime_leq: "2026-11-22T11:10:00Z"}`, 10},
		{`{datetime_geq: "2026-11-22T11:00:00.000Z", datetime_leq: "2026-11-22T11:10:00Z"}`, 11},
		{`{datetime_in: ["2026-11-22T11:00:00Z", "2026-11-22T11:05:00Z", "2026-11-22T11:05:30Z"]}`, 2},
		{`{datetime_geq: "2026-11-22T11:00:00Z", datetime_lt: "2026-11-22T11:10:00Z", datetime_neq: "2026-11-22T11:03:00Z"}`, 9},
		{`{datetime_geq: "2026-11-22T11:00:00Z", datetime_lt: "2026-11-22T11:10:00Z", datetime_notin: ["2026-11-22T11:03:00Z", "2026-11-22T11:04:00Z"]}`, 8},
		{`{datetimeFiveMinutes: "2026-11-22T11:05:00Z"}`, 5},
		{`{datetimeHour_geq: "2026-11-22T11:00:00Z", datetime_lt: "2026-11-22T11:20:00Z"}`, 20},
		{`{AND: [{datetime_geq: "2026-11-22T11:00:00Z"}, {datetime_lt: "2026-11-22T11:03:00Z"}]}`, 3},
		{`{OR: [{datetime: "2026-11-22T11:00:00Z"}, {datetime: "2026-11-22T11:30:00Z"}]}`, 2},
		{`{date: "2026-11-22", datetime_geq: "2026-11-22T11:00:00Z", datetime_lt: "2026-11-22T11:01:00Z"}`, 1},
		{`{datetime_geq: "2026-11-22T12:00:00+01:00", datetime_lt: "2026-11-22T11:02:00Z"}`, 2},
	} {
		got := rows(t, w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequests1mGroups(limit: 1000, filter: `+c.filter+`) {
			dimensions { datetime } sum { requests } } } } }`, span("shop", from, epoch)), "httpRequests1mGroups")
		if len(got) != c.want {
			t.Errorf("%s: %d rows, want %d", c.filter, len(got), c.want)
		}
	}
}

func TestDays(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequests1dGroups(limit: 10, filter: {date_geq: "2026-11-20", date_leq: "2026-11-21"}, orderBy: [date_ASC]) {
		dimensions { date } sum { requests } uniq { uniques } } } } }`, map[string]any{"zone": zone("blog")})
	got := rows(t, a, "httpRequests1dGroups")
	if len(got) != 2 {
		t.Fatalf("got %v, want two days", got)
	}
	for i, name := range []string{"2026-11-20", "2026-11-21"} {
		start, _ := time.Parse(time.DateOnly, name)
		truth, _ := w.sim.True(zone("blog"), start, start.Add(24*time.Hour))
		if text(t, got[i], "dimensions", "date") != name || num(t, got[i], "sum", "requests") != truth.Requests || num(t, got[i], "uniq", "uniques") != truth.Uniques {
			t.Errorf("day %s: got %v, truth %d requests and %d uniques", name, got[i], truth.Requests, truth.Uniques)
		}
	}
	contains(t, w.bad(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequests1dGroups(limit: 10, filter: {date_geq: "2026-11-20T00:00:00Z"}) { sum { requests } } } } }`,
		map[string]any{"zone": zone("blog")}), "", "Date expected")
}

func TestZonesWithoutTraffic(t *testing.T) {
	w := newWorld(t, nil)
	query := `{ viewer { zones(filter: {zoneTag: $zone}) { zoneTag httpRequests1mGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}) {
		dimensions { datetime } sum { requests } } total: httpRequests1mGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } }`
	a := w.good(query, span("parked", epoch.Add(-time.Hour), epoch))
	if len(rows(t, a, "httpRequests1mGroups")) != 0 || len(rows(t, a, "total")) != 0 {
		t.Errorf("a zone without traffic has rows: %s", a.Body)
	}
	a = w.good(query, span("quiet", epoch.Add(-2*time.Hour), epoch.Add(-time.Hour)))
	if n := len(rows(t, a, "httpRequests1mGroups")); n == 0 || n >= 60 {
		t.Errorf("a quiet zone has %d of 60 minutes, want empty ones to be absent", n)
	}
	w = newWorld(t, func(c *cfsim.Config) { c.Switches.ZeroRow = true })
	a = w.good(query, span("parked", epoch.Add(-time.Hour), epoch))
	if got := rows(t, a, "total"); len(got) != 1 || num(t, got[0], "sum", "requests") != 0 {
		t.Errorf("with ZeroRow got %v, want one row of zeros", got)
	}
}
