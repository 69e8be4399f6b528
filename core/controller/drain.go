package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

const (
	drainEvery = 500 * time.Millisecond
	// maxMoves bounds the partitions that leave one node at a time: what moves is read by others from the same disks.
	maxMoves = 32
)

// checkDrain refuses a drain that cannot end, or by which one that is under way could not.
func checkDrain(image *metadata.Image, node, value string) error {
	if node == "" {
		return refuse(kerr.InvalidRequest, "%s is for one node, not for all.", metadata.DrainConfig)
	}
	if !strings.EqualFold(strings.TrimSpace(value), "true") {
		return nil
	}
	leaves := func(id metadata.NodeID) bool { return image.Draining(id) || fmt.Sprint(id) == node }
	left := 0
	for id := range image.Nodes {
		if !leaves(id) {
			left++
		}
	}
	tight, name, need := 0, "", 0
	for _, topic := range slices.Sorted(maps.Keys(image.Topics)) {
		for _, p := range image.Topics[topic].Partitions {
			target := p.Target()
			if len(target) <= left || !slices.ContainsFunc(target, leaves) {
				continue
			}
			if tight++; len(target) > need {
				name, need = fmt.Sprintf("%s-%d", p.Topic, p.Number), len(target)
			}
		}
	}
	if tight > 0 {
		return refuse(kerr.InvalidReplicationFactor,
			"Node %s cannot be drained: %s has %d replicas and only %d other node(s) could have them; so it is with %d partition(s). Add a node, or give them fewer replicas.",
			node, name, need, left, tight)
	}
	return nil
}

// drain moves partitions away from the nodes that are to be emptied: first what they lead to others in sync, then their replicas, a few at a
// time, by reassignments like any other. Everything it goes by is in the Image, so any controller goes on with it.
func (a *Active) drain(ctx context.Context) {
	image := a.o.Group.Image()
	var nodes []metadata.NodeID
	for _, id := range slices.Sorted(maps.Keys(image.Nodes)) {
		if image.Draining(id) {
			nodes = append(nodes, id)
		}
	}
	if len(nodes) == 0 {
		return
	}
	step, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for n, c := range leadersOff(image) {
		if n == maxElections {
			break
		}
		if _, err := a.o.Group.Propose(step, c); err != nil {
			return // tried again
		}
	}
	image = a.o.Group.Image()
	cmd := &metadata.ReassignPartitions{}
	hosts := hosted(image)
	for _, node := range nodes {
		cmd.Changes = append(cmd.Changes, movesOff(image, node, hosts)...)
	}
	if len(cmd.Changes) == 0 {
		return
	}
	if _, err := a.o.Group.Propose(step, cmd); err != nil {
		a.logger.Debug("partitions could not be moved off a node that is drained", "err", err) // tried again
	}
}

// leadersOff gives what draining nodes lead to the first replica in sync that stays.
func leadersOff(image *metadata.Image) (list []*metadata.ChangePartition) {
	for _, name := range slices.Sorted(maps.Keys(image.Topics)) {
		for _, p := range image.Topics[name].Partitions {
			if p.Leader < 0 || !image.Draining(p.Leader) {
				continue
			}
			for _, next := range p.Target() {
				if !image.Draining(next) && slices.Contains(p.ISR, next) && image.Usable(p, next) {
					list = append(list, &metadata.ChangePartition{Topic: p.TopicID, Number: p.Number, Expected: p.PartitionEpoch, Leader: next, ISR: p.ISR})
					break
				}
			}
		}
	}
	return list
}

// hosted counts the replicas of each node that stay, or are on their way.
func hosted(image *metadata.Image) map[metadata.NodeID]int {
	n := map[metadata.NodeID]int{}
	for _, t := range image.Topics {
		for _, p := range t.Partitions {
			for _, node := range p.Target() {
				n[node]++
			}
		}
	}
	return n
}

// movesOff are the next partitions to leave a node, each with one of the others in its place; as many as maxMoves leaves room for.
func movesOff(image *metadata.Image, node metadata.NodeID, hosts map[metadata.NodeID]int) (list []metadata.Reassignment) {
	room := maxMoves
	var wait []*metadata.Partition
	for _, name := range slices.Sorted(maps.Keys(image.Topics)) {
		for _, p := range image.Topics[name].Partitions {
			switch {
			case slices.Contains(p.Removing, node):
				room--
			case slices.Contains(p.Replicas, node) && !p.Reassigning():
				wait = append(wait, p)
			}
		}
	}
	for _, p := range wait {
		if len(list) >= room {
			break
		}
		next, ok := inPlaceOf(image, p, node, hosts)
		if !ok {
			continue // nobody could have it now
		}
		replicas := slices.Clone(p.Replicas)
		replicas[slices.Index(replicas, node)] = next
		hosts[next]++
		hosts[node]--
		list = append(list, metadata.Reassignment{Topic: p.TopicID, Number: p.Number, Replicas: replicas, KeepFactor: true})
	}
	return list
}

// inPlaceOf is who gets a node's replica: a living node that stays, on a rack that the others are not on before any other, then who has the fewest.
func inPlaceOf(image *metadata.Image, p *metadata.Partition, node metadata.NodeID, hosts map[metadata.NodeID]int) (metadata.NodeID, bool) {
	racks := map[string]bool{}
	for _, n := range p.Replicas {
		if n != node && image.Nodes[n] != nil {
			racks[image.Nodes[n].Rack] = true
		}
	}
	var list []metadata.NodeID
	for id, n := range image.Nodes {
		if !n.Fenced && !image.Draining(id) && !slices.Contains(p.Replicas, id) {
			list = append(list, id)
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	taken := func(n metadata.NodeID) int {
		if racks[image.Nodes[n].Rack] {
			return 1
		}
		return 0
	}
	return slices.MinFunc(list, func(x, y metadata.NodeID) int {
		return cmp.Or(taken(x)-taken(y), hosts[x]-hosts[y], int(x)-int(y))
	}), true
}

// Unregister removes a node for good (Kafka's UnregisterBroker). Where it is not Kafka's: a node that has replicas, or is alive and not drained,
// stays; Kafka lets it go, and its partitions are short of a replica until somebody sees it.
func (c *Controller) Unregister(ctx context.Context, node metadata.NodeID) error {
	image := c.Image()
	n := image.Nodes[node]
	if n == nil {
		return refuse(kerr.BrokerIDNotRegistered, "Broker ID %d is not currently registered", node)
	}
	if hosted := image.Hosted(node); hosted > 0 {
		return refuse(kerr.InvalidRequest, "Node %d cannot be removed: it has replicas of %d partition(s). Drain it first.", node, hosted)
	}
	if !n.Fenced && !image.Draining(node) {
		return refuse(kerr.InvalidRequest, "Node %d cannot be removed: it is alive. Drain it first.", node)
	}
	_, err := c.propose(ctx, &metadata.UnregisterNode{ID: node})
	return err
}
