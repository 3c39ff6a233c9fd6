package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
)

// calm checks that a program logged nothing that needs a person.
func calm(t *testing.T, p *process) {
	t.Helper()
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			t.Errorf("%s says %s", p.name, line)
		}
	}
}

// "weir run --simulate" and "weir demo" are the first minute with Weir: they
// say where to look, there is something to see within seconds, it is marked as
// simulated, and they end at once.
func TestBinaryShowsItselfWithoutAToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		args  []string
		says  string
		store string // left behind in the working folder
	}{
		{"run --simulate", []string{"run", "--simulate", "--initial-lookback", "3h"}, "weir: collecting from a SIMULATED Cloudflare\n", "weir-simulated.db"},
		{"demo", []string{"demo"}, "weir: collecting from a SIMULATED Cloudflare, starting 24 hours ago at 600 times real time", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data, ops, collectorOps := address(t), address(t), address(t)
			args := append(test.args, "--exposer-listen", data, "--exposer-ops-listen", ops, "--collector-ops-listen", collectorOps)
			p := launch(t, "weir", command(t, program(t, "weir"), nil, args...))
			base := "http://" + data
			testkit.Eventually(t, func() error {
				if err := p.running(); err != nil {
					return err
				}
				for _, path := range []string{"/metrics", "/backfill?hours=3"} {
					body, err := page(base + path)
					if err != nil {
						return err
					}
					if !strings.Contains(body, `cloudflare_zone_requests{zone="shop.example",account="Example Retail"}`) {
						return fmt.Errorf("%s has no requests of shop.example yet", path)
					}
				}
				return nil
			})
			for _, line := range []string{test.says, base + "/metrics", base + "/backfill?hours=24", "sum by (zone) (sum_over_time(cloudflare_zone_requests[1h]))"} {
				if !strings.Contains(p.output.String(), line) {
					t.Errorf("standard output does not have %q:\n%s", line, p.output)
				}
			}
			body, err := page(base + "/backfill?hours=3")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(body, "# EOF\n") {
				t.Errorf("/backfill ends with %q, want # EOF", body[max(0, len(body)-80):])
			}
			for zone := range zonesOf(body) {
				if !strings.HasSuffix(zone, ".example") {
					t.Errorf("simulated zone %q could be taken for a real one", zone)
				}
			}
			code, header, landing := get(t, base+"/")
			if code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !bytes.Contains(landing, []byte("imulated")) ||
				!bytes.Contains(landing, []byte("/backfill")) || !bytes.Contains(landing, []byte("http_5m")) {
				t.Errorf("the landing page (%d %s) lacks a link, a dataset or the word simulated:\n%s", code, header.Get("Content-Type"), landing)
			}
			for _, port := range []string{data, ops, collectorOps} {
				if _, err := page("http://" + port + "/-/ready"); err != nil {
					t.Error(err)
				}
			}
			p.stop()
			calm(t, p)
			left, err := filepath.Glob(filepath.Join(p.cmd.Dir, "*.db"))
			if err != nil {
				t.Fatal(err)
			}
			if want := test.store; want != "" && (len(left) != 1 || filepath.Base(left[0]) != want) || want == "" && len(left) != 0 {
				t.Errorf("stores left behind are %q, want %q", left, want)
			}
			if temporary, err := filepath.Glob(filepath.Join(p.cmd.Dir, "weir-demo-*")); err != nil || len(temporary) != 0 {
				t.Errorf("temporary folders left behind: %q (%v)", temporary, err)
			}
		})
	}
}

var zoneLabel = regexp.MustCompile(`zone="([^"]*)"`)

func zonesOf(body string) map[string]bool {
	zones := map[string]bool{}
	for _, m := range zoneLabel.FindAllStringSubmatch(body, -1) {
		zones[m[1]] = true
	}
	return zones
}

// A store of simulated data is never continued with real data, or the other
// way round.
func TestBinaryKeepsSimulatedDataApart(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "weir.db")
	listen := func() []string {
		return []string{"WEIR_SQLITE_FILE=" + store, "WEIR_EXPOSER_LISTEN=" + address(t), "WEIR_EXPOSER_OPS_LISTEN=" + address(t), "WEIR_COLLECTOR_OPS_LISTEN=" + address(t)}
	}
	settings := listen()
	p := launch(t, "weir", command(t, program(t, "weir"), settings, "run", "--simulate"))
	testkit.Eventually(t, func() error {
		_, err := page("http://" + strings.TrimPrefix(settings[1], "WEIR_EXPOSER_LISTEN=") + "/-/ready")
		return err
	})
	p.stop()
	real := simulate(t, nil) // it does not say what it is
	for _, at := range []string{real.url, "https://api.cloudflare.com/client/v4"} {
		o := complete(t, command(t, program(t, "weir"), append(listen(), "CF_API_TOKEN="+apiToken, "WEIR_CLOUDFLARE_URL="+at), "run"))
		if o.code != 1 || !hasLine(o.stderr, store, "simulated") || strings.Contains(o.stderr, "CF_SAMPLE_TIMESTAMP") {
			t.Errorf("a token for %s on a simulated store: exit code %d, want 1 with the reason\n%s", at, o.code, o.stderr)
		}
	}
}

