package cfsim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// TestAcceptsWhatClientsSend has the spellings that known clients use.
func TestAcceptsWhatClientsSend(t *testing.T) {
	w := newWorld(t, nil)
	from, to := epoch.Add(-time.Hour), epoch.Add(-50*time.Minute)
	vars := map[string]any{
		"zone": zone("shop"), "zones": []string{zone("shop")}, "zoneIDs": []string{zone("shop")}, "account": account("retail"),
		"from": stamp(from), "to": stamp(to), "limit": 100,
		"filter": map[string]any{"AND": []any{map[string]any{"datetime_geq": stamp(from), "datetime_lt": stamp(to)}, map[string]any{"OR": []any{
			map[string]any{"edgeResponseStatus": 200}, map[string]any{"edgeResponseStatus_geq": 400},
		}}}},
	}
	for name, query := range map[string]string{
		"undeclared": `{ viewer { zones(filter: {zoneTag: $zone}) { httpRequests1mGroups(limit: $limit, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } }`,
		"Capital": `query ($zoneIDs: [String!], $from: Time!, $to: Time!, $limit: Int!) { viewer { zones(filter: {zoneTag_in: $zoneIDs}) {
			httpRequests1mGroups(limit: $limit, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } }`,
		"lower": `query Named($zones: [string!], $from: Time!, $to: Time!, $limit: uint64!) { viewer { zones(filter: {zoneTag_in: $zones}) {
			httpRequests1mGroups(limit: $limit, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } }`,
		"filter": `query Q($zone: string, $filter: filter) { viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 10, filter: $filter) { count } } } }`,
		"nested": `query ($account: string!, $zones: [string!]) { viewer { accounts(filter: {accountTag: $account}) { zones(filter: {zoneTag_in: $zones}) {
			zoneTag httpRequests1mGroups(limit: 10, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } } }`,
		"comments": "query { # why\n viewer { zones(filter: {zoneTag: $zone}) { # there\n httpRequests1mGroups(limit: 10, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } }",
		"fragments": `query { viewer { zones(filter: {zoneTag: $zone}) { ...z ... on zone { zoneTag } } } }
			fragment z on zone { httpRequests1mGroups(limit: 10, filter: {datetime_geq: $from, datetime_lt: $to}) { ...s } } fragment s on x { sum { requests } }`,
		"default": `query ($n: uint64 = 3) { viewer { zones(filter: {zoneTag: $zone}) { httpRequests1mGroups(limit: $n, filter: {datetime_geq: $from, datetime_lt: $to}) { dimensions { datetime } sum { requests } } } } }`,
		"blocks":  `{ viewer { a: zones(filter: {zoneTag: $zone}) { zoneTag } b: zones(filter: {zoneTag_in: [$zone]}) { zoneTag } budget } cost }`,
		"skip":    `{ viewer { zones(filter: {zoneTag: $zone}) { zoneTag nonsense @skip(if: true) } } }`,
	} {
		if a := w.ask(query, vars); len(a.Errors) > 0 || a.Data == nil || !strings.Contains(string(a.Body), `"errors":null`) {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { first: httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { n: count }
		second: httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to, edgeResponseStatus: 200}) { count } } } }`, vars)
	if all, ok := num(t, rows(t, a, "first")[0], "n"), num(t, rows(t, a, "second")[0], "count"); ok >= all || ok == 0 {
		t.Errorf("aliases answered %d and %d", all, ok)
	}
}

func TestRefusesWhatIsWrong(t *testing.T) {
	w := newWorld(t, nil)
	inZone := func(s string) string {
		return `{ viewer { zones(filter: {zoneTag: "` + zone("shop") + `"}) { ` + s + ` } } }`
	}
	const when = `datetime_geq: "2026-11-22T11:00:00Z", datetime_lt: "2026-11-22T11:01:00Z"`
	for _, c := range []struct{ query, want string }{
		{inZone(`httpRequestsAdaptiveGroups(limit: 1, filter: {` + when + `}) { sum { requests } }`), `unknown field "requests"`},
		{inZone(`ipFlows1mGroups(limit: 1, filter: {` + when + `}) { sum { bits } }`), `unknown field "ipFlows1mGroups"`},
		{inZone(`httpRequestsEdgeCountryHost(limit: 1, filter: {` + when + `}) { count }`), `unknown field`},
		{inZone(`httpRequests1mGroups(limit: 1, filter: {` + when + `}) { count }`), `unknown field "count"`},
		{inZone(`httpRequests1mGroups(limit: 1, filter: {` + when + `, clientCountryName: "DE"}) { sum { requests } }`), `unknown arg clientCountryName`},
		{inZone(`httpRequests1mGroups(limit: 1, filter: {` + when + `}) { sum { requests { x } } }`), `scalar fields must have no selections`},
		{inZone(`httpRequests1mGroups(limit: 1, filter: {` + when + `}) { sum }`), `object field must have selections`},
		{inZone(`httpRequests1mGroups(limit: 1, filter: {` + when + `}) { sum { countryMap } }`), `object field must have selections`},
		{inZone(`httpRequests1mGroups(filter: {` + when + `}) { sum { requests } }`), `limit argument is required`},
		{inZone(`httpRequests1mGroups(limit: 1) { sum { requests } }`), `filter argument is required`},
		{inZone(`httpRequests1mGroups(limit: 10001, filter: {` + when + `}) { sum { requests } }`), `limit must be positive number and not greater than 10000`},
		{inZone(`httpRequests1mGroups(limit: 0, filter: {` + when + `}) { sum { requests } }`), `limit must be positive number`},
		{inZone(`httpRequests1mGroups(limit: "5", filter: {` + when + `}) { sum { requests } }`), `uint64 expected`},
		{inZone(`httpRequests1mGroups(limit: 1, filter: {datetime: "yesterday"}) { sum { requests } }`), `Time expected`},
		{inZone(`httpRequestsAdaptiveGroups(limit: 1, filter: {` + when + `, edgeResponseStatus: "200"}) { count }`), `uint16 expected`},
		{inZone(`httpRequestsAdaptiveGroups(limit: 1, filter: {` + when + `, cacheStatus: 1}) { count }`), `string expected`},
		{inZone(`httpRequestsAdaptiveGroups(limit: 1, filter: {` + when + `}, orderBy: [edgeResponseStatus_ASC]) { count }`), `no selected dimension`},
		{inZone(`httpRequestsAdaptiveGroups(limit: 1, filter: {` + when + `}, orderBy: [count]) { count }`), `orderBy`},
		{inZone(`httpRequestsAdaptiveGroups(limit: 1, offset: 3, filter: {` + when + `}) { count }`), `unknown arg offset`},
		{inZone(`settings { nothing { enabled } }`), `unknown field "nothing"`},
		{`{ viewer { zones(filter: {zoneTag: "a", zoneTag_gt: "b"}) { zoneTag } } }`, `filter must be one of`},
		{`{ viewer { accounts { accountTag } } }`, `accountTag is required`},
		{`{ viewer { nothing } }`, `unknown field "nothing"`},
		{`{ viewer { zones(filter: {zoneTag: "a"}) { zoneTag }`, `query contains error, please review it and retry`},
		{`mutation { x }`, `query contains error`},
	} {
		if e := w.bad(c.query, nil); !strings.Contains(e.Message, c.want) || e.Extensions.Timestamp != "2026-11-22T12:00:00Z" {
			t.Errorf("%s\n got %+v\nwant %s", c.query, e, c.want)
		}
	}
}

func TestErrorsNameTheirPath(t *testing.T) {
	query := `{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag bad: httpRequests1mGroups(limit: 1, filter: {datetime: "2026-11-22T11:00:00Z"}) { sum { requests } } } } }`
	tags := []string{zone("shop"), zone("blog")}
	slices.Sort(tags)
	position := slices.Index(tags, zone("blog"))
	w := newWorld(t, nil)
	e := w.bad(query, map[string]any{"zones": tags})
	contains(t, e, "authz", "zone '"+zone("blog")+"' does not have access to the path")
	if got, want := fmt.Sprintf("%q", e.Path), fmt.Sprintf(`["viewer" "zones" "%d" "bad"]`, position); got != want {
		t.Errorf("path is %s, want %s", got, want)
	}
	w = newWorld(t, func(c *cfsim.Config) { c.Switches.NumericPath = true })
	if got, want := fmt.Sprint(w.bad(query, map[string]any{"zones": tags}).Path), fmt.Sprintf("[viewer zones %d bad]", position); got != want {
		t.Errorf("path is %s, want %s", got, want)
	}
	// The documented status is a switch, and so are partial answers.
	w = newWorld(t, func(c *cfsim.Config) { c.Switches.DocumentedStatus = true })
	if a := w.ask(query, map[string]any{"zones": tags}); a.Status != 403 {
		t.Errorf("status is %d, want 403", a.Status)
	}
	w = newWorld(t, func(c *cfsim.Config) { c.Switches.PartialData = true })
	a := w.ask(query, map[string]any{"zones": tags})
	if len(a.Errors) != 1 || a.Data == nil || dig(t, a.Data, "viewer", "zones", position, "bad") != nil ||
		len(dig(t, a.Data, "viewer", "zones", 1-position, "bad").([]any)) != 1 {
		t.Errorf("partial answer is %s", a.Body)
	}
}

func TestOrderAndTruncation(t *testing.T) {
	w := newWorld(t, nil)
	query := func(args string) []any {
		return rows(t, w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(filter: {datetime_geq: $from, datetime_lt: $to}, `+args+`) {
			count sum { visits } dimensions { datetimeMinute clientCountryName edgeResponseStatus } } } } }`, span("shop", epoch.Add(-time.Hour), epoch.Add(-30*time.Minute))), "httpRequestsAdaptiveGroups")
	}
	key := func(r any) string {
		return text(t, r, "dimensions", "datetimeMinute") + text(t, r, "dimensions", "clientCountryName") + fmt.Sprintf("%05d", num(t, r, "dimensions", "edgeResponseStatus"))
	}
	all := query("limit: 10000, orderBy: [datetimeMinute_ASC]")
	if !slices.IsSortedFunc(all, func(a, b any) int { return strings.Compare(key(a), key(b)) }) {
		t.Error("the group key does not follow the order asked for")
	}
	if got := query("limit: 7, orderBy: [datetimeMinute_ASC]"); len(got) != 7 || key(got[6]) != key(all[6]) {
		t.Errorf("a limit of 7 gave %d rows", len(got))
	}
	byCount := query("limit: 10000, orderBy: [count_DESC, datetimeMinute_ASC]")
	for i := 1; i < len(byCount); i++ {
		a, b := num(t, byCount[i-1], "count"), num(t, byCount[i], "count")
		if a < b || a == b && key(byCount[i-1]) > key(byCount[i]) {
			t.Fatalf("rows %d and %d are out of order: %v, %v", i-1, i, byCount[i-1], byCount[i])
		}
	}
	if v := query("limit: 10000, orderBy: sum_visits_DESC"); num(t, v[0], "sum", "visits") < num(t, v[len(v)-1], "sum", "visits") {
		t.Error("order by a sum does not work")
	}
	one, two := query("limit: 10000"), query("limit: 10000")
	same := true
	for i := range one {
		same = same && key(one[i]) == key(two[i])
	}
	if same || len(one) != len(all) {
		t.Error("without orderBy two answers have the same order, want a shuffle")
	}
}

