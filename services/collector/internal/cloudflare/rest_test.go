package cloudflare

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func tag(i int) string { return fmt.Sprintf("%032x", i) }

// lister serves n zones, 50 a page, with whatever result_info the test wants.
func lister(t *testing.T, n int, info func(page int) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		page, _ := strconv.Atoi(q.Get("page"))
		if r.Method != http.MethodGet || r.URL.Path != "/client/v4/zones" || q.Get("per_page") != "50" || page < 1 {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		if r.Header.Get("X-Rate-Limit-Type") != "" {
			t.Error("sent the rate-limit header to the REST API")
		}
		list := []map[string]any{}
		for i := (page - 1) * 50; i < min(n, page*50); i++ {
			list = append(list, map[string]any{
				"id": tag(i), "name": fmt.Sprintf("z%04d.example", i), "status": "active", "paused": i%2 == 1,
				"created_on": "2024-01-02T03:04:05.678Z", "account": map[string]any{"id": accountA, "name": "Näme"},
				"plan": map[string]any{"legacy_id": "pro"}, "permissions": []string{"#zone:read"},
			})
		}
		body, _ := json.Marshal(list)
		fmt.Fprintf(w, `{"result":%s,"success":true,"errors":[],"messages":[],"result_info":%s}`, body, info(page))
	}
}

func TestZonesWalksPages(t *testing.T) {
	for name, tc := range map[string]struct {
		n    int
		info func(page int) string
	}{
		"honest":                {120, func(int) string { return `{"total_pages":3,"total_count":120}` }},
		"total_pages too small": {120, func(int) string { return `{"total_pages":1,"total_count":120}` }},
		"total_pages too large": {120, func(int) string { return `{"total_pages":99,"total_count":120}` }},
		"total_pages alone":     {120, func(int) string { return `{"total_pages":3}` }},
		"none":                  {30, func(int) string { return `null` }},
		"none of many":          {120, func(int) string { return `null` }},
		"none of full pages":    {100, func(int) string { return `null` }},
		"without counts":        {120, func(page int) string { return fmt.Sprintf(`{"page":%d,"per_page":50}`, page) }},
		"no zones":              {0, func(int) string { return `{"total_pages":0,"total_count":0}` }},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := client(t, lister(t, tc.n, tc.info), func(c *Config) { c.AccountLimits = true })
			zones, err := c.Zones(t.Context())
			if err != nil || len(zones) != tc.n {
				t.Fatalf("%d zones, %v; want %d", len(zones), err, tc.n)
			}
			if tc.n == 0 {
				return
			}
			z := zones[1]
			if z.ID != tag(1) || z.Name != "z0001.example" || !z.Paused || z.Account.Name != "Näme" || z.Plan.LegacyID != "pro" ||
				!z.Created.Equal(time.Date(2024, 1, 2, 3, 4, 5, 678e6, time.UTC)) {
				t.Errorf("zone is %+v", z)
			}
		})
	}
}

// Lists that have cursors do not look at the number of a page.
func TestAListWithCursors(t *testing.T) {
	const n = 120
	var asked []string
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("cursor"))
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		list, info := []map[string]any{}, `{"cursors":{}}`
		for i := from; i < min(n, from+50); i++ {
			list = append(list, map[string]any{"id": tag(i), "name": fmt.Sprintf("set %d", i)})
		}
		if from+50 < n {
			info = fmt.Sprintf(`{"cursors":{"after":"%d"}}`, from+50)
		}
		body, _ := json.Marshal(list)
		fmt.Fprintf(w, `{"result":%s,"success":true,"errors":[],"messages":[],"result_info":%s}`, body, info)
	}, nil)
	zones, err := c.Zones(t.Context())
	if err != nil || len(zones) != n || strings.Join(asked, ",") != ",50,100" {
		t.Errorf("%d zones, %v; asked with the cursors %q; want %d", len(zones), err, asked, n)
	}
}

// A list that is not divided is the same for every page, and may be as long as one.
func TestAListWithoutPages(t *testing.T) {
	one := lister(t, 50, func(int) string { return `null` })
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		q.Set("page", "1")
		r.URL.RawQuery = q.Encode()
		one(w, r)
	}, nil)
	if zones, err := c.Zones(t.Context()); err != nil || len(zones) != 50 {
		t.Errorf("%d zones, %v; want 50", len(zones), err)
	}
}

// A list that ends early must not look like deleted zones.
func TestZonesRefusesAShortList(t *testing.T) {
	c, _ := client(t, lister(t, 49, func(int) string { return `{"total_pages":1,"total_count":50}` }), nil)
	_, err := c.Zones(t.Context())
	if e := failure(t, err); e.Class != BadResponse || !strings.Contains(err.Error(), "49 entries of 50") {
		t.Errorf("got %v, want a bad answer that counts", err)
	}
}

// Page 2 is for ever the same: the walk ends nevertheless.
func TestZonesEndsOnRepeatedPages(t *testing.T) {
	asked := 0
	page := lister(t, 50, func(int) string { return `{"total_pages":9,"total_count":400}` })
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		q := r.URL.Query()
		q.Set("page", "1")
		r.URL.RawQuery = q.Encode()
		page(w, r)
	}, nil)
	if _, err := c.Zones(t.Context()); err == nil || asked != 2 {
		t.Errorf("asked %d times, error %v; want an error after the second page", asked, err)
	}
}

