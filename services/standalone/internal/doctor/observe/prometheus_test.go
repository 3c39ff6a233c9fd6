package observe_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor/observe"
)

// data wraps it as Prometheus's API does.
func data(v any) http.HandlerFunc {
	out, err := json.Marshal(map[string]any{"status": "success", "data": v})
	if err != nil {
		panic(err) // only for values that no test has
	}
	return says(200, "application/json", string(out))
}

// database answers queries of a few expressions, by a part of each.
func database(t *testing.T, config string, more map[string]http.HandlerFunc, answers map[string]any) string {
	pages := map[string]http.HandlerFunc{
		"/api/v1/status/config":      data(map[string]string{"yaml": config}),
		"/api/v1/status/buildinfo":   data(map[string]string{"version": "3.15.0"}),
		"/api/v1/status/runtimeinfo": data(map[string]string{"storageRetention": "15d"}),
		"/api/v1/targets":            data(map[string]any{"activeTargets": []any{}}),
		"/metrics":                   says(200, "text/plain", "prometheus_tsdb_too_old_samples_total{type=\"float\"} 3\n"),
		"/api/v1/query": func(w http.ResponseWriter, r *http.Request) {
			query, kind := r.FormValue("query"), "vector"
			if strings.HasPrefix(query, "{") && strings.HasSuffix(query, "]") {
				kind = "matrix"
			}
			for part, result := range answers {
				if strings.Contains(query, part) {
					data(map[string]any{"resultType": kind, "result": filled(result)})(w, r)
					return
				}
			}
			data(map[string]any{"resultType": kind, "result": []any{}})(w, r)
		},
	}
	for path, page := range more {
		pages[path] = page
	}
	return serve(t, pages)
}

func TestConfigurations(t *testing.T) {
	vm := map[string]http.HandlerFunc{
		"/metrics": says(200, "text/plain", "vm_app_version{version=\"victoria-metrics-v1.151.0\",short_version=\"v1.151.0\"} 1\n"),
		"/flags":   says(200, "text/plain", "-dedup.minScrapeInterval=\"1ms\"\n-promscrape.maxScrapeSize=\"64MB\"\n-retentionPeriod=\"12\"\n"),
	}
	shipped := string(testkit.RepoFile(t, "deploy/prometheus/prometheus.yml"))
	for name, tc := range map[string]struct {
		config string
		more   map[string]http.HandlerFunc
		want   doctor.JobConfig
		window time.Duration
		kind   string
	}{
		"as shipped":               {shipped, nil, doctor.JobConfig{HonorTimestamps: true, Interval: time.Minute, Timeout: 30 * time.Second, BodyLimit: 64 << 20, ReplayHours: -1}, 30 * time.Hour, doctor.KindPrometheus},
		"VictoriaMetrics' shipped": {string(testkit.RepoFile(t, "deploy/victoriametrics/scrape.yml")), vm, doctor.JobConfig{HonorTimestamps: true, Interval: time.Minute, Timeout: 30 * time.Second, ReplayHours: -1}, 0, doctor.KindVictoria},
		"defaults of Prometheus":   {"global: {scrape_interval: 15s}\nscrape_configs: [{job_name: weir}]", nil, doctor.JobConfig{HonorTimestamps: true, Interval: 15 * time.Second, Timeout: 10 * time.Second, ReplayHours: -1}, 0, doctor.KindPrometheus},
		"of VictoriaMetrics":       {"scrape_configs: [{job_name: weir}]", vm, doctor.JobConfig{Interval: time.Minute, Timeout: 10 * time.Second, ReplayHours: -1}, 0, doctor.KindVictoria},
		"everything": {
			"storage: {tsdb: {out_of_order_time_window: 1d6h}}\nscrape_configs: [{job_name: other}, {job_name: weir, honor_timestamps: false, track_timestamps_staleness: true, scrape_interval: 5m, sample_limit: 7, body_size_limit: 1MiB512KiB, params: {replay_hours: [6], round: [2h]}}]", nil,
			doctor.JobConfig{TrackStaleness: true, Interval: 5 * time.Minute, Timeout: 10 * time.Second, SampleLimit: 7, BodyLimit: 3 << 19, ReplayHours: 6, Round: 2 * time.Hour},
			30 * time.Hour, doctor.KindPrometheus,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := observe.NewPrometheus(database(t, tc.config, tc.more, nil), http.DefaultClient, now).Ask(t.Context(), "weir", nil)
			if got.Err != nil || got.ConfigErr != nil {
				t.Fatal(got.Err, got.ConfigErr)
			}
			if diff := cmp.Diff(&tc.want, got.Config); diff != "" {
				t.Errorf("job (-want +got):\n%s", diff)
			}
			if got.Window != tc.window || got.Kind != tc.kind {
				t.Errorf("window %s of a %s, want %s of a %s", got.Window, got.Kind, tc.window, tc.kind)
			}
		})
	}
	// The Prometheus operator names the job after its object, and gives the targets a label.
	pool := "serviceMonitor/edge/weir-replay/0"
	operators := database(t, "scrape_configs: [{job_name: other}, {job_name: "+pool+", scrape_interval: 30s}]", map[string]http.HandlerFunc{
		"/api/v1/targets": data(map[string]any{"activeTargets": []any{map[string]any{"scrapePool": pool, "labels": map[string]string{"job": "weir"}, "health": "up"}}}),
	}, nil)
	for _, job := range []string{"weir", pool} {
		if got := observe.NewPrometheus(operators, http.DefaultClient, now).Ask(t.Context(), job, nil); got.Config == nil || got.Config.Interval != 30*time.Second {
			t.Errorf("job %s: %+v, want the configuration of %s", job, got.Config, pool)
		}
	}
	for name, config := range map[string]string{"a wrong size": "body_size_limit: 64 parsecs", "a wrong interval": "scrape_interval: soon", "no YAML": "{"} {
		got := observe.NewPrometheus(database(t, "scrape_configs: [{job_name: weir, "+config+"}]", nil, nil), http.DefaultClient, now).Ask(t.Context(), "weir", nil)
		if got.ConfigErr == nil || got.Config != nil {
			t.Errorf("%s: %+v, want an error", name, got.Config)
		}
	}
}

