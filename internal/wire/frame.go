package wire

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Field numbers of the contract that frames are built from; TestFrameIsTheMessage holds
// them against the generated code.
const (
	fieldResponseEntry    = 2 // WatchBucketsResponse.entry
	fieldListEntry        = 1 // ListBucketsResponse.entry
	fieldListPageToken    = 2 // ListBucketsResponse.page_token
	fieldEntryRevision    = 1
	fieldEntryChain       = 2
	fieldEntryCommittedAt = 3
	fieldTimestampSeconds = 1
	fieldTimestampNanos   = 2
	kindBucket            = 4 // Entry.bucket
)

// kindField is the field of Entry's oneof that holds the payload of a kind.
var kindField = map[bucket.Kind]protowire.Number{
	bucket.KindBucket:         kindBucket,
	bucket.KindDatasetVersion: 5,
	bucket.KindGapDecision:    6,
	bucket.KindState:          7,
	bucket.KindRestatement:    8,
	bucket.KindAudit:          9,
}

// KindNone is no kind: [Frame] makes an entry without content of it.
const KindNone bucket.Kind = 0

// Frame returns the bytes of a WatchBucketsResponse with this entry. The
// payload goes in as it is stored, neither decoded nor checked: an embedded
// message is its bytes behind a length. A kind without a field (of a later
// release's log) gives an entry without a kind, which still advances the
// reader's revision.
//
// The result is owned by the caller and shares no memory with payload.
func Frame(p bucket.Position, committedAt time.Time, kind bucket.Kind, payload []byte) []byte {
	e := entrySize(p, committedAt, kind, payload)
	b := make([]byte, 0, protowire.SizeTag(fieldResponseEntry)+protowire.SizeBytes(e))
	b = protowire.AppendTag(b, fieldResponseEntry, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(e))
	return appendEntry(b, p, committedAt, kind, payload)
}

// ListFrame returns the bytes of a ListBucketsResponse with this entry, a bucket
// or [KindNone], and the token that continues after it. As with [Frame], the
// payload is not looked at.
func ListFrame(p bucket.Position, committedAt time.Time, kind bucket.Kind, payload []byte, pageToken string) []byte {
	e := entrySize(p, committedAt, kind, payload)
	b := make([]byte, 0, 2*protowire.SizeTag(fieldListEntry)+protowire.SizeBytes(e)+protowire.SizeBytes(len(pageToken)))
	b = protowire.AppendTag(b, fieldListEntry, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(e))
	b = appendEntry(b, p, committedAt, kind, payload)
	if pageToken != "" {
		b = protowire.AppendTag(b, fieldListPageToken, protowire.BytesType)
		b = protowire.AppendString(b, pageToken)
	}
	return b
}

func entrySize(p bucket.Position, committedAt time.Time, kind bucket.Kind, payload []byte) int {
	n := 0
	if p.Revision != 0 {
		n += protowire.SizeTag(fieldEntryRevision) + protowire.SizeVarint(uint64(p.Revision))
	}
	n += protowire.SizeTag(fieldEntryChain) + protowire.SizeBytes(len(p.Chain))
	if !committedAt.IsZero() {
		n += protowire.SizeTag(fieldEntryCommittedAt) + protowire.SizeBytes(timestampSize(committedAt))
	}
	if field, ok := kindField[kind]; ok {
		n += protowire.SizeTag(field) + protowire.SizeBytes(len(payload))
	}
	return n
}

func appendEntry(b []byte, p bucket.Position, committedAt time.Time, kind bucket.Kind, payload []byte) []byte {
	if p.Revision != 0 {
		b = protowire.AppendTag(b, fieldEntryRevision, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(p.Revision))
	}
	b = protowire.AppendTag(b, fieldEntryChain, protowire.BytesType)
	b = protowire.AppendBytes(b, p.Chain[:])
	if !committedAt.IsZero() {
		b = protowire.AppendTag(b, fieldEntryCommittedAt, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(timestampSize(committedAt)))
		if s := committedAt.Unix(); s != 0 {
			b = protowire.AppendTag(b, fieldTimestampSeconds, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(s))
		}
		if ns := committedAt.Nanosecond(); ns != 0 {
			b = protowire.AppendTag(b, fieldTimestampNanos, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(ns))
		}
	}
	if field, ok := kindField[kind]; ok {
		b = protowire.AppendTag(b, field, protowire.BytesType)
		b = protowire.AppendBytes(b, payload)
	}
	return b
}

func timestampSize(t time.Time) int {
	n := 0
	if s := t.Unix(); s != 0 {
		n += protowire.SizeTag(fieldTimestampSeconds) + protowire.SizeVarint(uint64(s))
	}
	if ns := t.Nanosecond(); ns != 0 {
		n += protowire.SizeTag(fieldTimestampNanos) + protowire.SizeVarint(uint64(ns))
	}
	return n
}

// ProgressFrame returns the bytes of a WatchBucketsResponse that says that
// everything up to p has been sent. A zero time is left out: the stream is
// still catching up, or no leader has said yet that it lives.
func ProgressFrame(storeID string, p bucket.Position, progress, complete time.Time) []byte {
	return marshal(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Progress{
		Progress: &bucketv1.Progress{Point: ResumePoint(storeID, p), ProgressTime: Timestamp(progress), CompleteUntil: Timestamp(complete)},
	}})
}

// Timestamp converts a moment; the zero time becomes an absent timestamp.
func Timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
