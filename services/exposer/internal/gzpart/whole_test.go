package gzpart

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// A body of one part is one member, after whatever is there already.
func TestAppend(t *testing.T) {
	buf := []byte("before")
	for _, size := range []int{0, 1, 70_000, 3_000_000} {
		raw := bytes.Repeat([]byte(`requests_total{zone="a"} 7`+"\n"), size/27+1)[:size]
		buf = Append(buf[:6], raw)
		r, err := gzip.NewReader(bytes.NewReader(buf[6:]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, raw) || string(buf[:6]) != "before" {
			t.Errorf("%d bytes come back as %d (%v), after %q", size, len(got), err, buf[:6])
		}
	}
}
