package metadata

import (
	"fmt"
	"maps"
	"slices"
)

// ImageVersion is the version of an encoded Image, after its magic bytes. Version 2 has quotas at its end, version 3 ACLs, SCRAM
// credentials and endpoints behind them, version 4 the configs of groups, version 5 offline replicas, version 6 reassignments, version 7
// eligible leader replicas, version 8 the levels of nodes, version 9
// removed nodes, version 10 the restoration, version 11 since when nodes are as they are; older ones are read.
const ImageVersion = 11

const imageMagic = "FBIM"

// EncodeImage gives the bytes of an Image; equal images give equal bytes.
func EncodeImage(i *Image) []byte {
	e := &encoder{b: []byte(imageMagic)}
	e.uint(imageVersions[min(i.Level(), Level)])
	e.uint(i.Index)
	e.string(i.ClusterID)
	encodeList(e, sortedValues(i.Nodes), func(n *Node) {
		e.int(int64(n.ID))
		e.int(n.Epoch)
		e.string(n.Host)
		e.int(int64(n.Port))
		e.string(n.Rack)
		e.string(n.BootID)
		e.bool(n.Fenced)
	})
	encodeList(e, sortedValues(i.Topics), func(t *Topic) {
		e.string(t.Name)
		e.id(t.ID)
		e.bool(t.Internal)
		encodeList(e, t.Partitions, func(p *Partition) {
			e.nodes(p.Replicas)
			e.nodes(p.ISR)
			e.int(int64(p.Leader))
			e.int(int64(p.LeaderEpoch))
			e.int(int64(p.PartitionEpoch))
		})
	})
	e.tables(i.TopicConfigs)
	e.tables(i.BrokerConfigs)
	e.int(i.NextProducerID)
	e.levels(i.Features)
	encodeList(e, i.Deleted, e.id)
	e.quotas(i.Quotas)
	e.uint(i.ACLIndex)
	encodeList(e, i.ACLs, e.acl)
	e.scram(i.Scram)
	encodeList(e, sortedValues(i.Nodes), func(n *Node) { encodeList(e, n.Endpoints, e.endpoint) })
	e.tables(i.GroupConfigs)
	encodeList(e, i.partitions(func(p *Partition) bool { return len(p.Offline) > 0 }), func(p *Partition) {
		e.partition(p.ID())
		e.nodes(p.Offline)
	})
	encodeList(e, i.partitions((*Partition).Reassigning), func(p *Partition) {
		e.partition(p.ID())
		e.nodes(p.Adding)
		e.nodes(p.Removing)
	})
	encodeList(e, sortedValues(i.Nodes), func(n *Node) { e.int(int64(n.MinISR)) })
	encodeList(e, i.partitions(func(p *Partition) bool { return len(p.ELR)+len(p.LastKnownELR) > 0 }), func(p *Partition) {
		e.partition(p.ID())
		e.nodes(p.ELR)
		e.nodes(p.LastKnownELR)
	})
	encodeList(e, sortedValues(i.Nodes), func(n *Node) { e.int(int64(n.Level)) })
	e.nodes(i.RemovedNodes)
	e.string(i.Restored)
	encodeList(e, sortedValues(i.Nodes), func(n *Node) { e.int(n.Since); e.int(n.DrainingSince) })
	return e.b
}

// partitions are those that are so, in the order of topics.
func (i *Image) partitions(so func(*Partition) bool) (list []*Partition) {
	for _, t := range sortedValues(i.Topics) {
		for _, p := range t.Partitions {
			if so(p) {
				list = append(list, p)
			}
		}
	}
	return list
}

