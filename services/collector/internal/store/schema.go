package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Schema is the version of the tables, as stored in the database. Migrations expand first
// and contract a minor version later, so a binary runs on its own schema and on newer
// ones that declare it compatible.
type Schema struct {
	Version          int // the newest migration that was applied; 0: none
	OldestCompatible int // binaries that know this version or a newer one may run on it
}

// Check returns ErrSchema unless a binary whose newest migration is known may run on s.
func (s Schema) Check(known int) error {
	switch {
	case s.Version == 0:
		return fmt.Errorf("%w: the database has no schema, need version %d: run collector migrate", ErrSchema, known)
	case s.Version < known:
		return fmt.Errorf("%w: the database has version %d, need %d: run collector migrate", ErrSchema, s.Version, known)
	case s.OldestCompatible > known:
		return fmt.Errorf("%w: the database has version %d, which requires a binary for version %d or newer; this one is for %d: run a newer release",
			ErrSchema, s.Version, s.OldestCompatible, known)
	}
	return nil
}

// ErrSource is an ErrSettings: simulated and real data do not mix.
var ErrSource = fmt.Errorf("%w", ErrSettings)

// Reconcile compares the settings of an existing store with the wanted ones and returns
// those to use; ErrSettings if they are incompatible. Change adopts the wanted sample
// timestamp. An empty one accepts the stored settings, for tools.
func (s Settings) Reconcile(want Settings, change bool) (Settings, error) {
	if want.SampleTimestamp == "" {
		return s, nil
	}
	if change {
		if err := want.validate(); err != nil {
			return s, err
		}
		s.SampleTimestamp = want.SampleTimestamp
	}
	if s.SampleTimestamp != want.SampleTimestamp {
		return s, fmt.Errorf("%w: the store has sample timestamp %q, configured is %q; a change creates duplicate samples in every Prometheus that scraped this store",
			ErrSettings, s.SampleTimestamp, want.SampleTimestamp)
	}
	if s.Simulated != want.Simulated && !want.AnySource {
		return s, fmt.Errorf("%w: the store has simulated=%t, configured is %t; simulated and real data cannot share a store: use another database",
			ErrSource, s.Simulated, want.Simulated)
	}
	return s, nil
}

// NewID is the identity of a new store with these settings.
func (s Settings) NewID() (string, error) {
	if err := s.validate(); err != nil {
		return "", fmt.Errorf("the store is new: %w", err)
	}
	id := make([]byte, 16)
	rand.Read(id) // never fails
	return hex.EncodeToString(id), nil
}

func (s Settings) validate() error {
	if s.SampleTimestamp != "end" && s.SampleTimestamp != "start" {
		return fmt.Errorf("sample timestamp is %q; it must be \"end\" or \"start\"", s.SampleTimestamp)
	}
	return nil
}

// MaxPayload is the largest payload that drivers return: it fits into one message.
// Earlier releases could store more.
const MaxPayload = 16<<20 - 4096

// Verify compares the entry's payload, of which size bytes are stored, with its checksum.
// If it does not match, or the driver left it out for its size, Verify removes the payload
// and sets Damage: a damaged page never becomes a sample (G1), nor an error that blocks
// readers of the log.
func (e *Entry) Verify(sum []byte, size int64) {
	if size > MaxPayload {
		e.damaged(fmt.Sprintf("its payload has %d bytes and exceeds the maximum of %d", size, MaxPayload))
		return
	}
	if got := sha256.Sum256(e.Payload); string(got[:]) != string(sum) {
		e.damaged("its payload does not match its checksum")
	}
}

// ReadChain sets the entry's stored chain. A chain of another length is damaged.
func (e *Entry) ReadChain(stored []byte) {
	if copy(e.Chain[:], stored); len(stored) != len(e.Chain) {
		e.damaged(fmt.Sprintf("its chain has %d bytes; it must have %d", len(stored), len(e.Chain)))
	}
}

func (e *Entry) damaged(how string) {
	e.Payload = nil
	if e.Damage == "" {
		e.Damage = how
	}
}
