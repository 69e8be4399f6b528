package broker

import (
	"slices"
	"strconv"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/server"
	"github.com/forebayhub/forebay/core/txn"
	"github.com/forebayhub/forebay/internal/metrics"
)

var (
	nodeInfo   = metrics.Gauge("forebay_node", "Always 1; the labels say which node this is.", "node", "cluster", "rack")
	nodeReady  = metrics.Gauge("forebay_node_ready", "1 while /readyz says ok, else 0.")
	nodesN     = metrics.Gauge("forebay_nodes", "Registered nodes of the cluster, by state: alive or fenced. Every node tells the same.", "state")
	topicsN    = metrics.Gauge("forebay_topics", "Topics of the cluster, internal ones too.")
	imageIndex = metrics.Gauge("forebay_metadata_index", "Raft index of the metadata that this node goes by.")
)

// Families are the metrics of a node, room by room.
func Families() []*metrics.Family {
	own := []*metrics.Family{nodeInfo, nodeReady, nodesN, topicsN, imageIndex}
	return slices.Concat(own, server.Families, replica.Families, group.Families, txn.Families, consensus.Families)
}

// Metrics writes what the node has counted, and how it is now.
func (b *Broker) Metrics(w *metrics.Writer) {
	image := b.quorum.Image()
	w.Value(nodeInfo, 1, strconv.Itoa(int(b.o.NodeID)), b.dir.meta.ClusterID, b.rack())
	ready := 0.0
	if b.Health().Ready {
		ready = 1
	}
	w.Value(nodeReady, ready)
	var alive, fenced int64
	for _, n := range image.Nodes {
		if n.Fenced {
			fenced++
		} else {
			alive++
		}
	}
	w.Count(nodesN, alive, "alive")
	w.Count(nodesN, fenced, "fenced")
	w.Count(topicsN, int64(len(image.Topics)))
	w.Count(imageIndex, int64(image.Index))
	b.server.Metrics(w)
	b.replicas.Metrics(w)
	b.groups.Metrics(w, func(topic string, number int32) (int64, bool) {
		p := b.replicas.Opened(topic, number)
		if p == nil {
			return 0, false
		}
		return p.HighWatermark(), true
	})
	b.txns.Metrics(w)
	b.quorum.Metrics(w)
}
