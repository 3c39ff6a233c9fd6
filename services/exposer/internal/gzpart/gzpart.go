// Package gzpart compresses the parts of a gzip body apart from one another, so that a
// body in which one part has changed costs the compression of that part.
//
// A body is one gzip member (RFC 1952): [Header], the deflated parts, and the trailer
// of [Join]. Each part is deflated without reference to the others and ends at a byte
// boundary with a block that is not the last one (RFC 1951), so parts can be put
// together in any order. The checksum of the whole follows from those of the parts.
// There is one member and not several, because several clients, curl and browsers
// among them, stop at the end of the first.
package gzpart

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/flate"
)

// Part is compressed data. It is immutable.
type Part struct {
	Deflated []byte
	crc      uint32
	size     int64 // before compression
}

// Header opens a body. The caller must not modify it.
var Header = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

// level is the fastest: the lines of a body repeat every label.
const level = flate.BestSpeed

// compressors are used again: each has tables of hundreds of kilobytes.
var compressors = sync.Pool{New: func() any {
	c := &compressor{}
	var err error
	if c.deflate, err = flate.NewWriter(&c.out, level); err != nil {
		panic(err) // the level is a constant
	}
	return c
}}

type compressor struct {
	out     bytes.Buffer
	deflate *flate.Writer
}

// New compresses what write writes.
func New(write func(emit func([]byte))) Part {
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	p := c.part(write)
	p.Deflated = bytes.Clone(p.Deflated) // kept: without spare capacity
	return p
}

// part is a part whose bytes are the compressor's until its next one.
func (c *compressor) part(write func(emit func([]byte))) Part {
	c.out.Reset()
	c.deflate.Reset(&c.out)
	var p Part
	write(func(raw []byte) {
		p.crc = crc32.Update(p.crc, crc32.IEEETable, raw)
		p.size += int64(len(raw))
		_, _ = c.deflate.Write(raw) // writing to a bytes.Buffer cannot fail
	})
	_ = c.deflate.Flush()
	p.Deflated = c.out.Bytes()
	return p
}

// Sum is the checksum and size of parts in a row. Its zero value is that of none.
type Sum struct {
	crc  uint32
	size int64
}

// Add appends a part.
func (s *Sum) Add(p *Part) {
	s.crc = combine(s.crc, p.crc, p.size)
	s.size += p.size
}

// Trailer closes a body of the parts added.
func (s *Sum) Trailer() []byte { return s.end(nil) }

// end appends the trailer.
func (s *Sum) end(t []byte) []byte {
	t = append(t, 3, 0) // the last block, which is empty
	t = binary.LittleEndian.AppendUint32(t, s.crc)
	return binary.LittleEndian.AppendUint32(t, uint32(s.size)) //nolint:gosec // modulo 2^32, as RFC 1952 says
}

// combine is the CRC-32 of a followed by b, from the CRC-32 of each and the size of b.
// To append n zero bits to a message multiplies its CRC by x^n modulo the polynomial.
func combine(a, b uint32, size int64) uint32 {
	return multiply(zeros(size), a) ^ b
}

// Polynomials over GF(2) modulo that of CRC-32, in its reversed order of bits: the
// highest bit is the coefficient of x^0.
const (
	one = 1 << 31
	x   = one >> 1
)

// multiply is the product of two polynomials.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&one != 0 {
			product ^= b
		}
		b = b>>1 ^ crc32.IEEE&-(b&1) // times x
	}
	return product
}

// zeros is x to the power of the bits in n bytes.
func zeros(n int64) uint32 {
	power, square := uint32(one), uint32(x)
	for bits := uint64(n) * 8; bits != 0; bits >>= 1 { //nolint:gosec // a size is not negative
		if bits&1 != 0 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return power
}
