package doctor_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const storeID = "0123456789abcdef0123456789abcdef"

// healthy is an installation in which everything passes.
func healthy() *doctor.Observed {
	status := func(r bucketv1.Role) *bucketv1.GetStatusResponse {
		return &bucketv1.GetStatusResponse{
			Info: &bucketv1.StoreInfo{StoreId: storeID}, Head: &bucketv1.ResumePoint{StoreId: storeID, Revision: 5000},
			ProgressTime: timestamppb.New(now.Add(-5 * time.Second)), Role: r, Leader: "one", Version: "v1",
			Datasets: []*bucketv1.DatasetStatus{{Dataset: "http_5m", ScopesActive: 2, CompleteUntilUnixSeconds: now.Add(-10 * time.Minute).Unix()}},
		}
	}
	exposer := func(url string) doctor.Exposer {
		return doctor.Exposer{
			URL: url, StoreID: storeID, Revision: 5000, Age: 4 * time.Second, HasAge: true, Replay: 24 * time.Hour, Turn: 1, Bytes: 500_000, Samples: 4000,
			Counters: doctor.Counters{StoreID: storeID, Epoch: "one", Series: 300},
		}
	}
	own := func(from string, leads float64, started time.Time) []doctor.Sample {
		return []doctor.Sample{
			{Name: "weir_collector_leader", From: from, Value: leads},
			{Name: "process_start_time_seconds", From: from, Value: float64(started.Unix())},
			{Name: "weir_collector_budget_needed_requests", From: from, Labels: map[string]string{"user": "default"}, Value: 5},
			{Name: "weir_collector_budget_share_requests", From: from, Labels: map[string]string{"user": "default"}, Value: 150},
		}
	}
	return &doctor.Observed{
		Now: now,
		Cloudflare: &doctor.Cloudflare{Credentials: []collector.CredentialReport{{
			Name: "default", Token: collector.TokenStatus{Status: "active", ExpiresOn: now.Add(90 * 24 * time.Hour)},
			Zones:    []collector.ZoneReport{{ID: "a", Name: "shop.example", Status: "active", Selected: true}},
			Settings: []collector.ZoneSettings{{Zone: "shop.example", Allowed: []string{"httpRequests1mGroups"}}},
			Skew:     200 * time.Millisecond, Uncertain: 600 * time.Millisecond,
		}}},
		Collectors: []doctor.Collector{
			{Address: "one:9820", Status: status(bucketv1.Role_ROLE_LEADER), Admin: &doctor.Admin{}},
			{Address: "two:9820", Status: status(bucketv1.Role_ROLE_STANDBY), Admin: &doctor.Admin{}},
		},
		Log: &doctor.Log{
			From:     "one:9820",
			Datasets: []*bucketv1.DatasetVersion{{Dataset: "http_5m", SizeSeconds: 300, Delay: durationpb.New(5 * time.Minute), Families: []*bucketv1.FamilyDefinition{{Name: "cloudflare_zone_threats"}}}},
			Scopes: []*bucketv1.ScopeInfo{{
				Name: "shop.example", State: bucketv1.ScopeState_SCOPE_STATE_ACTIVE,
				Entitlements: []*bucketv1.Entitlement{{Dataset: "http_5m", Variant: "rollup_1m"}},
			}},
			Reads:        []doctor.Reads{{Dataset: "http_5m", Buckets: 72, Delay: 5 * time.Minute, Least: 5*time.Minute + 2*time.Second}},
			OldestCommit: now.Add(-48 * time.Hour),
		},
		Store: &doctor.Store{Facts: collector.StoreFacts{
			Driver: "postgres", Version: "15.10", Major: 15, Encoding: "UTF8", SchemaWant: 3, Schema: schema(3, 1),
			StoreID: storeID, Head: 5000, OldestCommit: now.Add(-48 * time.Hour), Role: "weir",
			Settings:         map[string]string{"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"},
			SyncStandbyNames: "*", Standbys: map[string]int{"sync": 1}, Size: 1e9, Free: -1, Buckets: 1e6, LastDay: 10_000,
		}, Capacity: 100e9},
		Exposers: []doctor.Exposer{exposer("http://one:9810"), exposer("http://two:9810")},
		Own: &doctor.Own{From: "operations", Asked: 2, Samples: slices.Concat(
			own("one", 1, now.Add(-time.Hour)), own("two", 0, now.Add(-time.Hour)))},
		Prometheus: &doctor.Prometheus{
			URL: "http://prometheus:9090", Kind: doctor.KindPrometheus, Version: "3.15.0", Job: "weir",
			Targets: []doctor.Target{{URL: "http://one:9810/metrics", Health: "up", Store: storeID}}, Stores: []string{storeID}, Window: 30 * time.Hour,
			Config:  &doctor.JobConfig{HonorTimestamps: true, Interval: time.Minute, BodyLimit: 64 << 20, ReplayHours: -1},
			Refused: map[string]float64{"prometheus_tsdb_too_old_samples_total": 0}, SelfScraped: true,
		},
		Panels:   &doctor.Panels{From: "the rules", Expressions: 40, WithData: 3, Buckets: true},
		Backfill: &doctor.Backfill{From: now.Add(-2 * time.Hour), To: now.Add(-time.Hour), Bytes: 1000, Samples: 100, Compared: true, Equal: 90, NotDue: 10},
	}
}

