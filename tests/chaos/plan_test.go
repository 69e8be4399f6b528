//go:build linux

package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/forebayhub/forebay/tests/network"
)

// fault is one thing that goes wrong, from a moment of the storm on, for a time.
type fault struct {
	at, lasts time.Duration
	kind      kind
	nodes     []int        // whom it meets; for links: one side of them
	link      network.Link // what becomes of the links
	pick      uint64       // what else is left to chance
}

func (f fault) String() string {
	s := fmt.Sprintf("%v: %s of %v for %v", f.at.Round(time.Millisecond), f.kind, f.nodes, f.lasts.Round(time.Millisecond))
	if f.link.Delay > 0 || f.link.Loss > 0 {
		s += fmt.Sprintf(" (delay %v + %v, loss %.2f)", f.link.Delay, f.link.Jitter, f.link.Loss)
	}
	return s
}

type kind string

const (
	kill     kind = "kill"         // SIGKILL, start later
	killAll  kind = "kill of all"  // at once
	term     kind = "stop"         // SIGTERM, start later
	pause    kind = "pause"        // SIGSTOP, SIGCONT
	full     kind = "full disk"    // not a byte more
	cut      kind = "cut"          // between two nodes, both ways
	cutOne   kind = "one-way cut"  // from the first to the second
	deaf     kind = "one-way wall" // nothing comes from any node to this one
	isolate  kind = "isolation"    // of a node, from all nodes; clients still reach it
	blackout kind = "blackout"     // of a node, from clients too
	split    kind = "split"        // a minority from the majority
	slow     kind = "slow links"   // of a node
	lossy    kind = "lossy links"  // of a node
	elect    kind = "election"     // of preferred leaders
	reassign kind = "reassignment" // of a partition
)

// weights say how often a kind is drawn.
var weights = []struct {
	kind   kind
	weight int
}{
	{kill, 18}, {killAll, 4}, {term, 10}, {pause, 16}, {full, 7}, {cut, 10}, {cutOne, 12}, {deaf, 6}, {isolate, 10}, {blackout, 5}, {split, 5}, {slow, 8}, {lossy, 8},
	{elect, 7}, {reassign, 10},
}

// plan draws a storm. The same random numbers give the same storm; how it meets the nodes is left to the machine.
func plan(random *rand.Rand, nodes int, length time.Duration) (storm []fault) {
	free := make([]time.Duration, nodes+1) // when a node's last fault is over; 0: that of the links
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(random.Int64N(int64(high-low)))
	}
	gap := 1500 * time.Millisecond
	if random.IntN(3) == 0 {
		gap /= 3 // a hard one
	}
	for at := between(0, time.Second); at < length; at += between(50*time.Millisecond, gap) {
		f := fault{at: at, kind: draw(random), pick: random.Uint64(), lasts: between(100*time.Millisecond, 2*time.Second)}
		if random.IntN(5) == 0 {
			f.lasts = between(2*time.Second, 7*time.Second)
		}
		order := random.Perm(nodes)
		for i := range order {
			order[i]++
		}
		var takes []int
		switch f.kind {
		case kill, term, pause, full:
			f.nodes = order[:1+random.IntN(4)/3] // one; of four times, two
			takes = f.nodes
		case killAll:
			f.nodes, f.lasts = order, between(0, time.Second)
			f.at = max(at, slices.Max(free[1:]))
			takes = order
		case cut, cutOne:
			f.nodes, f.link.Cut = order[:2], true
			takes = []int{0}
		case deaf, isolate, blackout:
			f.nodes, f.link.Cut = order[:1], true
			takes = []int{0}
		case split:
			f.nodes, f.link.Cut = order[:(nodes-1)/2], true
			takes = []int{0}
		case slow:
			f.nodes, f.link.Delay, f.link.Jitter = order[:1+random.IntN(nodes)], between(0, 100*time.Millisecond), between(time.Millisecond, 300*time.Millisecond)
			takes = []int{0}
		case lossy:
			f.nodes, f.link.Loss, f.link.Jitter = order[:1+random.IntN(nodes)], 0.02+0.4*random.Float64(), between(time.Millisecond, 20*time.Millisecond)
			takes = []int{0}
		}
		if slices.ContainsFunc(takes, func(n int) bool { return free[n] > f.at }) {
			continue
		}
		for _, n := range takes {
			free[n] = f.at + f.lasts + 100*time.Millisecond
		}
		storm = append(storm, f)
	}
	slices.SortStableFunc(storm, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return storm
}

func draw(random *rand.Rand) kind {
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	at := random.IntN(total)
	for _, w := range weights {
		if at -= w.weight; at < 0 {
			return w.kind
		}
	}
	panic("unreachable: at is below the total")
}
