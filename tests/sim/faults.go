package sim

import (
	"strconv"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

func noCandidates() []consensus.Candidate { return nil }

// found starts the nodes and makes the topic as soon as all are registered.
func (w *World) found() {
	for _, n := range w.nodes {
		n.start()
	}
	w.raft.elect(1)
	w.raft.tick()
	var create func()
	create = func() {
		if len(ids(w.nodes, func(n *node) bool { return n.serving })) < len(w.nodes) {
			w.after(20*time.Millisecond, create)
			return
		}
		c := &metadata.CreateTopics{}
		for i, k := range w.parts {
			if k.number == 0 {
				c.Topics = append(c.Topics, metadata.TopicSpec{Name: k.topic, ID: topicIDs[k.topic], Configs: map[string]string{"min.insync.replicas": strconv.Itoa(minISR)}})
			}
			var replicas []metadata.NodeID
			for k := range factor {
				replicas = append(replicas, metadata.NodeID((i+k)%len(w.nodes)+1))
			}
			t := &c.Topics[len(c.Topics)-1]
			t.Assignment = append(t.Assignment, replicas)
		}
		w.raft.commit(c)
	}
	w.after(100*time.Millisecond, create)
}

// startFaults lets things go wrong from the first second on. Each seed has kinds of its own: what is never struck otherwise is struck harder.
func (w *World) startFaults() {
	w.rate = w.between(100*time.Millisecond, 1500*time.Millisecond)
	if w.txns { // a transaction needs three leaders at the same time: with faults all the time there would be few
		w.rate *= []time.Duration{2, 6, 20}[w.rng.IntN(3)]
	}
	w.eager = []float64{0, 0.1, 0.5}[w.rng.IntN(3)]
	for _, k := range faults {
		if w.chance(0.6) {
			w.kinds = append(w.kinds, k)
		}
	}
	if len(w.kinds) == 0 {
		w.kinds = faults
	}
	for _, k := range w.kinds {
		w.weight += k.weight
		w.note("kind: %s", k.name)
	}
	var next func()
	next = func() {
		if !w.calm {
			w.fault()
			w.after(w.between(w.rate/2, 2*w.rate), next)
		}
	}
	w.after(time.Second, next)
}

// moment is when something happens that a fault may come close to.
func (w *World) moment(p float64, soon time.Duration) {
	if !w.calm && w.weight > 0 && w.now > time.Second && w.chance(p*w.eager) {
		w.after(w.between(0, soon), w.fault)
	}
}

// fault is one thing that goes wrong, for a while.
func (w *World) fault() {
	if w.calm {
		return
	}
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	for_ := w.between(20*time.Millisecond, 3*time.Second)
	at := w.rng.IntN(w.weight)
	for _, k := range w.kinds {
		if at -= k.weight; at < 0 {
			k.strike(w, n, for_)
			return
		}
	}
}

// kind is a kind of fault, and how often it comes.
type kind struct {
	name   string
	weight int
	strike func(w *World, n *node, d time.Duration)
}

var faults = []kind{
	{"kill", 12, func(w *World, n *node, _ time.Duration) { n.crash(false) }},
	{"power cut", 10, func(w *World, n *node, _ time.Duration) {
		if w.check.mayCut() {
			n.crash(true)
		}
	}},
	{"power cut of all", 5, func(w *World, _ *node, _ time.Duration) {
		if w.mode == commitlog.PowerSafe {
			w.note("fault: power cut of all")
			for _, n := range w.nodes {
				n.crash(true)
			}
		}
	}},
	{"death in a step", 14, func(w *World, n *node, _ time.Duration) {
		power := w.chance(0.5)
		if power && !w.check.mayCut() || !n.up || n.armed {
			return
		}
		if power {
			w.check.powerCut(n)
		}
		operations := w.rng.IntN(60)
		w.note("fault: %d is to die at operation %d, power cut %v", n.id, operations, power)
		n.arm(operations, power)
	}},
	{"leave", 6, func(_ *World, n *node, _ time.Duration) { n.leave() }},
	{"pause", 12, func(w *World, n *node, d time.Duration) {
		w.note("fault: %d is held up for %v", n.id, d)
		n.paused = max(n.paused, w.now+d)
	}},
	{"clock", 4, func(w *World, n *node, _ time.Duration) {
		jump := w.between(-20*time.Second, 20*time.Second)
		w.note("fault: the clock of %d jumps by %v", n.id, jump)
		n.jump(jump)
	}},
	{"one-way cut", 8, func(w *World, n *node, d time.Duration) {
		to := w.nodes[w.rng.IntN(len(w.nodes))].id
		w.note("fault: %d does not reach %d for %v", n.id, to, d)
		w.net.cut[n.id][to] = true
		w.after(d, func() { w.net.cut[n.id][to] = false })
	}},
	{"alone", 10, func(w *World, n *node, d time.Duration) {
		w.note("fault: %d is alone for %v", n.id, d)
		w.alone(n, true)
		w.after(d, func() { w.alone(n, false) })
	}},
	{"slow link", 6, func(w *World, n *node, d time.Duration) {
		to, by := w.nodes[w.rng.IntN(len(w.nodes))].id, w.between(5*time.Millisecond, 300*time.Millisecond)
		w.note("fault: %d to %d takes %v longer for %v", n.id, to, by, d)
		w.net.slow[n.id][to] = by
		w.after(d, func() { w.net.slow[n.id][to] = 0 })
	}},
	{"slow disk", 8, func(w *World, n *node, d time.Duration) {
		n.slow = w.between(5*time.Millisecond, 500*time.Millisecond)
		w.note("fault: syncs of %d take %v longer for %v", n.id, n.slow, d)
		w.after(d, func() { n.slow = 0 })
	}},
	{"full disk", 6, func(w *World, n *node, d time.Duration) {
		if _, total, err := n.disk.Usage(root); err == nil && total >= 1<<40 {
			w.full(n, d)
		}
	}},
}

func (w *World) alone(n *node, cut bool) {
	for _, x := range w.nodes {
		w.net.cut[n.id][x.id], w.net.cut[x.id][n.id] = cut, cut
	}
}

// full leaves a disk hardly any room.
func (w *World) full(n *node, d time.Duration) {
	used := n.disk.Used()
	room := int64(w.rng.IntN(8 << 10))
	w.note("fault: the disk of %d has room for %d bytes for %v", n.id, room, d)
	n.disk.SetCapacity(used + used/10 + room)
	w.after(d, func() { n.disk.SetCapacity(0) })
}

// heal ends all faults.
func (w *World) heal() {
	w.note("all faults end")
	w.calm = true
	w.net.cut = [maxNodes + 1][maxNodes + 1]bool{}
	w.net.slow = [maxNodes + 1][maxNodes + 1]time.Duration{}
	for _, n := range w.nodes {
		n.paused, n.slow = min(n.paused, w.now), 0
		n.disk.SetCapacity(0)
		if n.armed {
			n.armed = false
			n.disarm()
		}
	}
}
