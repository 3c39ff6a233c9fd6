package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
)

// campaign is one run: everything that is up, and the ways between them.
type campaign struct {
	*world
	script     *script
	origin     time.Time // machine time at which the clock began
	speed      float64
	database   *pgtest.Server
	disk       *pgtest.Disk // nil: the machine does not allow one
	dsn        string
	prometheus *promtest.Server
	collectors []*member
	exposers   []*member
	data       []string // addresses of the exposers
	// The ways that can be broken. Of a collector to the database and to
	// Cloudflare; of each follower to collector i%2.
	toDatabase, toCloudflare, toCollector []*proxy
	diary                                 *diary
	reader                                *reader
	api                                   bucketv1.BucketServiceClient // past all proxies; nil before its first use
	release                               func()                       // of the database's connections
	done                                  map[string]int
	broken                                int // violations
	samples                               int // compared with the truth
	pages                                 int // read of the exposers
}

// maxConnections leaves each collector what it can use at most (design of the
// store: eight readers, four writers, one listener), and psql something.
const maxConnections = 30

// start starts the outside world and the script's Cloudflare, then both
// services, twice each.
func (c *campaign) start(t *testing.T, seed uint64, story time.Duration, speed float64) {
	t.Helper()
	*c = campaign{world: &world{t: t, lookback: 30 * time.Minute}, speed: speed, done: map[string]int{}}
	c.startDatabase()
	// So long ago that the clock, which stops running fast when it has caught
	// up, does not catch up in the run.
	back := story + 7*time.Hour
	c.data = []string{address(t), address(t)}
	c.prometheus = startPrometheus(t, back+30*time.Hour, c.data...)

	c.origin = time.Now()
	c.began = c.origin.Add(-back).UTC().Truncate(time.Second)
	c.clock = clock.Chasing(c.began, speed)
	c.script = write(seed, c.began, story, speed)
	c.serve(c.cloudflare(seed))

	grpc, ops := []string{address(t), address(t)}, []string{address(t), address(t)}
	for i, name := range []string{"collector-a", "collector-b"} {
		db := newProxy(t, c.database.Addr(), seed+uint64(10+i))
		api := newProxy(t, strings.TrimSuffix(strings.TrimPrefix(c.simURL, "http://"), cfsim.Prefix), seed+uint64(20+i))
		c.toDatabase, c.toCloudflare = append(c.toDatabase, db), append(c.toCloudflare, api)
		c.collectors = append(c.collectors, startMember(t, c.part(part{
			Role: "collector", Name: name, Listen: grpc[i], Ops: ops[i],
			Database:   strings.Replace(c.dsn, c.database.Addr(), db.addr(), 1) + "&application_name=" + name,
			Cloudflare: "http://" + api.addr() + cfsim.Prefix,
		})))
	}
	for i, name := range []string{"exposer-a", "exposer-b"} {
		c.exposers = append(c.exposers, startMember(t, c.part(part{
			Role: "exposer", Name: name, Listen: c.data[i], Ops: address(t), Collectors: c.ways(seed, grpc),
		})))
	}
	c.follow(c.ways(seed, grpc))
	c.read()
}

// part completes a child's specification.
func (c *campaign) part(p part) part {
	p.Folder, p.Lookback, p.Origin, p.From, p.Speed = c.t.TempDir(), c.lookback, c.origin, c.began, c.speed
	return p
}

// ways are a follower's own proxies to both collectors.
func (c *campaign) ways(seed uint64, collectors []string) (addresses []string) {
	for _, upstream := range collectors {
		p := newProxy(c.t, upstream, seed+uint64(30+len(c.toCollector)))
		c.toCollector = append(c.toCollector, p)
		addresses = append(addresses, p.addr())
	}
	return addresses
}

// journal makes the database itself note who moved the log, and when: what an
// application says of itself is one thing, what it did another.
const journal = `
CREATE TABLE journal (
	number bigserial PRIMARY KEY, at timestamptz NOT NULL, who text NOT NULL, holder text NOT NULL,
	term bigint NOT NULL, term_before bigint NOT NULL, head bigint NOT NULL, head_before bigint NOT NULL, renewed boolean NOT NULL
);
CREATE FUNCTION note_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO journal (at, who, holder, term, term_before, head, head_before, renewed)
	VALUES (clock_timestamp(), current_setting('application_name'), regexp_replace(NEW.holder, '~[^~]*$', ''), NEW.term, OLD.term, NEW.head, OLD.head,
		NEW.expires_at IS DISTINCT FROM OLD.expires_at);
	RETURN NULL;
END $$;
CREATE TRIGGER note_log AFTER UPDATE ON log FOR EACH ROW EXECUTE FUNCTION note_log()`

