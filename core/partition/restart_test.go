package partition

import (
	"errors"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// pair is node 1's replica of a partition that node 2 has too, alone in sync and leading in epoch 1.
type pair struct {
	*Partition
	t     *testing.T
	state metadata.Partition
}

func newPair(t *testing.T, disk vfs.FS) *pair {
	t.Helper()
	syncer := commitlog.NewSyncer(1, nil)
	t.Cleanup(syncer.Close)
	x := &pair{t: t, state: metadata.Partition{Topic: "t", Replicas: []metadata.NodeID{1, 2}, ISR: []metadata.NodeID{1}, Leader: 1, LeaderEpoch: 1}}
	p, err := Open(Options{Node: 1, State: &x.state, MinISR: 1, Open: func(advanced func()) (*commitlog.Log, error) {
		return commitlog.Open(commitlog.Options{FS: disk, Dir: "/t-0", Durability: commitlog.Relaxed, Syncer: syncer, Advanced: advanced, BootID: "b"})
	}})
	if err != nil {
		t.Fatal(err)
	}
	x.Partition = p
	return x
}

// next begins a leader epoch.
func (x *pair) next(leader metadata.NodeID, isr ...metadata.NodeID) {
	x.state.Leader, x.state.ISR = leader, isr
	x.state.LeaderEpoch++
	x.state.PartitionEpoch++
	x.Update(&x.state, 1)
}

func (x *pair) batch() []byte {
	x.t.Helper()
	w := record.NewBuilder()
	w.Append(1_700_000_000_000, nil, []byte("v"))
	b, err := w.Bytes()
	if err != nil {
		x.t.Fatal(err)
	}
	return append([]byte(nil), b...)
}

func (x *pair) put() commitlog.Appended {
	x.t.Helper()
	a, err := x.Append(x.batch(), AnyEpoch, commitlog.FromClient, true)
	if err != nil {
		x.t.Fatal(err)
	}
	return a
}

// acked is what WhenAcked has said by now, if anything.
func (x *pair) acked(a commitlog.Appended) (told bool, err error) {
	said := make(chan error, 1)
	x.WhenAcked(a.Last, a.Epoch, func(err error) { said <- err })
	select {
	case err := <-said:
		return true, err
	default:
		return false, nil
	}
}

// TestAckOfAnEpochThatIsOver: who appended, and is about to wait when the epoch ends, is not told of the record that has taken its place (invariant 1).
func TestAckOfAnEpochThatIsOver(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.next(1, 1, 2)
	lost := x.put()
	x.next(2, 2)
	if err := x.CutBack(3, Diverging{Epoch: 0, EndOffset: 0}, -1); err != nil {
		t.Fatal(err)
	}
	for at := range int64(2) {
		b := record.Batch(x.batch())
		b.Patch(at, 3)
		if err := x.AppendFetched(b, 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Learn(3, 2, 0); err != nil || x.HighWatermark() != 2 {
		t.Fatal(err, x.HighWatermark())
	}
	for _, leader := range []metadata.NodeID{2, 1} {
		if leader == 1 {
			x.next(1, 1)
		}
		if ok, err := x.acked(lost); !ok || !errors.Is(err, ErrNotLeader) {
			t.Fatalf("led by %d: the record at %d of epoch %d was lost, and acknowledged: %v %t", leader, lost.Last, lost.Epoch, err, ok)
		}
	}
	if ok, err := x.acked(x.put()); !ok || err != nil {
		t.Fatalf("of this epoch: %v %t", err, ok)
	}
}

// TestFetchOfAnEpochThatIsOver: a Fetch whose epoch was right when it came, and is over when it is counted, acknowledges nothing in the next one.
func TestFetchOfAnEpochThatIsOver(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.next(1, 1, 2)
	a := x.put()
	was := x.term.Load()
	x.next(1, 1, 2)
	fetch := &ReadRequest{Replica: 2, Offset: a.Last + 1, Epoch: was.epoch, LastEpoch: -1, NodeEpoch: -1}
	x.fetched(fetch, was)
	if hw := x.HighWatermark(); hw != 0 {
		t.Fatalf("the watermark is %d by a Fetch of epoch %d", hw, was.epoch)
	}
	x.fetched(fetch, x.term.Load())
	if hw := x.HighWatermark(); hw != a.Last+1 {
		t.Fatalf("the watermark is %d by a Fetch of this epoch", hw)
	}
}

// TestWatermarkFollowsACut: a cluster that has lost acknowledged records has a replica start below its watermark, also where the disk is full half way. The
// watermark comes down with the log: else this node, as the next leader, acknowledges records that nobody else has (invariant 1).
func TestWatermarkFollowsACut(t *testing.T) {
	for name, c := range map[string]struct {
		empty bool // its records were deleted, up to the end
		full  bool
		cut   func(p *Partition) error
	}{
		"restart":             {empty: true, cut: func(p *Partition) error { return p.Restart(2, 2) }},
		"cut back":            {cut: func(p *Partition) error { return p.CutBack(2, Diverging{Epoch: 0, EndOffset: 2}, 0) }},
		"cut back, disk full": {full: true, cut: func(p *Partition) error { return p.CutBack(2, Diverging{Epoch: 0, EndOffset: 2}, 0) }},
		"restart, disk full":  {empty: true, full: true, cut: func(p *Partition) error { return p.Restart(2, 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewFault(vfs.NewMemory())
			x := newPair(t, disk)
			for range 8 {
				x.put()
			}
			deleted := int64(5)
			if c.empty {
				deleted = 8
			}
			if err := x.Log().DeleteBefore(deleted); err != nil || x.HighWatermark() != 8 {
				t.Fatal(err, x.HighWatermark())
			}
			x.next(2, 2)
			if c.full {
				remove := disk.Inject(vfs.Rule{Op: vfs.OpWrite, Path: "bounds", Err: syscall.ENOSPC})
				if err := c.cut(x.Partition); !errors.Is(err, commitlog.ErrDiskFull) {
					t.Fatal(err)
				}
				if hw, end := x.HighWatermark(), x.Log().EndOffset(); hw > end || end != deleted {
					t.Fatalf("half way: watermark %d, end %d", hw, end)
				}
				remove()
			}
			var below *Truncated
			if err := c.cut(x.Partition); !errors.As(err, &below) || below.To != 2 {
				t.Fatalf("the cut below the watermark is not told: %v", err)
			}
			if hw := x.HighWatermark(); hw != 2 {
				t.Fatalf("watermark %d, the log ends at 2", hw)
			}
			x.next(1, 1, 2)
			if ok, err := x.acked(x.put()); ok {
				t.Fatalf("acknowledged, and nobody else has it: %v", err)
			}
		})
	}
}

// TestFetchBeyondTheEnd: a replica whose empty log begins beyond the leader's end has nothing of what is appended there next (invariant 1).
func TestFetchBeyondTheEnd(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.next(1, 1, 2)
	if _, err := x.Read(ReadRequest{Replica: 2, Offset: 50, LastEpoch: -1, MaxBytes: 1 << 20, Epoch: AnyEpoch, NodeEpoch: -1}); !errors.Is(err, commitlog.ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
	if told, err := x.acked(x.put()); told {
		t.Errorf("a record is acknowledged that only the leader has: %v", err)
	}
}

// TestBytesOfANewerEpoch: what comes from a leader that has lost its lead on the way, and copies by now, is not appended: this log has other records before it, and nobody
// would ask for them again.
func TestBytesOfANewerEpoch(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.next(2, 1, 2)
	at := func(offset int64, epoch int32) []byte {
		b := record.Batch(x.batch())
		b.Patch(offset, epoch)
		return b
	}
	if err := x.AppendFetched(append(at(0, 1), at(1, 3)...), 2); err != nil || x.Log().EndOffset() != 1 {
		t.Fatalf("up to %d: %v", x.Log().EndOffset(), err)
	}
	if err := x.AppendFetched(at(1, 3), 2); !errors.Is(err, ErrUnknownEpoch) || x.Log().EndOffset() != 1 {
		t.Errorf("up to %d: %v", x.Log().EndOffset(), err)
	}
}

// TestRestartOfANewReplica: where a replica begins that has never had a record is known after its process has died.
func TestRestartOfANewReplica(t *testing.T) {
	disk := vfs.NewMemory()
	x := newPair(t, disk)
	x.next(2, 1, 2)
	if err := x.Restart(2, 50); err != nil {
		t.Fatal(err)
	}
	x = newPair(t, disk)
	if end := x.Log().EndOffset(); end != 50 || x.HighWatermark() > 50 {
		t.Errorf("it ends at %d, with watermark %d", end, x.HighWatermark())
	}
}

// A follower that parts from its leader below where the leader's log begins now has records that nobody can compare any more: they are dropped, and it
// does not count as in sync with them. Node 1 leads, epoch 1 ends at 2, and records were deleted up to 4; node 2 has what it appended itself in epoch 1.
func TestPartingBelowTheLeadersStart(t *testing.T) {
	x := newPair(t, vfs.NewMemory())
	x.put()
	x.put()
	x.next(1, 1)
	x.put()
	x.put()
	if err := x.Log().DeleteBefore(4); err != nil {
		t.Fatal(err)
	}
	for _, end := range []int64{4, 5} {
		got, err := x.Read(ReadRequest{Offset: end, Epoch: 2, LastEpoch: 1, MaxBytes: 1 << 20, Replica: 2})
		if err != nil || got.Diverging == nil || *got.Diverging != (Diverging{Epoch: 1, EndOffset: 4}) || got.LogStart != 4 {
			t.Errorf("a follower that ends at %d: %+v %v", end, got, err)
		}
	}
	if got, err := x.Read(ReadRequest{Offset: 4, Epoch: 2, LastEpoch: 1, MaxBytes: 1 << 20, Replica: -1}); err != nil || got.Diverging != nil {
		t.Errorf("a consumer that has read up to there: %+v %v", got, err)
	}
	y := newPair(t, vfs.NewMemory())
	y.next(1, 1, 2) // nobody acknowledges
	for range 5 {
		y.put()
	}
	y.next(2, 2)
	if err := y.CutBack(3, Diverging{Epoch: 1, EndOffset: 4}, 4); err != nil {
		t.Fatal(err)
	}
	if end, last := y.Position(); end != 4 || last != -1 || y.Log().StartOffset() != 4 {
		t.Errorf("a log from %d to %d, epoch %d", y.Log().StartOffset(), end, last)
	}
}
