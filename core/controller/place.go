package controller

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// place gives each new partition factor distinct nodes: leaders round robin, beginning with the node that leads
// least, followers on other racks as long as there are any. Nodes that are fenced get replicas only when the others are
// too few: they catch up when they are back. Nodes that are being drained get none.
func place(image *metadata.Image, partitions, factor int) ([][]metadata.NodeID, error) {
	if there := staying(image); factor > there {
		return nil, refuse(kerr.InvalidReplicationFactor,
			"Unable to replicate the partition %d time(s): The target replication factor of %d cannot be reached because only %d node(s) are registered%s.",
			factor, factor, there, draining(image))
	}
	load := leaders(image)
	alive, fenced := order(image, load, false), order(image, load, true)
	if len(alive) == 0 {
		return nil, refuse(kerr.InvalidReplicationFactor, "All nodes are fenced, or being drained.")
	}
	list := make([][]metadata.NodeID, partitions)
	n := len(alive)
	for p := range list {
		// The followers shift with every round, so that a failed node's load is taken over by all others.
		at, shift := p%n, p/n
		candidates := make([]metadata.NodeID, 0, len(image.Nodes))
		for r := range n - 1 {
			candidates = append(candidates, alive[(at+1+(shift+r)%(n-1))%n])
		}
		candidates = append(candidates, fenced...)
		list[p] = pick(image, alive[at], candidates, factor, n-1)
	}
	return list, nil
}

// pick adds followers to a leader: the first of the candidates, living ones (the first n) before fenced ones, with a rack that is
// not there yet before any other.
func pick(image *metadata.Image, leader metadata.NodeID, candidates []metadata.NodeID, factor, living int) []metadata.NodeID {
	replicas := []metadata.NodeID{leader}
	racks := map[string]bool{image.Nodes[leader].Rack: true}
	for _, group := range [][]metadata.NodeID{candidates[:living], candidates[living:]} {
		for _, anew := range []bool{true, false} {
			for _, c := range group {
				if len(replicas) == factor {
					return replicas
				}
				if rack := image.Nodes[c].Rack; !slices.Contains(replicas, c) && (!anew || !racks[rack]) {
					replicas, racks[rack] = append(replicas, c), true
				}
			}
		}
	}
	return replicas
}

// staying counts the nodes that are not being drained.
func staying(image *metadata.Image) (n int) {
	for id := range image.Nodes {
		if !image.Draining(id) {
			n++
		}
	}
	return n
}

// draining says, for an error, that some nodes are.
func draining(image *metadata.Image) string {
	if n := len(image.Nodes) - staying(image); n > 0 {
		return fmt.Sprintf(" and stay (%d are being drained)", n)
	}
	return ""
}

// order gives the living or the fenced nodes: who leads least first, racks in turn.
func order(image *metadata.Image, load map[metadata.NodeID]int, fenced bool) []metadata.NodeID {
	var list []metadata.NodeID
	for _, id := range slices.Sorted(maps.Keys(image.Nodes)) {
		if image.Nodes[id].Fenced == fenced && !image.Draining(id) {
			list = append(list, id)
		}
	}
	slices.SortStableFunc(list, func(a, b metadata.NodeID) int { return load[a] - load[b] })
	turn, seen := map[metadata.NodeID]int{}, map[string]int{}
	for _, id := range list {
		rack := image.Nodes[id].Rack
		turn[id] = seen[rack]
		seen[rack]++
	}
	if len(seen) > 1 {
		slices.SortStableFunc(list, func(a, b metadata.NodeID) int { return turn[a] - turn[b] })
	}
	return list
}

// leaders counts the partitions that each node is preferred for.
func leaders(image *metadata.Image) map[metadata.NodeID]int {
	n := map[metadata.NodeID]int{}
	for _, t := range image.Topics {
		for _, p := range t.Partitions {
			n[p.Replicas[0]]++
		}
	}
	return n
}
