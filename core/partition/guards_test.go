package partition

import (
	"errors"
	"testing"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// These guards stand before others that would hold, too, for a while: the simulator sees no harm when one of them is taken out.

// What was asked for in an epoch that is over changes nothing: another leader's history may have begun where it ends.
func TestFollowerTakesNothingOfAnEpochThatIsOver(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.put()
	x.next(2, 1, 2)
	x.next(2, 1, 2)
	for _, epoch := range []int32{2, 4} {
		b := record.Batch(x.batch())
		b.Patch(1, 2)
		if err := x.AppendFetched(b, epoch); !errors.Is(err, ErrFencedEpoch) {
			t.Errorf("append in epoch 3 of what was fetched in %d: %v", epoch, err)
		}
		if err := x.Learn(epoch, 1, 0); !errors.Is(err, ErrFencedEpoch) {
			t.Errorf("a watermark in epoch 3, told in %d: %v", epoch, err)
		}
		if err := x.CutBack(epoch, Diverging{Epoch: 0, EndOffset: 0}, -1); !errors.Is(err, ErrFencedEpoch) {
			t.Errorf("a cut in epoch 3, told in %d: %v", epoch, err)
		}
	}
	if end := x.Log().EndOffset(); end != 1 {
		t.Errorf("the log ends at %d", end)
	}
}

// A follower's watermark ends with its log, however far its leader's is: what comes there later may be another leader's (invariant 3).
func TestWatermarkEndsWithTheLog(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.put()
	x.next(2, 1, 2)
	for _, told := range []int64{7, 2, 0} {
		if err := x.Learn(2, told, 0); err != nil || x.HighWatermark() != 1 {
			t.Errorf("told of %d with a log up to 1: watermark %d, %v", told, x.HighWatermark(), err)
		}
	}
}

// Who was out of the ISR and is in it again has nothing until it fetches: it may have lost what it had (invariant 4).
func TestWhoWasOutOfTheISRHasNothingUntilItFetches(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.next(1, 1, 2)
	x.put()
	fetch := func(offset int64) {
		t.Helper()
		got, err := x.Read(ReadRequest{Offset: offset, Epoch: AnyEpoch, LastEpoch: -1, MaxBytes: 1 << 20, Replica: 2, NodeEpoch: -1})
		if err != nil {
			t.Fatal(err)
		}
		got.Slice.Release()
	}
	isr := func(nodes ...metadata.NodeID) {
		x.state.ISR = nodes
		x.state.PartitionEpoch++
		x.Update(&x.state, 2)
	}
	fetch(1)
	x.put()
	fetch(2)
	isr(1)
	isr(1, 2)
	a := x.put()
	if p := x.mu.followers[2]; p == nil || p.end >= 0 {
		t.Errorf("the leader believes that node 2 has what it had: %+v", p)
	}
	fetch(3)
	if ok, err := x.acked(a); !ok || err != nil {
		t.Errorf("after it has fetched: %v %t", err, ok)
	}
}