func TestRefusedAndDuplicates(t *testing.T) {
	value := func(v string, labels map[string]string) map[string]any {
		return map[string]any{"metric": labels, "value": []any{1764500400.123, v}}
	}
	got := observe.NewPrometheus(database(t, "", nil, map[string]any{
		"count(count by (zone, account) (count_over_time(cloudflare_zone_bytes": []any{value("2", nil)},
		"count by (job, instance) (count_over_time(cloudflare_zone_bytes":       []any{value("9", map[string]string{"job": "weir", "instance": "b"}), value("9", map[string]string{"job": "weir", "instance": "a"})},
	}), http.DefaultClient, now).Ask(t.Context(), "weir", []string{"cloudflare_zone_requests", "cloudflare_zone_bytes"})
	if want := []string{`cloudflare_zone_bytes of 2 zones under job="weir", instance="a" and job="weir", instance="b"`}; !cmp.Equal(want, got.Duplicates) {
		t.Errorf("duplicates are %q, want %q", got.Duplicates, want)
	}
	if got.SelfScraped || got.Refused["prometheus_tsdb_too_old_samples_total"] != 3 {
		t.Errorf("refused are %v, self-scraped %t", got.Refused, got.SelfScraped)
	}
	got = observe.NewPrometheus(database(t, "", nil, map[string]any{
		"increase(prometheus_tsdb_too_old_samples_total": []any{value("0", nil)},
	}), http.DefaultClient, now).Ask(t.Context(), "weir", nil)
	if !got.SelfScraped || got.Refused["prometheus_tsdb_too_old_samples_total"] != 0 {
		t.Errorf("refused are %v, self-scraped %t; want those of the last hour", got.Refused, got.SelfScraped)
	}
}

