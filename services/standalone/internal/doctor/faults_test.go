package doctor_test

import (
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

type schemaOf = struct {
	Version          int
	OldestCompatible int
}

type fault struct {
	breaks func(*doctor.Observed)
	want   verdict
	says   string
}

// faults break one thing each.
func faults() map[string]fault {
	credential := func(change func(*collector.CredentialReport)) func(*doctor.Observed) {
		return func(o *doctor.Observed) { change(&o.Cloudflare.Credentials[0]) }
	}
	facts := func(change func(*collector.StoreFacts)) func(*doctor.Observed) {
		return func(o *doctor.Observed) { change(&o.Store.Facts) }
	}
	prometheus := func(change func(*doctor.Prometheus)) func(*doctor.Observed) {
		return func(o *doctor.Observed) { change(o.Prometheus) }
	}
	vm := func(change func(*doctor.Prometheus)) func(*doctor.Observed) {
		return func(o *doctor.Observed) { victoria(o); change(o.Prometheus) }
	}
	exposer := func(change func(*doctor.Exposer)) func(*doctor.Observed) {
		return func(o *doctor.Observed) { change(&o.Exposers[1]) }
	}
	both := func(change func(*bucketv1.GetStatusResponse)) func(*doctor.Observed) {
		return func(o *doctor.Observed) {
			for _, c := range o.Collectors {
				change(c.Status)
			}
		}
	}
	dataset := func(change func(*bucketv1.DatasetStatus)) func(*doctor.Observed) {
		return both(func(s *bucketv1.GetStatusResponse) { change(s.Datasets[0]) })
	}
	backfill := func(change func(*doctor.Backfill)) func(*doctor.Observed) {
		return func(o *doctor.Observed) { change(o.Backfill) }
	}

	list := map[string]fault{
		"token revoked": {credential(func(r *collector.CredentialReport) {
			r.Refused, r.TokenErr, r.ZonesErr, r.Zones = true, errors.New("Invalid API Token"), errors.New("Invalid API Token"), nil
		}), verdict{"cloudflare.token": fail, "cloudflare.permissions": skipped, "cloudflare.selection": skipped}, "Invalid API Token"},
		"token expired":       {credential(func(r *collector.CredentialReport) { r.Token.ExpiresOn = now.Add(-time.Hour) }), verdict{"cloudflare.token": fail}, "expired at 2026-11-30 11:00:00 UTC"},
		"token disabled":      {credential(func(r *collector.CredentialReport) { r.Token.Status = "disabled" }), verdict{"cloudflare.token": fail}, "the token is disabled"},
		"token expires soon":  {credential(func(r *collector.CredentialReport) { r.Token.ExpiresOn = now.Add(3 * 24 * time.Hour) }), verdict{"cloudflare.token": warn}, "expires in 3d"},
		"token not yet valid": {credential(func(r *collector.CredentialReport) { r.Token.NotBefore = now.Add(time.Hour) }), verdict{"cloudflare.token": fail}, "not valid before"},
		"token of an account": {credential(func(r *collector.CredentialReport) { r.TokenErr = errors.New("Invalid API Token") }), verdict{"cloudflare.token": warn}, "cannot be verified"},
		"Cloudflare away": {credential(func(r *collector.CredentialReport) {
			r.TokenErr, r.ZonesErr, r.Zones, r.Uncertain = errAway, errAway, nil, 0
		}), verdict{"cloudflare.token": fail, "cloudflare.permissions": fail, "cloudflare.selection": skipped, "cloudflare.clock": skipped}, "connection refused"},
		"Cloudflare cannot be asked": {func(o *doctor.Observed) {
			o.Cloudflare = &doctor.Cloudflare{Err: errors.New("WEIR_CLOUDFLARE_CA_FILE is x: no certificate")}
		}, verdict{"cloudflare.token": fail}, "WEIR_CLOUDFLARE_CA_FILE"},
		"no zone is listed":    {credential(func(r *collector.CredentialReport) { r.Zones, r.Settings = nil, nil }), verdict{"cloudflare.permissions": fail}, "lists no zone"},
		"no zone is collected": {credential(func(r *collector.CredentialReport) { r.Zones[0].Paused = true }), verdict{"cloudflare.permissions": fail}, "of which 0 are collected"},
		"analytics are denied": {credential(func(r *collector.CredentialReport) {
			r.Settings, r.SettingsDenied, r.SettingsErr = nil, true, errors.New("Actor does not have permission")
		}), verdict{"cloudflare.permissions": fail}, "does not have permission"},
		"analytics cannot be asked for": {credential(func(r *collector.CredentialReport) { r.Settings, r.SettingsErr = nil, errAway }), verdict{"cloudflare.permissions": warn}, "connection refused"},
		"a zone allows nothing": {credential(func(r *collector.CredentialReport) {
			r.Settings[0].Allowed, r.Settings[0].Refused = nil, r.Settings[0].Allowed
		}), verdict{"cloudflare.permissions": fail}, "no dataset may be read of shop.example"},
		"selection unmatched": {credential(func(r *collector.CredentialReport) { r.Unmatched = []string{`CF_ZONES "shpo.example" matches no zone`} }), verdict{"cloudflare.selection": fail}, "shpo.example"},
		"clock skew":          {credential(func(r *collector.CredentialReport) { r.Skew = -2 * time.Minute }), verdict{"cloudflare.clock": warn}, "-2m"},

		"a collector is down": {func(o *doctor.Observed) {
			o.Collectors[1] = doctor.Collector{Address: "two:9820", Err: errAway}
		}, verdict{"collector.reachable": fail}, "connection refused"},
		"no collector runs": {func(o *doctor.Observed) {
			o.Collectors = []doctor.Collector{{Address: "one:9820", Err: errAway}}
			o.Log = nil
		}, skips(verdict{"collector.reachable": fail, "delayed_collection": skipped}, "collector", "collector.reachable"), "connection refused"},
		"nobody leads": {func(o *doctor.Observed) {
			for _, c := range o.Collectors {
				c.Status.Leader, c.Status.Role = "", bucketv1.Role_ROLE_STANDBY
			}
			o.Own.Samples[0].Value = 0
		}, verdict{"collector.leader": fail, "durability": skipped}, "nobody holds the lease"},
		"a wrong admin token": {func(o *doctor.Observed) {
			o.Collectors[0].Admin.Err = errors.New("unknown bearer token")
		}, verdict{"collector.admin": fail, "backfill_path": fail}, "unknown bearer token"},
		"a token for read access": {func(o *doctor.Observed) {
			o.Collectors[0].Admin.Read, o.Collectors[0].Admin.Err = true, errors.New("the bearer token grants read access")
		}, verdict{"collector.admin": warn, "backfill_path": warn}, "grants read access"},
		"no token": {func(o *doctor.Observed) {
			o.Collectors[0].Admin = nil
		}, verdict{"collector.admin": skipped}, ""},
		"the store is asked": {func(o *doctor.Observed) {
			o.Collectors = o.Collectors[:1]
			o.Collectors[0].Beside, o.Collectors[0].Admin = true, nil
		}, verdict{"collector.reachable": skipped, "collector.admin": skipped}, ""},
		"two leaders": {func(o *doctor.Observed) {
			o.Collectors[1].Status.Role = bucketv1.Role_ROLE_LEADER
			o.Own.Samples[4].Value = 1
		}, verdict{"collector.leader": fail}, "2 processes say that they lead"},
		"two stores": {func(o *doctor.Observed) {
			o.Collectors[1].Status.Info.StoreId = "another"
		}, verdict{"collector.leader": fail, "store.reachable": fail, "exposer.store": fail, "prometheus.store": fail, "replay_bounded": fail, "backfill_path": fail}, "two:9820 has store another"},
		"no leader lives":   {both(func(s *bucketv1.GetStatusResponse) { s.ProgressTime = timestamppb.New(now.Add(-10 * time.Minute)) }), verdict{"collector.stream": fail}, "10m old"},
		"nothing collected": {both(func(s *bucketv1.GetStatusResponse) { s.ProgressTime = nil }), verdict{"collector.stream": fail}, "no leader has written"},
		"a leader ahead":    {both(func(s *bucketv1.GetStatusResponse) { s.ProgressTime = timestamppb.New(now.Add(10 * time.Minute)) }), verdict{"collector.stream": warn}, "10m ahead"},
		"a problem": {both(func(s *bucketv1.GetStatusResponse) {
			s.Problems = []*bucketv1.Problem{{Code: "TOKEN_REFUSED", Message: "Cloudflare refuses the API token", Since: timestamppb.New(now)}}
		}), verdict{"collector.problems": fail}, "Cloudflare refuses the API token"},
		"windows missing": {dataset(func(d *bucketv1.DatasetStatus) {
			d.WindowsMissing, d.CompleteUntilUnixSeconds = 500, now.Add(-36*time.Minute).Unix()
		}), verdict{"collector.coverage": warn}, "http_5m: 500 windows missing"},
		"windows unreadable": {dataset(func(d *bucketv1.DatasetStatus) { d.WindowsUnreadable = 1 }), verdict{"collector.coverage": fail}, "1 windows cannot be read"},
		"no dataset":         {both(func(s *bucketv1.GetStatusResponse) { s.Datasets = nil }), verdict{"collector.coverage": fail}, "no dataset"},
		"a zone without entitlement": {func(o *doctor.Observed) {
			o.Log.Scopes[0].Entitlements[0] = &bucketv1.Entitlement{Dataset: "http_5m", Reason: "not in the plan"}
		}, verdict{"collector.entitlements": warn}, "http_5m of shop.example (not in the plan)"},
		"no scope":     {func(o *doctor.Observed) { o.Log.Scopes = nil }, verdict{"collector.entitlements": fail}, "no active zone"},
		"budget short": {func(o *doctor.Observed) { o.Own.Samples[2].Value = 200 }, verdict{"collector.budget": fail}, "needs 200 of 150"},
		"budget tight": {func(o *doctor.Observed) { o.Own.Samples[2].Value = 140 }, verdict{"collector.budget": warn}, "needs 140 of 150"},

		"Postgres away": {func(o *doctor.Observed) {
			o.Store = &doctor.Store{Err: errAway}
		}, skips(verdict{"store.reachable": fail}, "store", "store.reachable"), "connection refused"},
		"another database": {facts(func(f *collector.StoreFacts) { f.StoreID = "another" }), verdict{"store.reachable": fail}, "this is store another"},
		"an old Postgres":  {facts(func(f *collector.StoreFacts) { f.Major, f.Version = 12, "12.9" }), verdict{"store.version": fail}, "12.9"},
		"no schema":        {facts(func(f *collector.StoreFacts) { f.Schema = schema(0, 0) }), verdict{"store.schema": fail, "store.role": skipped}, "no schema"},
		"an old schema":    {facts(func(f *collector.StoreFacts) { f.Schema = schema(2, 1) }), verdict{"store.schema": fail}, "version 2, and this release needs 3"},
		"a newer schema":   {facts(func(f *collector.StoreFacts) { f.Schema = schema(4, 3) }), verdict{"store.schema": warn}, "version 4 is newer"},
		"a foreign schema": {facts(func(f *collector.StoreFacts) { f.Schema = schema(5, 4) }), verdict{"store.schema": fail}, "releases of schema 4"},
		"encoding":         {facts(func(f *collector.StoreFacts) { f.Encoding = "LATIN1" }), verdict{"store.encoding": fail}, "LATIN1"},
		"rights missing":   {facts(func(f *collector.StoreFacts) { f.MissingRights = "INSERT ON TABLE bucket" }), verdict{"store.role": fail}, "weir lacks INSERT ON TABLE bucket"},
		"a superuser":      {facts(func(f *collector.StoreFacts) { f.Superuser = true }), verdict{"store.role": warn}, "superuser"},
		"an owner":         {facts(func(f *collector.StoreFacts) { f.OwnsTables = true }), verdict{"store.role": warn}, "owns the tables"},
		"fsync off":        {facts(func(f *collector.StoreFacts) { f.Settings["fsync"] = "off" }), verdict{"store.durability": fail, "durability": fail}, "fsync is off"},
		"pages torn":       {facts(func(f *collector.StoreFacts) { f.Settings["full_page_writes"] = "off" }), verdict{"store.durability": fail, "durability": fail}, "full_page_writes is off"},
		"asynchronous":     {facts(func(f *collector.StoreFacts) { f.Settings["synchronous_commit"] = "off" }), verdict{"store.durability": fail, "store.replication": warn, "durability": fail}, "synchronous_commit is off"},
		"SQLite's journal": {facts(func(f *collector.StoreFacts) {
			f.Driver, f.Encoding, f.Settings = "sqlite", "UTF-8", map[string]string{"journal_mode": "delete"}
		}), verdict{"store.durability": fail, "durability": fail}, "journal_mode is delete"},
		"no replication":     {facts(func(f *collector.StoreFacts) { f.SyncStandbyNames = "" }), verdict{"store.replication": warn}, "is empty"},
		"no standby":         {facts(func(f *collector.StoreFacts) { f.Standbys = map[string]int{"async": 1} }), verdict{"store.replication": fail}, "no synchronous standby"},
		"local commits":      {facts(func(f *collector.StoreFacts) { f.Settings["synchronous_commit"] = "local" }), verdict{"store.replication": warn}, "is local"},
		"standbys invisible": {facts(func(f *collector.StoreFacts) { f.Standbys = nil }), verdict{"store.replication": warn}, "may not see"},
		"full soon":          {func(o *doctor.Observed) { o.Store.Capacity = 1_100_000_000 }, verdict{"store.space": warn}, "enough for about 10 days"},
		"full":               {func(o *doctor.Observed) { o.Store.Capacity = 1_000_000_000 }, verdict{"store.space": fail}, "no space is free"},
		"space not known":    {func(o *doctor.Observed) { o.Store.Capacity = 0 }, verdict{"store.space": skipped}, ""},

		"a dead operations port": {func(o *doctor.Observed) {
			o.Own.Errs = []string{"http://two:9821/metrics: connection refused"}
		}, verdict{"operations.reachable": fail}, "http://two:9821/metrics: connection refused"},
		"dead operations ports": {func(o *doctor.Observed) {
			o.Own = &doctor.Own{From: "http://two:9821", Errs: []string{"http://two:9821/metrics: connection refused"}}
		}, verdict{"operations.reachable": fail, "operations.ready": skipped, "collector.budget": skipped, "durability": skipped}, "connection refused"},
		"a collector that cannot write": {func(o *doctor.Observed) {
			o.Own.NotReady = []string{"http://two:9821: weir-collector is not ready: the store cannot be written; remedy: free space"}
		}, verdict{"operations.ready": fail}, "http://two:9821: weir-collector is not ready: the store cannot be written; remedy: free space"},
		"operations ports that are not scraped": {func(o *doctor.Observed) {
			o.Own = &doctor.Own{From: "http://prometheus:9090"}
		}, verdict{"operations.reachable": skipped, "operations.ready": skipped, "collector.budget": skipped, "durability": skipped}, ""},

		"an exposer is down":  {exposer(func(x *doctor.Exposer) { x.Err = errAway }), verdict{"exposer.ready": fail}, "connection refused"},
		"an exposer begins":   {exposer(func(x *doctor.Exposer) { x.NotReady = "weir-exposer is not ready" }), verdict{"exposer.ready": fail}, "not ready"},
		"exposers of two":     {exposer(func(x *doctor.Exposer) { x.StoreID, x.Counters.StoreID = "another", "another" }), verdict{"exposer.store": fail}, "http://two:9810: store another"},
		"an exposer behind":   {exposer(func(x *doctor.Exposer) { x.Revision = 10 }), verdict{"exposer.store": warn}, "from 10 to 5000"},
		"an exposer stalled":  {exposer(func(x *doctor.Exposer) { x.Age = time.Hour }), verdict{"exposer.age": fail}, "1h old"},
		"an exposer ageless":  {exposer(func(x *doctor.Exposer) { x.HasAge = false }), verdict{"exposer.age": fail}, "no stream time"},
		"pages missing":       {exposer(func(x *doctor.Exposer) { x.Missing = 2 }), verdict{"exposer.pages": warn}, "of 2 datasets"},
		"counters are off":    {exposer(func(x *doctor.Exposer) { x.Counters = doctor.Counters{Off: true} }), verdict{}, ""},
		"no counters now":     {exposer(func(x *doctor.Exposer) { x.Counters = doctor.Counters{Why: "the clock went back"} }), verdict{"exposer.counters": warn}, "503: the clock went back"},
		"no page of counters": {exposer(func(x *doctor.Exposer) { x.Counters = doctor.Counters{Err: errAway} }), verdict{"exposer.counters": fail}, "connection refused"},
		"counters of another": {exposer(func(x *doctor.Exposer) { x.Counters.StoreID = "another" }), verdict{"exposer.counters": fail}, "of store another"},
		"counters of two":     {exposer(func(x *doctor.Exposer) { x.Counters.Epoch = "two" }), verdict{"exposer.counters": fail}, "of epoch two"},
		"exposers of another": {func(o *doctor.Observed) {
			for i := range o.Exposers {
				o.Exposers[i].StoreID, o.Exposers[i].Counters.StoreID = "x", "x"
			}
		}, verdict{"exposer.store": fail}, "the collector has store " + storeID},

		"an old Prometheus":     {prometheus(func(p *doctor.Prometheus) { p.Version = "2.37.1" }), verdict{"prometheus.version": fail}, "2.37.1"},
		"a bad Prometheus":      {prometheus(func(p *doctor.Prometheus) { p.Version = "2.53.1+ds1" }), verdict{"prometheus.version": fail}, "2.53.1"},
		"a nameless Prometheus": {prometheus(func(p *doctor.Prometheus) { p.Version = "" }), verdict{"prometheus.version": warn}, "Prometheus"},
		"no target":             {prometheus(func(p *doctor.Prometheus) { p.Targets, p.Others = nil, []string{"node"} }), verdict{"prometheus.target": fail, "prometheus.store": skipped, "replay_bounded": fail}, "the jobs are: node"},
		"target down": {
			prometheus(func(p *doctor.Prometheus) { p.Targets[0].Health, p.Targets[0].LastError = "down", "too old sample" }),
			verdict{"prometheus.target": fail, "replay_bounded": fail},
			"too old sample",
		},
		"another installation is scraped": {
			prometheus(func(p *doctor.Prometheus) { p.Targets[0].Store, p.Targets[0].URL = "another", "http://b:9810/metrics" }),
			verdict{"prometheus.store": fail, "replay_bounded": fail, "backfill_path": fail},
			"http://b:9810/metrics serves store another; the collector has store " + storeID,
		},
		"another installation is scraped, far away": {
			prometheus(func(p *doctor.Prometheus) { p.Targets[0].StoreErr, p.Stores = errAway, []string{"another"} }),
			verdict{"prometheus.store": fail, "replay_bounded": fail, "backfill_path": fail},
			"an exposer of store another",
		},
		"two installations are scraped": {
			prometheus(func(p *doctor.Prometheus) {
				p.Targets = append(p.Targets, doctor.Target{URL: "http://b:9810/metrics", Health: "up", Store: "another"})
			}),
			verdict{"prometheus.store": fail, "replay_bounded": fail, "backfill_path": fail},
			"http://b:9810/metrics serves store another",
		},
		"a target that cannot be asked": {
			prometheus(func(p *doctor.Prometheus) { p.Targets[0].StoreErr, p.Stores = errAway, nil }),
			verdict{"prometheus.store": warn, "replay_bounded": warn},
			"http://one:9810/metrics (connection refused)",
		},
		"a target that is no exposer": {
			prometheus(func(p *doctor.Prometheus) {
				p.Targets[0].StoreErr, p.Stores = errors.New("no header X-Weir-Store"), nil
			}),
			verdict{"prometheus.store": warn, "replay_bounded": warn},
			"no header X-Weir-Store",
		},
		"target not scraped": {prometheus(func(p *doctor.Prometheus) { p.Targets[0].Health = "unknown" }), verdict{"prometheus.target": warn}, "not scraped yet"},
		"no window":          {prometheus(func(p *doctor.Prometheus) { p.Window = 0 }), verdict{"prometheus.out_of_order_window": fail, "replay_bounded": fail}, "the window is 0s; samples are up to 24h old"},
		"window too short":   {prometheus(func(p *doctor.Prometheus) { p.Window = 26*time.Hour - time.Second }), verdict{"prometheus.out_of_order_window": fail, "replay_bounded": fail}, "up to 24h old"},
		"timestamps":         {prometheus(func(p *doctor.Prometheus) { p.Config.HonorTimestamps = false }), verdict{"prometheus.honor_timestamps": fail, "replay_bounded": fail}, "honor_timestamps is false"},
		"staleness":          {prometheus(func(p *doctor.Prometheus) { p.Config.TrackStaleness = true }), verdict{"prometheus.stale_markers": fail, "replay_bounded": fail}, "track_timestamps_staleness is true"},
		"seldom scraped":     {prometheus(func(p *doctor.Prometheus) { p.Config.Interval = 5 * time.Minute }), verdict{"prometheus.interval": fail, "replay_bounded": fail}, "interval is 5m"},
		"rarely scraped":     {prometheus(func(p *doctor.Prometheus) { p.Config.Interval = 2 * time.Minute }), verdict{"prometheus.interval": warn}, "interval is 2m"},
		"body limit":         {prometheus(func(p *doctor.Prometheus) { p.Config.BodyLimit = 400_000 }), verdict{"prometheus.limits": fail, "replay_bounded": fail}, "body_size_limit is 400 kB"},
		"body limit near":    {prometheus(func(p *doctor.Prometheus) { p.Config.BodyLimit = 600_000 }), verdict{"prometheus.limits": warn}, "body_size_limit is 600 kB"},
		"sample limit":       {prometheus(func(p *doctor.Prometheus) { p.Config.SampleLimit = 3000 }), verdict{"prometheus.limits": fail, "replay_bounded": fail}, "sample_limit is 3000"},
		"sample limit far":   {prometheus(func(p *doctor.Prometheus) { p.Config.SampleLimit = 30_000 }), verdict{"prometheus.limits": warn}, "sample_limit is 30000"},
		"duplicate series":   {prometheus(func(p *doctor.Prometheus) { p.Duplicates = []string{`cloudflare_zone_requests of 8 zones`} }), verdict{"prometheus.duplicates": fail}, "of 8 zones"},
		"duplicates not known": {prometheus(func(p *doctor.Prometheus) {
			p.DuplicatesErr = errors.New("the answer may lack samples: store 2 is down")
		}), verdict{"prometheus.duplicates": fail}, "store 2 is down"},
		"refused samples":  {prometheus(func(p *doctor.Prometheus) { p.Refused["prometheus_tsdb_too_old_samples_total"] = 12 }), verdict{"prometheus.refused_samples": warn}, "prometheus_tsdb_too_old_samples_total: 12"},
		"not self-scraped": {prometheus(func(p *doctor.Prometheus) { p.SelfScraped = false }), verdict{"prometheus.refused_samples": warn}, "does not scrape itself"},
		"a query layer": {prometheus(func(p *doctor.Prometheus) {
			p.TargetsErr, p.ConfigErr, p.Config, p.Targets, p.Stores = errAway, errAway, nil, nil, nil
		}), verdict{
			"prometheus.target": warn, "prometheus.store": warn, "prometheus.out_of_order_window": warn, "prometheus.honor_timestamps": skipped, "prometheus.stale_markers": skipped,
			"prometheus.interval": skipped, "prometheus.limits": skipped, "replay_bounded": warn,
		}, "connection refused"},
		"an old VictoriaMetrics": {vm(func(p *doctor.Prometheus) { p.Version = "1.70.0" }), verdict{"prometheus.version": warn}, "1.70.0"},
		"no deduplication":       {vm(func(p *doctor.Prometheus) { delete(p.Flags, "dedup.minScrapeInterval") }), verdict{"prometheus.deduplication": fail, "replay_bounded": fail}, "is not set"},
		"much deduplication":     {vm(func(p *doctor.Prometheus) { p.Flags["dedup.minScrapeInterval"] = "1h" }), verdict{"prometheus.deduplication": fail, "replay_bounded": fail}, "is 1h"},
		"stale markers":          {vm(func(p *doctor.Prometheus) { p.Flags["promscrape.noStaleMarkers"] = "false" }), verdict{"prometheus.stale_markers": warn}, "noStaleMarkers"},
		"a small scrape size": {vm(func(p *doctor.Prometheus) {
			p.Flags["promscrape.maxScrapeSize"] = "100KB"
		}), verdict{"prometheus.limits": fail, "replay_bounded": fail}, "maxScrapeSize is 100 kB"},

		"collected early": {func(o *doctor.Observed) {
			o.Log.Reads[0].Early, o.Log.Reads[0].Window = 3, "2026-11-30T11:00:00Z"
		}, verdict{"delayed_collection": fail}, "3 of 72 buckets were read before the delay of 5m"},
		"nothing lately": {func(o *doctor.Observed) { o.Log.Reads[0].Buckets = 0 }, verdict{"delayed_collection": fail}, "no bucket of the last three hours"},
		"log unreadable": {func(o *doctor.Observed) { o.Log = &doctor.Log{Err: errAway} }, verdict{"collector.entitlements": warn, "delayed_collection": fail}, "connection refused"},
		"never restarted": {func(o *doctor.Observed) {
			o.Log.OldestCommit, o.Store.Facts.OldestCommit = now.Add(-30*time.Minute), now.Add(-30*time.Minute)
		}, verdict{"durability": warn}, "not before the start of the process"},
		"start not known": {func(o *doctor.Observed) { o.Own = nil }, verdict{"operations.reachable": skipped, "operations.ready": skipped, "durability": skipped, "collector.budget": skipped}, ""},
		"empty store":     {func(o *doctor.Observed) { o.Log.OldestCommit, o.Store.Facts.OldestCommit = time.Time{}, time.Time{} }, verdict{"durability": fail}, "no entry"},
		"panels unfed":    {func(o *doctor.Observed) { o.Panels.Absent = []string{"weir_exposer_raedy"} }, verdict{"panels_fed": fail}, "these had no series in the last hour: weir_exposer_raedy"},
		"no such family":  {func(o *doctor.Observed) { o.Panels.Absent = []string{"cloudflare_zone_thraets"} }, verdict{"panels_fed": fail}, "cloudflare_zone_thraets"},
		"no data at all": {func(o *doctor.Observed) {
			o.Panels.Absent, o.Panels.Buckets = []string{"cloudflare_zone_threats"}, false
		}, verdict{"panels_fed": fail}, "cloudflare_zone_threats"},
		"empty panels":    {func(o *doctor.Observed) { o.Panels.WithData, o.Panels.Alerts = 0, 39 }, verdict{"panels_fed": fail}, "none of the 40 expressions of the rules has returned data in the last hour"},
		"panels broken":   {func(o *doctor.Observed) { o.Panels.Broken = []string{"sum( (parse error)"} }, verdict{"panels_fed": fail}, "parse error"},
		"panels unread":   {func(o *doctor.Observed) { o.Panels = &doctor.Panels{Err: errAway} }, verdict{"panels_fed": fail}, "connection refused"},
		"no export":       {func(o *doctor.Observed) { o.Backfill = &doctor.Backfill{Err: errAway} }, verdict{"backfill_path": fail}, "connection refused"},
		"a cut export":    {backfill(func(b *doctor.Backfill) { b.Flaws = []string{"it does not end with # EOF"} }), verdict{"backfill_path": fail}, "# EOF"},
		"an empty hour":   {backfill(func(b *doctor.Backfill) { b.Samples = 0 }), verdict{"backfill_path": warn}, "0 samples"},
		"missing samples": {backfill(func(b *doctor.Backfill) { b.Missing, b.Example = 4, "x is not in Prometheus" }), verdict{"backfill_path": fail}, "4 are missing: x"},
		"changed samples": {backfill(func(b *doctor.Backfill) { b.Different, b.Example = 1, "x is 1 and 2" }), verdict{"backfill_path": fail}, "1 differ"},
		"foreign samples": {backfill(func(b *doctor.Backfill) { b.Extra = 1 }), verdict{"backfill_path": fail}, "1 are in Prometheus alone"},
		"samples twice":   {backfill(func(b *doctor.Backfill) { b.Repeated, b.Example = 3, "x is in two series" }), verdict{"backfill_path": fail}, "3 are in Prometheus more than once: x"},
		"two instances":   {backfill(func(b *doctor.Backfill) { b.Labels = []string{`{job="a"}`, `{job="b"}`} }), verdict{"backfill_path": warn}, "90 are equal"},
		"not compared":    {backfill(func(b *doctor.Backfill) { b.CompareErr = errAway }), verdict{"backfill_path": fail}, "cannot be compared"},
		"none shown yet":  {backfill(func(b *doctor.Backfill) { b.Equal, b.NotDue = 0, 100 }), verdict{"backfill_path": warn}, "none of them yet"},
		"late samples": {func(o *doctor.Observed) {
			o.Backfill.Missing = 4
			o.Own.Samples = append(o.Own.Samples, doctor.Sample{Name: "weir_exposer_late_commit_timestamp_seconds", Value: float64(now.Add(-time.Hour).Unix())})
		}, verdict{"backfill_path": warn}, "4 are missing"},
	}
	away := skips(verdict{"prometheus.reachable": fail, "replay_bounded": fail, "panels_fed": fail}, "prometheus", "prometheus.reachable")
	list["Prometheus away"] = fault{func(o *doctor.Observed) {
		o.Prometheus, o.Panels = &doctor.Prometheus{URL: "http://prometheus:9090", Err: errAway}, nil
		o.Backfill.Compared = false
	}, with(away, verdict{"backfill_path": skipped}), "connection refused"}
	return list
}

func with(a, b verdict) verdict {
	for k, v := range b {
		a[k] = v
	}
	return a
}