// TestKeysetPages walks a result by the only paging that the API has.
func TestKeysetPages(t *testing.T) {
	w := newWorld(t, nil)
	from, to := epoch.Add(-time.Hour), epoch.Add(-50*time.Minute)
	node := func(filter any) []any {
		return rows(t, w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 9, filter: $filter, orderBy: [datetimeMinute_ASC, clientCountryName_ASC]) {
			count dimensions { datetimeMinute clientCountryName } } } } }`, map[string]any{"zone": zone("shop"), "filter": filter}), "httpRequestsAdaptiveGroups")
	}
	filter := map[string]any{"datetime_geq": stamp(from), "datetime_lt": stamp(to)}
	var total uint64
	seen := map[string]bool{}
	for pages := 0; ; pages++ {
		if pages > 100 {
			t.Fatal("paging does not end")
		}
		page := node(filter)
		for _, r := range page {
			key := text(t, r, "dimensions", "datetimeMinute") + text(t, r, "dimensions", "clientCountryName")
			if seen[key] {
				t.Fatalf("row %s came twice", key)
			}
			seen[key] = true
			total += num(t, r, "count")
		}
		if len(page) < 9 {
			break
		}
		last := page[len(page)-1]
		minute := text(t, last, "dimensions", "datetimeMinute")
		filter = map[string]any{"datetime_geq": stamp(from), "datetime_lt": stamp(to), "OR": []any{
			map[string]any{"datetimeMinute_gt": minute},
			map[string]any{"datetimeMinute": minute, "clientCountryName_gt": text(t, last, "dimensions", "clientCountryName")},
		}}
	}
	groups, err := w.sim.TrueGroups(zone("shop"), "httpRequestsAdaptiveGroups", from, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	if groups[0].Count != total {
		t.Errorf("pages add up to %d, truth is %d", total, groups[0].Count)
	}
}

func TestAttributeOperators(t *testing.T) {
	w := newWorld(t, nil)
	from, to := epoch.Add(-time.Hour), epoch.Add(-50*time.Minute)
	count := func(filter string) uint64 {
		got := rows(t, w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to, `+filter+`}) { count } } } }`, span("shop", from, to)), "httpRequestsAdaptiveGroups")
		if len(got) == 0 {
			return 0
		}
		return num(t, got[0], "count")
	}
	all := count("")
	for _, c := range []struct{ one, other string }{
		{`cacheStatus_in: ["hit"]`, `cacheStatus_notin: ["hit"]`},
		{`cacheStatus: "hit"`, `cacheStatus_neq: "hit"`},
		{`edgeResponseStatus_geq: 400`, `edgeResponseStatus_lt: 400`},
		{`edgeResponseStatus_gt: 399`, `edgeResponseStatus_leq: 399`},
		{`clientRequestHTTPHost_like: "api.%"`, `clientRequestHTTPHost_notlike: "api.%"`},
		{`requestSource: "eyeball"`, `requestSource_neq: "eyeball"`},
	} {
		a, b := count(c.one), count(c.other)
		if a+b != all || a == 0 || b == 0 {
			t.Errorf("%s has %d, %s has %d, all %d: want a division", c.one, a, c.other, b, all)
		}
	}
	if n := count(`clientCountryName_gt: "ZZ"`); n != 0 {
		t.Errorf("%d requests from countries after ZZ", n)
	}
}
