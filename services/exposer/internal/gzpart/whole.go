package gzpart

// Append appends a body of one part to dst, compressed: for what is sent once. It allocates
// nothing if dst has the capacity.
func Append(dst, raw []byte) []byte {
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	p := c.part(func(emit func([]byte)) { emit(raw) })
	var sum Sum
	sum.Add(&p)
	dst = append(append(dst, Header...), p.Deflated...)
	return sum.end(dst)
}
