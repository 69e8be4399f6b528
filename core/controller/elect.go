package controller

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// Elect gives a partition a leader (KIP-183, KIP-460): its first replica, if that is alive and in sync; or, for
// unclean, any at all where there is none. An unclean one is never found: who is not in sync does not lead
// (invariant 4), and whoever is in sync leads as soon as it is alive.
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
		switch {
		case !unclean && p.Leader == first, unclean && p.Leader >= 0:
			return refuse(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")
		case unclean:
			return refuse(kerr.EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
		case !slices.Contains(p.ISR, first) || !image.Usable(p, first):
			return refuse(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
		}
		r, err := c.quorum.Propose(ctx, &metadata.ChangePartition{Topic: p.TopicID, Number: number, Expected: p.PartitionEpoch, Leader: first, ISR: p.ISR})
		switch {
		case err != nil:
			return kafkaError(err)
		case r.Err == nil:
			return nil
		case ctx.Err() != nil:
			return kafkaError(ctx.Err())
		}
		// Something has changed since the look: it is looked at again.
		if now := c.Image().Partition(topic, number); now != nil && now.PartitionEpoch == p.PartitionEpoch {
			return kafkaError(r.Err)
		}
	}
}
