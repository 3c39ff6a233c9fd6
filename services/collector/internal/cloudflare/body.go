package cloudflare

import (
	"bytes"
	"errors"
	"io"
)

// firstLook is how much of a body is read before its beginning is judged. Honest
// answers are shorter, but for a few.
const firstLook = 1 << 20

// readBody reads a body, up to one byte more than most. Whenever what has come has
// doubled it is judged: a body that will be refused, whatever follows, is not read
// any further, so that it costs the memory of its beginning and not of all that a
// stranger sends.
func readBody(from io.Reader, most int64, b *bounds) ([]byte, error) {
	var body bytes.Buffer
	for look := int64(firstLook); ; look *= 2 {
		_, err := io.CopyN(&body, from, min(look, most+1)-int64(body.Len()))
		switch {
		case errors.Is(err, io.EOF):
			return body.Bytes(), nil
		case err != nil:
			return nil, err
		case look > most, hopeless(body.Bytes(), b):
			return body.Bytes(), nil
		}
	}
}

// hopeless reports whether a body with this beginning is refused, whatever follows.
func hopeless(beginning []byte, b *bounds) bool {
	s := newScanner(beginning, b)
	return s.whole() != nil && !s.ended
}
