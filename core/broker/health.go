package broker

import (
	"slices"

	"github.com/forebayhub/forebay/core/metadata"
)

// Health is what /readyz tells.
type Health struct {
	Ready      bool              `json:"ready"`
	Reason     string            `json:"reason,omitempty"` // why not ready
	NodeID     metadata.NodeID   `json:"node_id"`
	ClusterID  string            `json:"cluster_id"`
	Controller bool              `json:"controller"` // this node leads the metadata quorum
	Topics     int               `json:"topics"`
	Partitions int               `json:"partitions"`
	Offline    map[string]string `json:"offline,omitempty"` // partition → why its log could not be opened
	FreeBytes  uint64            `json:"free_bytes"`        // of the data directory's file system
}

// Health looks at the node now.
func (b *Broker) Health() Health {
	image := b.quorum.Image()
	h := Health{NodeID: b.o.NodeID, ClusterID: b.dir.meta.ClusterID, Controller: b.quorum.Leads(), Topics: len(image.Topics)}
	for _, t := range image.Topics {
		for _, p := range t.Partitions {
			if slices.Contains(p.Replicas, b.o.NodeID) {
				h.Partitions++
			}
		}
	}
	for name, err := range b.replicas.Offline() {
		if h.Offline == nil {
			h.Offline = map[string]string{}
		}
		h.Offline[name] = err.Error()
	}
	h.FreeBytes, _, _ = b.o.FS.Usage(b.o.DataDir) // 0 where it cannot be told
	select {
	case <-b.failed:
		h.Reason = b.failure.Error()
		return h
	default:
	}
	select {
	case <-b.ready:
		h.Ready = b.serving.Err() == nil
		if !h.Ready {
			h.Reason = "stopping"
		}
	default:
		h.Reason = "starting"
	}
	return h
}
