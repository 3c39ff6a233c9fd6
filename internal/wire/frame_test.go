package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// The frame is built around the stored bytes; it must mean what protobuf would
// have said, for every kind and for the values that are left out on the wire.
func TestFrameIsTheMessage(t *testing.T) {
	gap := &bucketv1.GapDecision{Kind: bucketv1.GapDecision_KIND_LOST, Dataset: "http_5m", Scope: wire.ProtoScope(zone), StartUnixSeconds: 300, EndUnixSeconds: 600}
	state := &bucketv1.State{Dataset: "tunnels", DatasetVersion: 1}
	audit := &bucketv1.AuditEvent{Action: bucketv1.AuditEvent_ACTION_RESTATED, Actor: "ops", Reason: "corrected upstream"}
	restatement := &bucketv1.Restatement{Bucket: wire.ProtoBucket(example()), Actor: "ops"}
	kinds := []struct {
		kind    bucket.Kind
		payload proto.Message
		set     func(*bucketv1.Entry)
	}{
		{bucket.KindBucket, wire.ProtoBucket(example()), func(e *bucketv1.Entry) {
			e.Kind = &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(example())}
		}},
		{bucket.KindDatasetVersion, wire.ProtoDefinition(definition()), func(e *bucketv1.Entry) {
			e.Kind = &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(definition())}
		}},
		{bucket.KindGapDecision, gap, func(e *bucketv1.Entry) { e.Kind = &bucketv1.Entry_GapDecision{GapDecision: gap} }},
		{bucket.KindState, state, func(e *bucketv1.Entry) { e.Kind = &bucketv1.Entry_State{State: state} }},
		{bucket.KindRestatement, restatement, func(e *bucketv1.Entry) { e.Kind = &bucketv1.Entry_Restatement{Restatement: restatement} }},
		{bucket.KindAudit, audit, func(e *bucketv1.Entry) { e.Kind = &bucketv1.Entry_AuditEvent{AuditEvent: audit} }},
		{99, gap, func(*bucketv1.Entry) {}}, // a later release's kind: the entry without it
	}
	times := []time.Time{{}, time.Unix(0, 0), time.Unix(1_700_000_000, 0), time.UnixMilli(1_700_000_000_123), time.Unix(-5, 999_999_999)}
	positions := []bucket.Position{{}, {Revision: 1, Chain: bucket.Chain{1}}, {Revision: 1 << 62, Chain: bucket.Chain{15: 9}}}
	for _, k := range kinds {
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(k.payload)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range times {
			for _, p := range positions {
				want := &bucketv1.Entry{Revision: uint64(p.Revision), Chain: p.Chain[:], CommittedAt: wire.Timestamp(at)}
				k.set(want)

				var got bucketv1.WatchBucketsResponse
				if err := proto.Unmarshal(wire.Frame(p, at, k.kind, payload), &got); err != nil {
					t.Fatalf("kind %d at %s: %v", k.kind, at, err)
				}
				if d := cmp.Diff(want, got.GetEntry(), protocmp.Transform()); d != "" {
					t.Fatalf("kind %d at %s (-want +got):\n%s", k.kind, at, d)
				}
				if k.kind != bucket.KindBucket {
					continue
				}
				var listed bucketv1.ListBucketsResponse
				if err := proto.Unmarshal(wire.ListFrame(p, at, bucket.KindBucket, payload, "token"), &listed); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(&bucketv1.ListBucketsResponse{Entry: want, PageToken: "token"}, &listed, protocmp.Transform()); d != "" {
					t.Fatalf("list frame (-want +got):\n%s", d)
				}
			}
		}
	}
}

// One entry, one sequence of bytes, in memory of its own.
func TestFrameIsDeterministicAndOwned(t *testing.T) {
	payload := wire.EncodeBucket(example())
	p := bucket.Position{Revision: 5, Chain: bucket.Chain{1}}
	a := wire.Frame(p, time.Unix(1, 0), bucket.KindBucket, payload)
	b := wire.Frame(p, time.Unix(1, 0), bucket.KindBucket, payload)
	if string(a) != string(b) {
		t.Error("two frames of one entry differ")
	}
	if cap(a) != len(a) {
		t.Errorf("frame of %d bytes was allocated with %d", len(a), cap(a))
	}
	clear(payload) // the store may reuse it
	if string(a) != string(b) || !strings.Contains(string(a), "example.com") {
		t.Error("the frame shares the payload's memory")
	}
}

func TestProgressFrame(t *testing.T) {
	p := bucket.Position{Revision: 9, Chain: bucket.Chain{3}}
	for _, at := range []time.Time{{}, time.UnixMilli(1_700_000_000_123).UTC()} {
		complete := at
		if !at.IsZero() {
			complete = at.Add(time.Second)
		}
		var got bucketv1.WatchBucketsResponse
		if err := proto.Unmarshal(wire.ProgressFrame("store", p, at, complete), &got); err != nil {
			t.Fatal(err)
		}
		want := &bucketv1.Progress{Point: wire.ResumePoint("store", p), ProgressTime: wire.Timestamp(at), CompleteUntil: wire.Timestamp(complete)}
		if d := cmp.Diff(want, got.GetProgress(), protocmp.Transform()); d != "" {
			t.Errorf("%s (-want +got):\n%s", at, d)
		}
	}
}
