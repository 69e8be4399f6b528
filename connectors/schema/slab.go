package schema

// Slab is memory for lists of values: a whole chunk of them comes from the heap at a time, and lives as long as anything that lies in
// it. The zero Slab is ready. It belongs to one goroutine.
type Slab struct {
	free []Value
	next int // how many values the next chunk has; 0: leastChunk
}

// A chunk has more values the more are asked for, from 64 KiB up to half a MiB, so that a quiet topic holds little and a busy one asks seldom.
const (
	leastChunk = 1024
	mostChunk  = 8192
)

// Values returns n null values, which are the caller's.
func (m *Slab) Values(n int) []Value {
	if n > leastChunk/8 { // it would leave much of a chunk unused
		return make([]Value, n)
	}
	if n > len(m.free) {
		size := max(m.next, leastChunk)
		m.free, m.next = make([]Value, size), min(2*size, mostChunk)
	}
	out := m.free[:n:n]
	m.free = m.free[n:]
	return out
}
