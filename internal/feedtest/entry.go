package feedtest

import (
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
)

// Entry is what the exam appends: exactly one field is set.
type Entry struct {
	Definition *bucket.Definition
	Bucket     *bucket.Bucket
	Gap        *bucketv1.GapDecision
	State      *bucketv1.State
	Audit      *bucketv1.AuditEvent
	Restated   *bucket.Bucket // the corrected bucket
	// Spoiled is what an older release stored and no reader can take apart, or
	// what would break the order of a stream: it must come without content.
	Spoiled *Encoded
}

// Encoded is an [Entry] as stores keep it.
type Encoded struct {
	Kind    bucket.Kind
	Key     bucket.Key  // as far as the kind has one
	End     bucket.Time // exclusive end of the window; 0 where there is none
	Payload []byte
}

// Encode returns the entry as stores keep it. It panics on an entry that is not
// valid: the test that made it is wrong.
func (e *Entry) Encode() Encoded {
	switch {
	case e.Definition != nil:
		return Encoded{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: e.Definition.Dataset}, Payload: wire.EncodeDefinition(e.Definition)}
	case e.Bucket != nil:
		return Encoded{Kind: bucket.KindBucket, Key: e.Bucket.Key, End: e.Bucket.Window().End, Payload: wire.EncodeBucket(e.Bucket)}
	case e.Gap != nil:
		return Encoded{
			Kind: bucket.KindGapDecision, Payload: valid(wire.EncodeGapDecision(e.Gap)),
			Key: bucket.Key{Dataset: e.Gap.GetDataset(), Scope: scopeOf(e.Gap.GetScope()), Start: bucket.Time(e.Gap.GetStartUnixSeconds())},
			End: bucket.Time(e.Gap.GetEndUnixSeconds()),
		}
	case e.State != nil:
		return Encoded{
			Kind: bucket.KindState, Payload: valid(wire.EncodeState(e.State)),
			Key: bucket.Key{Dataset: e.State.GetDataset(), Scope: scopeOf(e.State.GetScope())},
		}
	case e.Audit != nil:
		return Encoded{Kind: bucket.KindAudit, Payload: valid(wire.EncodeAuditEvent(e.Audit))}
	case e.Restated != nil:
		return Encoded{
			Kind: bucket.KindRestatement, Key: e.Restated.Key, End: e.Restated.Window().End,
			Payload: valid(wire.EncodeRestatement(e.Restated, []byte("the first value"), "ada", "corrected upstream")),
		}
	case e.Spoiled != nil:
		return *e.Spoiled
	}
	panic("feedtest: an entry without contents")
}

// message is the entry as streams carry it, but for the chain.
func (e *Entry) message(revision bucket.Revision, committedAt time.Time) *bucketv1.Entry {
	m := &bucketv1.Entry{Revision: uint64(revision), CommittedAt: wire.Timestamp(committedAt)}
	switch {
	case e.Definition != nil:
		m.Kind = &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(e.Definition)}
	case e.Bucket != nil:
		m.Kind = &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(e.Bucket)}
	case e.Gap != nil:
		m.Kind = &bucketv1.Entry_GapDecision{GapDecision: clone(e.Gap)}
	case e.State != nil:
		m.Kind = &bucketv1.Entry_State{State: clone(e.State)}
	case e.Restated != nil:
		m.Kind = &bucketv1.Entry_Restatement{Restatement: parsed(e.Encode().Payload, &bucketv1.Restatement{})}
	case e.Audit != nil:
		m.Kind = &bucketv1.Entry_AuditEvent{AuditEvent: clone(e.Audit)}
	}
	return m
}

// Spoil is the entry as a store keeps it, with another payload.
func (e Entry) Spoil(payload []byte) Entry {
	x := e.Encode()
	x.Payload = payload
	return Entry{Spoiled: &x}
}

// Gap returns the decision that the windows [from, to) of the exam are lost.
func Gap(dataset string, scope bucket.Scope, from, to int) *bucketv1.GapDecision {
	return &bucketv1.GapDecision{
		Kind: bucketv1.GapDecision_KIND_LOST, Dataset: dataset, Scope: wire.ProtoScope(scope),
		StartUnixSeconds: T0.Add(time.Duration(from) * 5 * time.Minute).Unix(),
		EndUnixSeconds:   T0.Add(time.Duration(to) * 5 * time.Minute).Unix(),
		Reason:           bucketv1.GapReason_GAP_REASON_UPSTREAM_ERROR,
	}
}

// State returns a state of one family without labels.
func State(dataset string, scope bucket.Scope, at time.Time, value float64) *bucketv1.State {
	return &bucketv1.State{
		Dataset: dataset, DatasetVersion: 1, Scope: wire.ProtoScope(scope), Zone: "zone-" + scope.ID[28:] + ".example", Account: "Example",
		ObservedAt: wire.Timestamp(at),
		Families:   []*bucketv1.FamilyRows{{Family: Total(dataset), Values: []float64{value}}},
	}
}

// Audit returns the event that the windows [from, to) of the exam were accepted as gaps.
func Audit(dataset string, scope bucket.Scope, from, to int) *bucketv1.AuditEvent {
	gap := Gap(dataset, scope, from, to)
	return &bucketv1.AuditEvent{
		Action: bucketv1.AuditEvent_ACTION_GAPS_ACCEPTED, Actor: "ada", Reason: "the zone was being moved",
		Datasets: []string{dataset}, Scopes: []*bucketv1.Scope{gap.GetScope()},
		StartUnixSeconds: gap.GetStartUnixSeconds(), EndUnixSeconds: gap.GetEndUnixSeconds(),
		Before: "missing: 3 windows", After: "accepted: 3 windows",
	}
}

func scopeOf(m *bucketv1.Scope) bucket.Scope {
	return bucket.Scope{Kind: bucket.ScopeKind(m.GetKind()), ID: m.GetId()}
}

// parsed decodes a payload that was just encoded.
func parsed[M proto.Message](payload []byte, m M) M {
	if err := proto.Unmarshal(payload, m); err != nil {
		panic(fmt.Sprintf("feedtest: %v", err))
	}
	return m
}

func valid(payload []byte, err error) []byte {
	if err != nil {
		panic(fmt.Sprintf("feedtest: %v", err))
	}
	return payload
}
