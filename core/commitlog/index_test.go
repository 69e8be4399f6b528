package commitlog

import (
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/core/record"
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

// A compacted log may have a gap that is wider than an index can tell: a follower's append reaches over it, and all of it is found.
func TestGapBeyondTheIndex(t *testing.T) {
	const far, count = int64(5e9), 64
	o, _ := memoryLog(t, Config{RetentionAge: -1})
	l := mustOpen(t, o)
	follow := func(batches ...[]byte) {
		t.Helper()
		if _, err := l.Append(slices.Concat(batches...), 1, FromLeader); err != nil {
			t.Fatal(err)
		}
	}
	at := func(offset, ts int64) []byte {
		b := batch(t, ts, []string{strings.Repeat("v", 1000)})
		record.Batch(b).Patch(offset, 1)
		return b
	}
	follow(at(10, 1000))
	var many [][]byte
	for i := range int64(count) {
		many = append(many, at(far+i, 2000+i))
	}
	follow(many...)
	follow(at(far+count, 3000))
	check := func(most int64) {
		t.Helper()
		for i := range most {
			s, err := l.Read(far+i, l.EndOffset(), 1, true)
			if err != nil {
				t.Fatal(err)
			}
			if last := sliceLast(t, s); last != far+i {
				t.Errorf("read %d, want %d", last, far+i)
			}
			s.Release()
			if offset, _, _, err := l.OffsetForTime(2000 + i); offset != far+i || err != nil {
				t.Errorf("time %d: offset %d (%v), want %d", 2000+i, offset, err, far+i)
			}
		}
	}
	check(count)
	for range 2 {
		mustDo(t, l.Close())
		l = mustOpen(t, o)
		check(count)
		mustDo(t, l.TruncateTo(far+count))
	}
	mustDo(t, l.TruncateTo(far+count/2))
	check(count / 2)
	if offset, ts, _, err := l.MaxTimestamp(); offset != far+count/2-1 || ts != 2000+count/2-1 || err != nil {
		t.Errorf("the latest record is %d of %d (%v)", offset, ts, err)
	}
}
