package wire

import (
	"crypto/sha256"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// The kinds of entry that have no type of their own in the domain are encoded
// from their message: they pass through the collector, nothing computes with them.

// EncodeGapDecision returns the payload of a gap decision entry, or what is
// wrong with it.
func EncodeGapDecision(m *bucketv1.GapDecision) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("encode gap decision: %w", err) }
	if m.GetKind() != bucketv1.GapDecision_KIND_LOST && m.GetKind() != bucketv1.GapDecision_KIND_ACCEPTED {
		return fail(fmt.Errorf("kind is %d; it must be lost or accepted", m.GetKind()))
	}
	if err := CheckDataset(m.GetDataset()); err != nil {
		return fail(err)
	}
	if _, err := Scope(m.GetScope()); err != nil {
		return fail(err)
	}
	w := bucket.Window{Start: bucket.Time(m.GetStartUnixSeconds()), End: bucket.Time(m.GetEndUnixSeconds())}
	if err := checkTime("start", w.Start); err != nil {
		return fail(err)
	}
	if err := checkTime("end", w.End); err != nil {
		return fail(err)
	}
	if w.Empty() {
		return fail(fmt.Errorf("range %s is empty; start must be before end", w))
	}
	if bucketv1.GapReason_name[int32(m.GetReason())] == "" {
		return fail(fmt.Errorf("reason is %d; it must be one of the values that the API defines", m.GetReason()))
	}
	if m.GetKind() == bucketv1.GapDecision_KIND_ACCEPTED && m.GetActor() == "" {
		return fail(fmt.Errorf("the actor is empty; an accepted gap must have one"))
	}
	b, err := deterministic.Marshal(m)
	if err != nil {
		return fail(err)
	}
	return b, nil
}

// EncodeState returns the payload of a state entry, or what is wrong with it.
func EncodeState(m *bucketv1.State) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("encode state: %w", err) }
	if err := CheckDataset(m.GetDataset()); err != nil {
		return fail(err)
	}
	if m.GetDatasetVersion() == 0 {
		return fail(fmt.Errorf("dataset version is 0; it must be 1 or greater"))
	}
	if _, err := Scope(m.GetScope()); err != nil {
		return fail(err)
	}
	if err := m.GetObservedAt().CheckValid(); err != nil {
		return fail(fmt.Errorf("observed at: %w", err))
	}
	if err := checkRows(rows(m.GetFamilies())); err != nil {
		return fail(err)
	}
	b, err := deterministic.Marshal(m)
	if err != nil {
		return fail(err)
	}
	return b, nil
}

// EncodeRestatement returns the payload of an entry that corrects a final
// bucket. replaces is the payload of the bucket as first stored; actor and
// reason are required, since a correction without them cannot be audited (G11).
func EncodeRestatement(corrected *bucket.Bucket, replaces []byte, actor, reason string) ([]byte, error) {
	if err := CheckBucket(corrected); err != nil {
		return nil, fmt.Errorf("encode restatement: %w", err)
	}
	if len(replaces) == 0 || actor == "" || reason == "" {
		return nil, fmt.Errorf("encode restatement of %s: the replaced payload, an actor and a reason are required", corrected.Key)
	}
	sum := sha256.Sum256(replaces)
	return marshal(&bucketv1.Restatement{
		Bucket: ProtoBucket(corrected), ReplacesSha256: sum[:], Actor: clean(actor), Reason: clean(reason),
	}), nil
}
