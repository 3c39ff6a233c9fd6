package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// chain is a history that Cloudflare still has, and the shipped programs that bring it
// into a store and from there into Prometheus. Its archive is what must be held in the
// end, computed from the simulator.
type chain struct {
	*archive
	sim      *simulated
	config   cfsim.Config
	database []string // settings of the store
	opened   collector.Config
	zones    []string
}

const (
	chainDataset = "http_5m"
	adminToken   = marked + "-admin-0123456789abcdef0123456789abcdef"
)

// requester and reason of what these tests ask.
const chainRequester, chainReason = "ada", "the collector was down"

// newChain is a simulated Cloudflare with zones of these names and plans, and the range of
// so many days that ends a day before the last midnight UTC, which is older than what
// scrapes show. Four days are the most that an Enterprise zone's minutes are kept for at any
// time of the day. One answer has at most so many rows: with few, a backfill needs many
// requests. The store is a SQLite file, or the Postgres database of dsn.
func newChain(t *testing.T, days, rows int, dsn string, zones ...cfsim.Zone) *chain {
	t.Helper()
	end := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	c := &chain{archive: &archive{t: t, start: end.AddDate(0, 0, -days), end: end, truth: map[string]map[int64]float64{}}}
	c.settings = []string{"WEIR_COLLECTOR_TOKEN=" + adminToken}
	c.config = cfsim.Demo(clock.System(), 11)
	c.config.Tokens = []cfsim.Token{cfsim.GoodToken(apiToken)}
	for i := range zones {
		z := &zones[i]
		z.ID, z.Account = cfsim.Tag("zone:"+z.Name), c.config.Accounts[i%2].ID
		z.Traffic = c.config.Zones[i%2].Traffic // never silent
		c.zones = append(c.zones, z.Name)
	}
	c.config.Zones, c.config.Limits.PageSize = zones, rows
	c.sim = simulateAs(t, nil, c.config)
	cli.Defaults(c.opened.Settings())
	if dsn != "" {
		c.database, c.opened.DatabaseURL = []string{"WEIR_DATABASE_URL=" + dsn, "WEIR_MIGRATE=true"}, cli.NewSecret(dsn)
	} else {
		c.opened.SQLiteFile = filepath.Join(t.TempDir(), "weir.db")
		c.database = []string{"WEIR_SQLITE_FILE=" + c.opened.SQLiteFile}
	}
	c.learn()
	return c
}

func enterprise(names ...string) (zones []cfsim.Zone) {
	for _, name := range names {
		zones = append(zones, cfsim.Zone{Name: name, Plan: cfsim.Enterprise})
	}
	return zones
}

// learn computes the samples of the range from what happened.
func (c *chain) learn() {
	c.t.Helper()
	zones := slices.Clone(c.sim.zones)
	for i := range zones {
		zones[i].From, zones[i].Must = c.start, c.start
	}
	for p, v := range expected(c.t, c.sim.Server, zones, c.end).May {
		f := truth.Families[p.Family()]
		if f.Dataset != chainDataset {
			continue
		}
		zone, account, value := p.Labels()
		s := promtest.Series{Labels: map[string]string{"__name__": p.Family(), "zone": zone, "account": account, "job": archiveJob, "instance": archiveInstance}}
		if f.Label != "" {
			s.Labels[f.Label] = value
		}
		series := s.Name()
		if c.truth[series] == nil {
			c.truth[series] = map[int64]float64{}
		}
		c.truth[series][p.At] = v
	}
}

// only leaves out of the truth what is not kept.
func (c *chain) only(kept keep) {
	for series, samples := range c.truth {
		for at := range samples {
			if !kept(series, at) {
				delete(samples, at)
			}
		}
	}
}

// windows are how many the range has, of all zones.
func (c *chain) windows() uint64 {
	return uint64(c.end.Sub(c.start)/(5*time.Minute)) * uint64(len(c.zones))
}

