//go:build unix

package poll_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/upstream"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// BenchmarkScale shows how the loop's work grows with the number of zones: a pass
// while nothing is missing, the take-over by a new leader up to the end of its
// first pass, what the records of zones take in the store, and how long a status
// call takes to read them. Times are the processor's, so that a busy machine measures
// about the same as one that is not; Cloudflare's part of them is left out.
//
//	go test -run '^$' -bench Scale -benchtime 1x ./services/collector/internal/poll
func BenchmarkScale(b *testing.B) {
	for _, zones := range []int{60, 300, 1000} {
		b.Run(fmt.Sprintf("zones=%d", zones), func(b *testing.B) { benchmarkScale(b, zones) })
	}
}

func benchmarkScale(b *testing.B, zones int) {
	w := newScale(b, zones)
	w.lead(3*time.Hour + 2*time.Minute)
	takeover := w.lead(time.Minute).first // which also warms up
	for range 2 {
		w.skip(6 * time.Minute)
		takeover = min(takeover, w.lead(time.Minute).first)
	}
	var passes int
	var spent time.Duration
	for b.Loop() {
		b.StopTimer()
		w.skip(6 * time.Minute)
		b.StartTimer()
		run := w.lead(54 * time.Minute) // each hour has the same mix of passes
		passes, spent = passes+run.passes-1, spent+run.rest
	}
	series := float64(zones * len(w.config.Catalogue.Datasets))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(spent.Seconds()*1e3/float64(passes), "ms/pass")
	b.ReportMetric(spent.Seconds()*1e6/float64(passes)/series, "µs/pass/series")
	b.ReportMetric(takeover.Seconds()*1e3, "ms/take-over")
	size, read := w.records(b)
	b.ReportMetric(float64(size)/1e6, "MB/records")
	b.ReportMetric(read.Seconds()*1e3, "ms/read")
}

// scale is a loop with many zones, on a store in a file.
type scale struct {
	b      *testing.B
	clock  *leaping
	store  store.Store
	config poll.Config
	far    *faraway
}

func newScale(b *testing.B, zones int) *scale {
	b.Helper()
	w := &scale{b: b, clock: &leaping{Manual: clock.NewManual(began)}}
	path := filepath.Join(b.TempDir(), "weir.db")
	if err := sqlite.Migrate(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	var err error
	if w.store, err = sqlite.Open(b.Context(), sqlite.Options{Path: path, Clock: w.clock, Settings: store.Settings{SampleTimestamp: "end"}}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.store.Close() })
	c, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		b.Fatal(err)
	}
	w.far = newFaraway(w.clock, zones, c)
	w.config = poll.Config{
		Store: w.store, Credentials: []upstream.Credential{{Name: roster.DefaultCredential, Client: w.far, Budget: boundless{}}}, Clock: w.clock, Catalogue: c,
		Metrics: poll.NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
		Lookback: 3 * time.Hour, Retention: 90 * 24 * time.Hour, Interval: time.Minute, LeaseTTL: 15 * time.Second, Seed: 1,
	}
	return w
}

// skip lets time pass in which nobody leads.
func (w *scale) skip(d time.Duration) { w.clock.Advance(d) }

// term is what a term took, Cloudflare's part left out.
type term struct {
	first, rest time.Duration // until the end of the first pass, and after it
	passes      int
}

// lead leads for so long in virtual time, as a fresh process would.
func (w *scale) lead(d time.Duration) (t term) {
	ctx, cancel := context.WithCancel(w.b.Context())
	defer cancel()
	w.clock.end, w.clock.done = w.clock.Now().Add(d), cancel
	won, err := w.store.Acquire(ctx, "benchmark", 15*time.Second)
	if err != nil {
		w.b.Fatal(err)
	}
	began, away := processor(), w.far.took
	busy := func() time.Duration { return processor() - began - (w.far.took - away) }
	c := w.config
	c.Passed = func() {
		if t.passes++; t.passes == 1 {
			t.first = busy()
		}
	}
	if err := poll.New(c).Lead(ctx, won); err != nil && ctx.Err() == nil {
		w.b.Fatal(err)
	}
	t.rest = busy() - t.first
	return t
}

// processor is the time that this process has used, its garbage collector included.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// records is the size of what is stored of zones, and how long reading it takes.
func (w *scale) records(b *testing.B) (size int, read time.Duration) {
	for _, kind := range []string{roster.KindScope, roster.KindEntitlements} {
		records, err := w.store.Records(b.Context(), kind)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range records {
			size += len(r.Value)
		}
	}
	source := status.Source{Store: w.store, Catalogue: w.config.Catalogue, Clock: w.clock, Retention: w.config.Retention}
	for range 3 {
		began := processor()
		scopes, err := source.Scopes(b.Context())
		if err != nil || len(scopes) != len(w.far.zones) {
			b.Fatalf("%d scopes: %v", len(scopes), err)
		}
		if took := processor() - began; read == 0 || took < read {
			read = took
		}
	}
	return size, read
}

// boundless is a budget that nothing uses up.
type boundless struct{}

func (boundless) Leaves(quota.Lane) int { return 1 << 20 }
func (boundless) TryTake(context.Context, quota.Lane) (bool, time.Duration, error) {
	return true, 0, nil
}
func (boundless) Over()                   {}
func (boundless) Share() (int, int)       { return 1 << 20, 1 << 20 }
func (boundless) Expect(float64)          {}
func (boundless) Refused(_ time.Duration) {}

// faraway is a Cloudflare without a network: each zone has steady traffic that is
// there a minute after it passed, and the settings of four plans, each of as many
// nodes and fields as Cloudflare has for a zone.
type faraway struct {
	clock    clock.Clock
	zones    []cloudflare.Zone
	settings []map[string]cloudflare.Settings // by plan
	took     time.Duration
}

