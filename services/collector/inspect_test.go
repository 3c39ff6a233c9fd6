package collector_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// defaults is a configuration with all defaults.
func defaults(t *testing.T) (c collector.Config) {
	t.Helper()
	cli.Defaults(c.Settings())
	c.SQLiteFile = filepath.Join(t.TempDir(), "weir.db")
	return c
}

// leased opens the store as a collector does, takes the lease and stores one entry.
func leased(t *testing.T, c collector.Config) collector.Store {
	t.Helper()
	s, err := collector.OpenStore(t.Context(), c, collector.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, s) })
	won, err := s.Acquire(t.Context(), store.Holder("one", "x"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	start := bucket.Time(1_795_262_400)
	batch := store.Batch{CommittedAt: start.Std().Add(time.Hour), Entries: []store.NewEntry{{
		Kind: bucket.KindBucket, Key: bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("a", 32)}, Start: start},
		End: start.Add(5 * time.Minute), Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "rollup", Payload: []byte{1},
	}}}
	if _, err := s.Append(t.Context(), won.Term, won.Head.Position, batch); err != nil {
		t.Fatal(err)
	}
	return s
}

// A store is inspected while the collector has it open, before it is migrated, and when
// it is not there.
func TestInspectStore(t *testing.T) {
	for name, of := range map[string]func(t *testing.T) collector.Config{
		"SQLite": defaults,
		"Postgres": func(t *testing.T) collector.Config {
			c := defaults(t)
			c.DatabaseURL, c.Migrate = cli.NewSecret(pgtest.DSN(t)), true
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := of(t)
			if f, err := collector.InspectStore(t.Context(), c, nil); name == "SQLite" && (err == nil || !strings.Contains(err.Error(), c.SQLiteFile)) ||
				name == "Postgres" && (err != nil || f.Schema.Version != 0) {
				t.Errorf("before there is a store: %+v, %v", f.Schema, err)
			}
			leased(t, c)
			f, err := collector.InspectStore(t.Context(), c, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f.Schema.Check(f.SchemaWant) != nil || f.StoreID == "" || f.Head != 1 || f.Holder != "one" || f.Size <= 0 || f.Version == "" || f.MissingRights != "" {
				t.Errorf("the facts are %+v", f)
			}
			if want := bucket.Time(1_795_262_400).Std().Add(time.Hour); !f.OldestCommit.Equal(want) {
				t.Errorf("the oldest commit was at %s, want %s", f.OldestCommit, want)
			}
			if name == "Postgres" && (f.Major < 14 || f.Encoding != "UTF8" || f.Settings["fsync"] == "" || f.Settings["synchronous_commit"] == "" || !f.OwnsTables) ||
				name == "SQLite" && (f.Settings["journal_mode"] != "wal" || f.Free <= 0) {
				t.Errorf("the facts are %+v", f)
			}

			b, err := collector.OpenBeside(t.Context(), c, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}()
			status, err := bucketv1.NewBucketServiceClient(b).GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
			if err != nil || status.GetInfo().GetStoreId() != f.StoreID || status.GetRole() != bucketv1.Role_ROLE_STANDBY || status.GetHead().GetRevision() != 1 {
				t.Errorf("the status is %v, %v", status, err)
			}
		})
	}
}

