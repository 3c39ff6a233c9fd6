package alerts

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

const (
	collector = `instance="collector-0:9821",job="weir-collector"`
	standby   = `instance="collector-1:9821",job="weir-collector"`
	exposer   = `instance="exposer-0:9811",job="weir-exposer"`
	other     = `instance="exposer-1:9811",job="weir-exposer"`
	server    = `instance="prometheus-0:9090",job="prometheus"`
	data      = `instance="exposer-0:9810",job="weir"`
	pusher    = `instance="push-0:9831",job="weir-push"`
)

// healthy is a leader, a standby, two exposers and a Prometheus with which nothing is
// wrong: what each series is for an hour, a sample a minute.
func healthy() map[string]string {
	h := map[string]string{
		`weir_collector_leader{` + collector + `}`: "1x60",
		`weir_collector_leader{` + standby + `}`:   "0x60",
		// Windows fall due and are accounted for within some minutes.
		`weir_collector_overdue_since_timestamp_seconds{dataset="http_5m",` + collector + `}`:                                    "-120+60x60",
		`weir_collector_lost_windows_total{dataset="http_5m",` + collector + `}`:                                                 "0x60",
		`weir_collector_budget_shared{user="default",` + collector + `}`:                                                         "0x60",
		`weir_collector_clock_skew_seconds{source="cloudflare",` + collector + `}`:                                               "0x60",
		`weir_collector_waiting_windows{dataset="http_5m",reason="suspect",` + collector + `}`:                                   "250x60",
		`weir_collector_scope_state{zone="parked.example",dataset="http_5m",state="waiting",reason="suspect",` + collector + `}`: "1x60",
		`weir_collector_scope_state{zone="shop.example",dataset="http_5m",state="collecting",reason="",` + collector + `}`:       "1x60",
		`weir_collector_audited_buckets_total{dataset="http_5m",age="1h",result="same",` + collector + `}`:                       "0+5x60",
		`weir_collector_audited_buckets_total{dataset="http_5m",age="1h",result="moved",` + collector + `}`:                      "0x60",
	}
	for _, counter := range []string{outOfOrder, outOfBounds, duplicate, tooOld} {
		h[counter] = "0x60"
	}
	h[`up{`+server+`}`], h[`up{`+data+`}`] = "1x60", "1x60"
	for _, code := range codes {
		h[problem(code, collector)] = "0x60"
		h[problem(code, standby)] = "0x60"
	}
	for _, target := range []string{collector, standby} {
		h[`up{`+target+`}`] = "1x60"
		h[`weir_collector_store_up{`+target+`}`] = "1x60"
		h[`weir_secret_usable{secret="CF_API_TOKEN_FILE",`+target+`}`] = "1x60"
	}
	h[`weir_push_lag_seconds{`+pusher+`}`] = "20x60"
	h[`weir_push_samples_refused_total{reason="too_old",`+pusher+`}`] = "0x60"
	for _, target := range []string{exposer, other} {
		h[`up{`+target+`}`] = "1x60"
		h[`weir_exposer_ready{`+target+`}`] = "1x60"
		h[`weir_exposer_progress_lag_seconds{`+target+`}`] = "45x60"
		h[`weir_exposer_replay_refused{`+target+`}`] = "0x60"
		h[`weir_exposer_counters_available{`+target+`}`] = "1x60"
		h[`weir_exposer_counters_clock_ahead_seconds{`+target+`}`] = "0.8x60"
		h[`weir_exposer_replay_short{dataset="http_5m",`+target+`}`] = "0x60"
		// A page of one turn in the round at the full hour comes a minute late.
		h[`weir_exposer_replay_pages_missing{`+target+`}`] = "0x5 1 0x53"
		h[`weir_exposer_entries_rejected_total{`+target+`}`] = "0x60"
		h[`weir_exposer_counters_entries_rejected_total{`+target+`}`] = "0x60"
		h[`weir_exposer_scrapes_total{code="200",`+target+`}`] = "0+1x60"
		h[`weir_exposer_scrapes_total{code="503",`+target+`}`] = "0x60"
		h[`weir_exposer_scrapes_cut_total{`+target+`}`] = "0x60"
		h[`weir_secret_expires_timestamp_seconds{secret="WEIR_TLS_CERT_FILE",`+target+`}`] = "2592000x60"
		h[`weir_simulated{`+target+`}`] = "0x60"
	}
	return h
}