// DecodeImage reads what EncodeImage wrote. Errors: ErrVersion, ErrCorrupt.
func DecodeImage(b []byte) (*Image, error) {
	if len(b) < len(imageMagic) || string(b[:len(imageMagic)]) != imageMagic {
		return nil, fmt.Errorf("%w: not an image", ErrCorrupt)
	}
	d := &decoder{b: b[len(imageMagic):]}
	version := d.uint()
	if d.err == nil && (version == 0 || version > ImageVersion) {
		return nil, fmt.Errorf("%w: image version %d, this node knows up to %d", ErrVersion, version, ImageVersion)
	}
	i := NewImage()
	i.Index, i.ClusterID = d.uint(), d.string()
	for _, n := range decodeList(d, d.node) {
		i.Nodes[n.ID] = n
	}
	for _, t := range decodeList(d, d.topic) {
		if i.Topics[t.Name] != nil || i.TopicIDs[t.ID] != nil {
			d.fail("topic twice")
		}
		i.Topics[t.Name], i.TopicIDs[t.ID] = t, t
	}
	i.TopicConfigs, i.BrokerConfigs = d.tables(), d.tables()
	i.NextProducerID = d.int()
	i.Features = d.levels()
	i.Deleted = decodeList(d, d.id)
	if version >= 2 {
		i.Quotas = d.quotas()
	}
	if version >= 3 {
		i.ACLIndex, i.ACLs, i.Scram = d.uint(), decodeList(d, d.acl), d.scram()
		if n := d.count(); n != len(i.Nodes) {
			d.fail("endpoints of other nodes")
		}
		for _, n := range sortedValues(i.Nodes) {
			n.Endpoints = decodeList(d, d.endpoint)
		}
	}
	if version >= 4 {
		i.GroupConfigs = d.tables()
	}
	if version >= 5 {
		d.each(i, func(p *Partition) { p.Offline = d.nodes() })
	}
	if version >= 6 {
		d.each(i, func(p *Partition) {
			p.Adding, p.Removing = d.nodes(), d.nodes()
			if !p.Reassigning() || !holds(p.Replicas, p.Adding) || !holds(p.Replicas, p.Removing) {
				d.fail("reassignment of others than the replicas")
			}
		})
	}
	if version >= 7 {
		if n := d.count(); n != len(i.Nodes) {
			d.fail("min.insync.replicas of other nodes")
		}
		for _, n := range sortedValues(i.Nodes) {
			n.MinISR = d.int32()
		}
		d.each(i, func(p *Partition) {
			p.ELR, p.LastKnownELR = d.nodes(), d.nodes()
			if !holds(p.Replicas, p.ELR) || !holds(p.Replicas, p.LastKnownELR) {
				d.fail("eligible leaders that are no replicas")
			}
		})
	}
	if version >= 8 {
		if n := d.count(); n != len(i.Nodes) {
			d.fail("levels of other nodes")
		}
		for _, n := range sortedValues(i.Nodes) {
			n.Level = d.int16()
		}
	}
	if version >= 9 {
		i.RemovedNodes = d.nodes()
	}
	if version >= 10 {
		i.Restored = d.string()
	}
	if version >= 11 {
		if n := d.count(); n != len(i.Nodes) {
			d.fail("times of other nodes")
		}
		for _, n := range sortedValues(i.Nodes) {
			n.Since, n.DrainingSince = d.int(), d.int()
		}
	}
	if i.Level() < 0 || i.Level() > Level {
		return nil, fmt.Errorf("%w: metadata level %d, this node knows up to %d", ErrVersion, i.Level(), Level)
	}
	if err := d.finish(); err != nil {
		return nil, err
	}
	return i, nil
}

// each reads a list of partitions of i, which nobody has seen yet, and what more there is of each.
func (d *decoder) each(i *Image, more func(*Partition)) {
	decodeList(d, func() struct{} {
		id := d.partition()
		if p := i.TopicIDs[id.Topic].partition(id.Number); p != nil {
			more(p)
		} else {
			d.fail("a partition that is not there")
		}
		return struct{}{}
	})
}

func (d *decoder) node() *Node {
	return &Node{
		ID: NodeID(d.int32()), Epoch: d.int(), Host: d.string(), Port: d.int32(),
		Rack: d.string(), BootID: d.string(), Fenced: d.bool(),
	}
}

func (d *decoder) topic() *Topic {
	t := &Topic{Name: d.string(), ID: d.id(), Internal: d.bool()}
	t.Partitions = decodeList(d, func() *Partition {
		return &Partition{
			Topic: t.Name, TopicID: t.ID, Replicas: d.nodes(), ISR: d.nodes(),
			Leader: NodeID(d.int32()), LeaderEpoch: Epoch(d.int32()), PartitionEpoch: Epoch(d.int32()),
		}
	})
	for n, p := range t.Partitions {
		p.Number = int32(n)
	}
	return t
}

func (e *encoder) endpoint(p Endpoint) { e.string(p.Listener); e.string(p.Host); e.int(int64(p.Port)) }

func (d *decoder) endpoint() Endpoint {
	return Endpoint{Listener: d.string(), Host: d.string(), Port: d.int32()}
}

func sortedValues[K int | ~int32 | ~string, V any](m map[K]V) []V {
	list := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}

func (e *encoder) tables(m map[string]map[string]string) {
	encodeList(e, slices.Sorted(maps.Keys(m)), func(k string) {
		e.string(k)
		e.table(m[k])
	})
}

func (d *decoder) tables() map[string]map[string]string {
	m := map[string]map[string]string{}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		k := d.string()
		m[k] = d.table()
	}
	return m
}

func (e *encoder) levels(m map[string]int16) {
	encodeList(e, slices.Sorted(maps.Keys(m)), func(k string) {
		e.string(k)
		e.int(int64(m[k]))
	})
}

func (d *decoder) levels() map[string]int16 {
	m := map[string]int16{}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		k := d.string()
		m[k] = d.int16()
	}
	return m
}
