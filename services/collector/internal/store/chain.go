package store

import "github.com/weir-metrics/weir/internal/bucket"

// Before are the entries that those of a snapshot follow: the chains that are
// stored of revisions, as far as retention has left them.
type Before map[bucket.Revision][]byte

// Missing are the revisions before the entries that are not among them, and whose
// chains have to be read.
func (b Before) Missing(entries []Entry) (missing []int64) {
	for i := range entries {
		if entries[i].Damage == "" { // of which the chain may be
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

// Check takes the payload out of each entry whose chain does not follow from that
// of the entry before it, and says so in the entry. One whose predecessor is not
// stored any more stays as it is.
func (b Before) Check(entries []Entry) {
	for i := range entries {
		e := &entries[i]
		var before bucket.Chain // of the entry before the first
		if e.Revision > 1 && copy(before[:], b[e.Revision-1]) != len(before) || e.Damage != "" {
			continue
		}
		if before.Next(e.Kind, e.CommittedAt, e.Payload) != e.Chain {
			e.spoiled("its chain does not follow from that of the entry before it")
		}
	}
}
