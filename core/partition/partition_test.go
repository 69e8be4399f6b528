package partition

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

func open(t testing.TB, fsys vfs.FS, d commitlog.Durability) *Partition {
	t.Helper()
	syncer := commitlog.NewSyncer(2, nil)
	t.Cleanup(syncer.Close)
	p, err := Open(Options{
		Node: 1, State: &metadata.Partition{Topic: "t", Replicas: []metadata.NodeID{1}, ISR: []metadata.NodeID{1}, Leader: 1}, MinISR: 1,
		Open: func(advanced func()) (*commitlog.Log, error) {
			return commitlog.Open(commitlog.Options{FS: fsys, Dir: "/t-0", Name: "t-0", Durability: d, Syncer: syncer, Advanced: advanced, BootID: "b"})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func batchOf(t testing.TB, n int) []byte {
	b := record.NewBuilder()
	for range n {
		b.Append(1000, nil, []byte("value"))
	}
	out, err := b.Bytes()
	if err != nil {
		t.Error(err)
	}
	return out
}

// Many append and wait at once: each is told once, and never before the watermark is past it.
func TestEveryWaitEndsOnce(t *testing.T) {
	p := open(t, vfs.NewMemory(), commitlog.PowerSafe)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				a, err := p.Append(batchOf(t, 1+rand.IntN(3)), AnyEpoch, commitlog.FromClient, true)
				if err != nil {
					t.Error(err)
					return
				}
				done := make(chan error, 2)
				stop := p.WhenAcked(a.Last, a.Epoch, func(err error) {
					if hw := p.HighWatermark(); err == nil && hw <= a.Last {
						t.Errorf("acked %d at watermark %d", a.Last, hw)
					}
					done <- err
				})
				if rand.IntN(10) == 0 {
					stop()
					continue
				}
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				case <-ctx.Done():
					t.Errorf("no acknowledgement of %d; watermark %d, end %d", a.Last, p.HighWatermark(), p.Log().EndOffset())
					return
				}
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	left := len(p.mu.acks.list) - p.mu.acks.head
	p.mu.Unlock()
	if left > 0 {
		t.Errorf("%d waits are left", left)
	}
}

// In power-safe nothing is readable or acknowledged before it is synced (invariant 1).
func TestNothingIsReadableBeforeItIsSynced(t *testing.T) {
	faulty := vfs.NewFault(vfs.NewMemory())
	p := open(t, faulty, commitlog.PowerSafe)
	faulty.Inject(vfs.Rule{Op: vfs.OpSync, Err: errors.New("the disk is gone")})
	told := make(chan error, 1)
	a, err := p.Append(batchOf(t, 1), AnyEpoch, commitlog.FromClient, true)
	if err == nil {
		p.WhenAcked(a.Last, a.Epoch, func(err error) { told <- err })
	}
	select {
	case err := <-told:
		if err == nil {
			t.Error("acknowledged without a sync")
		}
	default:
	}
	if hw := p.HighWatermark(); hw != 0 {
		t.Errorf("watermark %d", hw)
	}
}

func TestPrepareComesBeforeTheFirstAppend(t *testing.T) {
	fsys := vfs.NewMemory()
	calls := 0
	p := open(t, fsys, commitlog.Relaxed)
	p.ready.Store(false)
	p.prepare = func() error {
		calls++
		if calls == 1 {
			return commitlog.ErrDiskFull
		}
		return nil
	}
	if _, err := p.Append(batchOf(t, 1), AnyEpoch, commitlog.FromClient, false); !errors.Is(err, commitlog.ErrDiskFull) {
		t.Error(err)
	}
	for range 3 {
		if _, err := p.Append(batchOf(t, 1), AnyEpoch, commitlog.FromClient, false); err != nil {
			t.Error(err)
		}
	}
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

func TestClosedPartitionTellsWhoWaits(t *testing.T) {
	p := open(t, vfs.NewMemory(), commitlog.Relaxed)
	w := NewWaiter()
	p.Watch(w)
	told := make(chan error, 1)
	p.WhenAcked(10, AnyEpoch, func(err error) { told <- err })
	p.Close()
	if err := <-told; !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	<-w.C
	p.Unwatch(w)
	p.Unwatch(w)
	if _, err := p.Append(batchOf(t, 1), AnyEpoch, commitlog.FromClient, false); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
}

func TestAckQueueKeepsOrder(t *testing.T) {
	var q ackQueue
	var told []int64
	rnd := rand.New(rand.NewPCG(1, 2))
	all := map[int64]*ack{}
	for _, o := range rnd.Perm(200) {
		a := &ack{offset: int64(o), done: func(error) { told = append(told, int64(o)) }}
		all[a.offset] = a
		q.add(a)
	}
	for o := int64(0); o < 200; o += 10 {
		q.remove(all[o])
	}
	for hw := int64(7); hw < 300; hw += 13 {
		finish(q.below(hw), nil)
		for _, o := range told {
			if o >= hw {
				t.Fatalf("%d told at %d", o, hw)
			}
		}
	}
	if len(told) != 180 {
		t.Errorf("%d told", len(told))
	}
	for i := 1; i < len(told); i++ {
		if told[i] <= told[i-1] {
			t.Fatal("out of order", told)
		}
	}
}
