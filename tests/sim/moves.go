package sim

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
)

// startRacks says on which racks the nodes are.
func (w *World) startRacks() {
	if w.o.Kind != Moves {
		return
	}
	racks := 1 + w.rng.IntN(3)
	for i, n := range w.nodes {
		n.rack = strconv.Itoa(i % racks)
	}
}

// size is how many nodes there are; where partitions move there are more than replicas, on racks.
func (w *World) size() int {
	if w.o.Kind != Moves {
		return factor
	}
	return factor + 1 + w.rng.IntN(maxNodes-factor)
}

// startMoves has an operator who gives partitions other replicas, drains nodes and takes all that back; he asks any node.
func (w *World) startMoves() {
	if w.o.Kind != Moves {
		return
	}
	pause := []time.Duration{100, 500, 2000}[w.rng.IntN(3)] * time.Millisecond
	var next func()
	next = func() {
		if !w.calm {
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			ask := w.wish()
			w.net.send(outside, n.id, true, func(bool) {
				if n.serving {
					ask(n, controller.New(controller.Options{Quorum: proposer{n}, NodeID: n.id, Logger: n.logger()}))
				}
			})
			w.after(w.between(pause/2, 2*pause), next)
		}
	}
	w.after(time.Second, next)
}

// wish is one thing that the operator wants.
func (w *World) wish() func(*node, *controller.Controller) {
	k, id, dice := w.parts[w.rng.IntN(len(w.parts))], w.rng.IntN(len(w.nodes)), w.rng.Float64()
	ctx := context.Background()
	if dice < 0.7 {
		var replicas []metadata.NodeID
		if dice > 0.1 { // else what is under way is taken back
			for _, n := range w.rng.Perm(len(w.nodes))[:minISR+w.rng.IntN(factor)] {
				replicas = append(replicas, metadata.NodeID(n+1))
			}
		}
		return func(n *node, c *controller.Controller) {
			errs := c.Reassign(ctx, []controller.Reassignment{{Topic: k.topic, Number: k.number, Replicas: replicas}}, dice > 0.5)
			w.note("node %d is asked for replicas %v of %v: %v", n.id, replicas, k, errs[0])
		}
	}
	if dice < 0.8 {
		return func(n *node, c *controller.Controller) {
			w.note("node %d is asked for an election of %v: %v", n.id, k, c.Elect(ctx, k.topic, k.number, false))
		}
	}
	op, value := controller.ConfigOp{Name: metadata.DrainConfig, Op: 1}, "true"
	if dice < 0.92 {
		op.Op, op.Value = 0, &value
	}
	return func(n *node, c *controller.Controller) {
		w.note("node %d is asked to drain node %d, %v: %v", n.id, id+1, op.Value != nil, c.AlterBrokerConfigs(ctx, strconv.Itoa(id+1), []controller.ConfigOp{op}, false))
	}
}

// hosts are the nodes that have a replica, by the agreed state.
func (w *World) hosts(k part) (list []*node) {
	p := w.raft.image().Partition(k.topic, k.number)
	for _, x := range w.nodes {
		if slices.Contains(p.Replicas, x.id) {
			list = append(list, x)
		}
	}
	return list
}

// stuck says that a node is drained, and still has a replica that another one could have.
func (w *World) stuck(p *metadata.Partition) bool {
	image := w.raft.image()
	return slices.ContainsFunc(p.Replicas, image.Draining) && len(candidates(image, p)) > 0
}

// candidates are the nodes that could have a replica of p instead of one that is drained.
func candidates(image *metadata.Image, p *metadata.Partition) (list []metadata.NodeID) {
	for id, n := range image.Nodes {
		if !n.Fenced && !image.Draining(id) && !slices.Contains(p.Replicas, id) {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

// given looks at a leader that a controller chooses where the last one could go on: it is none that is to be emptied.
func (c *checker) given(by *node, change *metadata.ChangePartition) {
	if by.image().Draining(change.Leader) {
		c.w.fail("controller %d gives node %d, which is drained, a partition to lead: %+v", by.id, change.Leader, change)
	}
}

// moved looks at moves off nodes that are drained, by what their controller knows: one replica of each partition, to a node that stays, and not to a rack that
// has one while there is another.
func (c *checker) moved(by *node, cmd *metadata.ReassignPartitions) {
	image := by.image()
	racks := func(replicas []metadata.NodeID) int {
		seen := map[string]bool{}
		for _, n := range replicas {
			seen[image.Nodes[n].Rack] = true
		}
		return len(seen)
	}
	for _, change := range cmd.Changes {
		t := image.TopicIDs[change.Topic]
		p := t.Partitions[change.Number]
		at := 0
		for at < len(p.Replicas) && change.Replicas[at] == p.Replicas[at] {
			at++
		}
		if at == len(p.Replicas) || len(change.Replicas) != len(p.Replicas) || !slices.Equal(p.Replicas[at+1:], change.Replicas[at+1:]) ||
			!image.Draining(p.Replicas[at]) || image.Draining(change.Replicas[at]) {
			c.w.fail("controller %d moves %s-%d from %v to %v", by.id, p.Topic, p.Number, p.Replicas, change.Replicas)
			return
		}
		for _, n := range candidates(image, p) {
			other := slices.Clone(p.Replicas)
			if other[at] = n; racks(other) > racks(change.Replicas) {
				c.w.fail("controller %d moves %s-%d from %v to %v, which are on %d racks; %v would be on %d", by.id, p.Topic, p.Number, p.Replicas, change.Replicas,
					racks(change.Replicas), other, racks(other))
			}
		}
	}
}
