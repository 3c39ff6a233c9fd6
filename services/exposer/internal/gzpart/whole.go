package gzpart

import (
	"runtime"
	"slices"
	"sync"
)

// piece is how much of a body one processor compresses at once. The bytes of a body depend on
// it, and not on the number of processors.
const piece = 1 << 20

// Append appends a body to dst, compressed: for what is sent once. Pieces of it are compressed
// by all processors side by side.
func Append(dst, raw []byte) []byte {
	var sum Sum
	dst = append(dst, Header...)
	at := runtime.GOMAXPROCS(0)
	for batch := range slices.Chunk(raw, at*piece) {
		var done sync.WaitGroup
		used, parts := make([]*compressor, 0, at), make([]Part, at)
		for one := range slices.Chunk(batch, piece) {
			c, p := compressors.Get().(*compressor), &parts[len(used)]
			used = append(used, c)
			done.Go(func() { *p = c.part(func(emit func([]byte)) { emit(one) }) })
		}
		done.Wait()
		for i, c := range used {
			sum.Add(&parts[i])
			dst = append(dst, parts[i].Deflated...)
			compressors.Put(c)
		}
	}
	return sum.end(dst)
}
