package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// upgrade is one store and everybody who has to do with it.
type upgrade struct {
	t           *testing.T
	sim         *simulated
	before, now *service // the collector of each build
	leader      *service // nil: nobody leads
	exposers    []*service
	together    bool
	migrated    bool     // by this build, which may not read the store otherwise
	zones       []string // collected by now
	config      collector.Config

	restated *bucket.Bucket // what provoke has restated, as it is since
	followed time.Time      // when both exposers were at the head

	log  []collectortest.Entry      // as stored when it was last looked at
	told map[uint64]*bucketv1.Entry // as streamed, by revision
}

func newUpgrade(t *testing.T, previous string, together bool, settings ...string) *upgrade {
	t.Helper()
	u := &upgrade{t: t, sim: simulate(t, nil), together: together, told: map[uint64]*bucketv1.Entry{}}
	u.before = u.sim.newCollector(t, append(settings, "WEIR_COLLECTOR_NAME=before")...)
	u.now = u.sim.newCollector(t, append(settings, "WEIR_COLLECTOR_NAME=now", "WEIR_GRPC_ADMIN_TOKEN="+adminToken)...)
	u.before.build = previous
	if !together { // another program in the same place
		u.now.data, u.now.ops = u.before.data, u.before.ops
		u.now.settings = append(u.now.settings, "WEIR_COLLECTOR_LISTEN="+u.now.data, "WEIR_COLLECTOR_OPS_LISTEN="+u.now.ops)
	}
	program(t, "collector") // this build's too, before any process waits for another
	for _, build := range []string{previous, ""} {
		collectors := []*service{u.before}
		if together {
			collectors = append(collectors, u.now)
		}
		x := newExposer(t, nil, collectors...)
		x.build = build
		u.exposers = append(u.exposers, x)
	}
	cli.Defaults(u.config.Settings())
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		switch name {
		case "WEIR_SQLITE_FILE":
			u.config.SQLiteFile = value
		case "WEIR_DATABASE_URL":
			u.config.DatabaseURL = cli.NewSecret(value)
		default:
			t.Fatalf("the test does not know how to open a store with %s", name)
		}
	}
	return u
}

// migrate brings the schema to that of a build. Where several collectors may
// have the store open the others go on meanwhile.
func (u *upgrade) migrate(c *service) {
	u.t.Helper()
	if !u.together {
		u.stop()
	}
	if o := complete(u.t, c.command("migrate")); o.code != 0 {
		u.t.Fatalf("migrate: exit code %d: %s", o.code, o.stderr)
	}
	u.migrated = u.migrated || c == u.now
	u.keeps()
}

// stop ends whoever leads, and looks at what is left.
func (u *upgrade) stop() {
	u.t.Helper()
	if u.leader == nil {
		return
	}
	u.end(u.leader)
	u.leader = nil
	u.keeps()
}

// worked is how long a stream has to go on before an exposer takes its end for
// routine (see the client's doc.go), and a bit. One that is cut sooner a few times
// in a row waits for up to half a minute, and the test with it.
const worked = 2200 * time.Millisecond

// end stops a collector, which must have had nothing to complain about.
func (u *upgrade) end(c *service) {
	u.t.Helper()
	time.Sleep(time.Until(u.followed.Add(worked)))
	c.stop()
	u.content(c)
}

// content checks that a service met nothing that it does not understand.
func (u *upgrade) content(s *service) {
	u.t.Helper()
	if hasLine(s.log.String(), "level=ERROR") {
		u.t.Errorf("the %s %s logged an error", s.name, cmp.Or(s.build, "of this build"))
	}
}

// turn makes a collector the leader, with more zones than the one before it.
// Where that one still runs, the next one stands by first, and so does the one
// before afterwards.
func (u *upgrade) turn(next *service, zones ...string) {
	t := u.t
	t.Helper()
	u.zones = append(u.zones, zones...)
	next.again("CF_ZONES=" + strings.Join(u.zones, ","))
	next.ready()
	if before := u.leader; before != nil {
		u.same(before, next)
		u.end(before)
		u.leads(next)
		before.again()
		before.ready()
		u.same(next, before)
		u.end(before)
	}
	u.leads(next)
	u.leader = next
	for _, x := range u.exposers {
		// An exposer that finds nobody at its start waits longer and longer.
		if x.process == nil {
			x.again()
		}
	}
	rpc, _ := api(t, next)
	testkit.Eventually(t, func() error {
		answer, err := rpc.ListScopes(t.Context(), &bucketv1.ListScopesRequest{})
		collected := slices.DeleteFunc(answer.GetScopes(), func(s *bucketv1.ScopeInfo) bool { return s.GetScope().GetKind() != bucketv1.ScopeKind_SCOPE_KIND_ZONE })
		if err == nil && len(collected) < len(u.zones) {
			err = fmt.Errorf("%d zones are collected, want %q", len(collected), u.zones)
		}
		return err
	})
}

