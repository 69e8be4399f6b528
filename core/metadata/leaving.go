package metadata

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A node leaves in three steps, each agreed on: it is drained (a config of it, as Kafka's cordoned.log.dirs, KIP-1066), it is
// removed once it has no replicas, and its id is remembered, so that its old data cannot come back.

// DrainConfig is the broker config that says that a node is to be emptied.
const DrainConfig = "broker.draining"

// Why a node was not removed, or may not register.
var (
	ErrNodeInUse   = errors.New("node in use")
	ErrRemovedNode = errors.New("removed node")
)

// MaxRemoved is how many ids of removed nodes an Image remembers.
const MaxRemoved = 1024

// UnregisterNode removes a node for good: it must have no replicas, and be fenced or drained. Its id is in Removed until ReadmitNode.
type UnregisterNode struct{ ID NodeID }

// ReadmitNode allows a removed id to register again: it has come with an empty data directory.
type ReadmitNode struct{ ID NodeID }

func (*UnregisterNode) kind() byte { return kindUnregisterNode }
func (*ReadmitNode) kind() byte    { return kindReadmitNode }

func (c *UnregisterNode) encode(e *encoder) { e.int(int64(c.ID)) }
func (c *UnregisterNode) decode(d *decoder) { c.ID = NodeID(d.int32()) }
func (c *ReadmitNode) encode(e *encoder)    { e.int(int64(c.ID)) }
func (c *ReadmitNode) decode(d *decoder)    { c.ID = NodeID(d.int32()) }

// Draining says that a node is to be emptied: it is given no partitions, and its own move away.
func (i *Image) Draining(node NodeID) bool {
	return strings.EqualFold(strings.TrimSpace(i.BrokerConfigs[strconv.Itoa(int(node))][DrainConfig]), "true")
}

// Removed says that a node was removed, and not admitted anew since.
func (i *Image) Removed(node NodeID) bool { return slices.Contains(i.RemovedNodes, node) }

// Hosted counts the partitions that a node is a replica of.
func (i *Image) Hosted(node NodeID) int {
	return len(i.partitions(func(p *Partition) bool { return slices.Contains(p.Replicas, node) }))
}

// Led counts those that it leads.
func (i *Image) Led(node NodeID) int {
	return len(i.partitions(func(p *Partition) bool { return p.Leader == node }))
}

func (i *Image) unregisterNode(c *UnregisterNode) error {
	n := i.Nodes[c.ID]
	if n == nil {
		if i.Removed(c.ID) {
			return nil // asked for twice
		}
		return fmt.Errorf("%w: %d", ErrUnknownNode, c.ID)
	}
	if hosted := i.Hosted(c.ID); hosted > 0 {
		return fmt.Errorf("%w: node %d has replicas of %d partitions", ErrNodeInUse, c.ID, hosted)
	}
	if !n.Fenced && !i.Draining(c.ID) {
		return fmt.Errorf("%w: node %d is alive and not drained", ErrNodeInUse, c.ID)
	}
	i.Nodes = maps.Clone(i.Nodes)
	delete(i.Nodes, c.ID)
	i.raiseLevel()
	i.BrokerConfigs = maps.Clone(i.BrokerConfigs)
	delete(i.BrokerConfigs, strconv.Itoa(int(c.ID)))
	i.RemovedNodes = append(slices.Clone(i.RemovedNodes), c.ID)
	if over := len(i.RemovedNodes) - MaxRemoved; over > 0 {
		i.RemovedNodes = slices.Clone(i.RemovedNodes[over:])
	}
	return nil
}

func (i *Image) readmitNode(c *ReadmitNode) {
	i.RemovedNodes = slices.DeleteFunc(slices.Clone(i.RemovedNodes), func(n NodeID) bool { return n == c.ID })
}
