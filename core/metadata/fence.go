package metadata

import (
	"fmt"
	"slices"
)

// fenceNode takes a node that keeps no lease out of everything that others count on.
func (i *Image) fenceNode(c *FenceNode) error {
	n, err := i.registered(c.ID, c.Epoch)
	if err != nil || n.Fenced {
		return err
	}
	fenced := *n
	fenced.Fenced = true
	i.setNode(&fenced)
	i.eachPartition(func(p *Partition) *Partition { return i.withoutNode(p, c.ID, false) })
	return nil
}

// withoutNode is p once node is fenced, or its log cannot be used; then it may have lost its tail. Who has all that was acknowledged gives
// leaders, and nobody else (invariant 4). Where there is no ELR the last member of an ISR stays in it, without leading.
func (i *Image) withoutNode(p *Partition, node NodeID, lost bool) *Partition {
	member := slices.Contains(p.ISR, node)
	if i.keepsELR() {
		if p.Leader != node && !member && !(lost && slices.Contains(p.ELR, node)) {
			return p
		}
		q := *p
		q.ISR = less(p.ISR, []NodeID{node})
		if !lost {
			return i.settled(p, &q)
		}
		return i.settledWithout(p, &q, node)
	}
	if p.Leader != node && (!member || len(p.ISR) == 1) {
		return p
	}
	q := *p
	if member && len(p.ISR) > 1 {
		q.ISR = slices.DeleteFunc(slices.Clone(p.ISR), func(n NodeID) bool { return n == node })
	}
	if p.Leader == node {
		q.Leader = i.preferred(&q)
		q.LeaderEpoch++
	}
	q.PartitionEpoch++
	return &q
}

// preferred is the first replica that is in sync and not fenced; -1 when none is.
func (i *Image) preferred(p *Partition) NodeID {
	for _, n := range p.Replicas {
		if slices.Contains(p.ISR, n) && i.Usable(p, n) {
			return n
		}
	}
	return -1
}

// registered is a node as it registered in that epoch, and not again since.
func (i *Image) registered(node NodeID, epoch int64) (*Node, error) {
	n := i.Nodes[node]
	switch {
	case n == nil:
		return nil, fmt.Errorf("%w: %d", ErrUnknownNode, node)
	case n.Epoch != epoch:
		return nil, fmt.Errorf("%w: node %d is at epoch %d, not %d", ErrStale, node, n.Epoch, epoch)
	}
	return n, nil
}

func (i *Image) alive(node NodeID) bool {
	n := i.Nodes[node]
	return n != nil && !n.Fenced
}

func (i *Image) alterPartition(c *AlterPartition) Result {
	r := Result{Errs: make([]error, len(c.Changes))}
	for n := range c.Changes {
		change := &c.Changes[n]
		p, err := i.alteredISR(change)
		if r.Errs[n] = err; err == nil {
			i.setPartition(p)
		}
	}
	return r
}

// alteredISR is the partition with the ISR that its leader wishes (KIP-497).
func (i *Image) alteredISR(c *ISRChange) (*Partition, error) {
	was, err := i.find(c.Topic, c.Number)
	if err != nil {
		return nil, err
	}
	p := *was
	leader := i.Nodes[c.Leader]
	if p.Leader != c.Leader || p.LeaderEpoch != c.LeaderEpoch || p.PartitionEpoch != c.PartitionEpoch ||
		leader == nil || leader.Epoch != c.NodeEpoch || leader.Fenced {
		return nil, fmt.Errorf("%w: %s-%d is led by %d at epoch %d/%d", ErrStale, p.Topic, p.Number, p.Leader, p.LeaderEpoch, p.PartitionEpoch)
	}
	isr := c.Nodes()
	if !slices.Contains(isr, c.Leader) {
		return nil, fmt.Errorf("%w: leader %d of %s-%d is not in its ISR", ErrInvalidCommand, c.Leader, p.Topic, p.Number)
	}
	for k, m := range c.ISR {
		if !slices.Contains(p.Replicas, m.ID) || slices.Contains(isr[:k], m.ID) {
			return nil, fmt.Errorf("%w: node %d of the ISR is no replica of %s-%d, or there twice", ErrInvalidCommand, m.ID, p.Topic, p.Number)
		}
		if slices.Contains(p.ISR, m.ID) {
			continue
		}
		// Who comes in must be who was seen to have caught up (KIP-841, KIP-903): invariant 4.
		if !i.Usable(&p, m.ID) || i.Nodes[m.ID].Epoch != m.Epoch {
			return nil, fmt.Errorf("%w: node %d of %s-%d is fenced, or registered anew since it fetched", ErrIneligible, m.ID, p.Topic, p.Number)
		}
	}
	q := p
	q.ISR = isr
	return i.settled(&p, &q), nil
}
