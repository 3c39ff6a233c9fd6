package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/wire"
)

// Whatever decodes is valid, encodes, and comes back the same. Whatever does
// not is an error, never a panic.
func FuzzBucket(f *testing.F) {
	b := sample()
	f.Add(wire.EncodeBucket(b))
	b.Families = nil
	f.Add(wire.EncodeBucket(b))
	b.Scope, b.Zone = account, ""
	f.Add(wire.EncodeBucket(b))
	f.Fuzz(func(t *testing.T, payload []byte) {
		first, err := wire.DecodeBucket(payload)
		if err != nil {
			return
		}
		if err := wire.CheckBucket(first); err != nil {
			t.Fatalf("a decoded bucket is invalid: %v", err)
		}
		encoded := wire.EncodeBucket(first)
		second, err := wire.DecodeBucket(encoded)
		if err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if d := cmp.Diff(first, second); d != "" {
			t.Fatalf("the round trip changed the bucket (-first +second):\n%s", d)
		}
		if again := wire.EncodeBucket(second); string(again) != string(encoded) {
			t.Fatal("encoding is not deterministic")
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add(wire.EncodeDefinition(definition()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		first, err := wire.DecodeDefinition(payload)
		if err != nil {
			return
		}
		second, err := wire.DecodeDefinition(wire.EncodeDefinition(first))
		if err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if d := cmp.Diff(first, second); d != "" {
			t.Fatalf("the round trip changed the definition (-first +second):\n%s", d)
		}
	})
}
