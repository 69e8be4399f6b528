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

// TestWatermarkFollowsACut: a cluster that has lost acknowledged records has a replica start below its watermark, also where the disk is full half way. The
// watermark comes down with the log: else this node, as the next leader, acknowledges records that nobody else has (invariant 1).
func TestWatermarkFollowsACut(t *testing.T) {
	for name, c := range map[string]struct {
		empty bool // its records were deleted, up to the end
		full  bool
		cut   func(p *Partition) error
	}{
		"restart":             {empty: true, cut: func(p *Partition) error { return p.Restart(2, 2) }},
		"cut back":            {cut: func(p *Partition) error { return p.CutBack(2, Diverging{Epoch: 0, EndOffset: 2}) }},
		"cut back, disk full": {full: true, cut: func(p *Partition) error { return p.CutBack(2, Diverging{Epoch: 0, EndOffset: 2}) }},
		"restart, disk full":  {empty: true, full: true, cut: func(p *Partition) error { return p.Restart(2, 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewFault(vfs.NewMemory())
			syncer := commitlog.NewSyncer(1, nil)
			t.Cleanup(syncer.Close)
			state := metadata.Partition{Topic: "t", Replicas: []metadata.NodeID{1, 2}, ISR: []metadata.NodeID{1}, Leader: 1, LeaderEpoch: 1}
			p, err := Open(Options{Node: 1, State: &state, MinISR: 1, Open: func(advanced func()) (*commitlog.Log, error) {
				return commitlog.Open(commitlog.Options{FS: disk, Dir: "/t-0", Durability: commitlog.Relaxed, Syncer: syncer, Advanced: advanced, BootID: "b"})
			}})
			if err != nil {
				t.Fatal(err)
			}
			next := func(leader metadata.NodeID, isr ...metadata.NodeID) {
				state.Leader, state.ISR = leader, isr
				state.LeaderEpoch++
				state.PartitionEpoch++
				p.Update(&state, 1)
			}
			put := func() int64 {
				w := record.NewBuilder()
				w.Append(1_700_000_000_000, nil, []byte("v"))
				b, err := w.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				a, err := p.Append(b, AnyEpoch, commitlog.FromClient, true)
				if err != nil {
					t.Fatal(err)
				}
				return a.Base
			}
			for range 8 {
				put()
			}
			deleted := int64(5)
			if c.empty {
				deleted = 8
			}
			if err := p.Log().DeleteBefore(deleted); err != nil || p.HighWatermark() != 8 {
				t.Fatal(err, p.HighWatermark())
			}
			next(2, 2)
			if c.full {
				remove := disk.Inject(vfs.Rule{Op: vfs.OpWrite, Path: "bounds", Err: syscall.ENOSPC})
				if err := c.cut(p); !errors.Is(err, commitlog.ErrDiskFull) {
					t.Fatal(err)
				}
				if hw, end := p.HighWatermark(), p.Log().EndOffset(); hw > end || end != deleted {
					t.Fatalf("half way: watermark %d, end %d", hw, end)
				}
				remove()
			}
			var below *Truncated
			if err := c.cut(p); !errors.As(err, &below) || below.To != 2 {
				t.Fatalf("the cut below the watermark is not told: %v", err)
			}
			if hw := p.HighWatermark(); hw != 2 {
				t.Fatalf("watermark %d, the log ends at 2", hw)
			}
			next(1, 1, 2)
			acked := make(chan error, 1)
			p.WhenAcked(put(), func(err error) { acked <- err })
			select {
			case err := <-acked:
				t.Fatalf("acknowledged, and nobody else has it: %v", err)
			default:
			}
		})
	}
}