// Data of "weir sim" is marked like that of "weir run --simulate", and does not get
// into a store of real data, also when the simulator comes up later.
func TestBinaryKnowsASimulatorBehindAURL(t *testing.T) {
	t.Parallel()
	api := address(t)
	begin := func() *process {
		p := launch(t, "weir", command(t, program(t, "weir"), nil, "sim", "--listen", api, "--admin-listen", address(t)))
		testkit.Eventually(t, func() error {
			answer, err := http.Get("http://" + api + "/")
			if err == nil {
				err = answer.Body.Close()
			}
			return err
		})
		return p
	}
	real := simulate(t, nil)
	settings := []string{"CF_API_TOKEN=" + cfsim.DemoToken, "WEIR_CLOUDFLARE_URL=http://" + api + "/client/v4"}

	early := real.newCollector(t, settings...) // before there is a simulator
	early.again()
	early.says("it is not known whether it is a simulator")
	sim := begin()
	early.says("level=WARN", "the response is simulated: true, the store is for simulated data: false", "restart the collector")
	early.stop()

	c := real.startCollector(t, settings...)
	x := startExposerBinary(t, nil, c)
	x.ready()
	if got := x.metric("weir_simulated"); got != 1 {
		t.Errorf("weir_simulated is %v for the data of weir sim, want 1", got)
	}
	c.stop()
	sim.stop()
	c.again() // the store's mark is believed while nobody answers
	c.ready()
	begin()
	c.stop()
	c.again()
	c.ready()
	c.stop()
	o := complete(t, c.command("run", "--cloudflare-url", real.url))
	if o.code != 1 || !hasLine(o.stderr, "simulated=true, configured is false") {
		t.Errorf("another source on a simulated store: exit code %d, want 1 with the reason\n%s", o.code, o.stderr)
	}
}

