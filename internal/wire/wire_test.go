package wire_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var (
	zone    = bucket.Scope{Kind: bucket.Zone, ID: "0123456789abcdef0123456789abcdef"}
	account = bucket.Scope{Kind: bucket.Account, ID: "fedcba9876543210fedcba9876543210"}
)

func example() *bucket.Bucket {
	return &bucket.Bucket{
		Key:  bucket.Key{Dataset: "http_5m", Scope: zone, Start: 1_700_000_100},
		Size: 5 * time.Minute, Version: 3, Zone: "example.com", Account: "Example Inc",
		Finality: bucket.SuspectConfirmed, Origin: bucket.Repair, Variant: "rollup",
		SampleInterval: 1.5, ReadAt: 1_700_000_800,
		Families: []bucket.Rows{
			{Family: "cloudflare_zone_requests", Values: []float64{12345}},
			{Family: "cloudflare_zone_requests_by_status", Labels: []string{"2xx", "4xx", "5xx"}, Values: []float64{12000, 300, 45}},
			{Family: "cloudflare_zone_requests_by_country", Labels: []string{"DE", "http", "FR", "http"}, Values: []float64{1e15, 0}},
		},
	}
}

func definition() *bucket.Definition {
	return &bucket.Definition{
		Dataset: "http_5m", Version: 3, ScopeKind: bucket.Zone, Size: 5 * time.Minute,
		Delay: 5*time.Minute + 500*time.Millisecond, Depth: 30, Description: "HTTP requests.",
		Families: []bucket.Family{
			{Name: "cloudflare_zone_requests", Help: "Requests.", Role: bucket.Total, Additive: true},
			{Name: "cloudflare_zone_bytes_by_country", Help: "Bytes.", Unit: "bytes", Labels: []string{"country", "protocol"}, Role: bucket.Breakdown},
		},
	}
}

func TestBucketRoundTrip(t *testing.T) {
	empty := example()
	empty.Families = nil
	ofAccount := example()
	ofAccount.Scope, ofAccount.Zone = account, ""
	for name, want := range map[string]*bucket.Bucket{"full": example(), "has no rows": empty, "of an account": ofAccount} {
		payload := wire.EncodeBucket(want)
		got, err := wire.DecodeBucket(payload)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: the round trip changed the bucket (-want +got):\n%s", name, d)
		}
		if again := wire.EncodeBucket(got); string(again) != string(payload) {
			t.Errorf("%s: encoding twice gave other bytes", name)
		}
	}
}

func TestDefinitionRoundTrip(t *testing.T) {
	want := definition()
	got, err := wire.DecodeDefinition(wire.EncodeDefinition(want))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the round trip changed the definition (-want +got):\n%s", d)
	}
}

// A bucket as a rename or a new release would send it: unknown fields are
// ignored, as the contract promises.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	payload := append(wire.EncodeBucket(example()), 0xf8, 0x07, 0x01) // field 127, varint 1
	got, err := wire.DecodeBucket(payload)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(example(), got); d != "" {
		t.Error(d)
	}
}