// A path is relative to the working folder, as it is for a collector.
func TestInspectARelativePath(t *testing.T) {
	c := defaults(t)
	t.Chdir(filepath.Dir(c.SQLiteFile))
	c.SQLiteFile = filepath.Base(c.SQLiteFile)
	leased(t, c)
	if f, err := collector.InspectStore(t.Context(), c, nil); err != nil || f.Head != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	b, err := collector.OpenBeside(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestAskCloudflare(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	dsn := pgtest.DSN(t)
	for name, tc := range map[string]struct {
		token   func(*cfsim.Token)
		faults  []cfsim.Fault
		change  func(*collector.Config)
		spend   bool // the whole budget
		correct func(collector.CredentialReport) bool
	}{
		"healthy": {correct: func(r collector.CredentialReport) bool {
			return r.Token.Status == "active" && len(r.Zones) == 8 && len(r.Settings) > 0 && r.SettingsErr == nil && r.Requests == 3 && r.Skew.Abs() <= r.Uncertain+time.Second
		}},
		"no store for a permit": {change: func(c *collector.Config) { c.DatabaseURL = cli.Secret{} }, correct: func(r collector.CredentialReport) bool {
			return r.Requests == 2 && strings.Contains(r.SettingsSkipped, "Postgres") && len(r.Settings) == 0
		}},
		"budget used up": {spend: true, correct: func(r collector.CredentialReport) bool {
			return r.Requests == 2 && strings.Contains(r.SettingsSkipped, "the budget is used up until")
		}},
		"expired": {token: func(k *cfsim.Token) { k.ExpiresOn = now.Add(-time.Hour) }, correct: func(r collector.CredentialReport) bool {
			return r.Token.Status == "expired" && r.TokenErr == nil
		}},
		"expires": {token: func(k *cfsim.Token) { k.ExpiresOn = now.Add(time.Hour) }, correct: func(r collector.CredentialReport) bool {
			return r.Token.ExpiresOn.Equal(now.Add(time.Hour))
		}},
		"revoked": {faults: []cfsim.Fault{{Kind: cfsim.FaultTokenUnknown}}, correct: func(r collector.CredentialReport) bool {
			return r.Refused && r.Requests == 2 && strings.Contains(r.TokenErr.Error(), "Invalid API Token")
		}},
		"of an account": {faults: []cfsim.Fault{{Kind: cfsim.FaultTokenUnknown, Path: "/user/tokens"}}, correct: func(r collector.CredentialReport) bool {
			return !r.Refused && r.Token.Status == "active" && r.Requests == 4
		}},
		"analytics denied": {faults: []cfsim.Fault{{Kind: cfsim.FaultPermission, Path: "/graphql"}}, correct: func(r collector.CredentialReport) bool {
			return r.SettingsDenied && len(r.Zones) == 8
		}},
		"clock": {faults: []cfsim.Fault{{Kind: cfsim.FaultSkew, Delay: -5 * time.Minute}}, correct: func(r collector.CredentialReport) bool {
			return (r.Skew + 5*time.Minute).Abs() < 3*time.Second
		}},
		"selection": {change: func(c *collector.Config) { c.Zones = []string{"shop.example", "nowhere.example"} }, correct: func(r collector.CredentialReport) bool {
			return len(r.Unmatched) == 1 && strings.Contains(r.Unmatched[0], "nowhere.example") && len(r.Settings) == 1
		}},
		"away": {faults: []cfsim.Fault{{Kind: cfsim.FaultHTML, Status: 522}}, correct: func(r collector.CredentialReport) bool {
			return r.TokenErr != nil && r.ZonesErr != nil && !r.Refused
		}},
	} {
		t.Run(name, func(t *testing.T) {
			config := cfsim.Demo(clock.System(), 1)
			if tc.token != nil {
				tc.token(&config.Tokens[0])
			}
			config.Faults = tc.faults
			c := defaults(t)
			c.CloudflareURL, c.Token = cfsimtest.Start(t, cfsimtest.New(t, config)), cli.NewSecret(config.Tokens[0].Secret)
			c.DatabaseURL, c.Migrate, c.BudgetUser = cli.NewSecret(dsn), true, name
			if tc.change != nil {
				tc.change(&c)
			}
			s, err := collector.OpenStore(t.Context(), c, collector.Deps{})
			if err != nil {
				t.Fatal(err)
			}
			if tc.spend {
				p := store.Permits{User: name, Want: 150, Limit: 150, Now: now, UseBy: now.Add(time.Minute), Span: 5 * time.Minute, Holder: "test"}
				if g, err := s.Reserve(t.Context(), p); err != nil || g.N != 150 {
					t.Fatal(g, err)
				}
			}
			closed(t, s)
			got, err := collector.AskCloudflare(t.Context(), c, nil)
			if err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			if !tc.correct(got[0]) {
				t.Errorf("the report is %+v", got[0])
			}
		})
	}
}
