// Package wire converts between the domain ([bucket]) and the API (weir.bucket.v1), both
// ways.
//
// Encoding is deterministic: equal values give equal bytes. These bytes are the payload
// that the store keeps, that the chain hashes and that every stream sends; [Frame] wraps
// them into a complete stream message without decoding them.
//
// Decoding is strict. The results of [Bucket], [Definition], [Scope] and [Position] satisfy
// every rule in the API's comments, so that callers need no checks of their own; a
// violation is an error that names field and value. Unknown fields are ignored, as the API
// requires; unknown enum numbers are errors, since guessing their meaning could show wrong
// data.
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