// epoch waits until the exposer of this build has counters, and returns their epoch.
func (u *upgrade) epoch() string { u.t.Helper(); return epochOf(u.t, u.exposers[1], "") }

// epochOf waits until an exposer shows counters, of another epoch than one before, and
// returns their epoch.
func epochOf(t *testing.T, x *service, before string) (id string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		body, err := page("http://" + x.data + "/counters")
		if err != nil {
			return err
		}
		_, after, found := strings.Cut(body, `weir_counter_epoch_info{epoch="`)
		if id, _, _ = strings.Cut(after, `"`); !found || id == before {
			return fmt.Errorf("no other epoch than %q on the page:\n%s", before, body)
		}
		return nil
	})
	return id
}

// leads waits until a collector does, and checks that it is of its build.
func (u *upgrade) leads(c *service) {
	u.t.Helper()
	version := binaryVersion
	if c.build != "" {
		version = previousVersion
	}
	rpc, _ := api(u.t, c)
	testkit.Eventually(u.t, func() error {
		status, err := rpc.GetStatus(u.t.Context(), &bucketv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		if status.GetRole() != bucketv1.Role_ROLE_LEADER || status.GetVersion() != version {
			return fmt.Errorf("%s is %s, and its release is %s, want the leader and %s", c.data, status.GetRole(), status.GetVersion(), version)
		}
		return nil
	})
}

// holds waits until everything is collected, and compares all that comes out
// with what happened.
func (u *upgrade) holds() {
	t := u.t
	t.Helper()
	collected := *u.sim
	collected.zones = slices.DeleteFunc(slices.Clone(u.sim.zones), func(z truth.Zone) bool { return !slices.Contains(u.zones, z.Name) })
	for _, x := range u.exposers {
		collected.showsTruth(t, u.leader, x)
	}
	u.followedAlike()
	u.streams(u.leader)
	u.keeps()
}

// followedAlike checks that both exposers show the same history at one revision, which
// they may repeat by rules of their own.
func (u *upgrade) followedAlike() {
	u.t.Helper()
	end := time.Now().UTC().Truncate(time.Second)
	history := fmt.Sprintf("/backfill?start=%s&end=%s", end.Add(-48*time.Hour).Truncate(24*time.Hour).Format(time.RFC3339), end.Format(time.RFC3339))
	testkit.Eventually(u.t, func() error {
		var revisions [2]uint64
		var bodies [2]string
		for i, x := range u.exposers {
			var err error
			if bodies[i], err = page("http://" + x.data + history); err != nil {
				return err
			}
			if revisions[i], err = x.shows(); err != nil {
				return err
			}
		}
		if revisions[0] != revisions[1] {
			return fmt.Errorf("the exposers are at revisions %v", revisions)
		}
		if bodies[0] != bodies[1] {
			return fmt.Errorf("two exposers at revision %d have histories of %d and %d bytes that differ", revisions[0], len(bodies[0]), len(bodies[1]))
		}
		return nil
	})
	u.followed = time.Now()
}

// streams checks that what was streamed once is streamed again, by whichever
// build, and returns all of it.
func (u *upgrade) streams(c *service) map[uint64]*bucketv1.Entry {
	t := u.t
	t.Helper()
	entries, _ := snapshot(t, c, 48*time.Hour)
	got := map[uint64]*bucketv1.Entry{}
	for _, e := range entries {
		got[e.GetRevision()] = e
	}
	for revision, e := range u.told {
		if !proto.Equal(got[revision], e) {
			t.Errorf("revision %d was streamed as %v, and now as %v", revision, e, got[revision])
		}
	}
	u.told = got
	return got
}

// same checks that two collectors that share a store, the first of which leads,
// stream the same.
func (u *upgrade) same(leader, standby *service) {
	u.t.Helper()
	first := u.streams(leader)
	// The leader may have gone on; what it had, the other one has.
	second := u.streams(standby)
	if len(first) == 0 || len(second) < len(first) {
		u.t.Errorf("the leader streams %d entries, the standby %d", len(first), len(second))
	}
	u.followedAlike()
	u.tellsOfThePresent(standby)
}

// tellsOfThePresent checks that a collector tells nothing of what provoke wrote:
// the leader that is said to have found it is gone.
func (u *upgrade) tellsOfThePresent(c *service) {
	t := u.t
	t.Helper()
	rpc, _ := api(t, c)
	status, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range status.GetProblems() {
		if strings.Contains(p.GetMessage(), provokedWords) {
			t.Errorf("%s tells a problem of a leader that is gone: %v", c.data, p)
		}
	}
}

// open opens the store as this build's collector does.
func (u *upgrade) open() *collectortest.Shared {
	u.t.Helper()
	s, err := collector.OpenStore(u.t.Context(), u.config, collector.Deps{Clock: clock.System(), Logger: testkit.Logger(u.t)})
	if err != nil {
		u.t.Fatal(err)
	}
	return collectortest.Share(s, clock.System())
}

// keeps checks that the store has what it had, byte by byte, and no bucket
// twice. A file that a collector has open is looked at when that has stopped;
// before this build has migrated it there are the streams to compare.
func (u *upgrade) keeps() {
	t := u.t
	t.Helper()
	if !u.migrated || !u.together && u.leader != nil && u.leader.running() == nil {
		return
	}
	s := u.open()
	defer s.Close()
	log, err := s.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(log) < len(u.log) {
		t.Fatalf("the store has %d entries, and had %d", len(log), len(u.log))
	}
	if diff := gocmp.Diff(u.log, log[:len(u.log)], cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("what the store had is another (-before +now):\n%s", diff)
	}
	u.log = log
	stored := map[bucket.Key]bucket.Revision{}
	for i, e := range log {
		if e.Revision != bucket.Revision(i+1) {
			t.Fatalf("entry %d of the log has revision %d", i+1, e.Revision)
		}
		if e.Kind != bucket.KindBucket {
			continue
		}
		if first, twice := stored[e.Key]; twice {
			t.Errorf("%v is stored under revisions %d and %d", e.Key, first, e.Revision)
		}
		stored[e.Key] = e.Revision
	}
	t.Logf("the store has %d entries, %d of them buckets", len(log), len(stored))
}

// lost is a range that is decided to be lost: long before the history of this
// test, so that no window of it is.
func (u *upgrade) lost() (collectortest.Series, collectortest.Decided) {
	start := bucket.TimeOf(u.sim.began.AddDate(0, 0, -7).Truncate(time.Hour))
	return collectortest.Series{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:parked.example")}},
		collectortest.Decided{Window: bucket.Window{Start: start, End: start.Add(time.Hour)}, Reason: "invalid"}
}

// provokedWords are in every text that provoke writes.
const provokedWords = "written by the upgrade test"

// provoke writes what this build writes in trouble only, so that the build
// before finds it. Whatever a release adds to the store belongs here (a kind of
// record, a reason, a field, a kind of entry), and into [upgrade.provoked] what
// has to become of it. What the build before has as well can go when
// testdata/previous-build moves.
func (u *upgrade) provoke() {
	t := u.t
	t.Helper()
	s := u.open()
	defer s.Close()

	// Reasons of gaps that the build before has no words for. They are gaps that
	// it would have written itself: of windows that wait to be believed.
	gaps, err := collectortest.StoredGaps(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(gaps) < 2 {
		t.Fatalf("the ledger has %d gaps, want at least 2: the test has no subject", len(gaps))
	}
	for i := range gaps {
		gaps[i].Reason, gaps[i].Detail = "unknown", "403: Cannot use the access token from location, "+provokedWords
		if i%2 == 1 {
			gaps[i].Reason, gaps[i].Detail = "invalid", "the value of label country holds a NUL byte, "+provokedWords
		}
	}
	records := collectortest.Gaps(gaps...)

	// A loss with such a reason is an entry of the log too: it stays, and every
	// reader meets it.
	of, span := u.lost()
	payload, err := wire.EncodeGapDecision(&bucketv1.GapDecision{
		Kind: bucketv1.GapDecision_KIND_LOST, Dataset: of.Dataset, Scope: wire.ProtoScope(of.Scope),
		StartUnixSeconds: int64(span.Start), EndUnixSeconds: int64(span.End), Reason: bucketv1.GapReason_GAP_REASON_INVALID,
	})
	if err != nil {
		t.Fatal(err)
	}
	records = append(records, collectortest.Decision(of, span))
	entries := []collectortest.NewEntry{{
		Kind: bucket.KindGapDecision, Key: bucket.Key{Dataset: of.Dataset, Scope: of.Scope, Start: span.Start}, End: span.End, Payload: payload,
	}}

	// An account, and a dataset about accounts, that this build has collected.
	found, observed := u.account(span.Start)
	records, entries = append(records, found), append(entries, observed...)

	problems := []collectortest.Problem{
		{Code: "NO_ZONES", Message: "the token sees no zone, " + provokedWords, Since: time.Now()},
		{Code: "UNKNOWN_REFUSAL", About: "parked.example http_5m", Message: provokedWords, Since: time.Now()},
	}
	if err := collectortest.Write(t.Context(), s, append(entries, u.restate(s)), records, problems...); err != nil {
		t.Fatal(err)
	}
}

// restate is a restatement of a bucket that is stored, to a value that Cloudflare never had.
func (u *upgrade) restate(s *collectortest.Shared) collectortest.NewEntry {
	t := u.t
	t.Helper()
	log, err := s.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(log, func(e collectortest.Entry) bool {
		return e.Kind == bucket.KindBucket && e.Key.Dataset == "http_5m" && e.Key.Scope.ID == cfsim.Tag("zone:shop.example")
	})
	if i < 0 {
		t.Fatal("no bucket is stored: the test has no subject")
	}
	b, err := wire.DecodeBucket(log[i].Payload)
	if err != nil {
		t.Fatal(err)
	}
	b.Families[0].Values[0]++
	payload, err := wire.EncodeRestatement(b, log[i].Payload, chainRequester, provokedWords)
	if err != nil {
		t.Fatal(err)
	}
	u.restated = b
	return collectortest.NewEntry{
		Kind: bucket.KindRestatement, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant,
		Rows: b.Len(), SampleInterval: b.SampleInterval, Payload: payload,
	}
}

// run runs a command of operators of this build against this build's collector.
func (u *upgrade) run(args ...string) (int, string, string) {
	a := &archive{t: u.t, address: u.now.data, settings: []string{"WEIR_COLLECTOR_TOKEN=" + adminToken}}
	return a.run(nil, args...)
}

// operate has operators ask this build's leader for what the build before has no words
// for: a backfill that is done, of long before the history of this test, and one of a silent
// zone, which is not; a restatement that finds nothing; and a gap to be accepted, which is
// refused. Each leaves an audit event.
func (u *upgrade) operate() {
	t := u.t
	t.Helper()
	hour := u.sim.began.UTC().Truncate(time.Hour)
	for _, ask := range []struct {
		code int
		ago  time.Duration // start of the hour that it is about
		zone string
		args []string
	}{
		{0, 96 * time.Hour, "shop.example", []string{"backfill", "fetch"}},
		{0, 20 * time.Hour, "parked.example", []string{"backfill", "fetch", "--detach"}},
		{0, time.Hour, "shop.example", []string{"restate"}},
		{1, 96 * time.Hour, "shop.example", []string{"gaps", "accept"}},
	} {
		start := hour.Add(-ask.ago)
		if code, _, errs := u.run(append(ask.args, "--dataset", "http_5m", "--zone", ask.zone, "--start", start.Format(time.RFC3339), "--end", start.Add(time.Hour).Format(time.RFC3339),
			"--reason", provokedWords, "--requester", chainRequester)...); code != ask.code {
			t.Errorf("weir %s exits with %d, want %d: %s", strings.Join(ask.args, " "), code, ask.code, errs)
		}
	}
}

// operated checks what has become of what operators asked for, now that both builds have
// led since: nothing of it is forgotten, and lists have the restatement as what it is.
func (u *upgrade) operated() {
	t := u.t
	t.Helper()
	response := func(m proto.Message, args ...string) {
		t.Helper()
		code, out, errs := u.run(append(args, "--output", "json")...)
		if err := protojson.Unmarshal([]byte(out), m); err != nil || code != 0 {
			t.Fatalf("weir %s exits with %d: %v %s", strings.Join(args, " "), code, err, errs)
		}
	}
	backfills, events := new(adminv1.ListBackfillsResponse), new(adminv1.ListAuditEventsResponse)
	response(backfills, "backfill", "status")
	response(events, "audit", "list")
	var got []string
	for _, b := range slices.Backward(backfills.GetBackfills()) {
		n := b.GetWindows()
		got = append(got, fmt.Sprintf("%s of %d: %d filled, %d missing", strings.TrimPrefix(b.GetState().String(), "BACKFILL_STATE_"), n.GetTotal(), n.GetFilled(), n.GetMissing()))
	}
	if want := []string{"DONE of 12: 12 filled, 0 missing", "RUNNING of 12: 0 filled, 12 missing"}; !slices.Equal(got, want) {
		t.Errorf("backfills are %q, want %q", got, want)
	}
	got = nil
	for _, r := range slices.Backward(events.GetEvents()) {
		got = append(got, fmt.Sprintf("%s refused: %t", strings.TrimPrefix(r.GetEvent().GetAction().String(), "ACTION_"), r.GetEvent().GetRefused() != ""))
	}
	if want := []string{"BACKFILL_CREATED refused: false", "BACKFILL_DONE refused: false", "BACKFILL_CREATED refused: false", "RESTATED refused: false", "GAPS_ACCEPTED refused: true"}; !slices.Equal(got, want) {
		t.Errorf("audit events are %q, want %q", got, want)
	}
	rpc, _ := api(t, u.leader)
	for _, restated := range []bool{false, true} {
		r := u.restated
		listed := list(t, rpc, &bucketv1.ListBucketsRequest{
			Filter:           &bucketv1.Filter{Datasets: []string{r.Dataset}, Scopes: []*bucketv1.Scope{wire.ProtoScope(r.Scope)}},
			StartUnixSeconds: int64(r.Start), EndUnixSeconds: int64(r.Window().End), AsRestated: restated,
		})
		if len(listed) != 1 || (listed[0].GetBucket() != nil) == restated || restated && !proto.Equal(listed[0].GetRestatement().GetBucket(), wire.ProtoBucket(r)) {
			t.Errorf("the list (as restated: %t) has %v, want %s to be restated", restated, listed, r.Key)
		}
	}
}

// account is what a store holds of an account: its record, a dataset, a bucket.
func (u *upgrade) account(start bucket.Time) (collectortest.Record, []collectortest.NewEntry) {
	const family = "cloudflare_account_worker_requests"
	of := bucket.Scope{Kind: bucket.Account, ID: cfsim.Tag("account:retail")}
	def := bucket.Definition{
		Dataset: "workers_5m", Version: 1, ScopeKind: bucket.Account, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 12, Description: provokedWords,
		Families: []bucket.Family{{Name: family, Help: "Requests.", Labels: []string{"script", "status"}, Role: bucket.Breakdown, Additive: true}},
	}
	b := bucket.Bucket{
		Key: bucket.Key{Dataset: def.Dataset, Scope: of, Start: start}, Size: def.Size, Version: 1, Account: "Example Retail",
		Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "adaptive", ReadAt: start.Add(time.Hour),
		Families: []bucket.Rows{{Family: family, Labels: []string{"checkout", "success"}, Values: []float64{7}}},
	}
	payload, err := wire.Seal(&b, &def)
	if err != nil {
		u.t.Fatal(err)
	}
	return collectortest.Account(of.ID, "Example Retail", start), []collectortest.NewEntry{
		{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: def.Dataset}, Payload: wire.EncodeDefinition(&def)},
		{Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant, Rows: 1, Payload: payload},
	}
}

// provoked checks what has become of the things that provoke wrote, now that both
// builds have led since, and stops the collector.
func (u *upgrade) provoked() {
	t := u.t
	t.Helper()
	u.tellsOfThePresent(u.leader)
	rpc, _ := api(t, u.leader)
	answer, err := rpc.GetCoverage(t.Context(), &bucketv1.GetCoverageRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range answer.GetCoverages() {
		for _, r := range c.GetRanges() {
			if strings.Contains(r.GetDetail(), provokedWords) {
				t.Errorf("a gap of %s has the reason of a leader that is gone: %v", c.GetDataset(), r)
			}
		}
	}
	scopes, err := rpc.ListScopes(t.Context(), &bucketv1.ListScopesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(scopes.GetScopes(), func(s *bucketv1.ScopeInfo) bool {
		return s.GetScope().GetKind() == bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT && s.GetAccountLabel() == "Example Retail" && s.GetState() == bucketv1.ScopeState_SCOPE_STATE_ACTIVE
	}) {
		t.Error("the account that was collected is not known any more")
	}
	for _, x := range u.exposers {
		u.content(x)
		if n := x.metric("weir_exposer_entries_rejected_total"); n != 0 {
			t.Errorf("the exposer %s rejected %v entries", cmp.Or(x.build, "of this build"), n)
		}
	}

	u.operated()
	u.stop()
	s := u.open()
	defer s.Close()
	decided, err := collectortest.StoredDecisions(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	of, span := u.lost()
	kept := false
	for _, d := range decided {
		kept = kept || d.Dataset == of.Dataset && d.Scope == of.Scope && slices.Contains(d.Spans, span)
	}
	if !kept {
		t.Errorf("decisions are %+v, want %+v of %v among them", decided, span, of)
	}
}
