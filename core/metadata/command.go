package metadata

import (
	"fmt"
	"maps"
	"slices"
)

// Command is one wish that changes an Image. What it may not know by itself
// (time, chance, addresses) the proposer has put into it.
type Command interface {
	kind() byte
	encode(*encoder)
	decode(*decoder)
}

// CommandVersion is written into every command. A reader that meets a higher
// one stops (ErrVersion): guessing would let two nodes disagree for good.
const CommandVersion = 1

// The kinds are part of the format: never give one another meaning.
const (
	kindRegisterNode byte = iota + 1
	kindCreateTopics
	kindDeleteTopics
	kindCreatePartitions
	kindChangePartition
	kindAlterConfigs
	kindAllocateProducerIDs
	kindSetFeatures
	kindSetClusterID
	kindFenceNode
	kindAlterPartition
	kindAlterQuotas
	kindAlterACLs
	kindAlterScram
	kindAlterGroupConfigs
	kindSetOffline
	kindReassignPartitions
	kindUnregisterNode
	kindReadmitNode
)

// RegisterNode announces a node that has just started. Every partition that it
// leads gets a new leader epoch, so that what its predecessor under the same id
// still has in flight is fenced.
type RegisterNode struct {
	ID     NodeID
	Host   string
	Port   int32
	Rack   string
	BootID string
	// TailLost says that the node may have lost the ends of its logs: it was not shut
	// down in good order, does not sync every append, and the machine has booted since (invariant 4).
	TailLost bool
	// Endpoints are where the node's other listeners are reached, when it has more than that of Host and Port.
	Endpoints []Endpoint
	// Offline are its replicas whose log directory cannot be used: these and no others. See SetOffline.
	Offline []PartitionID
	// MinISR is its default of min.insync.replicas, from its own properties.
	MinISR int32
	// Empty says that its data directory was made by this start: beyond TailLost, there is nothing.
	Empty bool
	// Level is the highest metadata level that the node knows.
	Level int16
}

// TopicSpec is a topic to create, with everything planned.
type TopicSpec struct {
	Name       string
	ID         TopicID
	Internal   bool
	Assignment [][]NodeID // replicas of each partition; the first is preferred and leads
	Configs    map[string]string
}

// CreateTopics creates each topic that can be: Result.Errs tells for each.
type CreateTopics struct{ Topics []TopicSpec }

// DeleteTopics deletes by id, so that a topic recreated meanwhile is safe.
type DeleteTopics struct{ IDs []TopicID }

// CreatePartitions appends partitions to a topic that has From of them.
type CreatePartitions struct {
	Topic      TopicID
	From       int32
	Assignment [][]NodeID
}

// ChangePartition sets leader, ISR and (unless nil) replicas of a partition whose
// partition epoch is Expected. The leader epoch rises when the leader changes, or when NewEpoch asks for it.
type ChangePartition struct {
	Topic    TopicID
	Number   int32
	Expected Epoch
	Leader   NodeID
	ISR      []NodeID
	Replicas []NodeID
	NewEpoch bool
}

// AlterConfigs sets and deletes configs of a topic, or of a broker ("": all).
type AlterConfigs struct {
	Broker bool
	Name   string
	Set    map[string]string
	Delete []string
	// From is what the change was made of: own configs of the topic or broker, nil where one was not set. Where it is otherwise by now nothing is
	// changed (ErrStale). Level 1.
	From map[string]*string
}

// AlterGroupConfigs sets and deletes configs of a group, which need not be there.
type AlterGroupConfigs struct {
	Group  string
	Set    map[string]string
	Delete []string
}

// AllocateProducerIDs reserves Count ids; Result.First is the first of them.
type AllocateProducerIDs struct {
	Node  NodeID
	Count int32
}

// SetFeatures finalizes feature levels; 0 removes one.
type SetFeatures struct{ Levels map[string]int16 }

// SetClusterID names the cluster, once.
type SetClusterID struct{ ID string }

// FenceNode says that the registration Epoch of a node is over: it keeps no lease, or it leaves.
// It leaves every ISR that has others, and leads nothing.
type FenceNode struct {
	ID    NodeID
	Epoch int64
}

// AlterPartition makes each ISR change that still can be: Result.Errs tells for each.
type AlterPartition struct{ Changes []ISRChange }