func TestDecodeBucketRefuses(t *testing.T) {
	rows := func(b *bucketv1.Bucket) *bucketv1.FamilyRows { return b.Families[1] }
	cases := []struct {
		name  string
		spoil func(*bucketv1.Bucket)
		want  string // part of the error: the thing, its value or the rule
	}{
		{"no dataset", func(b *bucketv1.Bucket) { b.Dataset = "" }, "dataset id"},
		{"capitals", func(b *bucketv1.Bucket) { b.Dataset = "HTTP_5m" }, `"HTTP_5m"`},
		{"long dataset", func(b *bucketv1.Bucket) { b.Dataset = strings.Repeat("a", 65) }, "1 to 64"},
		{"version 0", func(b *bucketv1.Bucket) { b.DatasetVersion = 0 }, "version is 0"},
		{"no scope", func(b *bucketv1.Bucket) { b.Scope = nil }, "scope is missing"},
		{"scope kind", func(b *bucketv1.Bucket) { b.Scope.Kind = 7 }, "scope kind is 7"},
		{"scope kind that wraps to a known one", func(b *bucketv1.Bucket) { b.Scope.Kind = 257 }, "scope kind is 257"},
		{"scope id", func(b *bucketv1.Bucket) { b.Scope.Id = "example.com" }, `"example.com"`},
		{"scope id in capitals", func(b *bucketv1.Bucket) { b.Scope.Id = strings.ToUpper(b.Scope.Id) }, "lower-case"},
		{"size 0", func(b *bucketv1.Bucket) { b.SizeSeconds = 0 }, "bucket size is 0s"},
		{"size of 7 minutes", func(b *bucketv1.Bucket) { b.SizeSeconds = 420 }, "bucket size is 7m0s"},
		{"unaligned", func(b *bucketv1.Bucket) { b.StartUnixSeconds++ }, "not a multiple"},
		{"negative start", func(b *bucketv1.Bucket) { b.StartUnixSeconds = -300 }, "start is -300"},
		{"start beyond time", func(b *bucketv1.Bucket) { b.StartUnixSeconds = math.MaxInt64 - 807 }, "start is 92"},
		{"negative read time", func(b *bucketv1.Bucket) { b.ReadUnixSeconds = -1 }, "read time is -1"},
		{"zone without label", func(b *bucketv1.Bucket) { b.Zone = "" }, "zone label is empty"},
		{"account with zone label", func(b *bucketv1.Bucket) { b.Scope.Kind = 2 }, `zone label is "example.com"`},
		{"account without label", func(b *bucketv1.Bucket) { b.Scope.Kind, b.Zone, b.Account = 2, "", "" }, "account label is empty"},
		{"no finality", func(b *bucketv1.Bucket) { b.Finality = 0 }, "finality is 0"},
		{"finality that wraps to a known one", func(b *bucketv1.Bucket) { b.Finality = 257 }, "finality is 257"},
		{"unknown origin", func(b *bucketv1.Bucket) { b.Origin = 9 }, "origin is 9"},
		{"negative sample interval", func(b *bucketv1.Bucket) { b.SampleInterval = -1 }, "sample interval is -1"},
		{"sample interval NaN", func(b *bucketv1.Bucket) { b.SampleInterval = math.NaN() }, "sample interval is NaN"},
		{"family name", func(b *bucketv1.Bucket) { rows(b).Family = "zone-requests" }, `"zone-requests"`},
		{"family without name", func(b *bucketv1.Bucket) { rows(b).Family = "" }, "no family name"},
		{"family without rows", func(b *bucketv1.Bucket) { rows(b).Values = nil }, "has no rows"},
		{"labels that do not fit", func(b *bucketv1.Bucket) { rows(b).LabelValues = rows(b).LabelValues[:2] }, "2 label values for 3 rows"},
		{"rows out of order", func(b *bucketv1.Bucket) { rows(b).LabelValues[0] = "9xx" }, "ascending"},
		{"row twice", func(b *bucketv1.Bucket) { rows(b).LabelValues[0] = "4xx" }, "ascending"},
		{"value NaN", func(b *bucketv1.Bucket) { rows(b).Values[1] = math.NaN() }, "row 1 has value NaN"},
		{"value infinite", func(b *bucketv1.Bucket) { rows(b).Values[1] = math.Inf(-1) }, "row 1 has value -Inf"},
		{"family twice", func(b *bucketv1.Bucket) { b.Families[2] = b.Families[1] }, "present twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := wire.ProtoBucket(example())
			c.spoil(m)
			payload, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := wire.DecodeBucket(payload); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v; it must contain %q", err, c.want)
			}
		})
	}
	if _, err := wire.DecodeBucket([]byte{0xff}); err == nil {
		t.Error("bytes that are no message were decoded")
	}
	if _, err := wire.Bucket(nil); err == nil {
		t.Error("an absent bucket was converted")
	}
}

