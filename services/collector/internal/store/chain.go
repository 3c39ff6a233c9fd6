package store

import "github.com/weir-metrics/weir/internal/bucket"

// Before holds the stored chains of the revisions that precede the entries of a
// snapshot, as far as retention has left them.
type Before map[bucket.Revision][]byte

// Missing returns the preceding revisions whose chains must still be read.
func (b Before) Missing(entries []Entry) (missing []int64) {
	for i := range entries {
		if entries[i].Damage == "" { // else the chain may be damaged
			b[entries[i].Revision] = entries[i].Chain[:]
		}
	}
	for i := range entries {
		if before := entries[i].Revision - 1; before > 0 && b[before] == nil {
			missing = append(missing, int64(before))
		}
	}
	return missing
}

// Check removes the payload of each entry whose chain does not follow from that of the
// preceding entry, and sets its Damage. An entry whose predecessor is no longer stored
// is not changed.
func (b Before) Check(entries []Entry) {
	for i := range entries {
		e := &entries[i]
		var before bucket.Chain // of the entry before the first
		if e.Revision > 1 && copy(before[:], b[e.Revision-1]) != len(before) || e.Damage != "" {
			continue
		}
		if before.Next(e.Kind, e.CommittedAt, e.Payload) != e.Chain {
			e.damaged("its chain does not follow from the chain of the preceding entry")
		}
	}
}
