package gzpart

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"testing"
)

// Parts in any number, of any size and in any order make one member that the standard
// library reads to its end and whose checksum it accepts.
func TestPartsMakeOneMember(t *testing.T) {
	const text = "cloudflare_zone_requests{zone=\"shop.example\",account=\"Acme\"} 1 1795341599999\n"
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var whole, body []byte
		var sum Sum
		body = append(body, Header...)
		for range rng.IntN(20) {
			raw := bytes.Repeat([]byte(text), rng.IntN(200))
			if rng.IntN(4) == 0 {
				raw = make([]byte, rng.IntN(70_000))
				for i := range raw {
					raw[i] = byte(rng.Uint32())
				}
			}
			cut := rng.IntN(len(raw) + 1)
			p := New(func(emit func([]byte)) { emit(raw[:cut]); emit(raw[cut:]) })
			whole, body = append(whole, raw...), append(body, p.Deflated...)
			sum.Add(&p)
		}
		body = append(body, sum.Trailer()...)
		in := bytes.NewReader(body)
		zip, err := gzip.NewReader(in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		zip.Multistream(false)
		got, err := io.ReadAll(zip)
		if err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("seed %d: %d of %d bytes are read: %v", seed, len(got), len(whole), err)
		}
		if in.Len() != 0 {
			t.Errorf("seed %d: %d bytes are behind the first member", seed, in.Len())
		}
	}
}

// Equal data gives equal bytes, whatever the compressor did before (G5).
func TestEqualDataGivesEqualBytes(t *testing.T) {
	compress := func(raw string) Part { return New(func(emit func([]byte)) { emit([]byte(raw)) }) }
	first := compress("a line\na line\n")
	for range 10 {
		compress("something else")
		if again := compress("a line\na line\n"); !bytes.Equal(first.Deflated, again.Deflated) {
			t.Fatalf("%x, then %x", first.Deflated, again.Deflated)
		}
	}
}
