// Package metadata holds what the cluster has agreed on: an immutable Image, the
// commands that change it, and Apply, which is pure: no clock, no I/O, no chance.
package metadata

import (
	"fmt"

	"github.com/google/uuid"
)

// NodeID names a node for good; an address may change, an id not.
type NodeID int32

// Epoch counts leaders of a partition, or changes of it.
type Epoch int32

// TopicID tells a topic from a later one of the same name. As UUID version 4.
type TopicID = uuid.UUID

// Image is one agreed state. It is shared by pointer and never changed.
type Image struct {
	Index     uint64 // raft index of the last command in it
	ClusterID string // 22 characters, as Kafka's; "" before the first command
	Nodes     map[NodeID]*Node
	Topics    map[string]*Topic
	TopicIDs  map[TopicID]*Topic
	// Configs of topics, brokers and groups by resource; Kafka's names and notation.
	TopicConfigs   map[string]map[string]string
	BrokerConfigs  map[string]map[string]string // key: node id in decimal, "" for the cluster-wide default
	GroupConfigs   map[string]map[string]string
	NextProducerID int64            // the first id of the next block
	Features       map[string]int16 // finalized feature levels: transaction.version → 2
	// Deleted are the ids of the topics deleted last, oldest first, at most MaxDeleted: their
	// folders may be removed even when a crash came between the deletion and the removal (invariant 8).
	Deleted []TopicID
	Quotas  *ClientQuotas // nil: none is set
	// ACLs in order, each once. ACLIndex is the raft index of their last change: who has compiled them knows when to do it anew.
	ACLs     []ACL
	ACLIndex uint64
	Scram    map[ScramUser]ScramCredential
	// RemovedNodes are the ids of the nodes removed last, oldest first, at most MaxRemoved: none of them registers.
	RemovedNodes []NodeID
	// Restored names the restoration that this quorum was founded by; "": it was founded by nodes that had nothing. See Restore.
	Restored string
}

// Node is a registered node.
type Node struct {
	ID     NodeID
	Epoch  int64 // rises with every registration of this node; fences its predecessors
	Host   string
	Port   int32
	Rack   string
	BootID string // of the machine: tells a killed process from a lost page cache
	Fenced bool
	Level  int16 // the highest metadata level that it knows
	// Endpoints are its listeners by name; empty when there is the one of Host and Port.
	Endpoints []Endpoint
	// MinISR is its own default of min.insync.replicas; 0: it registered when that was not told.
	MinISR int32
	// Since is when it became alive or fenced, and DrainingSince when its drain began, in milliseconds since 1970; 0: not known, or not so. See ApplyAt.
	Since, DrainingSince int64
}

// Endpoint is where clients of a listener reach a node.
type Endpoint struct {
	Listener string // EXTERNAL
	Host     string
	Port     int32
}

// Reached is where clients of a listener reach a node: Host and Port when it has no listener of that name.
func (n *Node) Reached(listener string) (host string, port int32) {
	for _, e := range n.Endpoints {
		if e.Listener == listener {
			return e.Host, e.Port
		}
	}
	return n.Host, n.Port
}

// Topic is a topic and its partitions, indexed by partition number.
type Topic struct {
	Name       string
	ID         TopicID
	Internal   bool
	Partitions []*Partition
}

// Partition is the agreed state of one partition.
type Partition struct {
	Topic          string
	TopicID        TopicID
	Number         int32
	Replicas       []NodeID // the first is preferred
	Adding         []NodeID // of Replicas: those that a reassignment brings in
	Removing       []NodeID // of Replicas: those that go when all others are in sync
	ISR            []NodeID
	Leader         NodeID // -1: none
	LeaderEpoch    Epoch
	PartitionEpoch Epoch // rises with every change of this struct
	// ELR are the eligible leader replicas (KIP-966), in the order of Replicas: not in the ISR, but they have all that was ever acknowledged, because
	// there are fewer in sync than min.insync.replicas. One of them leads when the ISR is empty.
	ELR []NodeID
	// LastKnownELR is who led last, while there is nobody in the ISR. As Kafka, which has this one in a list of that name.
	LastKnownELR []NodeID
	// Offline are the replicas whose log directory cannot be used: they lead nothing and join no ISR (KIP-858).
	Offline []NodeID
}

// NewImage is the state before the first command.
func NewImage() *Image {
	return &Image{
		Nodes: map[NodeID]*Node{}, Topics: map[string]*Topic{}, TopicIDs: map[TopicID]*Topic{},
		TopicConfigs: map[string]map[string]string{}, BrokerConfigs: map[string]map[string]string{}, GroupConfigs: map[string]map[string]string{},
		Features: map[string]int16{}, Scram: map[ScramUser]ScramCredential{},
	}
}

// Partition finds a partition, or nil.
func (i *Image) Partition(topic string, number int32) *Partition {
	return i.Topics[topic].partition(number)
}

// partition is that of t with a number, or nil; so it is when t is.
func (t *Topic) partition(number int32) *Partition {
	if t == nil || number < 0 || int(number) >= len(t.Partitions) {
		return nil
	}
	return t.Partitions[number]
}

// find is the partition that a command names.
func (i *Image) find(topic TopicID, number int32) (*Partition, error) {
	p := i.TopicIDs[topic].partition(number)
	if p == nil {
		return nil, fmt.Errorf("%w: id %s partition %d", ErrUnknownTopic, topic, number)
	}
	return p, nil
}