func (*RegisterNode) kind() byte        { return kindRegisterNode }
func (*CreateTopics) kind() byte        { return kindCreateTopics }
func (*DeleteTopics) kind() byte        { return kindDeleteTopics }
func (*CreatePartitions) kind() byte    { return kindCreatePartitions }
func (*ChangePartition) kind() byte     { return kindChangePartition }
func (*AlterConfigs) kind() byte        { return kindAlterConfigs }
func (*AlterGroupConfigs) kind() byte   { return kindAlterGroupConfigs }
func (*AllocateProducerIDs) kind() byte { return kindAllocateProducerIDs }
func (*SetFeatures) kind() byte         { return kindSetFeatures }
func (*SetClusterID) kind() byte        { return kindSetClusterID }
func (*FenceNode) kind() byte           { return kindFenceNode }
func (*AlterPartition) kind() byte      { return kindAlterPartition }

// Encode gives a command's bytes: version, kind, body.
func Encode(c Command) []byte {
	e := &encoder{b: []byte{CommandVersion, c.kind()}}
	c.encode(e)
	return e.b
}

// Decode reads what Encode wrote. Errors: ErrVersion, ErrCorrupt.
func Decode(b []byte) (Command, error) {
	d := &decoder{b: b}
	if v := d.byte(); d.err == nil && (v == 0 || v > CommandVersion) {
		return nil, fmt.Errorf("%w: command version %d, this node knows up to %d", ErrVersion, v, CommandVersion)
	}
	kind := d.byte()
	if d.err != nil {
		return nil, d.err
	}
	c := newCommand(kind)
	if c == nil {
		return nil, fmt.Errorf("%w: command kind %d is unknown to this node", ErrVersion, kind)
	}
	c.decode(d)
	if err := d.finish(); err != nil {
		return nil, err
	}
	return c, nil
}

func newCommand(kind byte) Command {
	switch kind {
	case kindRegisterNode:
		return &RegisterNode{}
	case kindCreateTopics:
		return &CreateTopics{}
	case kindDeleteTopics:
		return &DeleteTopics{}
	case kindCreatePartitions:
		return &CreatePartitions{}
	case kindChangePartition:
		return &ChangePartition{}
	case kindAlterConfigs:
		return &AlterConfigs{}
	case kindAllocateProducerIDs:
		return &AllocateProducerIDs{}
	case kindSetFeatures:
		return &SetFeatures{}
	case kindSetClusterID:
		return &SetClusterID{}
	case kindFenceNode:
		return &FenceNode{}
	case kindAlterPartition:
		return &AlterPartition{}
	case kindAlterQuotas:
		return &AlterQuotas{}
	case kindAlterACLs:
		return &AlterACLs{}
	case kindAlterScram:
		return &AlterScram{}
	case kindAlterGroupConfigs:
		return &AlterGroupConfigs{}
	case kindSetOffline:
		return &SetOffline{}
	case kindReassignPartitions:
		return &ReassignPartitions{}
	case kindUnregisterNode:
		return &UnregisterNode{}
	case kindReadmitNode:
		return &ReadmitNode{}
	}
	return nil
}

func (c *RegisterNode) encode(e *encoder) {
	e.int(int64(c.ID))
	e.string(c.Host)
	e.int(int64(c.Port))
	e.string(c.Rack)
	e.string(c.BootID)
	e.bool(c.TailLost)
	encodeList(e, c.Endpoints, e.endpoint)
	encodeList(e, c.Offline, e.partition)
	e.int(int64(c.MinISR))
	e.bool(c.Empty)
	e.int(int64(c.Level))
}

func (c *RegisterNode) decode(d *decoder) {
	c.ID, c.Host, c.Port = NodeID(d.int32()), d.string(), d.int32()
	c.Rack, c.BootID, c.TailLost = d.string(), d.string(), d.bool()
	if len(d.b) > 0 { // commands of nodes that had one listener end here
		c.Endpoints = decodeList(d, d.endpoint)
	}
	if len(d.b) > 0 { // and those of nodes that had one log directory here
		c.Offline = decodeList(d, d.partition)
	}
	if len(d.b) > 0 { // and those of nodes that knew of no eligible leader replicas here
		c.MinISR, c.Empty = d.int32(), d.bool()
	}
	if len(d.b) > 0 { // and those of nodes that knew no levels here
		c.Level = d.int16()
	}
}

func (c *CreateTopics) encode(e *encoder) {
	encodeList(e, c.Topics, func(t TopicSpec) {
		e.string(t.Name)
		e.id(t.ID)
		e.bool(t.Internal)
		encodeList(e, t.Assignment, e.nodes)
		e.table(t.Configs)
	})
}

