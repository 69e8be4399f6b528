package partition

import (
	"slices"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// A member of the ISR that cannot take what it is sent, as one whose disk is full, holds up who waits for all of them. It leaves long before it has been behind for
// replica.lag.time.max.ms, but never where the others would be too few to acknowledge.
func TestReplicaThatTakesNothing(t *testing.T) {
	const lag = 30 * time.Second
	for _, c := range []struct {
		name    string
		minISR  int
		offsets []int64 // asked for by node 3, one every two seconds
		stays   bool
	}{
		{"full", 2, []int64{1, 1, 1, 1}, false},
		{"the others are too few", 3, []int64{1, 1, 1, 1}, true},
		{"slow", 2, []int64{1, 1, 2, 2}, true},
		{"twice cut off", 2, []int64{1, 1}, true},
		{"cut off, then slow", 2, []int64{1, 1, 1}, true},
		{"room again", 2, []int64{1, 1, 1, 3}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			x := newPair(t, vfs.NewMemory())
			wishes := 0
			x.now = func() time.Time { return now }
			x.wish = func(*Partition) { wishes++ }
			x.state.Replicas = []metadata.NodeID{1, 2, 3}
			x.state.LeaderEpoch++
			x.state.PartitionEpoch++
			x.state.ISR = []metadata.NodeID{1, 2, 3}
			x.Update(&x.state, c.minISR)
			ask := func(node metadata.NodeID, offset int64) {
				t.Helper()
				r, err := x.Read(ReadRequest{Replica: node, Offset: offset, LastEpoch: -1, MaxBytes: 100, MinOne: true, Epoch: AnyEpoch, NodeEpoch: 7})
				if err != nil {
					t.Fatal(err)
				}
				r.Slice.Release()
			}
			var last commitlog.Appended
			for range 3 {
				last = x.put()
			}
			ask(2, 3)
			for _, offset := range c.offsets {
				ask(3, offset)
				now = now.Add(2 * time.Second)
				ask(2, 3)
			}
			change, leaves := x.Wish(lag, func(metadata.NodeID) (int64, bool) { return 7, true })
			if leaves == c.stays || leaves && (!slices.Equal(change.Nodes(), []metadata.NodeID{1, 2}) || wishes == 0) {
				t.Fatalf("another ISR %v: %v, asked for %d times", leaves, change.Nodes(), wishes)
			}
			if !leaves {
				return
			}
			x.state.ISR, x.state.PartitionEpoch = change.Nodes(), x.state.PartitionEpoch+1
			x.Update(&x.state, c.minISR)
			if told, err := x.acked(last); !told || err != nil {
				t.Errorf("not acknowledged by the other two: %v", err)
			}
			ask(3, 3)
			if change, joins := x.Wish(lag, func(metadata.NodeID) (int64, bool) { return 7, true }); !joins || len(change.ISR) != 3 {
				t.Errorf("it does not come back: %v", change.Nodes())
			}
		})
	}
}
