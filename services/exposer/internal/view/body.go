package view

import (
	"sync"

	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/gzpart"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// Body is a response body as a list of parts, most of which are columns: bodies of one
// state, and of states that follow one another, share them. It is immutable.
type Body struct {
	// Len is the length in bytes.
	Len int

	format expo.Format
	parts  []part
}

// part is bytes as they are sent, or a column, whose OpenMetrics is made while it is sent:
// it is not held beside text, of which it differs by one byte in each line.
type part struct {
	bytes  []byte
	column *recent.Column
}

// add appends bytes as they are sent.
func (b *Body) add(bytes []byte) {
	if len(bytes) > 0 {
		b.parts = append(b.parts, part{bytes: bytes})
		b.Len += len(bytes)
	}
}

// column appends a column.
func (b *Body) column(c *recent.Column) {
	if b.format == expo.Text {
		b.add(c.Lines)
		b.parts[len(b.parts)-1].column = c
		return
	}
	b.parts = append(b.parts, part{column: c})
	b.Len += expo.LinesLen(b.format, c.Lines, c.Samples)
}

// small is the length of a body below which it is compressed as a whole: in milliseconds,
// and to a fraction of what its parts apart would have, each of which has a few lines.
const small = 1 << 20

// zipped is the body compressed with gzip.
func (b *Body) zipped() Body {
	zip, sum := Body{format: b.format}, gzpart.Sum{}
	pack := func(p *gzpart.Part) {
		zip.add(p.Deflated)
		sum.Add(p)
	}
	zip.add(gzpart.Header)
	if b.Len < small {
		whole := gzpart.New(func(emit func([]byte)) {
			_ = b.WriteTo(func(chunk []byte) error { emit(chunk); return nil })
		})
		pack(&whole)
	} else {
		for _, p := range b.parts {
			if p.column != nil {
				pack(p.column.Packed(b.format))
				continue
			}
			one := gzpart.New(func(emit func([]byte)) { emit(p.bytes) })
			pack(&one)
		}
	}
	zip.add(sum.Trailer())
	return zip
}

// Chunk is the number of bytes that a body is written in at a time.
const Chunk = 64 << 10

// buffers hold what is small, and lines whose format is made.
var buffers = sync.Pool{New: func() any { return new([Chunk]byte) }}

// WriteTo passes the body to write in chunks of at most [Chunk] bytes, of which write
// must not keep any. It returns the first error of write, after which it writes no more.
func (b *Body) WriteTo(write func([]byte) error) error {
	pooled := buffers.Get().(*[Chunk]byte)
	defer buffers.Put(pooled)
	buf := pooled[:0]
	flush := func() (err error) {
		if len(buf) > 0 {
			err = write(buf)
			buf = buf[:0]
		}
		return err
	}
	for _, p := range b.parts {
		rest, lines := p.bytes, p.bytes == nil
		if lines {
			rest = p.column.Lines
		}
		for len(rest) > 0 {
			var err error
			switch {
			case lines:
				buf, rest = expo.AppendFitting(buf, b.format, rest)
				if len(rest) > 0 {
					err = flush()
				}
			case len(buf) > 0 && len(buf)+len(rest) > Chunk:
				err = flush()
			case len(rest) >= Chunk:
				err = write(rest[:Chunk:Chunk])
				rest = rest[Chunk:]
			default:
				buf, rest = append(buf, rest...), nil
			}
			if err != nil {
				return err
			}
		}
	}
	return flush()
}