func TestDecodeDefinitionRefuses(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(*bucketv1.DatasetVersion)
		want  string
	}{
		{"no dataset", func(d *bucketv1.DatasetVersion) { d.Dataset = "" }, "dataset id"},
		{"version 0", func(d *bucketv1.DatasetVersion) { d.Version = 0 }, "version is 0"},
		{"scope kind", func(d *bucketv1.DatasetVersion) { d.ScopeKind = 0 }, "scope kind is 0"},
		{"size", func(d *bucketv1.DatasetVersion) { d.SizeSeconds = 1 }, "bucket size is 1s"},
		{"negative delay", func(d *bucketv1.DatasetVersion) { d.Delay = durationpb.New(-time.Second) }, "delay is -1s"},
		{"invalid delay", func(d *bucketv1.DatasetVersion) { d.Delay.Nanos = -1 }, "delay"},
		{"depth 0", func(d *bucketv1.DatasetVersion) { d.ReplayDepth = 0 }, "depth is 0"},
		{"depth 31", func(d *bucketv1.DatasetVersion) { d.ReplayDepth = 31 }, "depth is 31"},
		{"no family", func(d *bucketv1.DatasetVersion) { d.Families = nil }, "no family"},
		{"family twice", func(d *bucketv1.DatasetVersion) { d.Families[0].Name = d.Families[1].Name }, "defined twice"},
		{"family name", func(d *bucketv1.DatasetVersion) { d.Families[0].Name = "a:b" }, `"a:b"`},
		{"help of two lines", func(d *bucketv1.DatasetVersion) { d.Families[0].Help = "a\nb" }, "one line"},
		{"no help", func(d *bucketv1.DatasetVersion) { d.Families[0].Help = "" }, "one line"},
		{"unit", func(d *bucketv1.DatasetVersion) { d.Families[0].Unit = "kB/s" }, `"kB/s"`},
		{"no role", func(d *bucketv1.DatasetVersion) { d.Families[0].Role = 0 }, "role 0"},
		{"total with labels", func(d *bucketv1.DatasetVersion) { d.Families[0].Labels = []string{"a"} }, "total with labels"},
		{"label name", func(d *bucketv1.DatasetVersion) { d.Families[1].Labels[0] = "__a" }, `"__a"`},
		{"label zone", func(d *bucketv1.DatasetVersion) { d.Families[1].Labels[0] = "zone" }, `"zone"`},
		{"label twice", func(d *bucketv1.DatasetVersion) { d.Families[1].Labels[0] = "protocol" }, "twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := wire.ProtoDefinition(definition())
			c.spoil(m)
			if _, err := wire.Definition(m); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v; it must contain %q", err, c.want)
			}
		})
	}
}

// A label that is not UTF-8 must not stop a collector; it is stored as what
// can be read of it.
func TestEncodeReplacesWhatIsNotUTF8(t *testing.T) {
	b := example()
	b.Zone = "a\xffb"
	b.Families[1].Labels[0] = "\xfe"
	if err := wire.CheckBucket(b); err == nil {
		t.Error("CheckBucket accepted a zone that is not UTF-8")
	}
	b.Families[1].Labels = []string{"2xx", "4xx", "\xfe"}
	got, err := wire.DecodeBucket(wire.EncodeBucket(b))
	if err != nil {
		t.Fatal(err)
	}
	if got.Zone != "a�b" || got.Families[1].Labels[2] != "�" {
		t.Errorf("zone is %q, label %q", got.Zone, got.Families[1].Labels[2])
	}
	if b.Families[1].Labels[2] != "\xfe" {
		t.Error("encoding changed the caller's bucket")
	}
}

