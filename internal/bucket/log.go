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

// Chain is the hash of everything up to an entry. Two histories of one store
// that differ anywhere before a revision differ in its chain (G4).
type Chain [16]byte

// String is lower-case hexadecimal.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// Position is a place in one history of one store.
type Position struct {
	Revision Revision
	Chain    Chain
}

// Kind says what an entry of the log is; the numbers are stored.
type Kind uint8

// The kinds of entry.
const (
	KindBucket         Kind = 1
	KindDatasetVersion Kind = 2
	KindGapDecision    Kind = 3
	KindState          Kind = 4
	KindRestatement    Kind = 5
	// KindDropped stands in for a bucket that retention dropped soon after it was
	// committed: its place in the log, without content. It is never written by an
	// append, and readers get it as an entry without a kind.
	KindDropped Kind = 6
)

// Next is the chain after an entry of this kind, commit time and payload (the
// bytes of its message in the contract). Half of SHA-256 is enough: the chain
// tells histories apart, it does not defend against a forger with database access.
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

// Entry is one entry of the log as its readers have it.
type Entry struct {
	Position
	CommittedAt time.Time
	// Kind says what the entry holds; 0 where that cannot be had: retention dropped
	// it, it cannot be read, or a later release wrote it. Such an entry has its place
	// in the order and the chain all the same.
	Kind Kind
	// Bucket is that of a KindBucket, and the corrected one of a KindRestatement.
	Bucket *Bucket
	// Definition is the version that a KindDatasetVersion brings.
	Definition *Definition
}