// Any value of a zone but its id may be malformed without cost to the list, or to
// its other values.
func TestAValueOfAZoneCostsItself(t *testing.T) {
	const good = `"name":"shop.example","status":"active","paused":true,"created_on":"2024-01-02T03:04:05Z","account":{"id":"` + accountA + `","name":"A"},"plan":{"name":"Pro Website"}`
	for _, tc := range []struct{ old, bad, says string }{
		{`"shop.example"`, `7`, "the zone's name is 7, which is invalid; it has no name"},
		{`"active"`, `null`, "the zone has no status; it is treated as active"},
		{`"active"`, `["active"]`, "the zone is treated as active"},
		{`true`, `"no"`, `the zone's paused is "no", which is invalid; the zone is treated as not paused`},
		{`"2024-01-02T03:04:05Z"`, `"2024-13-02"`, "it is treated as an old zone"},
		{`"2024-01-02T03:04:05Z"`, `1704164645`, "the zone's created_on is 1704164645"},
		{`{"id":"` + accountA + `","name":"A"}`, `"A"`, "it is treated as a zone without an account"},
		{`{"name":"Pro Website"}`, `[]`, "no plan is shown"},
	} {
		c, _ := client(t, says(200, "application/json", `{"success":true,"errors":[],"result":[{"id":"`+zoneA+`",`+strings.Replace(good, tc.old, tc.bad, 1)+`},{"id":"`+zoneB+`",`+good+`}]}`), nil)
		list, err := c.Zones(t.Context())
		if err != nil || len(list) != 2 {
			t.Errorf("%s: %d zones, %v", tc.bad, len(list), err)
			continue
		}
		if told := strings.Join(list[0].Malformed, "; "); !strings.Contains(told, tc.says) {
			t.Errorf("%s: told is %q, want %q in it", tc.bad, told, tc.says)
		}
		if len(list[1].Malformed) > 0 || list[1].Name != "shop.example" || !list[1].Paused || list[1].Created.Year() != 2024 || list[1].Account.Name != "A" {
			t.Errorf("%s: the other zone is %+v", tc.bad, list[1])
		}
	}
}

func TestRESTReplies(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   Class
	}{
		"no envelope":      {200, `{"result":[]}`, BadResponse},
		"GraphQL reply":    {200, goodBody, BadResponse},
		"result null":      {200, `{"success":true,"result":null}`, BadResponse},
		"result an object": {200, `{"success":true,"result":{}}`, BadResponse},
		"bad id":           {200, `{"success":true,"result":[{"id":"x"}]}`, BadResponse},
		"no permission":    {403, `{"success":false,"errors":[{"code":9109,"message":"Unauthorized to access requested resource"}]}`, Denied},
		"no route":         {404, `{"success":false,"errors":[{"code":7003,"message":"Could not route to /zones"}]}`, Unknown},
		"HTML":             {521, `<html>`, Transient},
	} {
		c, _ := client(t, says(tc.status, "application/json", tc.body), nil)
		_, err := c.Zones(t.Context())
		if e := failure(t, err); e.Class != tc.want {
			t.Errorf("%s: class %s (%v), want %s", name, e.Class, err, tc.want)
		}
	}
}

func TestSettings(t *testing.T) {
	const body = `{"data":{"viewer":{"zones":[{"zoneTag":"` + zoneA + `","settings":{
	 "httpRequests1mGroups":{"enabled":true,"maxDuration":86400,"maxPageSize":10000,"maxNumberOfFields":70,"notOlderThan":86400,"availableFields":["sum_requests"]},
	 "httpRequestsAdaptiveGroups":{"enabled":false,"maxDuration":0,"maxPageSize":0,"maxNumberOfFields":0,"notOlderThan":9223372036854775807,"availableFields":[]}}}]}},"errors":null}`
	nodes := []string{"httpRequests1mGroups", "httpRequestsAdaptiveGroups"}
	c, _ := client(t, says(200, "application/json", body), nil)
	got, err := c.Settings(t.Context(), "", []string{zoneA, zoneB}, nodes)
	if err != nil {
		t.Fatal(err)
	}
	s := got[zoneA]["httpRequests1mGroups"]
	if !s.Enabled || s.MaxDuration != 24*time.Hour || s.MaxPageSize != 10000 || s.MaxFields != 70 || s.NotOlderThan != 24*time.Hour || len(s.Available) != 1 {
		t.Errorf("settings are %+v", s)
	}
	if s := got[zoneA]["httpRequestsAdaptiveGroups"]; s.Enabled || s.NotOlderThan <= 0 {
		t.Errorf("settings are %+v; want disabled, and a huge age without overflow", s)
	}
	if _, there := got[zoneB]; there {
		t.Error("a zone that Cloudflare left out has settings")
	}
	for name, bad := range map[string]string{
		"negative":    strings.Replace(body, "86400", "-1", 1),
		"no settings": strings.Replace(body, `"settings"`, `"set"`, 1),
		"no enabled":  strings.Replace(body, `"enabled":true,`, ``, 1),
		"a fraction":  strings.Replace(body, "10000", "1.5", 1),
	} {
		c, _ := client(t, says(200, "application/json", bad), nil)
		_, err := c.Settings(t.Context(), "", []string{zoneA}, nodes)
		if e := failure(t, err); e.Class != BadResponse {
			t.Errorf("%s: %v, want a bad answer", name, err)
		}
	}
	if _, err := c.Settings(t.Context(), "", []string{zoneA}, []string{"a{b}"}); err == nil {
		t.Error("took something else for a node")
	}
}
