package wire

import (
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// maxStoreID bounds what a client may send; drivers make ids far below it.
const maxStoreID = 128

// ResumePoint converts a position in the history of a store into its message.
func ResumePoint(storeID string, p bucket.Position) *bucketv1.ResumePoint {
	return &bucketv1.ResumePoint{StoreId: clean(storeID), Revision: uint64(p.Revision), Chain: p.Chain[:]}
}

// Position converts a resume point into the store's id and the position in its
// history. Before the first entry the chain is zero and may be absent.
func Position(m *bucketv1.ResumePoint) (storeID string, p bucket.Position, err error) {
	if m == nil {
		return "", p, fmt.Errorf("resume point is missing")
	}
	if m.GetStoreId() == "" || len(m.GetStoreId()) > maxStoreID {
		return "", p, fmt.Errorf("resume point's store id has %d characters; it must have 1 to %d", len(m.GetStoreId()), maxStoreID)
	}
	p.Revision = bucket.Revision(m.GetRevision())
	if p.Revision == 0 && len(m.GetChain()) == 0 {
		return m.GetStoreId(), p, nil
	}
	if len(m.GetChain()) != len(p.Chain) {
		return "", p, fmt.Errorf("resume point's chain has %d bytes; it must have %d", len(m.GetChain()), len(p.Chain))
	}
	copy(p.Chain[:], m.GetChain())
	if p.Revision == 0 && p.Chain != (bucket.Chain{}) {
		return "", p, fmt.Errorf("resume point's chain is %s at revision 0; it must be zero before the first entry", p.Chain)
	}
	return m.GetStoreId(), p, nil
}
