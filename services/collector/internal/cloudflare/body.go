package cloudflare

import (
	"bytes"
	"errors"
	"io"
)

// firstLook is how much of a body is read before the part is validated. Most regular
// responses are shorter.
const firstLook = 1 << 20

// readBody reads a body, up to one byte more than most. It validates the part that was
// read whenever its length has doubled, and stops if the body is invalid regardless of
// what follows. So an invalid body costs the memory of its beginning, not of the whole.
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

// hopeless reports whether a body with this beginning is invalid regardless of the rest.
func hopeless(beginning []byte, b *bounds) bool {
	s := newScanner(beginning, b)
	return s.whole() != nil && !s.ended
}
