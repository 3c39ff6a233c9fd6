package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/inquiry"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

// oracle is a collector of n zones, which counts questions.
type oracle struct {
	zones    int
	problems []*bucketv1.Problem
	away     atomic.Bool
	// state is that of the last two hours of a zone; nil: missing.
	state func(zone int) bucketv1.CoverageState
	// slow is how long a survey, which is about all zones, takes.
	slow time.Duration

	general, coverage, surveys atomic.Int64
	asked                      atomic.Pointer[bucketv1.GetCoverageRequest] // of a page
}

var errAway = status.Error(codes.Unavailable, "dial tcp 10.1.2.3:9820: connect: connection refused")

func zoneID(i int) string { return fmt.Sprintf("%032x", i+1) }

func (o *oracle) GetStatus(context.Context, *bucketv1.GetStatusRequest, ...grpc.CallOption) (*bucketv1.GetStatusResponse, error) {
	o.general.Add(1)
	if o.away.Load() {
		return nil, errAway
	}
	return &bucketv1.GetStatusResponse{
		Info: &bucketv1.StoreInfo{StoreId: "test", Retention: durationpb.New(90 * 24 * time.Hour)}, Head: &bucketv1.ResumePoint{Revision: 7},
		Role: bucketv1.Role_ROLE_LEADER, Leader: "node-a", Version: "v1", Problems: o.problems,
		Datasets: []*bucketv1.DatasetStatus{{Dataset: "http_5m", ScopesActive: uint32(o.zones), CompleteUntilUnixSeconds: since.Unix() - 600, NewestEndUnixSeconds: since.Unix() - 600}},
	}, nil
}

func (o *oracle) ListScopes(context.Context, *bucketv1.ListScopesRequest, ...grpc.CallOption) (*bucketv1.ListScopesResponse, error) {
	m := &bucketv1.ListScopesResponse{}
	for i := range o.zones {
		m.Scopes = append(m.Scopes, &bucketv1.ScopeInfo{
			Scope: &bucketv1.Scope{Kind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, Id: zoneID(i)}, Name: fmt.Sprintf("zone-%04d.example", i),
			AccountId: zoneID(i % 7), AccountName: "<script>alert(\"account\")</script>\u202e", ZoneLabel: fmt.Sprintf("zone-%04d.example", i),
			State: bucketv1.ScopeState_SCOPE_STATE_ACTIVE, FirstSeen: timestamppb.New(since.Add(-24 * time.Hour)),
			Entitlements: []*bucketv1.Entitlement{{Dataset: "http_5m", Variant: "full"}},
		})
	}
	return m, nil
}

func (o *oracle) ListDatasets(context.Context, *bucketv1.ListDatasetsRequest, ...grpc.CallOption) (*bucketv1.ListDatasetsResponse, error) {
	return &bucketv1.ListDatasetsResponse{Datasets: []*bucketv1.DatasetVersion{{
		Dataset: "http_5m", Version: 1, ScopeKind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, SizeSeconds: 300, Delay: durationpb.New(5 * time.Minute),
	}}}, nil
}

func (o *oracle) GetCoverage(_ context.Context, req *bucketv1.GetCoverageRequest, _ ...grpc.CallOption) (*bucketv1.GetCoverageResponse, error) {
	scopes := req.GetFilter().GetScopes()
	if len(scopes) == 0 {
		o.surveys.Add(1)
		time.Sleep(o.slow)
		for i := range o.zones {
			scopes = append(scopes, &bucketv1.Scope{Kind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, Id: zoneID(i)})
		}
	} else {
		o.coverage.Add(1)
		o.asked.Store(req)
	}
	if o.away.Load() {
		return nil, errAway
	}
	m := &bucketv1.GetCoverageResponse{AsOf: timestamppb.New(since)}
	for _, scope := range scopes {
		state := bucketv1.CoverageState_COVERAGE_STATE_MISSING
		if o.state != nil {
			i, err := strconv.ParseInt(scope.GetId(), 16, 64)
			if err != nil {
				return nil, err
			}
			state = o.state(int(i) - 1)
		}
		last := &bucketv1.CoverageRange{State: state, StartUnixSeconds: since.Add(-2 * time.Hour).Unix(), EndUnixSeconds: since.Add(-5 * time.Minute).Unix()}
		if state == bucketv1.CoverageState_COVERAGE_STATE_MISSING {
			last.Reason, last.Detail, last.Attempts = bucketv1.GapReason_GAP_REASON_UNAUTHORIZED, "<b>detail</b>", 3
			last.NextAttempt = timestamppb.New(since.Add(time.Minute))
		}
		m.Coverages = append(m.Coverages, &bucketv1.Coverage{
			Dataset: "http_5m", Scope: scope, HorizonUnixSeconds: since.Add(-24 * time.Hour).Unix(),
			Ranges: []*bucketv1.CoverageRange{
				{State: bucketv1.CoverageState_COVERAGE_STATE_FINAL, StartUnixSeconds: since.Add(-24 * time.Hour).Unix(), EndUnixSeconds: since.Add(-2 * time.Hour).Unix()}, last,
			},
		})
	}
	return m, nil
}

