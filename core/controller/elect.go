package controller

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// Elect gives a partition a leader (KIP-183, KIP-460): its first replica, if that is alive and in sync; or, for
// unclean, any at all where there is none: the first that is alive. That may lose what was acknowledged (invariant 4), so nobody but an operator, or a
// topic's unclean.leader.election.enable, asks for it: whoever has everything leads by itself as soon as it is alive.
func (c *Controller) Elect(ctx context.Context, topic string, number int32, unclean bool) error {
	for {
		image := c.Image()
		if image.Topics[topic] == nil {
			return refuse(kerr.UnknownTopicOrPartition, "No such topic as %s", topic)
		}
		p := image.Partition(topic, number)
		if p == nil {
			return refuse(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", topic, number)
		}
		first := p.Replicas[0]
		change := &metadata.ChangePartition{Topic: p.TopicID, Number: number, Expected: p.PartitionEpoch, Leader: first, ISR: p.ISR}
		switch {
		case !unclean && p.Leader == first, unclean && p.Leader >= 0:
			return refuse(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")
		case unclean:
			if change.Leader = anyUsable(image, p); change.Leader >= 0 {
				c.logger.Warn("unclean election: what was acknowledged may be lost", "partition", topic, "number", number, "leader", change.Leader, "eligible", p.ELR)
				change.ISR = []metadata.NodeID{change.Leader}
				break
			}
			return refuse(kerr.EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
		case !slices.Contains(p.ISR, first) || !image.Usable(p, first):
			return refuse(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
		}
		r, err := c.quorum.Propose(ctx, change)
		switch {
		case err != nil:
			return kafkaError(err)
		case r.Err == nil:
			return nil
		case ctx.Err() != nil:
			return kafkaError(ctx.Err())
		}
		// Something has changed since the look: it is looked at again.
		if now := c.Image().Partition(topic, number); now != nil && now.PartitionEpoch == p.PartitionEpoch && c.Image().Usable(now, change.Leader) {
			return kafkaError(r.Err)
		}
	}
}

// anyUsable is the first replica that is alive; -1 when none is.
func anyUsable(image *metadata.Image, p *metadata.Partition) metadata.NodeID {
	for _, n := range p.Replicas {
		if image.Usable(p, n) {
			return n
		}
	}
	return -1
}

// Unclean says that a topic's partitions may be led by who may have missed what was acknowledged, when there is nobody else:
// unclean.leader.election.enable.
func (c *Controller) Unclean(image *metadata.Image, topic string) bool {
	return c.Settings(image, topic).Unclean
}

// electUnclean gives leaders to the partitions without one whose topics would rather lose records than wait; false: not to all of them.
func (a *Active) electUnclean(ctx context.Context) bool {
	image := a.o.Group.Image()
	for _, t := range image.Topics {
		for _, p := range t.Partitions {
			if p.Leader != -1 || !a.o.Unclean(image, t.Name) {
				continue
			}
			leader := anyUsable(image, p)
			if leader == -1 {
				continue
			}
			a.logger.Warn("unclean election: what was acknowledged may be lost", "partition", t.Name, "number", p.Number, "leader", leader, "eligible", p.ELR)
			step, cancel := context.WithTimeout(ctx, time.Second)
			_, err := a.o.Group.Propose(step, &metadata.ChangePartition{
				Topic: p.TopicID, Number: p.Number, Expected: p.PartitionEpoch, Leader: leader, ISR: []metadata.NodeID{leader},
			})
			cancel()
			if err != nil {
				return false
			}
		}
	}
	return true
}

// keepELR has eligible leader replicas kept from now on, in a cluster that was founded before there were any, once all its nodes know of them.
func (a *Active) keepELR(ctx context.Context) {
	image := a.o.Group.Image()
	if image.Features[metadata.FeatureELR] > 0 || len(image.Nodes) == 0 {
		return
	}
	for _, n := range image.Nodes {
		if n.MinISR == 0 {
			return
		}
	}
	step, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := a.o.Group.Propose(step, &metadata.SetFeatures{Levels: map[string]int16{metadata.FeatureELR: 1}}); err != nil {
		a.logger.Debug("eligible leader replicas are not kept yet", "err", err) // tried again
	}
}
