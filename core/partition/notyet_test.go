package partition

import (
	"errors"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/internal/vfs"
)

// A new leader learns from its followers what was readable. Until then what may be deleted is not known either (KIP-207), and the low watermark that the leader before
// has told must not go back.
func TestDeleteRightAfterAFailover(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.next(1, 1, 2)
	for range 3 {
		x.put()
	}
	x.next(2, 1, 2)
	x.next(1, 1, 2)
	for _, offset := range []int64{3, 2, -1} {
		if low, err := x.DeleteBefore(offset); !errors.Is(err, ErrNotYet) {
			t.Errorf("before %d: %d, %v", offset, low, err)
		}
	}
	x.put()
	if low, err := x.DeleteBefore(4); !errors.Is(err, commitlog.ErrOffsetOutOfRange) {
		t.Errorf("beyond what was ever acknowledged: %d, %v", low, err)
	}
	if _, err := x.Read(ReadRequest{Replica: 2, Offset: 3, LastEpoch: -1, MaxBytes: 1 << 20, Epoch: AnyEpoch, NodeEpoch: -1}); err != nil {
		t.Fatal(err)
	}
	if low, err := x.DeleteBefore(-1); err != nil || low != 3 {
		t.Errorf("once the follower has asked: %d, %v", low, err)
	}
}