// counts are the calls of GetStatus, and of GetCoverage for a page.
func (o *oracle) counts() [2]int64 { return [2]int64{o.general.Load(), o.coverage.Load()} }

func statusHandler(t testing.TB, from inquiry.Collector) http.Handler {
	board := view.NewBoard(clock.NewManual(since), recent.Limits{MaxAge: 24 * time.Hour, Soft: 100, Hard: 100}, nil)
	board.Publish(recent.New(sample.Store{ID: "test", Stamp: sample.End}, time.Hour).State(bucket.Position{Revision: 1}))
	board.Confirm(since)
	c := web.Config{Board: board, Meter: &events{}, MaxScrapes: 1, MaxBackfills: 1, MaxBackfillHours: 1, Logger: testkit.Logger(t)}
	if from != nil {
		c.Inquiry = inquiry.New(from, board.Now, testkit.Logger(t))
	}
	return web.New(c)
}

func visit(t testing.TB, h http.Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	return w
}

func TestStatusPages(t *testing.T) {
	from := &oracle{zones: 45, problems: []*bucketv1.Problem{{Code: "ZONE_DENIED", About: "zone-0003.example", Message: `<img src=x onerror=alert(1)>`}}}
	h := statusHandler(t, from)
	for target, test := range map[string]struct {
		code      int
		want, not []string
	}{
		"/status": {200, []string{
			"45 match, page 1 of 3", "zone-0000.example", "node-a", "ZONE_DENIED", "#weirzonedenied", "23 missing: unauthorized",
			"&lt;script&gt;", "&lt;img src=x", "<bdi>zone-0000.example</bdi>", "Account <bdi>&lt;script&gt;", `&lt;/script&gt;\u202e</bdi>`, `href="status?page=2"`, `href="status/scope?id=` + zoneID(0), `<main id="main"`,
		}, []string{"<script>alert", "<img", "style=", "onclick", "\u202e"}},
		"/":                             {200, []string{`href="status"`}, nil},
		"/status?page=3":                {200, []string{"page 3 of 3", `href="status?page=2"`}, []string{`id="next"`}},
		"/status?q=ZONE-0044":           {200, []string{"1 match", "zone-0044.example"}, []string{"zone-0001.example"}},
		"/status?q=nothing":             {200, []string{"No zone or account matches."}, nil},
		"/status?show=uncollected":      {200, []string{"No zone or account matches."}, nil},
		"/status?range=retention":       {200, []string{"one cell is 2 d"}, nil},
		"/status?page=4":                {200, []string{"page 3 of 3", "There is no page 4: this is the last one.", "zone-0041.example", `href="status?page=2"`, `status.json?page=3"`}, []string{`id="next"`}},
		"/status?page=0":                {400, []string{`parameter page is "0"`, "whole number from 1"}, nil},
		"/status?show=missing":          {200, []string{"45 match, the worst first, page 1 of 3", `href="status?page=2&amp;show=missing"`, `<option value="missing" selected>`}, nil},
		"/status?show=lost":             {200, []string{"No zone or account matches.", `href="status?show=missing">missing <span>45</span>`, `aria-current="true">lost <span>0</span>`}, nil},
		"/status?show=worst":            {400, []string{`parameter show is "worst"`, "all, problems, missing, lost"}, nil},
		"/status?page=x":                {400, []string{`parameter page is "x"`, "whole number"}, nil},
		"/status?range=year":            {400, []string{`parameter range is "year"`, "replay, retention"}, nil},
		"/status?dataset=dns_5m":        {400, []string{`parameter dataset is "dns_5m"`, "http_5m"}, nil},
		"/status?zone=a":                {400, []string{`parameter "zone" is not known here`}, nil},
		"/status?page=1&page=2":         {400, []string{"parameter page is given 2 times"}, nil},
		"/status?q=%ff":                 {400, []string{"must be valid UTF-8"}, nil},
		"/status/scope":                 {400, []string{"parameter id is empty"}, nil},
		"/status/scope?id=a&zone=b":     {400, []string{"only one of them"}, nil},
		"/status/scope?zone=missing":    {404, []string{"has ever been collected", "../status?q=missing"}, nil},
		"/status/scope?id=" + zoneID(3): {200, []string{"zone-0003.example", "ZONE_DENIED", "unauthorized", "&lt;b&gt;detail", "2026-11-29 10:01:00", `href="style.css"`, "replace the token"}, []string{"<b>detail"}},
		"/status/style.css":             {200, []string{"prefers-color-scheme"}, nil},
		"/status/script.js":             {200, []string{"use strict"}, nil},
	} {
		w := visit(t, h, target)
		body := w.Body.String()
		if w.Code != test.code {
			t.Errorf("%s answers %d, want %d:\n%s", target, w.Code, test.code, body)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q:\n%s", target, want, body)
			}
		}
		for _, not := range test.not {
			if strings.Contains(body, not) {
				t.Errorf("%s has %q:\n%s", target, not, body)
			}
		}
		if policy := w.Header().Get("Content-Security-Policy"); strings.HasPrefix(target, "/status") && strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") && (!strings.Contains(policy, "script-src 'self'") || strings.Contains(policy, "unsafe")) {
			t.Errorf("%s has the policy %q", target, policy)
		}
	}
	if n := len(from.asked.Load().GetFilter().GetScopes()); n > 20 {
		t.Errorf("coverage of %d zones was asked for at once, want at most those of a page", n)
	}
}

