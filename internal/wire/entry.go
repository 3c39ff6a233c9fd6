package wire

import (
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Entry converts a message of a stream or a list into an entry of the log. If only its
// content is invalid, it returns the entry's position with the error: a reader counts the
// error and continues, as with content that the server could not read.
func Entry(m *bucketv1.Entry) (e bucket.Entry, err error) {
	if m == nil {
		return e, fmt.Errorf("entry is missing")
	}
	e.Revision = bucket.Revision(m.GetRevision())
	if n := len(m.GetChain()); n != 0 && n != len(e.Chain) { // a snapshot's need none
		return e, fmt.Errorf("entry's chain has %d bytes; it must have %d", n, len(e.Chain))
	}
	copy(e.Chain[:], m.GetChain())
	if m.GetCommittedAt() != nil {
		if err := m.GetCommittedAt().CheckValid(); err != nil {
			return e, fmt.Errorf("entry's commit time: %w", err)
		}
		e.CommittedAt = m.GetCommittedAt().AsTime()
	}
	switch k := m.GetKind().(type) {
	case *bucketv1.Entry_Bucket:
		if e.Bucket, err = Bucket(k.Bucket); err == nil {
			e.Kind = bucket.KindBucket
		}
	case *bucketv1.Entry_DatasetVersion:
		if e.Definition, err = Definition(k.DatasetVersion); err == nil {
			e.Kind = bucket.KindDatasetVersion
		}
	case *bucketv1.Entry_Restatement:
		if e.Bucket, err = Bucket(k.Restatement.GetBucket()); err == nil {
			e.Kind = bucket.KindRestatement
		}
	case *bucketv1.Entry_GapDecision:
		e.Kind = bucket.KindGapDecision
	case *bucketv1.Entry_State:
		e.Kind = bucket.KindState
	case *bucketv1.Entry_AuditEvent:
		e.Kind = bucket.KindAudit
	}
	return e, err
}

// Store converts a store's info. An unset sample timestamp means the end, the default; an
// unknown one is an error, since samples with wrong timestamps would stay in Prometheus
// next to the right ones.
func Store(m *bucketv1.StoreInfo) (sample.Store, error) {
	s := sample.Store{ID: m.GetStoreId(), Stamp: sample.End, Simulated: m.GetSimulated(), Retention: m.GetRetention().AsDuration()}
	switch at := m.GetSampleTimestamp(); at {
	case bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_UNSPECIFIED, bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END:
	case bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START:
		s.Stamp = sample.Start
	default:
		return s, fmt.Errorf("store %.80q has sample timestamp %d; this release supports the end (%d) and the start (%d) of the window",
			m.GetStoreId(), at, sample.End, sample.Start)
	}
	return s, nil
}