const (
	settingsNodes  = 70
	settingsFields = 62
)

func newFaraway(c clock.Clock, zones int, cat *catalogue.Catalogue) *faraway {
	f := &faraway{clock: c}
	for i := range zones {
		f.zones = append(f.zones, cloudflare.Zone{
			ID: fmt.Sprintf("%08x%024x", uint32(i)*2654435761, i), Name: fmt.Sprintf("zone-%d.example", i), Status: "active",
			Account: cloudflare.Account{ID: strings.Repeat("a", 32), Name: "Account"}, Plan: cloudflare.Plan{Name: "Plan"},
		})
	}
	available := map[string][]string{}
	for i := range cat.Datasets {
		for j := range cat.Datasets[i].Variants {
			v := &cat.Datasets[i].Variants[j]
			available[v.Node] = append(available[v.Node], v.Fields()...)
		}
	}
	for n := len(available); n < settingsNodes; n++ {
		available[fmt.Sprintf("zonesAnalyticsOfNode%dAdaptiveGroups", n)] = nil
	}
	for plan := range 4 {
		all := make(map[string]cloudflare.Settings, settingsNodes)
		for node, fields := range available {
			slices.Sort(fields)
			fields = slices.Compact(fields)
			for n := len(fields); n < settingsFields; n++ {
				fields = append(fields, fmt.Sprintf("dimensions_clientRequestProperty%d", n))
			}
			all[node] = cloudflare.Settings{
				Enabled: true, MaxDuration: 3 * 24 * time.Hour, MaxFields: 70, MaxPageSize: 10_000,
				NotOlderThan: time.Duration(30+plan) * 24 * time.Hour, Available: fields,
			}
		}
		f.settings = append(f.settings, all)
	}
	return f
}

// away counts its own time as Cloudflare's.
func (f *faraway) away() func() {
	began := processor()
	return func() { f.took += processor() - began }
}

func (f *faraway) Zones(context.Context) ([]cloudflare.Zone, error)       { return f.zones, nil }
func (f *faraway) Accounts(context.Context) ([]cloudflare.Account, error) { return nil, nil }
func (f *faraway) Date(context.Context) (time.Time, error)                { return f.clock.Now(), nil }

func (f *faraway) State(context.Context, string, bucket.Scope, func(context.Context) error) ([]map[string]any, error) {
	return nil, errors.New("nobody asks for states here")
}

// Settings answers for the nodes that nobody asks with the first one that somebody does.
func (f *faraway) Settings(_ context.Context, _ string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	defer f.away()()
	out := make(map[string]map[string]cloudflare.Settings, len(zones))
	for _, zone := range zones {
		out[zone] = map[string]cloudflare.Settings{}
		for node, s := range f.settings[int(zone[31]-'0')%4] {
			if slices.Contains(nodes, node) || strings.HasPrefix(node, "zonesAnalytics") {
				out[zone][node] = s
			}
		}
	}
	return out, nil
}

func (f *faraway) Query(_ context.Context, q cloudflare.Query) (*cloudflare.Response, error) {
	defer f.away()()
	a := &cloudflare.Response{Zones: map[string]map[string][]map[string]any{}, Date: f.clock.Now()}
	for _, zone := range q.Zones {
		a.Zones[zone] = map[string][]map[string]any{}
		for i := range q.Selections {
			a.Zones[zone][q.Selections[i].Alias] = f.groups(&q.Selections[i])
		}
	}
	return a, nil
}

// groups are those of a selection without dimensions but its time.
func (f *faraway) groups(s *cloudflare.Selection) []map[string]any {
	out := []map[string]any{}
	step := map[string]time.Duration{"datetimeFiveMinutes": 5 * time.Minute, "datetime": time.Hour, "date": 24 * time.Hour}[s.TimeDimension]
	arrived := bucket.TimeOf(f.clock.Now().Add(-time.Minute))
	for at := s.Window.Start; at < s.Window.End && at < arrived; at = at.Add(step) {
		amount := int64(float64(step/time.Second) * 20 * min(1, float64(arrived.Sub(at))/float64(step)))
		g := map[string]any{}
		for _, path := range s.Fields {
			set(g, strings.Split(path, "."), amount)
		}
		text := at.Std().Format(time.RFC3339)
		if s.TimeDimension == "date" {
			text = at.Std().Format(time.DateOnly)
		}
		g["dimensions"] = map[string]any{s.TimeDimension: text}
		out = append(out, g)
	}
	return out
}

// set puts an amount where a path leads; maps have twenty keys.
func set(into map[string]any, path []string, amount int64) {
	number := func(n int64) json.Number { return json.Number(fmt.Sprint(n)) }
	name := path[0]
	switch {
	case len(path) == 1 && name == "sampleInterval":
		into[name] = number(1)
	case len(path) == 1:
		into[name] = number(amount)
	case strings.HasSuffix(name, "Map"):
		list, _ := into[name].([]any)
		for i := range int64(20) {
			if len(list) <= int(i) {
				list = append(list, map[string]any{})
			}
			element := list[i].(map[string]any)
			switch leaf := path[1]; leaf {
			case "edgeResponseStatus":
				element[leaf] = number(200 + i)
			case "requests", "bytes":
				element[leaf] = number(amount / 20)
			default:
				element[leaf] = fmt.Sprintf("K%d", i)
			}
		}
		into[name] = list
	default:
		inner, _ := into[name].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			into[name] = inner
		}
		set(inner, path[1:], amount)
	}
}
