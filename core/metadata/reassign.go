package metadata

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Why a reassignment was not made.
var (
	ErrNoReassignment = errors.New("no reassignment is in progress")
	ErrFactor         = errors.New("the replication factor would change")
	ErrUncleanRevert  = errors.New("no replica from before is in sync")
)

// Reassignment wishes for other replicas of a partition, or for those from before the wish that is under way (KIP-455).
type Reassignment struct {
	Topic      TopicID
	Number     int32
	Replicas   []NodeID // the first is preferred
	Cancel     bool     // instead of Replicas
	KeepFactor bool     // refuse another number of replicas (KIP-860)
}

// ReassignPartitions makes each reassignment that can be: Result.Errs tells for each.
type ReassignPartitions struct{ Changes []Reassignment }

func (*ReassignPartitions) kind() byte { return kindReassignPartitions }

func (c *ReassignPartitions) encode(e *encoder) {
	encodeList(e, c.Changes, func(r Reassignment) {
		e.id(r.Topic)
		e.int(int64(r.Number))
		e.nodes(r.Replicas)
		e.bool(r.Cancel)
		e.bool(r.KeepFactor)
	})
}

func (c *ReassignPartitions) decode(d *decoder) {
	c.Changes = decodeList(d, func() Reassignment {
		return Reassignment{Topic: d.id(), Number: d.int32(), Replicas: d.nodes(), Cancel: d.bool(), KeepFactor: d.bool()}
	})
}

// Reassigning says whether other replicas were wished for and are not there yet.
func (p *Partition) Reassigning() bool { return len(p.Adding)+len(p.Removing) > 0 }

// Target are the replicas that are to stay.
func (p *Partition) Target() []NodeID { return less(p.Replicas, p.Removing) }

// Origin are the replicas from before a reassignment.
func (p *Partition) Origin() []NodeID { return less(p.Replicas, p.Adding) }

// less is a without b, in a's order.
func less(a, b []NodeID) []NodeID {
	if len(b) == 0 {
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(n NodeID) bool { return slices.Contains(b, n) })
}

// among are those of a that are in b, in a's order.
func among(a, b []NodeID) []NodeID { return less(a, less(a, b)) }

func holds(all, some []NodeID) bool { return len(less(some, all)) == 0 }

func (i *Image) reassignPartitions(c *ReassignPartitions) Result {
	r := Result{Errs: make([]error, len(c.Changes))}
	i.Topics, i.TopicIDs = maps.Clone(i.Topics), maps.Clone(i.TopicIDs)
	ours := map[TopicID]bool{} // copied already
	for n := range c.Changes {
		p, err := i.reassigned(&c.Changes[n])
		if r.Errs[n] = err; err != nil || p == nil {
			continue
		}
		t := i.TopicIDs[p.TopicID]
		if !ours[t.ID] {
			t = &Topic{Name: t.Name, ID: t.ID, Internal: t.Internal, Partitions: slices.Clone(t.Partitions)}
			i.Topics[t.Name], i.TopicIDs[t.ID], ours[t.ID] = t, t, true
		}
		t.Partitions[p.Number] = p
	}
	return r
}

// reassigned is the partition with what was wished for under way, or done; nil when nothing changes.
func (i *Image) reassigned(c *Reassignment) (*Partition, error) {
	p, err := i.find(c.Topic, c.Number)
	if err != nil {
		return nil, err
	}
	q := *p
	if c.Cancel {
		if err := q.revert(); err != nil {
			return nil, err
		}
		return i.settled(p, &q), nil
	}
	switch {
	case len(c.Replicas) == 0:
		return nil, fmt.Errorf("%w: no replicas for %s-%d", ErrInvalidCommand, p.Topic, p.Number)
	case c.KeepFactor && len(c.Replicas) != len(p.Target()):
		return nil, fmt.Errorf("%w: %s-%d, from %d to %d", ErrFactor, p.Topic, p.Number, len(p.Target()), len(c.Replicas))
	}
	if err := i.checkReplicas(c.Replicas); err != nil {
		return nil, err
	}
	// As Kafka's PartitionReassignmentReplicas, but for the origin, which stays that of the first wish.
	leaving := slices.Sorted(slices.Values(less(p.Replicas, c.Replicas)))
	q.Replicas = slices.Concat(c.Replicas, leaving)
	q.Removing = leaving
	q.Adding = slices.Sorted(slices.Values(less(q.Replicas, p.Origin())))
	if slices.Equal(p.Replicas, q.Replicas) && slices.Equal(p.Adding, q.Adding) && slices.Equal(p.Removing, q.Removing) {
		return nil, nil
	}
	return i.settled(p, &q), nil
}

// revert gives a partition its replicas from before back. Like Kafka's PartitionReassignmentRevert.
func (p *Partition) revert() error {
	if !p.Reassigning() {
		return fmt.Errorf("%w: %s-%d", ErrNoReassignment, p.Topic, p.Number)
	}
	isr := less(p.ISR, p.Adding)
	if len(isr) == 0 && len(less(p.ELR, p.Adding)) == 0 {
		return fmt.Errorf("%w: %s-%d, ISR %v", ErrUncleanRevert, p.Topic, p.Number, p.ISR)
	}
	p.Replicas, p.ISR, p.Adding, p.Removing = p.Origin(), isr, nil, nil
	return nil
}

// complete ends a reassignment whose target is in sync.
func (p *Partition) complete() {
	if target := p.Target(); p.Reassigning() && holds(p.ISR, target) {
		p.Replicas, p.ISR, p.Adding, p.Removing = target, less(p.ISR, p.Removing), nil, nil
	}
}
