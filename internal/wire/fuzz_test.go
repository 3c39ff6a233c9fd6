package wire_test

import (
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
)

// Whatever decodes is valid, encodes, and comes back the same. Whatever does
// not is an error, never a panic.
func FuzzBucket(f *testing.F) {
	b := example()
	f.Add(wire.EncodeBucket(b))
	b.Families = nil
	f.Add(wire.EncodeBucket(b))
	b.Scope, b.Zone = account, ""
	f.Add(wire.EncodeBucket(b))
	f.Fuzz(func(t *testing.T, payload []byte) {
		first, err := wire.DecodeBucket(payload)
		if err != nil {
			return
		}
		if err := wire.CheckBucket(first); err != nil {
			t.Fatalf("a decoded bucket is invalid: %v", err)
		}
		encoded := wire.EncodeBucket(first)
		second, err := wire.DecodeBucket(encoded)
		if err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if d := cmp.Diff(first, second); d != "" {
			t.Fatalf("the round trip changed the bucket (-first +second):\n%s", d)
		}
		if again := wire.EncodeBucket(second); string(again) != string(encoded) {
			t.Fatal("encoding is not deterministic")
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add(wire.EncodeDefinition(definition()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		first, err := wire.DecodeDefinition(payload)
		if err != nil {
			return
		}
		if err := wire.CheckDefinition(first); err != nil {
			t.Fatalf("a decoded definition is invalid: %v", err)
		}
		second, err := wire.DecodeDefinition(wire.EncodeDefinition(first))
		if err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if d := cmp.Diff(first, second); d != "" {
			t.Fatalf("the round trip changed the definition (-first +second):\n%s", d)
		}
	})
}

// A frame is the message that the generated code would have written: what it
// reads back is what went in, whatever the payload, and a payload that is no
// message spoils nothing but its own frame.
func FuzzFrame(f *testing.F) {
	f.Add(uint64(1), int64(1e18), byte(1), wire.EncodeBucket(example()), "token")
	f.Add(uint64(0), int64(0), byte(2), wire.EncodeDefinition(definition()), "")
	f.Add(uint64(1<<63), int64(-1), byte(9), []byte{0xff}, "\xff")
	f.Fuzz(func(t *testing.T, revision uint64, nanos int64, kind byte, payload []byte, token string) {
		p := bucket.Position{Revision: bucket.Revision(revision)}
		copy(p.Chain[:], payload)
		at := time.Unix(0, nanos).UTC()

		var watch bucketv1.WatchBucketsResponse
		frame := wire.Frame(p, at, bucket.Kind(kind), payload)
		if err := proto.Unmarshal(frame, &watch); err == nil {
			checkEntry(t, watch.GetEntry(), p, at)
			if b := watch.GetEntry().GetBucket(); b != nil {
				want := &bucketv1.Bucket{}
				if err := proto.Unmarshal(payload, want); err != nil || !proto.Equal(want, b) {
					t.Fatalf("the frame's bucket is %v; the payload's is %v (%v)", b, want, err)
				}
			}
		} else if bucket.Kind(kind) == bucket.KindBucket && proto.Unmarshal(payload, &bucketv1.Bucket{}) == nil {
			t.Fatalf("the payload is a bucket, its frame is no message: %v", err)
		}

		var list bucketv1.ListBucketsResponse
		if err := proto.Unmarshal(wire.ListFrame(p, at, bucket.KindBucket, payload, token), &list); err == nil {
			checkEntry(t, list.GetEntry(), p, at)
			if list.GetPageToken() != token {
				t.Fatalf("the page token is %q; want %q", list.GetPageToken(), token)
			}
		}
	})
}

func checkEntry(t *testing.T, e *bucketv1.Entry, p bucket.Position, at time.Time) {
	t.Helper()
	if e.GetRevision() != uint64(p.Revision) || string(e.GetChain()) != string(p.Chain[:]) || !e.GetCommittedAt().AsTime().Equal(at) {
		t.Fatalf("the frame says revision %d, chain %x, %s; want %d, %s, %s",
			e.GetRevision(), e.GetChain(), e.GetCommittedAt().AsTime(), p.Revision, p.Chain, at)
	}
}

// A resume point is what a client can make up freely. What is accepted is one
// place in a log, and says so again when it is sent back.
func FuzzPosition(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff", uint64(7), []byte("0123456789abcdef"))
	f.Add("a", uint64(0), []byte(nil))
	f.Add("a", uint64(0), make([]byte, 16))
	f.Add("a", uint64(1), make([]byte, 15))
	f.Fuzz(func(t *testing.T, id string, revision uint64, chain []byte) {
		if !utf8.ValidString(id) {
			return // protobuf lets no such string in
		}
		gotID, p, err := wire.Position(&bucketv1.ResumePoint{StoreId: id, Revision: revision, Chain: chain})
		if err != nil {
			return
		}
		if gotID != id || uint64(p.Revision) != revision || revision > 0 && string(p.Chain[:]) != string(chain) {
			t.Fatalf("(%q, %d, %x) became (%q, %d, %s)", id, revision, chain, gotID, p.Revision, p.Chain)
		}
		again, q, err := wire.Position(wire.ResumePoint(gotID, p))
		if err != nil || q != p || again != gotID {
			t.Fatalf("%q at %v was accepted and is %q at %v, %v when it comes again", gotID, p, again, q, err)
		}
	})
}

// The kinds that only pass through: what is encoded is a message that says the
// same, in bytes that do not depend on who encodes it.
func FuzzOther(f *testing.F) {
	scope := wire.ProtoScope(example().Scope)
	add := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&bucketv1.GapDecision{Kind: bucketv1.GapDecision_KIND_LOST, Dataset: "http_5m", Scope: scope, StartUnixSeconds: 300, EndUnixSeconds: 600, Reason: bucketv1.GapReason_GAP_REASON_PENDING})
	add(&bucketv1.State{Dataset: "tunnels", DatasetVersion: 1, Scope: scope, ObservedAt: wire.Timestamp(time.Unix(300, 0))})
	add(&bucketv1.AuditEvent{
		Action: bucketv1.AuditEvent_ACTION_RESTATED, Actor: "ada", Reason: "Cloudflare corrected it", Datasets: []string{"http_5m"}, Scopes: []*bucketv1.Scope{scope},
		StartUnixSeconds: 300, EndUnixSeconds: 600, Refused: "nothing differs", Before: "b", After: "a",
	})
	f.Fuzz(func(t *testing.T, message []byte) {
		var event, sameEvent bucketv1.AuditEvent
		if proto.Unmarshal(message, &event) == nil {
			if payload, err := wire.EncodeAuditEvent(&event); err == nil {
				if err := wire.CheckStored(bucket.KindAudit, bucket.Key{}, payload); err != nil {
					t.Fatalf("%v was encoded, and would not be sent: %v", &event, err)
				}
				if proto.Unmarshal(payload, &sameEvent) != nil || !proto.Equal(&event, &sameEvent) {
					t.Fatalf("%v was encoded as %v", &event, &sameEvent)
				}
			}
		}
		var gap, sameGap bucketv1.GapDecision
		if proto.Unmarshal(message, &gap) == nil {
			if payload, err := wire.EncodeGapDecision(&gap); err == nil {
				if proto.Unmarshal(payload, &sameGap) != nil || !proto.Equal(&gap, &sameGap) {
					t.Fatalf("%v was encoded as %v", &gap, &sameGap)
				}
				if again, err := wire.EncodeGapDecision(&sameGap); err != nil || string(again) != string(payload) {
					t.Fatalf("encoding is not deterministic: %x and %x (%v)", payload, again, err)
				}
			}
		}
		var state, sameState bucketv1.State
		if proto.Unmarshal(message, &state) == nil {
			if payload, err := wire.EncodeState(&state); err == nil {
				if proto.Unmarshal(payload, &sameState) != nil || !proto.Equal(&state, &sameState) {
					t.Fatalf("%v was encoded as %v", &state, &sameState)
				}
			}
		}
	})
}
