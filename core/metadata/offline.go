package metadata

import "slices"

// PartitionID names a partition for good.
type PartitionID struct {
	Topic  TopicID
	Number int32
}

// SetOffline says which replicas of a node lie on a log directory that cannot be used, and which can be used again. One that is
// offline is as if its node were fenced, for this partition: it leaves an ISR that has others, leads nothing, and does not come in again
// before it is back. It is not eligible either: a disk that fails may forget. Kafka tells it by directory (AssignReplicasToDirs and the broker's heartbeat, KIP-858).
type SetOffline struct {
	Node      NodeID
	NodeEpoch int64 // its registration
	Offline   []PartitionID
	Online    []PartitionID
}

func (*SetOffline) kind() byte { return kindSetOffline }

func (c *SetOffline) encode(e *encoder) {
	e.int(int64(c.Node))
	e.int(c.NodeEpoch)
	encodeList(e, c.Offline, e.partition)
	encodeList(e, c.Online, e.partition)
}

func (c *SetOffline) decode(d *decoder) {
	c.Node, c.NodeEpoch = NodeID(d.int32()), d.int()
	c.Offline, c.Online = decodeList(d, d.partition), decodeList(d, d.partition)
}

func (e *encoder) partition(p PartitionID) { e.id(p.Topic); e.int(int64(p.Number)) }
func (d *decoder) partition() PartitionID  { return PartitionID{d.id(), d.int32()} }

// ID is p's name.
func (p *Partition) ID() PartitionID { return PartitionID{p.TopicID, p.Number} }

// Usable says that a replica of p can lead: its node is not fenced, and its log is not offline.
func (i *Image) Usable(p *Partition, node NodeID) bool {
	return i.alive(node) && !slices.Contains(p.Offline, node)
}

// OfflineOn are the replicas of a node that are offline.
func (i *Image) OfflineOn(node NodeID) (list []PartitionID) {
	for _, t := range i.Topics {
		for _, p := range t.Partitions {
			if slices.Contains(p.Offline, node) {
				list = append(list, p.ID())
			}
		}
	}
	return list
}

// setOffline ignores partitions that are gone meanwhile, or have no replica there.
func (i *Image) setOffline(c *SetOffline) error {
	if _, err := i.registered(c.Node, c.NodeEpoch); err != nil {
		return err
	}
	off, on := partitionSet(c.Offline), partitionSet(c.Online)
	i.eachPartition(func(p *Partition) *Partition {
		switch {
		case off[p.ID()] && !slices.Contains(p.Offline, c.Node) && slices.Contains(p.Replicas, c.Node):
			return i.withoutNode(p.offline(c.Node), c.Node, true)
		case on[p.ID()] && slices.Contains(p.Offline, c.Node):
			q := p.online(c.Node)
			if i.keepsELR() {
				return i.elected(q)
			}
			if q.Leader == -1 && i.alive(c.Node) && slices.Contains(q.ISR, c.Node) {
				q.Leader = c.Node
				q.LeaderEpoch++
			}
			return q
		}
		return p
	})
	return nil
}

func partitionSet(list []PartitionID) map[PartitionID]bool {
	m := make(map[PartitionID]bool, len(list))
	for _, id := range list {
		m[id] = true
	}
	return m
}

// offline is p once a replica's log cannot be used.
func (p *Partition) offline(node NodeID) *Partition {
	q := *p
	q.Offline = append(slices.Clone(p.Offline), node)
	q.PartitionEpoch++
	return &q
}

// online undoes offline.
func (p *Partition) online(node NodeID) *Partition {
	q := *p
	q.Offline = slices.DeleteFunc(slices.Clone(p.Offline), func(n NodeID) bool { return n == node })
	q.PartitionEpoch++
	return &q
}
