package exposer_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// shared is a collector of several tenants, whose answers are full of names.
type shared struct {
	*counting
	zones []tenantZone
}

type tenantZone struct {
	bucket.Scope
	name, account, accountID string
}

// Every word of these that is the other tenant's begins with "rival".
var tenantZones = []tenantZone{
	{feedtest.Zone(0), "shop.example", "Mine", "acc-mine"},
	{feedtest.Zone(1), "rival-bank.example", "Rival Bank", "acc-rival"},
	{feedtest.Zone(2), "blog.example", "Mine", "acc-mine"},
	{feedtest.Zone(3), "rival-lab.example", "Rival Lab", "acc-rival-lab"},
	{feedtest.Zone(4), "moved.example", "Mine", "acc-mine"}, // the other bank's before
}

func (s *shared) ListScopes(context.Context, *bucketv1.ListScopesRequest) (*bucketv1.ListScopesResponse, error) {
	m := &bucketv1.ListScopesResponse{}
	for _, z := range s.zones {
		m.Scopes = append(m.Scopes, &bucketv1.ScopeInfo{
			Scope: &bucketv1.Scope{Kind: bucketv1.ScopeKind(z.Kind), Id: z.ID}, Name: z.name, ZoneLabel: z.name, AccountLabel: z.account, AccountName: z.account, AccountId: z.accountID,
			State: bucketv1.ScopeState_SCOPE_STATE_ACTIVE, FirstSeen: timestamppb.New(at(0)),
			Entitlements: []*bucketv1.Entitlement{{Dataset: "a_5m", Variant: "full"}, {Dataset: "b_5m", Reason: "zones rival-bank.example and " + feedtest.Zone(1).ID + " do not have access"}},
		})
	}
	return m, nil
}