// A browser lists what the documentation promises.
func TestStatusJSON(t *testing.T) {
	h := statusHandler(t, &oracle{zones: 3})
	w := visit(t, h, "/status.json")
	var got struct {
		Format    int
		Attention []struct{ Code, Text, Anchor string }
		Collector struct {
			Known  bool
			Leader string
		}
		Datasets []struct{ ID, State string }
		Range    struct{ Cells int }
		Scopes   []struct {
			ID, Name, State, Verdict string
			Collected                bool
			Series                   []struct {
				Dataset, State string
				Cells          []string
				Windows        map[string]int
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s %v: %s", w.Code, w.Header(), err, w.Body)
	}
	if got.Format != 1 || !got.Collector.Known || got.Collector.Leader != "node-a" || len(got.Datasets) != 1 || got.Datasets[0].State != "fresh" || len(got.Scopes) != 3 {
		t.Fatalf("the answer is %s", w.Body)
	}
	one := got.Scopes[0]
	if len(one.Series) != 1 || len(one.Series[0].Cells) != got.Range.Cells || one.Series[0].State != "missing" || one.Series[0].Windows["missing"] != 23 || !one.Collected {
		t.Errorf("the first zone is %+v", one)
	}
	if last := one.Series[0].Cells[got.Range.Cells-2:]; !slices.Equal(last, []string{"missing", "missing"}) {
		t.Errorf("the last cells are %v", last)
	}
}

// However many readers there are, the collector is asked once in ten seconds; while it is
// away its last answer is shown, and the page says so.
func TestStatusAsksSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &oracle{zones: 3}
		h := statusHandler(t, from)
		done := make(chan int, 8)
		for range cap(done) {
			go func() { done <- visit(t, h, "/status").Code }()
		}
		for range cap(done) {
			if code := <-done; code != http.StatusOK {
				t.Errorf("a reader gets %d", code)
			}
		}
		if got, want := from.counts(), [2]int64{1, 1}; got != want {
			t.Errorf("8 readers asked %v times, want %v", got, want)
		}
		time.Sleep(11 * time.Second)
		from.away.Store(true)
		for range 5 {
			body := visit(t, h, "/status").Body.String()
			for _, want := range []string{"COLLECTOR_AWAY", "it cannot be reached", "zone-0000.example", "The collector does not answer"} {
				if !strings.Contains(body, want) {
					t.Errorf("the page lacks %q while the collector is away:\n%s", want, body)
				}
			}
			if strings.Contains(body, "10.1.2.3") || strings.Contains(body, "Nothing needs attention") {
				t.Errorf("the page shows an address, or says that all is well:\n%s", body)
			}
		}
		if got, want := from.counts(), [2]int64{2, 2}; got != want {
			t.Errorf("readers asked %v times, want %v", got, want)
		}
		from.away.Store(false)
		time.Sleep(11 * time.Second)
		if body := visit(t, h, "/status").Body.String(); strings.Contains(body, "COLLECTOR_AWAY") {
			t.Errorf("the collector is back, and the page says %s", body)
		}
	})
}

