package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Schema is what a database says about its tables. Schemas grow by expanding
// first and contracting a minor version later, so a binary runs on its own
// schema and on newer ones as long as those say so.
type Schema struct {
	Version          int // the newest migration that was applied; 0: none
	OldestCompatible int // binaries that know this version or a newer one may run on it
}

// Check returns ErrSchema, with what was found and what would be right, unless
// a binary whose newest migration is known may run on s.
func (s Schema) Check(known int) error {
	switch {
	case s.Version == 0:
		return fmt.Errorf("%w: found none, need version %d; run the migrations (collector migrate)", ErrSchema, known)
	case s.Version < known:
		return fmt.Errorf("%w: found version %d, need %d; run the migrations (collector migrate)", ErrSchema, s.Version, known)
	case s.OldestCompatible > known:
		return fmt.Errorf("%w: found version %d, which works with binaries for version %d and newer; this one is for %d: run a newer release",
			ErrSchema, s.Version, s.OldestCompatible, known)
	}
	return nil
}

// ErrSource is the ErrSettings of a store whose data is from elsewhere.
var ErrSource = fmt.Errorf("%w", ErrSettings)

// Settle returns the settings that a store which has these goes on with, for who
// wants others, and ErrSettings where the two do not go together. Change takes the
// sample timestamp that is wanted. An empty one asks for nothing: tools take what
// is there.
func (s Settings) Settle(want Settings, change bool) (Settings, error) {
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
		return s, fmt.Errorf("%w: sample timestamp is %q, asked for %q; another one makes parallel samples in every Prometheus that scraped this store",
			ErrSettings, s.SampleTimestamp, want.SampleTimestamp)
	}
	if s.Simulated != want.Simulated && !want.AnySource {
		return s, fmt.Errorf("%w: simulated is %t, asked for %t; simulated and real data never share a store: use another database",
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

// MaxPayload is the most bytes of a payload that drivers hand out: what fits
// one message of the contract. Releases before this one could store more.
const MaxPayload = 16<<20 - 4096

// Verify compares the entry's payload, of which size bytes are stored, with its
// checksum. One that does not match, or that the driver left out for its size,
// is taken out of the entry, which then says so: a damaged page never ends in a
// sample (G1), and never in an error that stops whoever comes to it.
func (e *Entry) Verify(sum []byte, size int64) {
	if size > MaxPayload {
		e.spoiled(fmt.Sprintf("its payload has %d bytes; a message can have %d", size, MaxPayload))
		return
	}
	if got := sha256.Sum256(e.Payload); string(got[:]) != string(sum) {
		e.spoiled("its payload does not match its checksum")
	}
}

// ReadChain takes the entry's stored chain. One of another length cannot be what
// was stored.
func (e *Entry) ReadChain(stored []byte) {
	if copy(e.Chain[:], stored); len(stored) != len(e.Chain) {
		e.spoiled(fmt.Sprintf("its chain has %d bytes", len(stored)))
	}
}

func (e *Entry) spoiled(how string) {
	e.Payload = nil
	if e.Damage == "" {
		e.Damage = how
	}
}
