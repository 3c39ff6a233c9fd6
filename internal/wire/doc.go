// Package wire translates between the domain ([bucket]) and the contract
// (weir.bucket.v1), both ways.
//
// Encoding is deterministic: one value gives one sequence of bytes. Those bytes
// are the payload that the store keeps, that the chain hashes and that every
// stream sends; [Frame] wraps them into a whole stream message without decoding
// them.
//
// Decoding is strict. What comes out of [Bucket], [Definition], [Scope] and
// [Position] satisfies every rule that the contract states in its comments, so
// that readers need no checks of their own; what does not satisfy them is an
// error that names field and value. Unknown fields are ignored, as the contract
// asks; unknown enum numbers are errors, since a reader that guesses what they
// mean would show something that nobody said.
//
// All functions are pure and safe for concurrent use. Decoded values share no
// memory with their input except strings, which are immutable.
package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

var deterministic = proto.MarshalOptions{Deterministic: true}

// marshal encodes a message built by this package. The only error that
// protobuf knows here is invalid UTF-8, which the callers rule out.
func marshal(m proto.Message) []byte {
	b, err := deterministic.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("wire: encode %s: %v", m.ProtoReflect().Descriptor().FullName(), err))
	}
	return b
}
