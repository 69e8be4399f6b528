package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/pause"
)

// readers is a group that reads committed transactions and commits its offsets.
type readers struct {
	mu    sync.Mutex
	acked map[int32]int64
}

// member reads and commits; a commit that was acknowledged is remembered.
func (g *readers) member(ctx context.Context, c *kgo.Client) {
	for ctx.Err() == nil {
		if c.PollFetches(ctx).NumRecords() == 0 {
			continue
		}
		step, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := c.CommitUncommittedOffsets(step)
		cancel()
		if err != nil {
			continue // as far as it knows nothing is committed
		}
		g.mu.Lock()
		for p, o := range c.CommittedOffsets()["txn"] {
			g.acked[p] = max(g.acked[p], o.Offset)
		}
		g.mu.Unlock()
	}
}

// check says whether a partition's committed offset is below one that was acknowledged before.
func (g *readers) check(ctx context.Context, admin *kadm.Client) error {
	g.mu.Lock()
	acked := map[int32]int64{}
	for p, o := range g.acked {
		acked[p] = o
	}
	g.mu.Unlock()
	got, err := admin.FetchOffsets(ctx, "readers")
	if err != nil {
		return err
	}
	for p, at := range acked {
		if o, ok := got.Lookup("txn", p); !ok || o.At < at {
			return errors.Join(o.Err, fmt.Errorf("group readers: offset %d of txn-%d was acknowledged and %d was read back", at, p, o.At))
		}
	}
	return nil
}

// commitOffsets raises a group's offset by one, again and again, and reads it back.
func commitOffsets(ctx context.Context, admin *kadm.Client) error {
	var acked int64 = -1
	for at := int64(0); ctx.Err() == nil; at++ {
		var o kadm.Offsets
		o.AddOffset("numbers", 0, at, -1)
		if resp, err := admin.CommitOffsets(ctx, "clerk", o); err == nil && resp.Error() == nil {
			acked = at
		}
		got, err := admin.FetchOffsets(ctx, "clerk")
		if err != nil {
			continue
		}
		if o, ok := got.Lookup("numbers", 0); acked >= 0 && (!ok || o.At < acked) {
			return fmt.Errorf("group clerk: offset %d was acknowledged and %+v was read back", acked, o)
		}
		_ = pause.For(ctx, 5*time.Millisecond)
	}
	return nil
}
