package partition

import (
	"errors"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/internal/vfs"
)

// A follower that cannot use what it was sent asks for it again: then the leader reads it with its CRCs, which it does not for every reader, and finds out that
// its own log has rotted since.
func TestAFollowerAsksAgain(t *testing.T) {
	r := newReplicas(t, 1)
	for range 3 {
		if err := r.append(false); err != nil {
			t.Fatal(err)
		}
	}
	r.copied(2)
	leader := r.at[1]
	fetch := func(offset int64) (int, error) {
		got, err := leader.Read(ReadRequest{Offset: offset, Epoch: AnyEpoch, LastEpoch: -1, MaxBytes: 1, MinOne: true, Replica: 3, NodeEpoch: r.image.Nodes[3].Epoch})
		got.Slice.Release()
		return got.Slice.Len, err
	}
	if n, err := fetch(0); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	const name = "/t-0/00000000000000000000.log"
	b, err := vfs.ReadFile(r.disks[1], name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b[2*len(b)/3-1] ^= 1 // the last byte of the second batch
	f, err := r.disks[1].OpenFile(name, 2, 0)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n, err := fetch(1); err != nil || n == 0 {
		t.Fatal("the process wrote it itself: ", n, err)
	}
	if _, err := fetch(1); !errors.Is(err, commitlog.ErrCorrupt) {
		t.Fatal("asked again:", err)
	}
	if n, err := fetch(0); err != nil || n == 0 {
		t.Fatal("what is sound:", n, err)
	}
	for range 3 { // to ask for what is not there yet is no doubt
		if n, err := fetch(3); err != nil || n != 0 {
			t.Fatal(n, err)
		}
	}
}