// The simulator stands alone for those who write clients, too: it says how to reach
// it, and its world is as large, as slow and as bad as its flags say.
func TestBinarySimulatorIsAsItsFlagsSay(t *testing.T) {
	t.Parallel()
	type zone struct{ Name, Plan string }
	start := func(args ...string) (api, admin string) {
		t.Helper()
		api, admin = address(t), address(t)
		p := launch(t, "weir", command(t, program(t, "weir"), nil, append([]string{"sim", "--listen", api, "--admin-listen", admin}, args...)...))
		t.Cleanup(func() { p.stop() })
		testkit.Eventually(t, func() error { _, err := page("http://" + admin + "/zones"); return err })
		if want := "WEIR_CLOUDFLARE_URL=http://" + api + "/client/v4 CF_API_TOKEN=" + cfsim.DemoToken; !strings.Contains(p.output.String(), want) {
			t.Errorf("standard output does not have %q:\n%s", want, p.output)
		}
		return api, admin
	}
	ask := func(api, path, body string) (status int, kind, answer string) {
		t.Helper()
		method := http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
		request, err := http.NewRequest(method, "http://"+api+"/client/v4"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var text bytes.Buffer
		if _, err := text.ReadFrom(response.Body); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header.Get("Content-Type"), text.String()
	}

	// An hour of status and country of one zone is a large question.
	sampled := func(api, id string) string {
		body, err := json.Marshal(map[string]any{
			"query":     `{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 10, filter: {datetime_geq: $from, datetime_lt: $to}) { avg { sampleInterval } dimensions { edgeResponseStatus clientCountryName } } } } }`,
			"variables": map[string]string{"zone": id, "from": "2026-11-01T09:00:00Z", "to": "2026-11-01T11:00:00Z"},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _, answer := ask(api, "/graphql/", string(body))
		return answer
	}
	at := []string{"--at", "2026-11-01T15:00:00Z"}
	api, admin := start(append(at, "--zones", "21", "--plans", "pro,free", "--sampling", "--latency", "120ms")...)
	listed, err := page("http://" + admin + "/zones")
	var zones []zone
	if err != nil || json.Unmarshal([]byte(listed), &zones) != nil || len(zones) != 21 {
		t.Fatalf("the zones are %s (%v), want 21", listed, err)
	}
	plans := map[string]int{}
	for _, z := range zones {
		plans[z.Plan]++
	}
	if plans["pro"] != 11 || plans["free"] != 10 {
		t.Errorf("the plans are %v", plans)
	}
	began := time.Now()
	if answer := sampled(api, cfsim.Tag("zone:shop.example")); !strings.Contains(answer, `"sampleInterval":10`) {
		t.Errorf("with sampling the answer is %.300s", answer)
	}
	if took := time.Since(began); took < 120*time.Millisecond {
		t.Errorf("an answer took %s, want 120ms and more", took)
	}

	api, admin = start(append(at, "--late-revisions", "1", "--late-shrinking", "0", "--error-share", "60%", "--error-statuses", "503,429")...)
	if answer, err := page("http://" + admin + "/faults"); err != nil || !strings.Contains(answer, `"status": 503`) && !strings.Contains(answer, `"status":503`) {
		t.Errorf("the faults are %s (%v)", answer, err)
	}
	statuses := map[int]int{}
	for range 200 {
		status, kind, _ := ask(api, "/zones", "")
		statuses[status]++
		if want := map[int]string{200: "application/json", 429: "application/json", 503: "text/html"}[status]; !strings.HasPrefix(kind, want) {
			t.Errorf("status %d comes as %s, want %s", status, kind, want)
		}
	}
	for status, want := range map[int]int{200: 80, 503: 60, 429: 60} {
		if n := statuses[status]; n < want/2 || n > want*3/2 {
			t.Errorf("of 200 answers %v; want some %d of status %d", statuses, want, status)
		}
	}

	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--zones", "0"}, []string{"--zones", "a whole number from 1 to 100000"}},
		{[]string{"--plans", "gold,pro"}, []string{"--plans", "gold", "must be free, pro, business or enterprise"}},
		{[]string{"--error-statuses", "200", "--plans", "x"}, []string{"--error-statuses", "200", "from 400 to 599", "--plans"}},
		{[]string{"--error-share", "1.5"}, []string{"--error-share", "a share from 0% to 100%"}},
		{[]string{"--recorded", "x.csv", "--zones", "9"}, []string{"--recorded", "remove --zones"}},
		{[]string{"--latency", "1h"}, []string{"--latency", "5m"}},
	} {
		o := complete(t, command(t, program(t, "weir"), nil, append([]string{"sim"}, test.args...)...))
		for _, want := range test.want {
			if o.code == 0 || !strings.Contains(o.stderr, want) {
				t.Errorf("weir sim %q: exit code %d, %s; want %q", test.args, o.code, o.stderr, want)
			}
		}
	}
}

// What prints and ends: versions, help, the catalogue.
func TestBinaryPrints(t *testing.T) {
	t.Parallel()
	extra := filepath.Join(t.TempDir(), "none.yaml")
	testkit.WriteFile(t, extra, []byte("datasets: []\n"))
	for _, test := range []struct {
		program  string
		settings []string
		args     []string
		has      []string
	}{
		{"collector", nil, []string{"version"}, []string{"collector " + binaryVersion}},
		{"exposer", nil, []string{"version"}, []string{"exposer " + binaryVersion}},
		{"weir", nil, []string{"--version"}, []string{"weir " + binaryVersion}},
		{"weir", nil, []string{"help"}, []string{"run ", "demo ", "sim ", "version "}},
		{"collector", nil, []string{"run", "--help"}, []string{"--cf-api-token-file", "CF_API_TOKEN_FILE", "--drain", "default 10s", "required"}},
		{"exposer", nil, []string{"run", "--help"}, []string{"--collector-address", "[WEIR_COLLECTOR_ADDRESS]", "default 127.0.0.1:9820"}},
		{"collector", nil, []string{"catalogue"}, []string{"| `http_5m` | zone | 5m | by default |", "| `colos_1h` | zone | 1h | on request |"}},
		{"collector", nil, []string{"catalogue", "schema"}, []string{`"$schema": "http://json-schema.org/draft-07/schema#"`, `"additionalProperties": false`, `"filter_field"`}},
		{"collector", []string{"CF_BUCKET_SECONDS=3600", "WEIR_DATASETS=colos_1h", "WEIR_CATALOGUE_FILE=" + extra}, []string{"catalogue"}, []string{"| `http_1h` | zone | 1h |"}},
	} {
		o := complete(t, command(t, program(t, test.program), test.settings, test.args...))
		if o.code != 0 || o.stderr != "" {
			t.Errorf("%s %q: exit code %d, standard error %q", test.program, test.args, o.code, o.stderr)
		}
		for _, part := range test.has {
			if !strings.Contains(o.stdout, part) {
				t.Errorf("%s %q does not print %q:\n%s", test.program, test.args, part, o.stdout)
			}
		}
	}
}