func (c *CreateTopics) decode(d *decoder) {
	c.Topics = decodeList(d, func() TopicSpec {
		return TopicSpec{Name: d.string(), ID: d.id(), Internal: d.bool(), Assignment: decodeList(d, d.nodes), Configs: d.table()}
	})
}

func (c *DeleteTopics) encode(e *encoder) { encodeList(e, c.IDs, e.id) }
func (c *DeleteTopics) decode(d *decoder) { c.IDs = decodeList(d, d.id) }

func (c *CreatePartitions) encode(e *encoder) {
	e.id(c.Topic)
	e.int(int64(c.From))
	encodeList(e, c.Assignment, e.nodes)
}

func (c *CreatePartitions) decode(d *decoder) {
	c.Topic, c.From, c.Assignment = d.id(), d.int32(), decodeList(d, d.nodes)
}

func (c *ChangePartition) encode(e *encoder) {
	e.id(c.Topic)
	e.int(int64(c.Number))
	e.int(int64(c.Expected))
	e.int(int64(c.Leader))
	e.nodes(c.ISR)
	e.nodes(c.Replicas)
	e.bool(c.NewEpoch)
}

func (c *ChangePartition) decode(d *decoder) {
	c.Topic, c.Number, c.Expected, c.Leader = d.id(), d.int32(), Epoch(d.int32()), NodeID(d.int32())
	c.ISR, c.Replicas, c.NewEpoch = d.nodes(), d.nodes(), d.bool()
}

func (c *AlterConfigs) encode(e *encoder) {
	e.bool(c.Broker)
	e.string(c.Name)
	e.table(c.Set)
	e.strings(c.Delete)
	if len(c.From) > 0 {
		encodeList(e, slices.Sorted(maps.Keys(c.From)), func(k string) {
			e.string(k)
			v := c.From[k]
			if e.bool(v != nil); v != nil {
				e.string(*v)
			}
		})
	}
}

func (c *AlterConfigs) decode(d *decoder) {
	c.Broker, c.Name, c.Set, c.Delete = d.bool(), d.string(), d.table(), d.strings()
	if len(d.b) > 0 { // else it is made of nothing, as all were at level 0
		c.From = map[string]*string{}
		for n := d.count(); n > 0 && d.err == nil; n-- {
			k := d.string()
			if c.From[k] = nil; d.bool() {
				v := d.string()
				c.From[k] = &v
			}
		}
	}
}

func (c *AlterConfigs) level() int16 { return int16(min(len(c.From), 1)) }

func (c *AlterGroupConfigs) encode(e *encoder) {
	e.string(c.Group)
	e.table(c.Set)
	e.strings(c.Delete)
}

func (c *AlterGroupConfigs) decode(d *decoder) {
	c.Group, c.Set, c.Delete = d.string(), d.table(), d.strings()
}

func (c *AllocateProducerIDs) encode(e *encoder) { e.int(int64(c.Node)); e.int(int64(c.Count)) }
func (c *AllocateProducerIDs) decode(d *decoder) { c.Node, c.Count = NodeID(d.int32()), d.int32() }

func (c *SetFeatures) encode(e *encoder) { e.levels(c.Levels) }
func (c *SetFeatures) decode(d *decoder) { c.Levels = d.levels() }

func (c *SetClusterID) encode(e *encoder) { e.string(c.ID) }
func (c *SetClusterID) decode(d *decoder) { c.ID = d.string() }

func (c *FenceNode) encode(e *encoder) { e.int(int64(c.ID)); e.int(c.Epoch) }
func (c *FenceNode) decode(d *decoder) { c.ID, c.Epoch = NodeID(d.int32()), d.int() }

func (c *AlterPartition) encode(e *encoder) {
	encodeList(e, c.Changes, func(p ISRChange) {
		e.id(p.Topic)
		e.int(int64(p.Number))
		e.int(int64(p.Leader))
		e.int(p.NodeEpoch)
		e.int(int64(p.LeaderEpoch))
		e.int(int64(p.PartitionEpoch))
		encodeList(e, p.ISR, func(m ISRMember) { e.int(int64(m.ID)); e.int(m.Epoch) })
	})
}

func (c *AlterPartition) decode(d *decoder) {
	c.Changes = decodeList(d, func() ISRChange {
		return ISRChange{
			Topic: d.id(), Number: d.int32(), Leader: NodeID(d.int32()), NodeEpoch: d.int(),
			LeaderEpoch: Epoch(d.int32()), PartitionEpoch: Epoch(d.int32()),
			ISR: decodeList(d, func() ISRMember { return ISRMember{ID: NodeID(d.int32()), Epoch: d.int()} }),
		}
	})
}
