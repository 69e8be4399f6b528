package commitlog

import (
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

// A search finds the same entry wherever the search before it has left the index: in the tail, in a block that is still
// there, far from both, before the first entry and behind the last.
func TestIndexSearchNextToTheLast(t *testing.T) {
	fs := vfs.NewMemory()
	if err := fs.MkdirAll("d", 0o755); err != nil {
		t.Fatal(err)
	}
	x := newSparse(fs, "d/x.index", offsetKind, 0)
	rnd := rand.New(rand.NewPCG(1, 2))
	var offsets []int64
	last := int64(10)
	check := func(want int64) {
		t.Helper()
		i := sort.Search(len(offsets), func(i int) bool { return offsets[i] > want }) - 1
		a, b, ok, err := x.floor(want)
		if err != nil || ok != (i >= 0) {
			t.Fatalf("%d entries, floor(%d): found %v, %v; entry %d is right", len(offsets), want, ok, err, i)
		}
		if ok && (a != offsets[i] || int(b) != i) {
			t.Fatalf("%d entries, floor(%d) is entry %d of offset %d, not %d of %d", len(offsets), want, b, a, i, offsets[i])
		}
	}
	for range 2500 {
		x.add(last, uint32(len(offsets)))
		offsets = append(offsets, last)
		last += 1 + rnd.Int64N(5)
		at := rnd.Int64N(last + 10)
		for range 3 {
			check(at)
			at += rnd.Int64N(200)
		}
	}
	for at := int64(0); at < last+10; at++ {
		check(at)
	}
	x.close() // and opened again
	for range 1000 {
		check(rnd.Int64N(last))
	}
}
