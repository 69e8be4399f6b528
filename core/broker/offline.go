package broker

import (
	"context"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// offlinePause is before what the quorum did not take is told again.
const offlinePause = 200 * time.Millisecond

// tellOffline tells the cluster which of this node's replicas cannot be used, for their log directories' sake or because they are damaged, whenever
// that changes, until ctx ends: others lead them then.
func (b *Broker) tellOffline(ctx context.Context) {
	if b.logDirs.placement == nil && b.o.Cluster == nil {
		return
	}
	settled := false
	for {
		var again <-chan time.Time
		switch ok := b.tellOnce(ctx); {
		case !ok:
			again = time.After(offlinePause)
		case !settled && b.logDirs.placement != nil:
			settled = true
			b.logDirs.failed("", false) // what had failed before the start is told
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-b.replicas.UnavailableChanged():
		}
	}
}

// tellOnce has the difference between what is and what the Image says agreed on.
func (b *Broker) tellOnce(ctx context.Context) bool {
	image := b.quorum.Image()
	n := image.Nodes[b.o.NodeID]
	if n == nil {
		return false
	}
	c := &metadata.SetOffline{Node: n.ID, NodeEpoch: n.Epoch}
	known := map[metadata.PartitionID]bool{}
	for _, id := range image.OfflineOn(n.ID) {
		known[id] = true
	}
	for _, id := range b.replicas.Unavailable(image) {
		if !known[id] {
			c.Offline = append(c.Offline, id)
		}
		delete(known, id)
	}
	for id := range known {
		c.Online = append(c.Online, id)
	}
	if len(c.Offline)+len(c.Online) == 0 {
		return true
	}
	telling, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := b.quorum.Propose(telling, c)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		b.o.Logger.Warn("the cluster could not be told which replicas are offline; trying on", "offline", len(c.Offline), "online", len(c.Online), "err", err)
		return false
	}
	b.o.Logger.Info("the cluster knows which replicas are offline", "offline", len(c.Offline), "online again", len(c.Online))
	return true
}
