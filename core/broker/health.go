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
	// OfflineDirs are log directories that cannot be used, and why; OfflineReplicas the partitions for which they matter.
	OfflineDirs     map[string]string `json:"offline_log_dirs,omitempty"`
	OfflineReplicas int               `json:"offline_replicas,omitempty"`
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
	for _, d := range b.replicas.Dirs() {
		if err := d.Failed(); err != nil {
			if h.OfflineDirs == nil {
				h.OfflineDirs = map[string]string{}
			}
			h.OfflineDirs[d.Name] = err.Error()
		}
	}
	h.OfflineReplicas = len(b.replicas.Unavailable(image))
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
