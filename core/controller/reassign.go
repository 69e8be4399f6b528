package controller

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// Reassignment wishes for other replicas of a partition; nil Replicas take back the wish that is under way.
type Reassignment struct {
	Topic    string
	Number   int32
	Replicas []metadata.NodeID // in order; the first is preferred
}

// Reassign has wishes agreed on, all in one command, or says why not (KIP-455); nil in its place for success, which says that the wish is
// under way, not that it holds. keepFactor refuses another number of replicas (KIP-860).
func (c *Controller) Reassign(ctx context.Context, wishes []Reassignment, keepFactor bool) []error {
	return c.surely(ctx, len(wishes), func(which []int) []error { return c.reassign(ctx, chosen(wishes, which), keepFactor) })
}

func (c *Controller) reassign(ctx context.Context, wishes []Reassignment, keepFactor bool) []error {
	errs := make([]error, len(wishes))
	image := c.Image()
	cmd := &metadata.ReassignPartitions{}
	var at []int // of each change in wishes
	for n, w := range wishes {
		change, err := planReassignment(image, w, keepFactor)
		if errs[n] = err; err == nil {
			cmd.Changes, at = append(cmd.Changes, change), append(at, n)
		}
	}
	if len(at) == 0 {
		return errs
	}
	r, err := c.propose(ctx, cmd)
	for k, n := range at {
		switch {
		case err != nil:
			errs[n] = err
		case r.Errs[k] != nil:
			errs[n] = refusedReassignment(image, c.Image(), wishes[n], r.Errs[k])
		}
	}
	return errs
}

// planReassignment checks a wish as Kafka does, in Kafka's order and words.
func planReassignment(image *metadata.Image, w Reassignment, keepFactor bool) (metadata.Reassignment, error) {
	var change metadata.Reassignment
	t := image.Topics[w.Topic]
	if t == nil {
		return change, refuse(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", w.Topic)
	}
	p := image.Partition(w.Topic, w.Number)
	if p == nil {
		return change, refuse(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", w.Topic, w.Number)
	}
	change = metadata.Reassignment{Topic: t.ID, Number: w.Number, Replicas: w.Replicas, Cancel: w.Replicas == nil, KeepFactor: keepFactor}
	if change.Cancel {
		if !p.Reassigning() {
			return change, noReassignment()
		}
		return change, nil
	}
	if len(w.Replicas) == 0 {
		return change, refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	sorted := slices.Sorted(slices.Values(w.Replicas))
	for k, node := range sorted {
		if image.Nodes[node] == nil {
			return change, refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", node)
		}
		if k > 0 && sorted[k-1] == node {
			return change, refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", node)
		}
	}
	if keepFactor {
		return change, sameFactor(p, w)
	}
	return change, nil
}

func noReassignment() error {
	return refuse(kerr.NoReassignmentInProgress, "No partition reassignment is in progress.")
}

func sameFactor(p *metadata.Partition, w Reassignment) error {
	if have := len(p.Target()); have != len(w.Replicas) {
		return refuse(kerr.InvalidReplicationFactor, "The replication factor is changed from %d to %d", have, len(w.Replicas))
	}
	return nil
}

// refusedReassignment is what Kafka says where Apply refuses what looked right.
func refusedReassignment(before, after *metadata.Image, w Reassignment, err error) error {
	p := after.Partition(w.Topic, w.Number)
	switch {
	case errors.Is(err, metadata.ErrUnknownTopic) || p == nil:
		return refuse(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", w.Topic)
	case errors.Is(err, metadata.ErrNoReassignment):
		// Proposed twice, because the first leader died over it, it was made by the first: the replicas are those from before.
		if slices.Equal(p.Replicas, before.Partition(w.Topic, w.Number).Origin()) {
			return nil
		}
		return noReassignment()
	case errors.Is(err, metadata.ErrUncleanRevert):
		return refuse(kerr.InvalidReplicaAssignment,
			"Unable to revert partition assignment for %s:%d because it would require an unclean leader election.", w.Topic, w.Number)
	case errors.Is(err, metadata.ErrFactor):
		return sameFactor(p, w)
	}
	return kafkaError(err)
}