// lived has a collector collect the day before a moment of the past, and stop there.
func (c *chain) lived(until time.Time) {
	t := c.t
	t.Helper()
	config := c.config
	config.Clock = clock.Chasing(until, 2)
	past := cfsimtest.New(t, config)
	settings := c.opened
	settings.Token, settings.CloudflareURL = cli.NewSecret(apiToken), cfsimtest.Start(t, past)
	settings.Lookback, settings.Drain, settings.Migrate = 24*time.Hour, 0, true
	feed, ops := testkit.Listen(t), testkit.Listen(t)
	col, err := collector.New(t.Context(), settings, collector.Deps{Clock: config.Clock, BudgetClock: config.Clock, Logger: testkit.Logger(t).With("process", "past"), GRPC: feed, Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	life := startActor(t, "the collector of the past", col.Run)
	self := &service{t: t, ops: ops.Addr().(*net.TCPAddr).String()}
	testkit.Eventually(t, func() error {
		if n, want := self.metric(`weir_collector_buckets_total{dataset="`+chainDataset), float64(len(c.zones)*280); n < want {
			return fmt.Errorf("the collector of the past has stored %v buckets, want %v", n, want)
		}
		return nil
	})
	life.stop()
}

// collector is one that has a name, not started yet.
func (c *chain) collector(name string) *service {
	c.t.Helper()
	s := c.sim.newCollector(c.t, append([]string{"WEIR_COLLECTOR_NAME=" + name, "WEIR_GRPC_ADMIN_TOKEN=" + adminToken}, c.database...)...)
	c.address = strings.TrimPrefix(c.address+","+s.data, ",")
	return s
}

// of adds the range to a command.
func (c *chain) of(args ...string) []string {
	return append(args, "--start", c.start.Format(time.RFC3339), "--end", c.end.Format(time.RFC3339), "--dataset", chainDataset)
}

// says runs a command of an operator, which must end with a code, and reads its response.
func (c *chain) says(code int, response proto.Message, args ...string) {
	c.t.Helper()
	got, out, errs := c.run(nil, append(args, "--output", "json")...)
	if got != code {
		c.t.Fatalf("weir %s exits with %d, want %d: %s", strings.Join(args, " "), got, code, errs)
	}
	if err := protojson.Unmarshal([]byte(out), response); err != nil {
		c.t.Fatalf("weir %s: %v", strings.Join(args, " "), err)
	}
}

// planned waits until the settings of the zones are known, and returns the plan of the
// range: whether Cloudflare's retention refuses a part of it is known then too.
func (c *chain) planned(refuses bool) *adminv1.EstimateBackfillResponse {
	c.t.Helper()
	e := new(adminv1.EstimateBackfillResponse)
	testkit.Eventually(c.t, func() error {
		code, out, errs := c.weir(nil, c.of("plan", "--zone", strings.Join(c.zones, ","), "--output", "json")...)
		if code != 0 {
			return fmt.Errorf("plan: %s", errs)
		}
		e = new(adminv1.EstimateBackfillResponse)
		if err := protojson.Unmarshal([]byte(out), e); err != nil {
			return err
		}
		if e.GetWindows().GetTotal() != c.windows() || e.GetRequests() == 0 || len(e.GetRefused()) > 0 != refuses {
			return fmt.Errorf("the plan is %v; want %d windows, requests, and ranges that are refused: %t", e, c.windows(), refuses)
		}
		return nil
	})
	return e
}

func (c *chain) fetch() []string {
	return c.of("backfill", "fetch", "--reason", chainReason, "--requester", chainRequester)
}

// reported checks a report: each window is in one part of it.
func (c *chain) reported(b *adminv1.Backfill, present, refused uint64) {
	c.t.Helper()
	n := b.GetWindows()
	want := &adminv1.WindowCounts{Total: c.windows(), Present: present, Refused: refused, Filled: c.windows() - present - refused}
	if b.GetState() != adminv1.BackfillState_BACKFILL_STATE_DONE || !proto.Equal(n, want) || b.GetRequester() != chainRequester || b.GetReason() != chainReason {
		c.t.Errorf("the report is %v; want %v", b, want)
	}
}

// stored reads the store, which nobody else may have open if it is a file. What it had
// before must be there still, and each window of the range once, with what happened.
func (c *chain) stored(before []collectortest.Entry) (log []collectortest.Entry, filled uint64) {
	t := c.t
	t.Helper()
	s, err := collector.OpenStore(t.Context(), c.opened, collector.Deps{Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	shared := collectortest.Share(s, clock.System())
	defer shared.Close()
	if log, err = shared.Log(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(log) < len(before) {
		t.Fatalf("the store has %d entries, and had %d", len(log), len(before))
	}
	for i, e := range before {
		if log[i].Revision != e.Revision || log[i].Chain != e.Chain {
			t.Fatalf("entry %d of the log was revision %d, chain %x, and is revision %d, chain %x", i+1, e.Revision, e.Chain, log[i].Revision, log[i].Chain)
		}
	}
	seen := map[bucket.Key]bucket.Revision{}
	for _, e := range log {
		if e.Kind != bucket.KindBucket || e.Key.Dataset != chainDataset || e.Key.Start < bucket.TimeOf(c.start) || e.Key.Start >= bucket.TimeOf(c.end) {
			continue
		}
		if first, twice := seen[e.Key]; twice {
			t.Errorf("%s is stored under revisions %d and %d", e.Key, first, e.Revision)
		}
		seen[e.Key] = e.Revision
		b, err := wire.DecodeBucket(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		totals, err := c.sim.True(e.Key.Scope.ID, b.Window().Start.Std(), b.Window().End.Std())
		if err != nil {
			t.Fatal(err)
		}
		if wrong := truth.Differs(b, totals); wrong != "" {
			t.Errorf("%s: %s", e.Key, wrong)
		}
		if b.Origin == bucket.Backfill {
			filled++
		}
	}
	t.Logf("%d windows of the range are stored, %d of them by a backfill; the log has %d entries", len(seen), filled, len(log))
	return log, filled
}

// events are the audit events of backfills, oldest first, as action and requester.
func (c *chain) events() (all []string) {
	c.t.Helper()
	list := new(adminv1.ListAuditEventsResponse)
	c.says(0, list, "audit", "list")
	for _, r := range slices.Backward(list.GetEvents()) {
		e := r.GetEvent()
		text := strings.TrimPrefix(e.GetAction().String(), "ACTION_") + " " + e.GetActor()
		if e.GetRefused() != "" {
			text += " refused"
		}
		all = append(all, strings.TrimSpace(text))
	}
	return all
}

// verified compares the range, as "weir backfill verify" does.
func (c *chain) verified(p *promtest.Server, code int) (r verified) {
	c.t.Helper()
	got, out, errs := c.weir(p, c.of("verify", "--output", "json")...)
	if got != code {
		c.t.Fatalf("verify exits with %d, want %d: %s", got, code, errs)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// load brings what an export selects into Prometheus: export, import, a restart, clean; and
// proves that Prometheus has the truth of the range then.
func (c *chain) load(p *promtest.Server, tools promtest.Tools, selected ...string) {
	t := c.t
	t.Helper()
	folder := filepath.Join(t.TempDir(), "export")
	for _, args := range [][]string{
		append([]string{"export", folder}, selected...),
		{"import", folder, "--to", "blocks", "--data-dir", p.DataDir(), "--promtool", tools.Promtool},
	} {
		if code, _, _ := c.weir(p, args...); code != 0 {
			t.Fatalf("%s exits with %d", args[0], code)
		}
	}
	p.Restart() // it would load them within a minute
	testkit.Eventually(t, func() error { return c.holdsTruth(p, 0) })
	if r := c.verified(p, 0); r.Equal != c.size() || r.Store != c.size() {
		t.Errorf("verify compared %d samples, of which %d are equal; the truth has %d", r.Store, r.Equal, c.size())
	}
	if code, _, _ := c.weir(nil, "clean", folder); code != 0 {
		t.Errorf("clean exits with %d", code)
	}
}
