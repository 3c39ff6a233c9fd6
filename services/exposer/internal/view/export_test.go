package view

// Parts is the number of selections that are kept, and of their samples.
func (b *Board) Parts() (n, samples int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.parts {
		samples += s.part.Samples
	}
	return len(b.parts), samples
}