func schema(version, compatible int) (f schemaOf) {
	f.Version, f.OldestCompatible = version, compatible
	return f
}

// victoria replaces Prometheus by a healthy VictoriaMetrics.
func victoria(o *doctor.Observed) {
	o.Prometheus.Kind, o.Prometheus.Version, o.Prometheus.Window = doctor.KindVictoria, "1.151.0", 0
	o.Prometheus.Config.BodyLimit = 0
	o.Prometheus.Flags = map[string]string{"dedup.minScrapeInterval": "1ms", "promscrape.maxScrapeSize": "64MB", "promscrape.noStaleMarkers": "true", "retentionPeriod": "12"}
}

// verdicts are the statuses other than pass, by check.
func verdicts(o *doctor.Observed) (map[string]doctor.Status, []doctor.Finding) {
	findings, questions := doctor.Judge(o)
	all, rank := slices.Concat(findings, questions), []doctor.Status{doctor.Pass, doctor.Skipped, doctor.Warn, doctor.Fail}
	out := map[string]doctor.Status{}
	for _, f := range all {
		if slices.Index(rank, f.Status) > slices.Index(rank, out[f.Check]) {
			out[f.Check] = f.Status
		}
	}
	maps.DeleteFunc(out, func(_ string, s doctor.Status) bool { return s == doctor.Pass })
	return out, all
}

func TestHealthy(t *testing.T) {
	for name, change := range map[string]func(*doctor.Observed){
		"Prometheus": func(*doctor.Observed) {}, "VictoriaMetrics": victoria,
		"replay_hours=0 without a window": func(o *doctor.Observed) { o.Prometheus.Config.ReplayHours, o.Prometheus.Window = 0, 0 },
		"windows that wait for their second reading": func(o *doctor.Observed) {
			o.Collectors[0].Status.Datasets[0].WindowsMissing, o.Collectors[0].Status.Datasets[0].CompleteUntilUnixSeconds = 18, now.Add(-34*time.Minute).Unix()
		},
		"a family of which there was nothing": func(o *doctor.Observed) { o.Panels.Absent = []string{"cloudflare_zone_threats"} },
		"alerts alone, of which none fires":   func(o *doctor.Observed) { o.Panels.WithData, o.Panels.Alerts = 0, 40 },
		"a job that asks for less":            func(o *doctor.Observed) { o.Prometheus.Config.ReplayHours, o.Prometheus.Window = 6, 8*time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			o := healthy()
			change(o)
			got, all := verdicts(o)
			if len(got) > 0 {
				t.Errorf("not all pass: %v", got)
			}
			judged := map[string]bool{}
			for _, f := range all {
				judged[f.Check] = true
				if f.Found == "" || f.Means != "" || f.Fix != "" {
					t.Errorf("a pass needs its evidence and nothing else: %+v", f)
				}
			}
			for _, c := range doctor.Checks {
				if !judged[c.ID] {
					t.Errorf("%s was not judged", c.ID)
				}
				delete(judged, c.ID)
			}
			for _, q := range doctor.Questions {
				if !judged[q.ID] {
					t.Errorf("%s was not answered", q.ID)
				}
				delete(judged, q.ID)
			}
			if len(judged) > 0 {
				t.Errorf("judged, and in no list: %v", judged)
			}
		})
	}
}

// What is not given is skipped, with what to give, and never passes.
func TestNothingGiven(t *testing.T) {
	got, all := verdicts(&doctor.Observed{Now: now})
	if len(got) != len(doctor.Checks)+len(doctor.Questions) {
		t.Errorf("%d checks have a verdict, want %d", len(got), len(doctor.Checks)+len(doctor.Questions))
	}
	for _, f := range all {
		if f.Status != doctor.Skipped || f.Fix == "" {
			t.Errorf("%+v, want skipped, with what to give", f)
		}
	}
}

const (
	fail    = doctor.Fail
	warn    = doctor.Warn
	skipped = doctor.Skipped
)

type verdict = map[string]doctor.Status

var errAway = errors.New("connection refused")

// skips adds the checks of an area that cannot be made to a verdict.
func skips(v verdict, area string, but ...string) verdict {
	for _, c := range doctor.Checks {
		if strings.HasPrefix(c.ID, area+".") && !slices.Contains(but, c.ID) {
			v[c.ID] = skipped
		}
	}
	return v
}

// Each fault alone is named, and nothing else is.
func TestEachFaultIsNamed(t *testing.T) {
	named := map[string]bool{}
	for name, tc := range faults() {
		t.Run(name, func(t *testing.T) {
			o := healthy()
			tc.breaks(o)
			got, all := verdicts(o)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
			text := ""
			for _, f := range all {
				if f.Status == fail || f.Status == warn {
					text += f.Found + "\n"
					if f.Status == fail && (f.Means == "" || f.Fix == "") {
						t.Errorf("a fault needs its meaning and what to change: %+v", f)
					}
				}
			}
			if !strings.Contains(text, tc.says) {
				t.Errorf("the findings do not say %q:\n%s", tc.says, text)
			}
		})
		for check, status := range tc.want {
			named[check] = named[check] || status != skipped
		}
	}
	for _, c := range doctor.Checks {
		if !named[c.ID] {
			t.Errorf("no fault is named by %s", c.ID)
		}
	}
	for _, q := range doctor.Questions {
		if !named[q.ID] {
			t.Errorf("no fault is named by %s", q.ID)
		}
	}
}
