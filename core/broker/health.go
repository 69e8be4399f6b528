package broker

import (
	"fmt"
	"maps"
	"slices"
	"time"

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
	OutOfSync       int               `json:"out_of_sync,omitempty"` // of Partitions: those whose replica here is not in sync
	// Warnings say in words what somebody should look at although the node serves.
	Warnings []string `json:"warnings,omitempty"`
}

// clockTolerance is how far clocks may be apart before somebody is told.
const clockTolerance = 500 * time.Millisecond

// Health looks at the node now.
func (b *Broker) Health() Health {
	image := b.quorum.Image()
	h := Health{NodeID: b.o.NodeID, ClusterID: b.dir.meta.ClusterID, Controller: b.quorum.Leads(), Topics: len(image.Topics)}
	for _, t := range image.Topics {
		for _, p := range t.Partitions {
			if slices.Contains(p.Replicas, b.o.NodeID) {
				h.Partitions++
				if !slices.Contains(p.ISR, b.o.NodeID) {
					h.OutOfSync++
				}
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
	var total uint64
	h.FreeBytes, total, _ = b.o.FS.Usage(b.o.DataDir) // 0 where it cannot be told
	h.warn(b, total)
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
		} else if n := image.Nodes[b.o.NodeID]; n != nil && n.Fenced {
			h.Ready, h.Reason = false, "fenced: the active controller does not hear this node, so others lead its partitions"
		}
	default:
		h.Reason = "starting"
	}
	return h
}

// warn finds what the node can say of itself; how the cluster is, `forebay nodes` tells.
func (h *Health) warn(b *Broker, total uint64) {
	say := func(format string, args ...any) { h.Warnings = append(h.Warnings, fmt.Sprintf(format, args...)) }
	if _, ok := b.quorum.Leader(); !ok {
		say("nobody leads the metadata quorum: topics, leaders and in-sync replicas cannot change until most of its voters reach each other")
	}
	if h.OutOfSync > 0 {
		say("%d of this node's %d replicas are not in sync", h.OutOfSync, h.Partitions)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Offline)) {
		say("partition %s cannot be used: %s", name, h.Offline[name])
	}
	damaged := b.replicas.Damaged()
	for _, name := range slices.Sorted(maps.Keys(damaged)) {
		if h.Offline[name] == "" {
			say("the log of partition %s is damaged: %v", name, damaged[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.OfflineDirs)) {
		say("log directory %s cannot be used: %s", name, h.OfflineDirs[name])
	}
	image := b.quorum.Image()
	for _, id := range slices.Sorted(maps.Keys(image.Nodes)) {
		if n := image.Nodes[id]; n.Level < metadata.Level && !n.Fenced {
			say("node %d runs an older version: it knows metadata level %d and this node %d; the cluster stays at level %d until all nodes are upgraded", id, n.Level, metadata.Level, image.Level())
		}
	}
	if b.active != nil {
		if apart := b.active.ClockApart(); apart.Abs() > clockTolerance {
			side := "ahead of"
			if apart < 0 {
				side = "behind"
			}
			say("this node's clock is %v %s the active controller's: timestamps, retention and certificates go by it; look at its NTP", apart.Abs().Round(time.Millisecond), side)
		}
	}
	if b.secrets != nil {
		if left := time.Until(b.secrets.Expires()); left < expiresSoon {
			say("this node's certificate ends at %s; then no other node talks to it: `forebay tls init --renew` makes a new one", b.secrets.Expires().UTC().Format(time.RFC3339))
		}
	}
	if total > 0 && h.FreeBytes < total/10 && h.FreeBytes < 1<<30 {
		say("%d MiB of %d MiB are free on the disk of %s", h.FreeBytes>>20, total>>20, b.o.DataDir)
	}
}
