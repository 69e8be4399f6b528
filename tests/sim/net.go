package sim

import (
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// outside is the address of clients: they reach every node.
const outside metadata.NodeID = 0

// network carries messages. Links may be cut, one way or both, and slow.
type network struct {
	w    *World
	cut  [maxNodes + 1][maxNodes + 1]bool
	slow [maxNodes + 1][maxNodes + 1]time.Duration
}

func newNetwork(w *World) network { return network{w: w} }

// up says whether a message would get through now.
func (n *network) up(from, to metadata.NodeID) bool { return from == to || !n.cut[from][to] }

// both says whether two nodes can talk.
func (n *network) both(a, b metadata.NodeID) bool { return n.up(a, b) && n.up(b, a) }

// delay is how long a message takes; while there are faults some are late.
func (n *network) delay(from, to metadata.NodeID) time.Duration {
	d := n.w.between(200*time.Microsecond, 2*time.Millisecond) + n.slow[from][to]
	if !n.w.calm && n.w.chance(n.w.late) {
		d += n.w.between(10*time.Millisecond, 1500*time.Millisecond)
	}
	return d
}

// send calls fn at to, if the message gets there; a copy of it may come later once more when twice is true.
func (n *network) send(from, to metadata.NodeID, twice bool, fn func(again bool)) {
	deliver := func(d time.Duration, again bool) {
		n.w.after(d, func() {
			if !n.up(from, to) {
				return
			}
			if to == outside {
				fn(again)
				return
			}
			n.w.node(to).now(func() { fn(again) })
		})
	}
	if !n.up(from, to) {
		return
	}
	if !n.w.calm && n.w.chance(0.003) {
		return // lost with its connection
	}
	deliver(n.delay(from, to), false)
	if twice && !n.w.calm && n.w.chance(n.w.twice) {
		deliver(n.w.between(time.Millisecond, 2*time.Second), true)
	}
}
