package view

import (
	"bytes"
	"sync"

	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/gzpart"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// Body is a response body as a list of parts, most of which are those of the columns it
// shows: bodies of one state, and of states that follow one another, share them. It is
// immutable.
type Body struct {
	// Len is the length in bytes.
	Len int

	format   expo.Format
	encoding expo.Encoding
	parts    []part
	sum      gzpart.Sum
}

// part is bytes as they are sent, or lines whose format is made while they are sent:
// OpenMetrics is not held beside text, of which it differs by one byte in each line.
type part struct {
	bytes []byte
	lines bool
}

func begin(f expo.Format, e expo.Encoding) Body {
	b := Body{format: f, encoding: e}
	if e == expo.Gzip {
		b.add(gzpart.Header)
	}
	return b
}

func (b *Body) add(bytes []byte) {
	b.parts = append(b.parts, part{bytes: bytes})
	b.Len += len(bytes)
}

func (b *Body) pack(p *gzpart.Part) {
	b.add(p.Deflated)
	b.sum.Add(p)
}

// text appends text that is in the body's format already.
func (b *Body) text(text []byte) {
	switch {
	case len(text) == 0:
	case b.encoding == expo.Gzip:
		p := gzpart.New(func(emit func([]byte)) { emit(text) })
		b.pack(&p)
	default:
		b.add(text)
	}
}

func (b *Body) column(c *recent.Column) {
	switch {
	case b.encoding == expo.Gzip:
		b.pack(c.Packed(b.format))
	case b.format == expo.Text:
		b.add(c.Lines)
	default:
		b.parts = append(b.parts, part{bytes: c.Lines, lines: true})
		b.Len += expo.LinesLen(b.format, c.Lines, c.Samples)
	}
}

func (b *Body) end() {
	if b.encoding == expo.Gzip {
		b.add(b.sum.Trailer())
	}
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
		for rest := p.bytes; len(rest) > 0; {
			var err error
			switch {
			case p.lines:
				buf, rest = convert(buf, b.format, rest)
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

// convert appends as many whole lines in a format as a chunk has room for, at least one
// if it is empty, and returns the others.
func convert(buf []byte, f expo.Format, lines []byte) (grown, rest []byte) {
	// A line has at least 16 bytes, and a format adds one.
	n := min(len(lines), (Chunk-len(buf))*15/16)
	if n < len(lines) {
		if n = bytes.LastIndexByte(lines[:n], '\n') + 1; n == 0 && len(buf) == 0 {
			n = bytes.IndexByte(lines, '\n') + 1
		}
	}
	return expo.AppendLines(buf, f, lines[:n]), lines[n:]
}