// An answer that may be a part of what there is, is none: every question says so.
func TestPartialAnswers(t *testing.T) {
	for name, part := range map[string]string{
		"warnings":        `"warnings":["store 2 did not answer"]`,
		"VictoriaMetrics": `"isPartial":true`,
	} {
		t.Run(name, func(t *testing.T) {
			answer := says(200, "application/json", `{"status":"success",`+part+`,"data":{"resultType":"vector","result":[]}}`)
			says := func(what string, err error) {
				t.Helper()
				if err == nil || !strings.Contains(err.Error(), "store 2 did not answer") && !strings.Contains(err.Error(), "the answer is partial") {
					t.Errorf("%s: the error is %v", what, err)
				}
			}
			p := observe.NewPrometheus(database(t, "", map[string]http.HandlerFunc{"/api/v1/query": answer}, nil), http.DefaultClient, now)
			says("any query", p.Ask(t.Context(), "weir", nil).Err)
			says("panels", p.Panels(t.Context(), "x", []observe.Expression{{Text: "weir_exposer_ready"}}).Err)
			says("own metrics", errors.Join(asErrors(p.Own(t.Context()).Errs)...))

			// A query layer warns if a query reaches a store that is down.
			layer := observe.NewPrometheus(database(t, "", map[string]http.HandlerFunc{"/api/v1/query": func(w http.ResponseWriter, r *http.Request) {
				if r.FormValue("query") != "vector(1)" {
					answer(w, r)
					return
				}
				data(map[string]any{"resultType": "vector", "result": []any{}})(w, r)
			}}, nil), http.DefaultClient, now)
			got := layer.Ask(t.Context(), "weir", nil)
			if got.Err != nil {
				t.Fatal(got.Err)
			}
			says("duplicates", got.DuplicatesErr)
			says("refused samples", got.RefusedErr)
			b := observe.Backfill(t.Context(), stocked(t, map[int]float64{5: 1}), layer, observe.Scraping{Job: "weir", Replay: 24 * time.Hour}, clock.NewManual(now))
			says("the comparison", b.CompareErr)
		})
	}
	// Remarks about an expression, which older releases have among the warnings, lack nothing.
	remark := says(200, "application/json", `{"status":"success","warnings":["PromQL info: metric might not be a counter"],"data":{"resultType":"vector","result":[]}}`)
	if got := observe.NewPrometheus(database(t, "", map[string]http.HandlerFunc{"/api/v1/query": remark}, nil), http.DefaultClient, now).Ask(t.Context(), "weir", nil); got.Err != nil || got.DuplicatesErr != nil {
		t.Errorf("errors of a remark: %v, %v", got.Err, got.DuplicatesErr)
	}
}

func asErrors(list []string) (errs []error) {
	for _, text := range list {
		errs = append(errs, errors.New(text))
	}
	return errs
}

// Which stores are scraped is known from the metrics of their exposers, too.
func TestScrapedStores(t *testing.T) {
	info := func(id string) any {
		return map[string]any{"metric": map[string]string{"store_id": id}, "value": []any{1, "1"}}
	}
	base := database(t, "", nil, map[string]any{"group by (store_id) (weir_exposer_store_info)": []any{info("b"), info("a")}})
	got := observe.NewPrometheus(base, http.DefaultClient, now).Ask(t.Context(), "weir", nil)
	if want := []string{"a", "b"}; !cmp.Equal(want, got.Stores) {
		t.Errorf("stores are %q, want %q", got.Stores, want)
	}
}

func TestExpressions(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []observe.Expression
	}{
		"a dashboard": {`{"panels":[{"targets":[{"expr":"a"},{"expr":" "}]},{"panels":[{"targets":[{"expr":"b"},{"expr":"a"}]}]}]}`, []observe.Expression{{Text: "a"}, {Text: "b"}}},
		"rules":       {"groups:\n- name: x\n  rules:\n  - {alert: A, expr: a > 0}\n  - {record: b, expr: sum(b)}\n", []observe.Expression{{Text: "a > 0", Alert: true}, {Text: "sum(b)"}}},
	} {
		got, err := observe.Expressions([]byte(tc.text))
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	for name, text := range map[string]string{"nothing": "", "no expressions": "{}", "neither": "{"} {
		if got, err := observe.Expressions([]byte(text)); err == nil {
			t.Errorf("%s: %v, want an error", name, got)
		}
	}
}

