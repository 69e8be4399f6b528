package connectors

import "testing"

// A large row does not make the next one's memory larger, and Reset lets go of it.
func TestLargeRow(t *testing.T) {
	b := NewBatch(1 << 10)
	b.Copy(make([]byte, 1<<20))
	b.Copy([]byte("x"))
	if cap(b.arena) > 64<<10 {
		t.Errorf("room for %d bytes", cap(b.arena))
	}
	b.Values(100 * slabLen)
	b.Reset()
	if cap(b.slabs.values) > 64*slabLen {
		t.Errorf("room for %d values", cap(b.slabs.values))
	}
}