// Readers of different pages are behind one another: one question about coverage a second.
func TestStatusPacesCoverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &oracle{zones: 60}
		h := statusHandler(t, from)
		began := time.Now()
		for _, target := range []string{"/status", "/status?page=2", "/status?page=3", "/status"} {
			if w := visit(t, h, target); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "missing: unauthorized") {
				t.Errorf("%s answers %d without coverage", target, w.Code)
			}
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("three questions about coverage took %s, want a second between them", took)
		}
		if got, want := from.counts(), [2]int64{1, 3}; got != want {
			t.Errorf("readers asked %v times, want %v", got, want)
		}
	})
}

// thousand is a collector of 1,000 zones, of which some are in each kind of trouble.
func thousand() *oracle {
	trouble := map[int]bucketv1.CoverageState{
		990: bucketv1.CoverageState_COVERAGE_STATE_LOST, 991: bucketv1.CoverageState_COVERAGE_STATE_MISSING, 7: bucketv1.CoverageState_COVERAGE_STATE_WAITING,
		500: bucketv1.CoverageState_COVERAGE_STATE_UNREADABLE, 3: bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED,
	}
	return &oracle{zones: 1000, state: func(zone int) bucketv1.CoverageState {
		if state, ill := trouble[zone]; ill {
			return state
		}
		if zone >= 100 && zone < 130 {
			return bucketv1.CoverageState_COVERAGE_STATE_REFUSED
		}
		return bucketv1.CoverageState_COVERAGE_STATE_FINAL
	}}
}

// statusList is the part of /status.json about which zones there are.
type statusList struct {
	Attention     []struct{ Code, Text string }
	Survey        struct{ Known bool }
	ByState       map[string]int `json:"by_state"`
	Matches, Page int
	Scopes        []struct{ Name string }
}

func listed(t testing.TB, h http.Handler, query string) (l statusList) {
	t.Helper()
	w := visit(t, h, "/status.json"+query)
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: %d %v: %s", query, w.Code, err, w.Body)
	}
	return l
}

func (l *statusList) names() (out []string) {
	for _, sc := range l.Scopes {
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(sc.Name, "zone-"), ".example"))
	}
	return out
}

func (l *statusList) says(code, text string) bool {
	for _, a := range l.Attention {
		if a.Code == code && strings.Contains(a.Text, text) {
			return true
		}
	}
	return false
}

// Of a thousand zones those in trouble are found, the worst first, and all are counted, on
// whichever page they are.
func TestStatusFindsTheTroubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := thousand()
		h := statusHandler(t, from)
		counts := map[string]int{"all": 1000, "problems": 33, "none": 965, "missing": 1, "lost": 1, "unreadable": 1, "refused": 30, "waiting": 1, "accepted": 1}
		for query, test := range map[string]struct {
			matches, page int
			counts        map[string]int
			names         string // those that come first
		}{
			"":                                    {1000, 1, counts, "0000 0007"},
			"?page=50":                            {1000, 50, counts, ""},
			"?show=problems":                      {33, 1, counts, "0990 0991 0500 0105 0112"}, // the account of 0990 comes before that of 0991
			"?show=problems&page=2":               {33, 2, counts, ""},
			"?show=problems&page=9":               {33, 2, counts, ""},
			"?show=missing":                       {1, 1, counts, "0991"},
			"?show=waiting":                       {1, 1, counts, "0007"},
			"?show=late":                          {0, 1, counts, ""},
			"?show=collected":                     {1000, 1, counts, "0000 0007"},
			"?show=problems&q=zone-099":           {2, 1, map[string]int{"all": 10, "problems": 2, "none": 8, "missing": 1, "lost": 1}, "0990 0991"},
			"?show=problems&account=" + zoneID(3): {7, 1, map[string]int{"all": 143, "problems": 7, "none": 135, "lost": 1, "unreadable": 1, "refused": 5, "accepted": 1}, "0990 0500 0101 0108 0115 0122 0129"},
			"?show=missing&range=retention":       {1, 1, counts, "0991"},
			"?show=missing&dataset=http_5m":       {1, 1, counts, "0991"},
		} {
			got := listed(t, h, query)
			if fmt.Sprint(got.ByState) != fmt.Sprint(test.counts) || got.Matches != test.matches || got.Page != test.page || !strings.HasPrefix(strings.Join(got.names(), " "), test.names) {
				t.Errorf("%q: %d match, page %d, by state %v: %v; want %+v", query, got.Matches, got.Page, got.ByState, got.names(), test)
			}
		}
		if l := listed(t, h, ""); !l.says("SCOPES", "3 zones or accounts of 1000:") {
			t.Errorf("attention is %v, want the three zones in trouble on other pages", l.Attention)
		}
		if n := from.surveys.Load(); n > 5 { // one in ten seconds for each range
			t.Errorf("%d surveys were made of two ranges in %d pages", n, from.coverage.Load())
		}
	})
}