// Each name is looked for as it is; what may have no series is not missed, unless its
// process is not scraped.
func TestPanels(t *testing.T) {
	var asked []string
	ranged := ""
	held := []string{"weir_exposer_ready", "cloudflare_zone_requests", "recorded:by_zone"}
	base := database(t, "", map[string]http.HandlerFunc{
		"/api/v1/query": func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.FormValue("query"))
			if strings.HasPrefix(r.FormValue("query"), "sum") {
				data(map[string]any{"resultType": "vector", "result": []any{map[string]any{"metric": map[string]string{}, "value": []any{1, "2"}}}})(w, r)
			} else if strings.HasPrefix(r.FormValue("query"), "broken") {
				says(400, "application/json", `{"status":"error","error":"parse error"}`)(w, r)
			} else {
				data(map[string]any{"resultType": "vector", "result": []any{}})(w, r)
			}
		},
		"/api/v1/query_range": func(w http.ResponseWriter, r *http.Request) {
			if from, to := now.Add(-time.Hour).Unix(), now.Unix(); r.FormValue("query") == "" || r.FormValue("start") != fmt.Sprint(from) || r.FormValue("end") != fmt.Sprint(to) {
				t.Errorf("asked %v", r.Form)
			}
			data(json.RawMessage(ranged))(w, r)
		},
		"/api/v1/label/__name__/values": func(w http.ResponseWriter, r *http.Request) {
			matches := regexp.MustCompile("^(?:" + strings.TrimSuffix(strings.TrimPrefix(r.FormValue("match[]"), `{__name__=~"`), `"}`) + ")$")
			data(slices.DeleteFunc(slices.Clone(held), func(n string) bool { return !matches.MatchString(n) }))(w, r)
		},
	}, nil)
	run := func(list ...observe.Expression) *doctor.Panels {
		return observe.NewPrometheus(base, http.DefaultClient, now).Panels(t.Context(), "x", list)
	}
	got := run(
		observe.Expression{Text: `sum(rate(weir_exposer_ready{zone=~"$zone", job="weir_collector_text"}[$__rate_interval]))`},
		observe.Expression{Text: `sum by (zone, absent_label) (cloudflare_zone_requests offset 1h) / on (zone) group_left(other) recorded:by_zone`},
		observe.Expression{Text: `weir_exposer_raedy > 0 and ALERTS{alertname="x"}`, Alert: true},
		observe.Expression{Text: `broken`},
		observe.Expression{Text: `cloudflare_a / 1e3 > bool 5 or vm_rows_ignored_total`},
		observe.Expression{Text: `weir_secret_usable == 0`}, // a setting may have no file
		observe.Expression{Text: `weir_exposer_scrapes_total`},
		observe.Expression{Text: `weir_collector_gap_windows`}, // no collector is scraped
	)
	want := &doctor.Panels{
		From: "x", Expressions: 8, Alerts: 1, WithData: 2, Buckets: true, Broken: []string{"broken (parse error)"},
		Absent: []string{"cloudflare_a", "weir_collector_gap_windows", "weir_exposer_raedy"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("panels (-want +got):\n%s", diff)
	}
	if want := `sum(rate(weir_exposer_ready{zone=~".*", job="weir_collector_text"}[5m]))`; asked[0] != want {
		t.Errorf("asked %s, want %s", asked[0], want)
	}
	ranged = `{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}`
	if got := run(observe.Expression{Text: "cloudflare_zone_requests"}, observe.Expression{Text: "cloudflare_zone_requests > 5", Alert: true}); got.WithData != 1 {
		t.Errorf("buckets of the last hour are no data: %+v", got)
	}
	ranged = `{"resultType":"matrix","result":[]}`
	held = nil
	if got := run(observe.Expression{Text: "weir_secret_usable + weir_exposer_scrapes_total"}); got.Buckets || got.WithData != 0 || !cmp.Equal(got.Absent, []string{"weir_exposer_scrapes_total", "weir_secret_usable"}) {
		t.Errorf("with nothing scraped: %+v", got)
	}
}

// filled is a list as Prometheus writes it: never null.
func filled(result any) any {
	if list, is := result.([]any); is && list == nil {
		return []any{}
	}
	return result
}
