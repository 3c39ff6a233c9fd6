package wire

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
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
// bucket. replaces is the payload of the bucket as first stored, nil if that cannot be
// read; actor and reason are required, since a correction without them cannot be audited
// (G11).
func EncodeRestatement(corrected *bucket.Bucket, replaces []byte, actor, reason string) ([]byte, error) {
	if err := CheckBucket(corrected); err != nil {
		return nil, fmt.Errorf("encode restatement: %w", err)
	}
	if actor == "" || reason == "" {
		return nil, fmt.Errorf("encode restatement of %s: an actor and a reason are required", corrected.Key)
	}
	m := &bucketv1.Restatement{Bucket: ProtoBucket(corrected), Actor: clean(actor), Reason: clean(reason)}
	if len(replaces) > 0 {
		sum := sha256.Sum256(replaces)
		m.ReplacesSha256 = sum[:]
	}
	return marshal(m), nil
}

// DecodeRestatement returns the corrected bucket of a restatement's payload.
func DecodeRestatement(payload []byte) (*bucket.Bucket, error) {
	m := &bucketv1.Restatement{}
	if err := proto.Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("decode restatement: %w", err)
	}
	return Bucket(m.GetBucket())
}

// Limits of the texts of an audit event. MaxAuditText is that of the state before and
// after, which lists what changed.
const (
	MaxActor     = 100
	MaxReason    = 500
	MaxAuditText = 4000
)

// CheckRequested reports what is wrong with the reason or the requester of a request, if
// anything. An audit event has both for good, so they are one line that can be read.
func CheckRequested(text string, most int) error {
	switch {
	case strings.TrimSpace(text) == "":
		return fmt.Errorf("is empty or blank; it must be one line of 1 to %d bytes", most)
	case len(text) > most:
		return fmt.Errorf("has %d bytes; it must be one line of 1 to %d bytes", len(text), most)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return fmt.Errorf("is %.80q; it must be one line of printable text in UTF-8", text)
	}
	return nil
}

// EncodeAuditEvent returns the payload of an audit event entry, or what is wrong with
// it.
func EncodeAuditEvent(m *bucketv1.AuditEvent) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("encode audit event: %w", err) }
	if m.GetAction() == bucketv1.AuditEvent_ACTION_UNSPECIFIED || bucketv1.AuditEvent_Action_name[int32(m.GetAction())] == "" {
		return fail(fmt.Errorf("action is %d; it must be one of the values that the API defines", m.GetAction()))
	}
	// Only the end of a backfill is nobody's request.
	if m.GetAction() != bucketv1.AuditEvent_ACTION_BACKFILL_DONE && (m.GetActor() == "" || m.GetReason() == "") {
		return fail(fmt.Errorf("actor is %q and reason %q; a request must have both", m.GetActor(), m.GetReason()))
	}
	for _, text := range []struct {
		name, is string
		most     int
	}{
		{"actor", m.GetActor(), MaxActor},
		{"reason", m.GetReason(), MaxReason},
		{"refusal", m.GetRefused(), MaxAuditText},
		{"backfill id", m.GetBackfillId(), MaxActor},
		{"state before", m.GetBefore(), MaxAuditText},
		{"state after", m.GetAfter(), MaxAuditText},
	} {
		if err := checkText(text.is, text.most); err != nil {
			return fail(fmt.Errorf("the %s %w", text.name, err))
		}
	}
	for _, dataset := range m.GetDatasets() {
		if err := CheckDataset(dataset); err != nil {
			return fail(err)
		}
	}
	for _, scope := range m.GetScopes() {
		if _, err := Scope(scope); err != nil {
			return fail(err)
		}
	}
	start, end := bucket.Time(m.GetStartUnixSeconds()), bucket.Time(m.GetEndUnixSeconds())
	if err := checkTime("start", start); err != nil {
		return fail(err)
	}
	if err := checkTime("end", end); err != nil {
		return fail(err)
	}
	if end < start {
		return fail(fmt.Errorf("range [%s, %s) ends before it starts", start, end))
	}
	b, err := deterministic.Marshal(m)
	if err != nil {
		return fail(err)
	}
	return b, nil
}

// AuditEvent decodes the payload of an audit event entry.
func AuditEvent(payload []byte) (*bucketv1.AuditEvent, error) {
	m := &bucketv1.AuditEvent{}
	if err := proto.Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("decode audit event: %w", err)
	}
	return m, nil
}