func (s *shared) GetStatus(ctx context.Context, req *bucketv1.GetStatusRequest) (*bucketv1.GetStatusResponse, error) {
	m, err := s.Scripted.GetStatus(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, about := range []string{"shop.example", "shop.example a_5m", "rival-bank.example", "rival-lab.example a_5m", "", "shop.example.rival", "CF_ZONES rival-typo.example"} {
		m.Problems = append(m.Problems, &bucketv1.Problem{Code: "ZONE_DENIED", About: about, Message: "zones shop.example, rival-bank.example are refused", Since: timestamppb.New(at(1))})
	}
	m.Datasets = append(m.Datasets, &bucketv1.DatasetStatus{Dataset: "a_5m", ScopesActive: 4711, WindowsMissing: 4712, CompleteUntilUnixSeconds: at(1).Unix()})
	return m, nil
}

func (s *shared) GetCoverage(_ context.Context, req *bucketv1.GetCoverageRequest) (*bucketv1.GetCoverageResponse, error) {
	m := &bucketv1.GetCoverageResponse{AsOf: timestamppb.New(at(9))}
	for _, z := range s.zones {
		if f := req.GetFilter().GetScopes(); len(f) > 0 && !slices.ContainsFunc(f, func(o *bucketv1.Scope) bool { return o.GetId() == z.ID }) {
			continue
		}
		m.Coverages = append(m.Coverages, &bucketv1.Coverage{
			Dataset: "a_5m", Scope: &bucketv1.Scope{Kind: bucketv1.ScopeKind(z.Kind), Id: z.ID}, HorizonUnixSeconds: at(0).Unix(),
			Ranges: []*bucketv1.CoverageRange{
				{State: bucketv1.CoverageState_COVERAGE_STATE_FINAL, StartUnixSeconds: at(0).Unix(), EndUnixSeconds: at(4).Unix()},
				{State: bucketv1.CoverageState_COVERAGE_STATE_MISSING, Reason: bucketv1.GapReason_GAP_REASON_UNAUTHORIZED, Detail: "zone rival-bank.example is not yours", StartUnixSeconds: at(4).Unix(), EndUnixSeconds: at(5).Unix()},
			},
		})
	}
	return m, nil
}

var tokens = map[string]string{"everything": "operator-token", "mine": "mine-token", "bank": "bank-token", "later": "later-token", "shop": "shop-token"}

func tokensFile(t *testing.T, more string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("tokens:\n")
	for _, of := range []struct{ name, may string }{
		{"everything", "everything: true"},
		{"mine", "accounts: [Mine]"},
		{"bank", "accounts: [Rival Bank]"},
		{"later", "accounts: [Later]"},
		{"shop", "zones: [shop.example, " + feedtest.Zone(3).ID + "]"},
	} {
		fmt.Fprintf(&b, "  - {name: %s, sha256: %x, %s}\n", of.name, sha256.Sum256([]byte(tokens[of.name])), of.may)
	}
	b.WriteString(more)
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startShared is an exposer of two datasets of all tenants. Quiet zones are known and have no samples.
func startShared(t *testing.T, withTokens bool, quiet ...tenantZone) *running {
	t.Helper()
	s := scripted()
	for _, id := range []string{"a_5m", "b_5m"} {
		s.Append(at(0), feedtest.Entry{Definition: feedtest.Definition(id, 1)})
	}
	for n := range 4 {
		for _, z := range tenantZones {
			for _, id := range []string{"a_5m", "b_5m"} {
				b := feedtest.Bucket(id, z.Scope, n)
				if b.Zone, b.Account = z.name, z.account; z.name == "moved.example" && n < 2 {
					b.Account = "Rival Bank"
				}
				s.Append(at(n+2), feedtest.Entry{Bucket: b})
			}
		}
	}
	now := at(8)
	s.SetProgress(now)
	c := &shared{newCounting(s, "epoch"), append(slices.Clone(tenantZones), quiet...)}
	c.confirm(now)
	conf := config()
	conf.Counters, conf.Compat = true, "lablabs"
	if withTokens {
		conf.Tokens = tokensFile(t, "")
	}
	x := start(t, serve(t, c), conf, now)
	headers := []string{}
	if withTokens {
		headers = bearer("everything")
	}
	for _, page := range []string{"/metrics", "/counters"} {
		testkit.Eventually(t, func() error {
			got, err := x.ask(x.data+page, headers...)
			if err == nil && (got.code != 200 || !strings.Contains(got.body, "rival-lab.example")) {
				err = fmt.Errorf("%s: %d %.200s", page, got.code, got.body)
			}
			return err
		})
	}
	return x
}

func bearer(who string) []string { return []string{"Authorization", "Bearer " + tokens[who]} }

// linesOf are the lines of a page that are about nobody, or about owners that are kept.
func linesOf(body string, keep func(line string) bool) (out []string) {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.Contains(line, "zone=") || keep(line) {
			out = append(out, line)
		}
	}
	return out
}

func isMine(line string) bool { return strings.Contains(line, `account="Mine"`) }

// A page of some accounts and zones has the lines of the page of all that are about them, byte
// by byte, in either format, and no others.
func TestAPageOfSomeHasTheirLines(t *testing.T) {
	testkit.NoLeaks(t)
	x := startShared(t, false)
	for query, keep := range map[string]func(line string) bool{
		"account=Mine":                                    isMine,
		"zone=shop.example":                               func(l string) bool { return strings.Contains(l, `zone="shop.example"`) },
		"zone=" + feedtest.Zone(4).ID:                     func(l string) bool { return strings.Contains(l, `zone="moved.example"`) },
		"zone=shop.example&zone=blog.example":             func(l string) bool { return strings.Contains(l, "shop.example") || strings.Contains(l, "blog.example") },
		"account=Rival+Bank&account=Mine":                 func(l string) bool { return isMine(l) || strings.Contains(l, `account="Rival Bank"`) },
		"account=Rival+Bank&zone=moved.example":           func(l string) bool { return strings.Contains(l, `zone="moved.example",account="Rival Bank"`) },
		"zone=shop.example&replay_hours=1":                func(l string) bool { return strings.Contains(l, `zone="shop.example"`) },
		"zone=shop.example&replay_hours=0":                func(l string) bool { return strings.Contains(l, `zone="shop.example"`) },
		"account=Mine&account=Mine&account=Mine&round=1h": isMine,
	} {
		for _, page := range []string{"/metrics", "/counters"} {
			values, err := url.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			if page == "/counters" {
				values.Del("replay_hours")
				values.Del("round")
			}
			some := values.Encode()
			values.Del("account")
			values.Del("zone")
			for _, accept := range []string{"text/plain", "application/openmetrics-text"} {
				all, got := x.get(page+"?"+values.Encode(), "Accept", accept), x.get(page+"?"+some, "Accept", accept)
				want := linesOf(all.body, keep)
				if has := linesOf(got.body, func(string) bool { return true }); got.code != 200 || !slices.Equal(has, want) {
					t.Errorf("%s?%s, %s: %d %s\nwant %s", page, some, accept, got.code, strings.Join(has, ""), strings.Join(want, ""))
				}
				if !slices.ContainsFunc(want, func(l string) bool { return strings.Contains(l, "zone=") }) {
					t.Errorf("%s?%s: there is nothing to see", page, some)
				}
				if zipped := x.get(page+"?"+some, "Accept", accept, "Accept-Encoding", "gzip"); !sameZipped(t, zipped.body, got.body) {
					t.Errorf("%s?%s, %s: the gzip body is another one", page, some, accept)
				}
			}
		}
	}
}

// A name that selects nothing is said, and which; one without samples that the collector knows
// is none.
func TestNamesThatSelectNothing(t *testing.T) {
	testkit.NoLeaks(t)
	x := startShared(t, false, tenantZone{feedtest.Zone(9), "quiet.example", "Mine", "acc-mine"})
	for query, want := range map[string]struct {
		code int
		text string
	}{
		"zone=shop.exmaple":                    {400, `parameter zone is "shop.exmaple"; it must be the value of the label zone, or the id, of a zone that the collector knows`},
		"zone=shop.example&zone=typo.example":  {400, `parameter zone is "typo.example"`},
		"account=mine":                         {400, `parameter account is "mine"; it must be the value of the label account of an account that the collector knows`},
		"account=acc-mine":                     {400, `parameter account is "acc-mine", which is the id of the account "Mine"; it must be the value of the label account`},
		"account=Mine&zone=rival-bank.example": {400, "the parameters account and zone have nothing in common: no such zone is in such an account"},
		"zone=":                                {400, "parameter zone is empty"},
		"zone=later.example":                   {400, `parameter zone is "later.example"`},
		"zone=quiet.example":                   {200, ""},
		"zone=shop.example&zone=quiet.example": {200, `zone="shop.example"`},
	} {
		for _, page := range []string{"/metrics", "/counters"} {
			if got := x.get(page + "?" + query); got.code != want.code || !strings.Contains(got.body, want.text) || strings.Contains(got.body, "rival") {
				t.Errorf("%s?%s: %d %s; want %d %s", page, query, got.code, got.body, want.code, want.text)
			}
		}
	}
	for _, page := range []string{"/metrics", "/counters"} {
		if got := x.get(page + "?zones=shop.example"); got.code != 400 || !strings.Contains(got.body, "zone") {
			t.Errorf("%s: %d %s", page, got.code, got.body)
		}
	}
}

// A token sees what it may read and no name of anybody else: on no page, in no header, no error,
// no note and no message of Cloudflare that another page quotes.
func TestATokenSeesNothingOfOthers(t *testing.T) {
	testkit.NoLeaks(t)
	x := startShared(t, true)
	foreign := []string{"rival", "Rival", feedtest.Zone(1).ID, feedtest.Zone(3).ID, "4711", "4712"}
	check := func(path string, got reply, code int) {
		t.Helper()
		if got.code != code {
			t.Errorf("%s: %d %.300s; want %d", path, got.code, got.body, code)
		}
		asked, _ := url.QueryUnescape(path)
		text := got.body
		for name, values := range got.header {
			text += "\n" + name + ": " + strings.Join(values, ", ")
		}
		for _, word := range foreign {
			if strings.Contains(asked, word) { // the client has said it
				text = strings.ReplaceAll(text, asked[strings.LastIndexByte(asked, '=')+1:], "")
			}
			if i := strings.Index(text, word); i >= 0 {
				t.Errorf("%s: %d has %q: …%s…", path, got.code, word, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
	hours := "hours=24"
	for _, page := range []string{
		"/metrics", "/metrics?replay_hours=0", "/metrics?zone=shop.example", "/counters", "/counters?account=Mine", "/counters?created=true",
		"/backfill?" + hours, "/backfill?account=Mine&" + hours, "/backfill?zone=moved.example&" + hours, "/backfill?format=text&step_seconds=600&" + hours, "/cloudflare/backfill?" + hours,
		"/status", "/status?range=retention", "/status?q=e", "/status?account=acc-mine", "/status?page=7", "/status?show=problems", "/status.json?show=unknown", "/status/scope?zone=shop.example", "/status/scope?id=" + feedtest.Zone(4).ID, "/status.json", "/status.json?zone=shop.example",
		"/status/style.css", "/status/script.js",
	} {
		for _, accept := range []string{"text/plain", "application/openmetrics-text"} {
			got := x.get(page, append(bearer("mine"), "Accept", accept)...)
			check(page, got, 200)
			if strings.HasPrefix(page, "/status/s") && strings.HasSuffix(page, "s") {
				continue
			}
			if !strings.Contains(got.body, "moved.example") && !strings.Contains(got.body, "shop.example") {
				t.Errorf("%s: there is nothing of its own: %.500s", page, got.body)
			}
		}
	}
	for _, page := range []string{
		"/metrics?zone=rival-bank.example", "/metrics?account=Rival+Bank", "/metrics?zone=" + feedtest.Zone(1).ID, "/metrics?zone=nobody.example", "/counters?zone=rival-bank.example", "/counters?account=Rival+Lab", "/counters?zone=nobody.example", "/counters/compat/lablabs?zone=rival-bank.example", "/counters/compat/lablabs?zone=nobody.example",
		"/backfill?" + hours + "&zone=rival-bank.example", "/backfill?" + hours + "&account=Rival+Bank", "/backfill?" + hours + "&account=acc-rival", "/backfill?" + hours + "&zone=nobody.example",
		"/status/scope?zone=rival-bank.example", "/status/scope?id=" + feedtest.Zone(1).ID, "/status/scope?zone=nobody.example", "/status.json?zone=rival-lab.example", "/",
		"/status?account=acc-rival", "/status?account=acc-nobody",
	} {
		check(page, x.get(page, bearer("mine")...), 403)
	}
	// What exists and what does not are refused alike.
	for _, page := range []string{"/metrics?zone=", "/counters?zone=", "/backfill?" + hours + "&zone=", "/status/scope?zone="} {
		one, none := x.get(page+"rival-bank.example", bearer("mine")...), x.get(page+"nobody.example", bearer("mine")...)
		if strings.ReplaceAll(one.body, "rival-bank.example", "X") != strings.ReplaceAll(none.body, "nobody.example", "X") || one.code != none.code {
			t.Errorf("%s: %d %s for one that exists, %d %s for one that does not", page, one.code, one.body, none.code, none.body)
		}
	}
	for _, page := range []string{"/metrics?zone", "/metrics?x=1", "/counters?x=1", "/backfill?hours=x", "/backfill?dataset=nothing", "/status?page=x", "/status?dataset=nothing"} {
		check(page, x.get(page, bearer("mine")...), 400)
	}
	// Without a token, or with another one, there is nothing at all but the probes.
	for _, page := range []string{"/", "/metrics", "/counters", "/counters/compat/lablabs", "/backfill", "/cloudflare/backfill", "/status", "/status/scope?zone=shop.example", "/status.json", "/status/style.css", "/nothing"} {
		for _, headers := range [][]string{nil, {"Authorization", "Bearer wrong"}, {"Authorization", "Basic bWluZTptaW5lLXRva2Vu"}, {"Authorization", "mine-token"}, {"Authorization", "Bearer "}} {
			got := x.get(page, headers...)
			check(page, got, 401)
			if got.header.Get("Www-Authenticate") != "Bearer" || strings.Contains(got.body, "example") {
				t.Errorf("%s: %v %s", page, got.header, got.body)
			}
		}
	}
	for _, probe := range []string{"/-/healthy", "/-/ready"} {
		check(probe, x.get(probe), 200)
	}
	// The others see theirs: of a zone that moved, what was theirs.
	got := x.get("/metrics", bearer("bank")...)
	if !strings.Contains(got.body, `zone="moved.example",account="Rival Bank"`) || strings.Contains(got.body, "Mine") || strings.Contains(got.body, "rival-lab") {
		t.Errorf("the bank sees %s", got.body)
	}
	got = x.get("/metrics", bearer("shop")...)
	if !strings.Contains(got.body, "shop.example") || !strings.Contains(got.body, "rival-lab.example") || strings.Contains(got.body, "blog.example") {
		t.Errorf("the token for two zones sees %s", got.body)
	}
	for _, page := range []string{"/metrics", "/counters", "/backfill?" + hours} {
		if got := x.get(page, bearer("later")...); got.code != 404 || !strings.Contains(got.body, "nothing of what this token may read has been collected yet") {
			t.Errorf("%s with the token of an account that comes later: %d %s", page, got.code, got.body)
		}
	}
	if got := x.get("/metrics", bearer("everything")...); !strings.Contains(got.body, "rival-bank") || !strings.Contains(got.body, "shop.example") {
		t.Errorf("the operator sees %s", got.body)
	}
	if got := x.get("/", bearer("everything")...); got.code != 200 {
		t.Errorf("the operator's landing page: %d", got.code)
	}
	own := x.get("/status.json", bearer("mine")...)
	var page struct {
		Problems []struct{ About, Message string }
		Scopes   []struct{ Name string }
		ByState  map[string]int `json:"by_state"`
	}
	if err := json.Unmarshal([]byte(own.body), &page); err != nil || len(page.Scopes) != 3 || len(page.Problems) != 2 || page.ByState["all"] != 3 {
		t.Errorf("the status page has %+v (%v)", page, err)
	}
	ops, err := x.ask(x.ops + "/metrics")
	if err != nil || !strings.Contains(ops.body, `weir_exposer_requests_denied_total{reason="forbidden"}`) || strings.Contains(ops.body, `reason="unauthenticated"} 0`) {
		t.Errorf("denied requests are not counted: %v", err)
	}
}

// A token that is taken out of the file is refused at the next request; a file that is broken
// changes nothing.
func TestTokensAreReloaded(t *testing.T) {
	testkit.NoLeaks(t)
	s := scripted()
	fill(s, "a_5m", 3)
	conf := config()
	conf.Tokens = tokensFile(t, "")
	x := start(t, s.Serve(t), conf, at(5))
	await := func(who string, code int) {
		t.Helper()
		testkit.Eventually(t, func() error {
			got, err := x.ask(x.data+"/metrics", bearer(who)...)
			if err == nil && got.code != code {
				err = fmt.Errorf("%s: %d %s, want %d", who, got.code, got.body, code)
			}
			return err
		})
	}
	await("everything", 200)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf.Tokens, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	await("everything", 200)
	write(fmt.Sprintf("tokens:\n- {name: new, sha256: %x, everything: true}\n", sha256.Sum256([]byte(tokens["bank"]))))
	await("bank", 200)
	await("everything", 401)
	write("tokens: []\n")
	await("bank", 200)
}

// Two exposers give the same bytes of the same accounts, whatever was asked before.
func TestTwoExposersGiveTheSameBytesOfSome(t *testing.T) {
	testkit.NoLeaks(t)
	s := scripted()
	s.Append(at(0), feedtest.Entry{Definition: feedtest.Definition("a_5m", 1)})
	conn := s.Serve(t)
	early := start(t, conn, config(), at(2))
	zones := "/metrics?zone=" + feedtest.Zone(1).ID + "&zone=zone-a002.example"
	n := 1
	for w := range 5 {
		for z := range 4 {
			s.Append(at(w+2), feedtest.Entry{Bucket: feedtest.Bucket("a_5m", feedtest.Zone(z), w)})
			n++
		}
		s.SetProgress(at(w + 2))
		early.await(n)
		early.clock.Set(at(w + 2))
		if got := early.get(zones); got.code != 200 {
			t.Fatalf("%d %s", got.code, got.body)
		}
	}
	late := start(t, conn, config(), at(6))
	late.await(n)
	a, b := early.get(zones), late.get("/metrics?zone=zone-a002.example&zone="+feedtest.Zone(1).ID)
	if a.body != b.body || strings.Count(a.body, "\ncloudflare_zone_a_5m_requests{") != 10 {
		t.Errorf("one has\n%s\nthe other\n%s", a.body, b.body)
	}
}

// Names in the file that match nothing are counted: a token with a misspelt name sees less than it
// should.
func TestNamesOfTokensThatMatchNothing(t *testing.T) {
	testkit.NoLeaks(t)
	x := startShared(t, true)
	testkit.Eventually(t, func() error { // account Later
		got, err := x.ask(x.ops + "/metrics")
		if err == nil && !strings.Contains(got.body, "\nweir_exposer_token_names_unmatched 1\n") {
			err = fmt.Errorf("the page of the exposer itself: %d %.200s", got.code, got.body)
		}
		return err
	})
}
