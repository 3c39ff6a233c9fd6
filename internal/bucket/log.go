package bucket

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Revision numbers the entries of a log: 1, 2, 3 … in commit order, without
// gap or reuse. 0 is before the first.
type Revision uint64

// Chain is the hash of all entries up to one. Two histories of a store that differ
// anywhere before a revision have different chains at it (G4).
type Chain [16]byte

// String is lower-case hexadecimal.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// Position is a place in one history of one store.
type Position struct {
	Revision Revision
	Chain    Chain
}

// Kind is the kind of an entry of the log. The numbers are stored.
type Kind uint8

// The kinds of entry.
const (
	KindBucket         Kind = 1
	KindDatasetVersion Kind = 2
	KindGapDecision    Kind = 3
	KindState          Kind = 4
	KindRestatement    Kind = 5
	// KindDropped is the tombstone of a bucket that retention dropped soon after it
	// was committed: its place in the log, without content. Appends never write it,
	// and readers get it as an entry without a kind.
	KindDropped Kind = 6
	// KindAudit is the record of a request of an operator, committed with what it
	// changed (G11).
	KindAudit Kind = 7
)

// Written reports whether an append may contain entries of the kind.
func (k Kind) Written() bool { return k >= KindBucket && k <= KindAudit && k != KindDropped }

// Next is the chain after an entry of this kind, commit time and payload (the
// bytes of its message in the contract). Half of SHA-256 is enough: the chain
// distinguishes histories; it does not protect against forgery with database access.
func (c Chain) Next(kind Kind, committedAt time.Time, payload []byte) Chain {
	h := sha256.New()
	h.Write(c[:])
	var head [17]byte
	head[0] = byte(kind)
	binary.BigEndian.PutUint64(head[1:], uint64(committedAt.UnixMilli()))
	binary.BigEndian.PutUint64(head[9:], uint64(len(payload)))
	h.Write(head[:])
	h.Write(payload)
	var next Chain
	copy(next[:], h.Sum(nil))
	return next
}

// Entry is an entry of the log as readers get it.
type Entry struct {
	Position
	CommittedAt time.Time
	// Kind is the kind of the entry; 0 if there is no content: retention dropped it,
	// it cannot be read, or a later release wrote it. Such an entry is still part of
	// the order and the chain.
	Kind Kind
	// Bucket is set for KindBucket, and for KindRestatement to the corrected bucket.
	Bucket *Bucket
	// Definition is set for KindDatasetVersion.
	Definition *Definition
}