// What Prometheus counts of samples that it does not store.
const (
	outOfOrder  = `prometheus_target_scrapes_sample_out_of_order_total{` + server + `}`
	outOfBounds = `prometheus_target_scrapes_sample_out_of_bounds_total{` + server + `}`
	duplicate   = `prometheus_target_scrapes_sample_duplicate_timestamp_total{` + server + `}`
	tooOld      = `prometheus_tsdb_too_old_samples_total{type="float",` + server + `}`
)

// codes are those of package trouble.
var codes = []string{
	"SELECTION_UNMATCHED", "NO_ZONES", "TOKEN_REFUSED", "UNKNOWN_REFUSAL", "BUDGET_SHORT", "STORE_NOT_WRITABLE",
	"STORE_UNREADABLE", "INVALID_VALUE", "LEASE_CONTESTED", "DATASET_DISABLED", "ZONES_UNLISTED", "ZONE_DENIED", "UPSTREAM_FAILING",
	"NO_ACCOUNTS", "ACCOUNT_DENIED", "BACKFILL_STALLED", "COUNTERS_RESTARTED",
}

func problem(code, target string) string {
	return `weir_collector_problems{code="` + code + `",` + target + `}`
}

// epoch is when counters began, and why.
func epoch(reason string) string {
	return `weir_collector_counter_epoch_begin_timestamp_seconds{reason="` + reason + `",` + collector + `}`
}

// away is a target that cannot be scraped after ten minutes: all of it goes.
func away(targets ...string) map[string]string {
	out := map[string]string{}
	for series, values := range healthy() {
		for _, target := range targets {
			if strings.Contains(series, target) {
				first, _, _ := strings.Cut(values, "x")
				out[series] = first + "x9 stale"
			}
		}
	}
	for _, target := range targets {
		out[`up{`+target+`}`] = "1x9 0x50"
	}
	return out
}

// story is what happens at minute ten, and what has fired for it five minutes later:
// nothing else, then and at the end of the hour.
type story struct {
	name   string
	series map[string]string
	fires  []string
	// at is the minute of the first look, where five minutes are not what was promised.
	at int
	// ends says that nothing fires any more at the end of the hour.
	ends bool
}

// after is a value from minute ten on.
func after(before, then string) string { return before + "x9 " + then + "x50" }

// joined is all of several changes.
func joined(changes ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, c := range changes {
		maps.Copy(out, c)
	}
	return out
}

// unserved are the buckets that were too late for an exposer.
func unserved(target string) string {
	return `weir_exposer_unserved_buckets_total{dataset="http_5m",` + target + `}`
}