// startDatabase starts a Postgres with few connections, on a small disk where
// one can be mounted, with the schema and the journal.
func (c *campaign) startDatabase() {
	t := c.t
	settings := []string{fmt.Sprintf("max_connections=%d", maxConnections), "min_wal_size=32MB", "max_wal_size=64MB"}
	var err error
	c.database, c.disk, err = pgtest.StartOnDisk(t, 320<<20, settings...)
	if errors.Is(err, pgtest.ErrNoMount) {
		t.Log("no disk is filled: ", err)
		// The rest of the campaign is worth running; CI must not lose this part in silence.
		if os.Getenv("TEST_COMPLETE") != "" {
			t.Error("missing, and TEST_COMPLETE is set: a small disk for the database")
		}
		if c.database == nil {
			c.database = pgtest.Start(t, settings...)
		}
	}
	t.Cleanup(c.database.Thaw) // before it is stopped
	c.dsn = c.database.DSN()
	var config collector.Config
	cli.Defaults(config.Settings())
	config.DatabaseURL = cli.NewSecret(c.dsn)
	if err := collector.Migrate(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, c.dsn, journal)
}

// cloudflare is the script's: the demo's zones with their fates, and one more.
func (c *campaign) cloudflare(seed uint64) cfsim.Config {
	config := cfsim.Demo(c.clock, seed)
	for i := range config.Zones {
		config.Zones[i].Events = c.script.events[config.Zones[i].ID]
	}
	config.Zones = append(config.Zones, cfsim.Zone{
		ID: cfsim.Tag("zone:added.example"), Name: "added.example", Account: config.Accounts[1].ID, Plan: cfsim.Business,
		Created: c.began.Add(c.script.added).Truncate(time.Minute), Traffic: config.Zones[1].Traffic,
	})
	config.Faults = c.script.faults
	return config
}

// play does what the script says, and then heals everything.
func (c *campaign) play(story time.Duration) {
	type step struct {
		at time.Duration
		do func(*campaign, act)
		a  act
	}
	var steps []step
	for _, a := range c.script.acts {
		steps = append(steps, step{a.at, a.fault.begin, a}, step{a.at + a.lasts, a.fault.end, a})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	begun := time.Since(c.origin) // the script's times begin when everybody has been started
	for _, s := range steps {
		time.Sleep(time.Until(c.origin.Add(begun + s.at)))
		if s.at == s.a.at {
			c.t.Logf("%s  %s", time.Now().UTC().Format("15:04:05.000"), s.a)
			if s.a.fault.group == "database" {
				c.database.Revive()
			}
		}
		s.do(c, s.a)
		if s.at == s.a.at && (c.disk != nil || s.a.fault.name != diskFull) {
			c.done[s.a.fault.name]++
		}
	}
	c.until(story)
	for name, n := range c.script.names {
		c.done[name] += n
	}
	for _, f := range c.sim.Faults() { // those that met a request
		if f.Fired > 0 {
			c.done["Cloudflare: "+string(f.Kind)]++
		}
	}
	c.heal()
}

// heal ends whatever trouble there still is.
func (c *campaign) heal() {
	for _, p := range slices.Concat(c.toDatabase, c.toCloudflare, c.toCollector) {
		p.heal()
	}
	for _, m := range slices.Concat(c.collectors, c.exposers) {
		m.thaw()
	}
	c.releaseConnections(act{})
	c.database.Revive()
	c.sim.ClearFaults()
}

// leading is the number of the collector that says that it leads; other when
// none does.
func (c *campaign) leading(other int) int {
	quick := http.Client{Timeout: 300 * time.Millisecond}
	for i, m := range c.collectors {
		response, err := quick.Get("http://" + m.part.Ops + "/metrics")
		if err != nil {
			continue
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close() // it was read to its end, or there is an error
		if err == nil && strings.Contains(string(body), "\nweir_collector_leader 1\n") {
			return i
		}
	}
	return other
}

// service calls the collectors past all proxies.
func (c *campaign) service() bucketv1.BucketServiceClient {
	if c.api == nil {
		c.api = bucketv1.NewBucketServiceClient(c.connect([]string{c.collectors[0].part.Listen, c.collectors[1].part.Listen}))
	}
	return c.api
}

func (c *campaign) connect(addresses []string) *grpc.ClientConn {
	found := manual.NewBuilderWithScheme("campaign")
	var state resolver.State
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	found.InitialState(state)
	conn, err := grpc.NewClient("campaign:///collectors", grpc.WithResolvers(found),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond}, MinConnectTimeout: time.Second,
		}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() }) // nothing to learn from it
	return conn
}

// follow keeps a diary of the log from its first entry on.
func (c *campaign) follow(ways []string) {
	t := c.t
	store := ""
	testkit.Eventually(t, func() error {
		if store = pgtest.Exec(t, c.dsn, "SELECT store_id FROM log"); store == "" {
			return constError("no collector has opened the store yet")
		}
		return nil
	})
	c.diary = &diary{}
	follower, err := client.New(c.connect(ways), client.Options{
		Resume:  &bucketv1.ResumePoint{StoreId: store, Chain: make([]byte, 16)},
		Backoff: client.Backoff{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- follower.Run(ctx, c.diary) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// violations reports what must not have been.
func (c *campaign) violations(of string, list []string) {
	c.t.Helper()
	for i, v := range list {
		c.broken++
		if i < 15 {
			c.t.Errorf("violation: %s: %s", of, v)
		}
	}
}
