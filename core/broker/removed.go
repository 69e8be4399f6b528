package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
)

// standingEvery is how often a node that waits for its quorum asks the others whether it was removed meanwhile.
const standingEvery = 500 * time.Millisecond

func (b *Broker) removedProblem() error {
	return &problem.Error{
		Code: "node-removed", Class: problem.Environment, Where: fmt.Sprintf("--id %d", b.o.NodeID), Err: metadata.ErrRemovedNode,
		What: fmt.Sprintf("node %d was removed from cluster %s; nothing in %s belongs to it any more", b.o.NodeID, b.clusterID.Load(), b.o.DataDir),
		Hint: "to have it back as a new node start it with an empty --data directory",
	}
}

// wasRemoved says, for gossip, that a node of this cluster is none any more.
func (b *Broker) wasRemoved(id int32) bool {
	image := b.agreed.Load()
	return image != nil && image.Removed(metadata.NodeID(id))
}

// whileMember is ctx until others say that this node was removed: no leader would ever tell it. A node that has no data from before
// is not asked about: it is admitted anew.
func (b *Broker) whileMember(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if b.clusterID.Load() == "" {
			return
		}
		tick := time.NewTicker(standingEvery)
		defer tick.Stop()
		told := false
		for {
			for _, c := range b.candidates() {
				if ours := b.dir.meta; !told && metadata.OtherRestoration(ours.identity(), c.Cluster) {
					told = true
					b.o.Logger.Error("this node's metadata is from before a restoration of its cluster, or of another one: it is not let in; give it an empty --data directory, or restore anew with its data",
						"restored", ours.Restored, "node", c.ID, "its", c.Cluster)
				}
				if c.ID == b.o.NodeID || c.Cluster != b.clusterID.Load() {
					continue
				}
				step, stop := context.WithTimeout(ctx, standingEvery)
				removed, err := b.quorum.RemovedSays(step, c.Address)
				stop()
				if err == nil && removed {
					cancel(metadata.ErrRemovedNode)
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}