// with is one series of many changed.
func with(series, values string, more ...string) map[string]string {
	out := map[string]string{series: values}
	for i := 0; i < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func stories() []story {
	out := []story{
		{name: "a quiet hour, with zones that wait for their silence to be believed"},
		{name: "every process is away, as with weir run", series: away(collector, standby, exposer, other), fires: []string{"WeirNoLeader", "WeirTargetDown"}},
		{name: "no collector runs", series: away(collector, standby), fires: []string{"WeirNoLeader", "WeirTargetDown"}},
		{name: "one exposer is away", series: away(other), fires: []string{"WeirTargetDown"}},
		{name: "no exposer runs", series: away(exposer, other), fires: []string{"WeirNoExposer", "WeirTargetDown"}},
		{
			name: "the database is away, so that nobody leads and streams stand still", fires: []string{"WeirStoreAway"},
			series: with(`weir_collector_store_up{`+collector+`}`, after("1", "0"), `weir_collector_store_up{`+standby+`}`, after("1", "0"),
				`weir_collector_leader{`+collector+`}`, after("1", "0"), `weir_exposer_progress_lag_seconds{`+exposer+`}`, "45x9 60+60x50"),
		},
		{name: "nobody takes the lease", series: with(`weir_collector_leader{`+collector+`}`, after("1", "0")), fires: []string{"WeirNoLeader"}},
		{
			name: "appends fail, and the leader steps down", fires: []string{"WeirStoreNotWritable"},
			series: with(problem("STORE_NOT_WRITABLE", collector), after("0", "1"), `weir_collector_leader{`+collector+`}`, after("1", "0"),
				`weir_exposer_progress_lag_seconds{`+exposer+`}`, "45x9 60+60x50"),
		},
		{
			name: "appends fail, and the leader stays", fires: []string{"WeirStoreNotWritable"},
			series: with(problem("STORE_NOT_WRITABLE", collector), after("0", "1"),
				`weir_collector_overdue_since_timestamp_seconds{dataset="http_5m",`+collector+`}`, "-3000x60"),
		},
		{
			name: "two collectors with one name", fires: []string{"WeirLeaseContested"},
			series: with(problem("LEASE_CONTESTED", collector), after("0", "1"), `weir_collector_leader{`+collector+`}`, after("1", "0")),
		},
		{
			name: "the leader stands still, and lists no pages", fires: []string{"WeirStreamStale"},
			series: with(`weir_exposer_progress_lag_seconds{`+exposer+`}`, "45x9 60+60x50", `weir_exposer_replay_pages_missing{`+exposer+`}`, after("0", "2")),
		},
		{
			name: "the API token is refused, for so long that data is late", fires: []string{"WeirTokenRefused"},
			series: with(problem("TOKEN_REFUSED", collector), after("0", "1"),
				`weir_collector_overdue_since_timestamp_seconds{dataset="http_5m",`+collector+`}`, "-3000x60",
				`weir_collector_scope_state{zone="shop.example",dataset="http_5m",state="denied",reason="unauthorized",`+collector+`}`, "_x9 1x50"),
		},
		{name: "the token may not ask one zone", series: with(problem("ZONE_DENIED", collector), after("0", "1")), fires: []string{"WeirZoneDenied"}},
		{name: "the token may not ask for an account's Workers", series: with(problem("ACCOUNT_DENIED", collector), after("0", "1")), fires: []string{"WeirAccountDenied"}},
		{name: "the token sees no account", series: with(problem("NO_ACCOUNTS", collector), after("0", "1")), fires: []string{"WeirNoAccounts"}},
		{
			name: "a typo in the only entry of CF_ACCOUNTS", fires: []string{"WeirNoZones", "WeirSelectionUnmatched"},
			series: with(problem("SELECTION_UNMATCHED", collector), after("0", "1"), problem("NO_ZONES", collector), after("0", "1"), problem("NO_ACCOUNTS", collector), after("0", "1")),
		},
		{name: "a dataset is not understood", series: with(problem("DATASET_DISABLED", collector), after("0", "1")), fires: []string{"WeirDatasetOff"}},
		{
			name: "a zone has more hosts than a page has rows", fires: []string{"WeirTooManyRows"},
			series: with(`weir_collector_gap_windows{dataset="hosts_1h",reason="too_big",`+collector+`}`, "_x9 1x50"),
		},
		{name: "Cloudflare has not answered for minutes", series: with(problem("UPSTREAM_FAILING", collector), after("0", "1")), fires: []string{"WeirUpstreamFailing"}},
		{name: "a variant is refused by an answer", series: with(`weir_collector_refused_variants{dataset="http_5m",`+collector+`}`, after("0", "3")), fires: []string{"WeirVariantRefused"}},
		{name: "the token lists no zones any more", series: with(problem("ZONES_UNLISTED", collector), after("0", "1")), fires: []string{"WeirZonesUnlisted"}},
		{name: "a typo in the only entry of CF_ZONES", series: with(problem("SELECTION_UNMATCHED", collector), after("0", "1"), problem("NO_ZONES", collector), after("0", "1")), fires: []string{"WeirNoZones", "WeirSelectionUnmatched"}},
		{
			name: "the share is used up by others", fires: []string{"WeirBudgetShared"},
			series: with(`weir_collector_budget_shared{user="default",`+collector+`}`, after("0", "1")),
		},
		{name: "windows were missing for an hour", series: with(`weir_collector_overdue_since_timestamp_seconds{dataset="http_5m",`+collector+`}`, "-3060x60"), fires: []string{"WeirDataLate"}, at: 26},
		{
			name: "a gap is about to be lost, and data is late", fires: []string{"WeirGapNearLoss"},
			series: with(`weir_collector_repair_deadline_timestamp_seconds{dataset="http_5m",`+collector+`}`, "_x9 14000x50",
				`weir_collector_overdue_since_timestamp_seconds{dataset="http_5m",`+collector+`}`, "-3000x60"),
		},
		{
			name: "windows are lost while more are about to be", fires: []string{"WeirWindowsLost"},
			series: with(`weir_collector_lost_windows_total{dataset="http_5m",`+collector+`}`, after("0", "1"),
				`weir_collector_repair_deadline_timestamp_seconds{dataset="http_5m",`+collector+`}`, "_x9 14000x50"),
		},
		{
			name: "windows were lost before the first scrape", fires: []string{"WeirWindowsLost"}, ends: true,
			series: with(`weir_collector_lost_windows_total{dataset="http_5m",`+standby+`}`, "_x9 5x50"),
		},
		{name: "entries are not counted", series: with(`weir_exposer_counters_entries_rejected_total{`+exposer+`}`, after("0", "3")), fires: []string{"WeirEntriesRejected"}, ends: true},
		{name: "totals are not continued before the first scrape", series: with(`weir_exposer_counters_entries_rejected_total{instance="exposer-2:9811",job="weir-exposer"}`, "_x9 2x20"), fires: []string{"WeirEntriesRejected"}, ends: true},
		{name: "buckets are rejected before the first scrape", series: with(`weir_exposer_entries_rejected_total{instance="exposer-2:9811",job="weir-exposer"}`, "_x9 2x20"), fires: []string{"WeirEntriesRejected"}, ends: true},
		{
			name: "entries cannot be read, and exposers reject them", fires: []string{"WeirStoreUnreadable"},
			series: with(problem("STORE_UNREADABLE", collector), after("0", "1"), problem("STORE_UNREADABLE", standby), after("0", "1"),
				`weir_exposer_entries_rejected_total{`+exposer+`}`, after("0", "2"), `weir_exposer_counters_entries_rejected_total{`+exposer+`}`, after("0", "2")),
		},
		{name: "buckets move after they were final", series: with(`weir_collector_audited_buckets_total{dataset="http_5m",age="1h",result="moved",`+collector+`}`, "0+1x60",
			`weir_collector_audited_buckets_total{dataset="http_5m",age="1h",result="same",`+collector+`}`, "0+5x60"), fires: []string{"WeirDrift"}, at: 45},
		{
			name: "the replay exceeds its hard limit", fires: []string{"WeirReplayRefused"},
			series: with(`weir_exposer_replay_refused{`+exposer+`}`, after("0", "1"), `weir_exposer_scrapes_total{code="503",`+exposer+`}`, "0x9 1+1x50"),
		},
		{
			name: "the collector refuses to list pages", fires: []string{"WeirPagesMissing"}, at: 26,
			series: with(`weir_exposer_replay_pages_missing{`+exposer+`}`, after("0", "2")),
		},
		{
			name: "no collector runs in a round", fires: []string{"WeirNoLeader", "WeirTargetDown"}, at: 27,
			series: joined(away(collector, standby), with(`weir_exposer_replay_pages_missing{`+exposer+`}`, after("0", "2"), `weir_exposer_replay_pages_missing{`+other+`}`, after("0", "2"))),
		},
		{
			name: "an old gap is repaired, and exposers count it", fires: []string{"WeirUnserved"}, ends: true,
			series: with(unserved(exposer), "_x9 288x50", unserved(other), "_x9 288x50"),
		},
		{
			name: "a few more buckets are too late, once", fires: []string{"WeirUnserved"},
			series: with(unserved(exposer), after("3", "5")),
		},
		{name: "counters cannot be served", series: with(`weir_exposer_counters_available{`+exposer+`}`, after("1", "0")), fires: []string{"WeirCountersUnavailable"}, at: 16},
		{name: "counters are read again after a restart", series: with(`weir_exposer_counters_available{`+exposer+`}`, "1x9 0x3 1x50")},
		{
			name: "counters begin again, and the totals are gone", fires: []string{"WeirCountersRestarted"}, at: 45, ends: true,
			series: with(epoch("none"), "_x19 1200x40"),
		},
		{
			name:   "counters begin for the first time, after an upgrade",
			series: with(epoch("none"), "_x19 1200x40", `weir_exposer_counters_available{`+exposer+`}`, "_x21 1x38", `weir_exposer_counters_available{`+other+`}`, "_x21 1x38"),
		},
		{name: "the replay is too short", series: with(`weir_exposer_replay_short{dataset="http_5m",`+exposer+`}`, after("0", "1")), fires: []string{"WeirReplayShort"}},
		{name: "too many scrape at one time", series: with(`weir_exposer_scrapes_total{code="503",`+exposer+`}`, "0x9 1+1x50"), fires: []string{"WeirScrapesRefused"}},
		{name: "scrapers do not read", series: with(`weir_exposer_scrapes_cut_total{`+exposer+`}`, "0x9 4+4x50"), fires: []string{"WeirScrapesCut"}},
		{
			name: "Prometheus has no out-of-order window", fires: []string{"WeirSamplesRefused"}, at: 27,
			series: with(outOfOrder, "0x9 2800+2800x50", outOfBounds, "0x9 9000+9000x50"),
		},
		{name: "another target sends a sample late once", series: with(outOfOrder, after("0", "3"))},
		{
			name: "the out-of-order window is shorter than the replay", fires: []string{"WeirReplayTooOld", "WeirTargetDown"},
			series: with(tooOld, "0x9 1+1x50", `up{`+data+`}`, after("1", "0")),
		},
		{name: "a remote writer sends what is too old", series: with(tooOld, "0x9 1+1x50")},
		{name: "two installations with one name", series: with(duplicate, "0x9 400+400x50"), fires: []string{"WeirSamplesConflict"}, at: 27},
		{name: "the destination of a push is away", series: with(`weir_push_lag_seconds{`+pusher+`}`, "20x9 60+60x50"), fires: []string{"WeirPushBehind"}, at: 45},
		{name: "the destination refuses a late repair", series: with(`weir_push_samples_refused_total{reason="too_old",`+pusher+`}`, after("0", "12")), fires: []string{"WeirPushRefused"}, ends: true},
		{name: "a rotated token file is bad", series: with(`weir_secret_usable{secret="CF_API_TOKEN_FILE",`+collector+`}`, after("1", "0")), fires: []string{"WeirSecretUnusable"}},
		{name: "a certificate runs out", series: with(`weir_secret_expires_timestamp_seconds{secret="WEIR_TLS_CERT_FILE",`+exposer+`}`, after("2592000", "86400")), fires: []string{"WeirCertificateExpires"}},
		{name: "the clock of an exposer is ahead", series: with(`weir_exposer_counters_clock_ahead_seconds{`+other+`}`, after("0.8", "20")), fires: []string{"WeirClockSkew"}},
		{name: "the clock is ahead", series: with(`weir_collector_clock_skew_seconds{source="cloudflare",`+collector+`}`, after("0", "-45")), fires: []string{"WeirClockSkew"}},
		{name: "the data is made up", series: with(`weir_simulated{`+exposer+`}`, after("0", "1")), fires: []string{"WeirSimulated"}},
	}
	for code, alert := range map[string]string{
		"SELECTION_UNMATCHED": "WeirSelectionUnmatched", "UNKNOWN_REFUSAL": "WeirUnknownRefusal", "BUDGET_SHORT": "WeirBudgetShort", "INVALID_VALUE": "WeirInvalidValue",
		"BACKFILL_STALLED": "WeirBackfillStalled", "COUNTERS_RESTARTED": "WeirCountersRestarted",
	} {
		out = append(out, story{name: "the leader tells " + code, series: with(problem(code, collector), after("0", "1")), fires: []string{alert}})
	}
	slices.SortStableFunc(out[len(out)-6:], func(a, b story) int { return strings.Compare(a.name, b.name) })
	return out
}

// TestGeneratedStories writes the stories as promtool reads them.
func TestGeneratedStories(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Generated from the stories in alerts_test.go; `make generate` writes it.\n" +
		"# promtool test rules weir.test.yaml\nrule_files: [weir.rules.yaml]\nevaluation_interval: 1m\ntests:\n")
	for _, s := range stories() {
		series := healthy()
		maps.Copy(series, s.series)
		fmt.Fprintf(&b, "  - name: %s\n    interval: 1m\n    input_series:\n", s.name)
		for _, name := range slices.Sorted(maps.Keys(series)) {
			fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", name, series[name])
		}
		b.WriteString("    promql_expr_test:\n")
		first := max(s.at, 15)
		for _, minute := range []int{first, max(first, 59)} {
			fmt.Fprintf(&b, "      - expr: count by (alertname) (ALERTS{alertstate=\"firing\"}) > bool 0\n        eval_time: %dm\n        exp_samples:", minute)
			if len(s.fires) == 0 || s.ends && minute == 59 {
				b.WriteString(" []\n")
				continue
			}
			b.WriteString("\n")
			for _, alert := range s.fires {
				fmt.Fprintf(&b, "          - {labels: '{alertname=\"%s\"}', value: 1}\n", alert)
			}
		}
	}
	testkit.Golden(t, "weir.test.yaml", []byte(b.String()))
}

// Each cause fires what it should within five minutes, and nothing besides.
func TestStories(t *testing.T) {
	if out, _, err := promtest.Promtool(t, "test", "rules", "weir.test.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The older Prometheus of Debian loads the rules too.
func TestOlderPrometheusLoadsTheRules(t *testing.T) {
	if out, _, err := promtest.Debian(t).Run("check", "rules", "weir.rules.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Every alert has a story in which it fires; and no story has more than two.
func TestEveryAlertHasAStory(t *testing.T) {
	content, err := os.ReadFile("weir.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, s := range stories() {
		if len(s.fires) > 2 {
			t.Errorf("%s: %d alerts fire for one cause", s.name, len(s.fires))
		}
		for _, alert := range s.fires {
			told[alert] = true
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(content), -1) {
		if !told[m[1]] {
			t.Errorf("%s fires in no story", m[1])
		}
		delete(told, m[1])
	}
	for alert := range told {
		t.Errorf("%s fires in a story and is no alert", alert)
	}
}