func TestPositionRefuses(t *testing.T) {
	for name, p := range map[string]*bucketv1.ResumePoint{
		"absent":               nil,
		"no store":             {Revision: 1, Chain: make([]byte, 16)},
		"long store":           {StoreId: strings.Repeat("x", 129), Revision: 1, Chain: make([]byte, 16)},
		"no chain":             {StoreId: "s", Revision: 1},
		"short chain":          {StoreId: "s", Revision: 1, Chain: make([]byte, 15)},
		"long chain":           {StoreId: "s", Revision: 1, Chain: make([]byte, 17)},
		"chain before entries": {StoreId: "s", Chain: []byte("0123456789abcdef")},
	} {
		if _, _, err := wire.Position(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEncodeGapDecision(t *testing.T) {
	good := func() *bucketv1.GapDecision {
		return &bucketv1.GapDecision{
			Kind: bucketv1.GapDecision_KIND_ACCEPTED, Dataset: "http_5m", Scope: wire.ProtoScope(zone),
			StartUnixSeconds: 300, EndUnixSeconds: 900, Reason: bucketv1.GapReason_GAP_REASON_TOO_BIG, Actor: "ops",
		}
	}
	payload, err := wire.EncodeGapDecision(good())
	if err != nil {
		t.Fatal(err)
	}
	var got bucketv1.GapDecision
	if err := proto.Unmarshal(payload, &got); err != nil || !proto.Equal(&got, good()) {
		t.Errorf("payload holds %v, %v", &got, err)
	}
	for name, spoil := range map[string]func(*bucketv1.GapDecision){
		"kind":          func(m *bucketv1.GapDecision) { m.Kind = 0 },
		"dataset":       func(m *bucketv1.GapDecision) { m.Dataset = "" },
		"scope":         func(m *bucketv1.GapDecision) { m.Scope = nil },
		"range":         func(m *bucketv1.GapDecision) { m.EndUnixSeconds = 300 },
		"reason":        func(m *bucketv1.GapDecision) { m.Reason = 99 },
		"accepted by":   func(m *bucketv1.GapDecision) { m.Actor = "" },
		"start":         func(m *bucketv1.GapDecision) { m.StartUnixSeconds = -1 },
		"text encoding": func(m *bucketv1.GapDecision) { m.Comment = "\xff" },
	} {
		m := good()
		spoil(m)
		if _, err := wire.EncodeGapDecision(m); err == nil {
			t.Errorf("a decision with a bad %s was encoded", name)
		}
	}
}

func TestEncodeAuditEvent(t *testing.T) {
	good := func() *bucketv1.AuditEvent {
		return &bucketv1.AuditEvent{
			Action: bucketv1.AuditEvent_ACTION_GAPS_ACCEPTED, Actor: "ada", Reason: "the zone was moved", Datasets: []string{"http_5m"},
			Scopes: []*bucketv1.Scope{wire.ProtoScope(zone)}, StartUnixSeconds: 300, EndUnixSeconds: 900, Before: "missing", After: "accepted",
		}
	}
	payload, err := wire.EncodeAuditEvent(good())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := wire.AuditEvent(payload); err != nil || !proto.Equal(got, good()) {
		t.Errorf("payload holds %v, %v", got, err)
	}
	done := good()
	done.Action, done.Actor, done.Reason = bucketv1.AuditEvent_ACTION_BACKFILL_DONE, "", ""
	if _, err := wire.EncodeAuditEvent(done); err != nil {
		t.Errorf("the collector's own event: %v", err)
	}
	for name, spoil := range map[string]func(*bucketv1.AuditEvent){
		"no action":           func(m *bucketv1.AuditEvent) { m.Action = 0 },
		"unknown action":      func(m *bucketv1.AuditEvent) { m.Action = 99 },
		"no actor":            func(m *bucketv1.AuditEvent) { m.Actor = "" },
		"no reason":           func(m *bucketv1.AuditEvent) { m.Reason = "" },
		"actor too long":      func(m *bucketv1.AuditEvent) { m.Actor = strings.Repeat("a", wire.MaxActor+1) },
		"reason too long":     func(m *bucketv1.AuditEvent) { m.Reason = strings.Repeat("a", wire.MaxReason+1) },
		"state too long":      func(m *bucketv1.AuditEvent) { m.After = strings.Repeat("a", wire.MaxAuditText+1) },
		"text encoding":       func(m *bucketv1.AuditEvent) { m.Before = "\xff" },
		"NUL":                 func(m *bucketv1.AuditEvent) { m.Actor = "a\x00b" },
		"dataset":             func(m *bucketv1.AuditEvent) { m.Datasets = []string{""} },
		"scope":               func(m *bucketv1.AuditEvent) { m.Scopes = []*bucketv1.Scope{nil} },
		"start":               func(m *bucketv1.AuditEvent) { m.StartUnixSeconds = -1 },
		"end before start":    func(m *bucketv1.AuditEvent) { m.EndUnixSeconds = 299 },
		"end in milliseconds": func(m *bucketv1.AuditEvent) { m.EndUnixSeconds = 1_700_000_000_000_000 },
	} {
		m := good()
		spoil(m)
		if _, err := wire.EncodeAuditEvent(m); err == nil {
			t.Errorf("%s: the event was encoded", name)
		}
	}
	if _, err := wire.AuditEvent([]byte{0x12, 0x01, 0xff}); err == nil {
		t.Error("a damaged payload was decoded")
	}
}

func TestEncodeState(t *testing.T) {
	good := func() *bucketv1.State {
		return &bucketv1.State{
			Dataset: "tunnels", DatasetVersion: 1, Scope: wire.ProtoScope(account), Account: "Example",
			ObservedAt: timestamppb.New(time.Unix(1_700_000_000, 0)),
			Families:   []*bucketv1.FamilyRows{{Family: "cloudflare_tunnel_up", LabelValues: []string{"a"}, Values: []float64{1}}},
		}
	}
	if _, err := wire.EncodeState(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*bucketv1.State){
		"dataset": func(m *bucketv1.State) { m.Dataset = "" },
		"version": func(m *bucketv1.State) { m.DatasetVersion = 0 },
		"scope":   func(m *bucketv1.State) { m.Scope = nil },
		"time":    func(m *bucketv1.State) { m.ObservedAt = nil },
		"rows":    func(m *bucketv1.State) { m.Families[0].Values = nil },
		"text":    func(m *bucketv1.State) { m.Account = "\xff" },
	} {
		m := good()
		spoil(m)
		if _, err := wire.EncodeState(m); err == nil {
			t.Errorf("a state with a bad %s was encoded", name)
		}
	}
}

func TestEncodeRestatement(t *testing.T) {
	first := wire.EncodeBucket(example())
	payload, err := wire.EncodeRestatement(example(), first, "ops", "Cloudflare corrected itself")
	if err != nil {
		t.Fatal(err)
	}
	var got bucketv1.Restatement
	if err := proto.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	b, err := wire.Bucket(got.GetBucket())
	if err != nil || len(got.GetReplacesSha256()) != 32 || got.GetActor() != "ops" {
		t.Errorf("restatement is %v, %v", &got, err)
	}
	if d := cmp.Diff(example(), b, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if err := wire.CheckStored(bucket.KindRestatement, example().Key, payload); err != nil {
		t.Error(err)
	}
	other := example().Key
	other.Start += 300
	if wire.CheckStored(bucket.KindRestatement, other, payload) == nil {
		t.Error("a restatement passes under the key of another bucket")
	}
	if b, err := wire.DecodeRestatement(payload); err != nil || b.Key != example().Key {
		t.Errorf("it decodes as %v, %v", b, err)
	}
	if zone := wire.ZoneLabel(bucket.KindRestatement, payload); zone != example().Zone {
		t.Errorf("its zone label is %q, want %q", zone, example().Zone)
	}
	unread, err := wire.EncodeRestatement(example(), nil, "ops", "the first value is damaged")
	if err := proto.Unmarshal(unread, &got); err != nil || len(got.GetReplacesSha256()) != 0 {
		t.Errorf("of a bucket that cannot be read: %v, %v", &got, err)
	}
	if err != nil || wire.CheckStored(bucket.KindRestatement, example().Key, append(unread, payload...)) == nil {
		t.Errorf("a restatement with two buckets passes (%v)", err)
	}
	bad := example()
	bad.Version = 0
	for name, encode := range map[string]func() ([]byte, error){
		"bucket": func() ([]byte, error) { return wire.EncodeRestatement(bad, first, "ops", "why") },
		"actor":  func() ([]byte, error) { return wire.EncodeRestatement(example(), first, "", "why") },
		"reason": func() ([]byte, error) { return wire.EncodeRestatement(example(), first, "ops", "") },
	} {
		if _, err := encode(); err == nil {
			t.Errorf("a restatement with a bad %s was encoded", name)
		}
	}
}