// A collector that needs long to say what is missing of all zones does not hold up the page,
// which says what it does not know.
func TestStatusDoesNotWaitForASurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := thousand()
		from.slow = 8 * time.Second
		h := statusHandler(t, from)
		began := time.Now()
		if l := listed(t, h, ""); l.Survey.Known || l.ByState != nil || l.Matches != 1000 || !l.says("COVERAGE_UNKNOWN", "being asked") {
			t.Errorf("before the answer the page has %+v", l)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the page took %s", took)
		}
		body := visit(t, h, "/status?q=zone-0001").Body.String()
		if !strings.Contains(body, "It is not known yet how many") {
			t.Errorf("the page does not say that the counts are not known:\n%s", body)
		}
		// A page that needs it waits.
		if l := listed(t, h, "?show=missing"); l.Matches != 1 || !l.Survey.Known {
			t.Errorf("the filter finds %+v", l)
		}
		began = time.Now()
		if l := listed(t, h, "?show=lost"); l.Matches != 1 || time.Since(began) > 2*time.Second {
			t.Errorf("with the answer at hand the filter took %s and finds %+v", time.Since(began), l)
		}
		// The next one begins ten times as long after the last as that took, and nobody waits for it.
		for time.Since(began) < 79*time.Second {
			listed(t, h, "")
			time.Sleep(3 * time.Second)
		}
		if n := from.surveys.Load(); n != 1 {
			t.Errorf("%d surveys were made in a minute, want one", n)
		}
		time.Sleep(10 * time.Second)
		asked := time.Now()
		if l := listed(t, h, "?show=lost"); l.Matches != 1 || time.Since(asked) > 2*time.Second {
			t.Errorf("while a survey runs the filter took %s and finds %+v", time.Since(asked), l)
		}
		from.away.Store(true)
		time.Sleep(10 * time.Minute) // what is known is old now, and is shown as such
		if body := visit(t, h, "/status?show=missing").Body.String(); !strings.Contains(body, "zone-0991.example") || !strings.Contains(body, "Nothing newer is known") {
			t.Errorf("without a collector the filter shows %s", body)
		}
		if n := from.surveys.Load(); n != 2 {
			t.Errorf("%d surveys were made, want two", n)
		}
	})
}

// Nobody is told that no zone is in trouble when that is not known.
func TestStatusSurveyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := thousand()
		from.slow = 70 * time.Second
		h := statusHandler(t, from)
		body := visit(t, h, "/status?show=problems").Body.String()
		if !strings.Contains(body, "which zones and accounts these are is not known yet") || strings.Contains(body, "No zone or account matches") || strings.Contains(body, "Nothing needs attention") {
			t.Errorf("without a survey the filter shows\n%s", body)
		}
		time.Sleep(2 * time.Minute)
	})
}

func TestStatusNeverAnswered(t *testing.T) {
	from := &oracle{}
	from.away.Store(true)
	h := statusHandler(t, from)
	for target, code := range map[string]int{"/status": 200, "/status?page=7": 200, "/status/scope?zone=a": 503, "/status.json": 200} {
		w := visit(t, h, target)
		if body := w.Body.String(); w.Code != code || !strings.Contains(body, "has not answered") || strings.Contains(body, "Nothing needs attention") {
			t.Errorf("%s answers %d, want %d and that it knows nothing:\n%s", target, w.Code, code, body)
		}
	}
}

func TestStatusSwitchedOff(t *testing.T) {
	h := statusHandler(t, nil)
	for _, target := range []string{"/status", "/status.json", "/status/scope?id=a", "/status/style.css"} {
		if w := visit(t, h, target); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "WEIR_EXPOSER_STATUS") {
			t.Errorf("%s answers %d %s", target, w.Code, w.Body)
		}
	}
	if w := visit(t, h, "/"); strings.Contains(w.Body.String(), `href="status"`) {
		t.Error("the landing page links to a page that is not there")
	}
}

// BenchmarkStatus is a page of 20 of 1,000 zones, from answers that are cached.
func BenchmarkStatus(b *testing.B) {
	h := statusHandler(b, &oracle{zones: 1000})
	size := 0
	for b.Loop() {
		size = visit(b, h, "/status?show=missing").Body.Len()
	}
	b.ReportMetric(float64(size), "bytes/page")
}
