package controller

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// Rebalance says how preferred leaders get their partitions back.
type Rebalance struct {
	Off bool // like auto.leader.rebalance.enable=false
	// Every is how often it is looked for them; like leader.imbalance.check.interval.seconds, which Kafka has at 300. 0: 10 s.
	Every time.Duration
	// Percent is how many of a node's partitions may be led by others before any is moved; like leader.imbalance.per.broker.percentage, which
	// Kafka had at 10 before KRaft, and has no more. 0: none.
	Percent int
}

// maxElections bounds the moves of one round. When there are more, the next round comes after a second.
const maxElections = 100

// balance gives partitions back to their first replica, where that is alive and in sync: else whoever came back
// last would lead nothing for good. more: there are others.
func (r Rebalance) balance(ctx context.Context, q Proposer) (more bool) {
	for n, p := range r.imbalanced(q.Image()) {
		if n == maxElections {
			return true
		}
		step, cancel := context.WithTimeout(ctx, time.Second)
		_, err := q.Propose(step, &metadata.ChangePartition{Topic: p.TopicID, Number: p.Number, Expected: p.PartitionEpoch, Leader: p.Replicas[0], ISR: p.ISR})
		cancel()
		if err != nil {
			return false // tried again
		}
	}
	return false
}

// imbalanced are the partitions to give back.
func (r Rebalance) imbalanced(image *metadata.Image) (list []*metadata.Partition) {
	type count struct{ all, elsewhere int }
	nodes := map[metadata.NodeID]*count{} // by what they are to lead
	for _, name := range slices.Sorted(maps.Keys(image.Topics)) {
		for _, p := range image.Topics[name].Partitions {
			first := p.Replicas[0]
			c := nodes[first]
			if c == nil {
				c = &count{}
				nodes[first] = c
			}
			c.all++
			if p.Leader == first {
				continue
			}
			c.elsewhere++
			if p.Leader != -1 && image.Usable(p, first) && !image.Draining(first) && slices.Contains(p.ISR, first) {
				list = append(list, p)
			}
		}
	}
	return slices.DeleteFunc(list, func(p *metadata.Partition) bool {
		c := nodes[p.Replicas[0]]
		return 100*c.elsewhere <= r.Percent*c.all
	})
}
