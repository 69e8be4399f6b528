package metadata

import (
	"slices"
	"strconv"
	"strings"
)

// FeatureELR is the feature at whose level 1 an Image keeps eligible leader replicas (KIP-966). Images from before it do not: there the
// last member of an ISR stays in it although it is gone.
const FeatureELR = "eligible.leader.replicas.version"

const minISRConfig = "min.insync.replicas"

func (i *Image) keepsELR() bool { return i.Features[FeatureELR] > 0 }

// minISR is how many replicas in sync a partition needs for its high watermark to rise, as far as can be known without asking its leader: never
// more than the leader itself goes by, or somebody would count as eligible who has missed what was acknowledged since he left.
func (i *Image) minISR(p *Partition) int {
	n, ok := configured(i.TopicConfigs[p.Topic])
	if !ok {
		all, everywhere := configured(i.BrokerConfigs[""])
		for k, id := range p.Replicas {
			one, ok := configured(i.BrokerConfigs[strconv.Itoa(int(id))])
			if !ok {
				one, ok = all, everywhere
			}
			if node := i.Nodes[id]; !ok && node != nil {
				one = int(node.MinISR)
			}
			if k == 0 || one < n {
				n = one
			}
		}
	}
	return max(1, min(n, len(p.Origin()), len(p.Target())))
}

func configured(configs map[string]string) (int, bool) {
	v, ok := configs[minISRConfig]
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	return n, err == nil
}

// keepELR gives q, which is made of p, its eligible leader replicas: who was in the ISR when it fell below min.insync.replicas, or has left it since.
// The high watermark rests from then on, so each of them has all that was ever acknowledged. lost has not, for it may have lost its
// tail (invariant 4); -1 is nobody. Like maybePopulateTargetElr of Kafka's PartitionChangeBuilder.
func (i *Image) keepELR(p, q *Partition, lost NodeID) {
	if !i.keepsELR() {
		return
	}
	was := slices.Concat(p.ELR, p.ISR)
	q.ELR = nil
	if len(q.ISR) >= i.minISR(q) {
		return
	}
	for _, n := range q.Replicas {
		if n != lost && slices.Contains(was, n) && !slices.Contains(q.ISR, n) {
			q.ELR = append(q.ELR, n)
		}
	}
}

// canLead says that a replica has all that was ever acknowledged, and can be used: a member of the ISR, or, when
// nobody is left in it, an eligible one.
func (i *Image) canLead(p *Partition, n NodeID) bool {
	return (slices.Contains(p.ISR, n) || len(p.ISR) == 0 && slices.Contains(p.ELR, n)) && i.Usable(p, n)
}

// elect gives q, which is made of p, a leader if it needs one: the first replica that can lead. When nobody is left, neither in the ISR nor eligible,
// the last leader leads as soon as it is back, with what it has. Like Kafka's PartitionChangeBuilder.
func (i *Image) elect(p, q *Partition) {
	if !i.canLead(q, q.Leader) {
		q.Leader = -1
		for _, n := range q.Replicas {
			if i.canLead(q, n) {
				q.Leader = n
				break
			}
		}
	}
	if !i.keepsELR() {
		return
	}
	if q.Leader == -1 && len(q.ISR)+len(q.ELR) == 0 && len(p.LastKnownELR) == 1 && i.Usable(q, p.LastKnownELR[0]) {
		q.Leader = p.LastKnownELR[0]
		q.ISR = []NodeID{q.Leader}
	}
	if slices.Contains(q.ELR, q.Leader) {
		q.ISR, q.ELR = []NodeID{q.Leader}, less(q.ELR, []NodeID{q.Leader})
		if i.minISR(q) == 1 {
			q.ELR = nil // the watermark rises again
		}
	}
	i.keepLastLeader(p, q)
}

// keepLastLeader remembers who led when the ISR became empty, until there is a leader again.
func (i *Image) keepLastLeader(p, q *Partition) {
	switch {
	case q.Leader >= 0:
		q.LastKnownELR = nil
	case len(q.ISR) == 0 && len(p.ISR) > 0:
		last := p.Leader
		if last == -1 {
			last = p.ISR[0] // it stayed in the ISR before there was an ELR
		}
		q.LastKnownELR = []NodeID{last}
	}
	q.LastKnownELR = among(q.LastKnownELR, q.Replicas)
}

// settled is q, which was made of p by a change of replicas or ISR: its reassignment is ended if it can be, a leader that may
// not lead any more has a successor, and the epochs rise. Like Kafka's PartitionChangeBuilder.
func (i *Image) settled(p, q *Partition) *Partition { return i.settledWithout(p, q, -1) }

// settledWithout is settled when a node may have lost its tail.
func (i *Image) settledWithout(p, q *Partition, lost NodeID) *Partition {
	q.complete()
	q.Offline = among(q.Offline, q.Replicas)
	i.keepELR(p, q, lost)
	i.elect(p, q)
	if q.Leader != p.Leader || !holds(q.Replicas, p.Replicas) {
		q.LeaderEpoch++
	}
	q.PartitionEpoch++
	return q
}

// elected is p with a leader, if it has none and there is one for it; p itself otherwise.
func (i *Image) elected(p *Partition) *Partition {
	if p.Leader != -1 {
		return p
	}
	q := *p
	if i.settled(p, &q); q.Leader == -1 {
		return p
	}
	return &q
}

// returned is p once a node has registered anew, in an Image that keeps eligible leader replicas. Who may have lost its tail is in sync no more and
// not eligible either; one that has nothing at all does not lead even as the last leader while there are others who may have something.
func (i *Image) returned(p *Partition, c *RegisterNode) *Partition {
	nothing := c.Empty && len(p.Replicas) > 1
	if nothing {
		p = p.withoutLast(c.ID)
	}
	q := *p
	switch {
	case c.TailLost && (slices.Contains(p.ISR, c.ID) || slices.Contains(p.ELR, c.ID)):
		q.ISR = less(p.ISR, []NodeID{c.ID})
		p = i.settledWithout(p, &q, c.ID)
	case p.Leader == c.ID:
		q.LeaderEpoch++
		q.PartitionEpoch++
		p = &q
	}
	if nothing {
		p = p.withoutLast(c.ID)
	}
	return i.elected(p)
}

// withoutLast is p when a node may not lead for having led last.
func (p *Partition) withoutLast(node NodeID) *Partition {
	if !slices.Contains(p.LastKnownELR, node) {
		return p
	}
	q := *p
	q.LastKnownELR = nil
	q.PartitionEpoch++
	return &q
}

// thinned is p without eligible leader replicas when its watermark may rise now, because of another min.insync.replicas.
func (i *Image) thinned(p *Partition) *Partition {
	if len(p.ELR) == 0 || len(p.ISR) < i.minISR(p) {
		return p
	}
	q := *p
	return i.settled(p, &q)
}
