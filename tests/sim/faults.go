package sim

import (
	"time"

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
		if len(ids(w.nodes, func(n *node) bool { return n.serving })) < nodeCount {
			w.after(20*time.Millisecond, create)
			return
		}
		t := metadata.TopicSpec{Name: topicName, ID: w.topic}
		for n := range w.partitions {
			var replicas []metadata.NodeID
			for k := range nodeCount {
				replicas = append(replicas, metadata.NodeID((int(n)+k)%nodeCount+1))
			}
			t.Assignment = append(t.Assignment, replicas)
		}
		w.raft.commit(&metadata.CreateTopics{Topics: []metadata.TopicSpec{t}})
	}
	w.after(100*time.Millisecond, create)
}

// startFaults lets things go wrong from the first second on.
func (w *World) startFaults() {
	rate := w.between(100*time.Millisecond, 1500*time.Millisecond)
	var next func()
	next = func() {
		if w.calm {
			return
		}
		w.fault()
		w.after(w.between(rate/2, 2*rate), next)
	}
	w.after(time.Second, next)
}

// fault is one thing that goes wrong, for a while.
func (w *World) fault() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	for_ := w.between(20*time.Millisecond, 3*time.Second)
	switch k := w.rng.IntN(100); {
	case k < 12:
		w.note("fault: kill %d", n.id)
		n.crash(false)
	case k < 22:
		if !w.check.mayCut() || !n.up {
			return
		}
		w.note("fault: power cut of %d", n.id)
		n.crash(true)
	case k < 26 && w.mode == 0: // all at once
		w.note("fault: power cut of all")
		for _, x := range w.nodes {
			x.crash(true)
		}
	case k < 40:
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
	case k < 46:
		n.leave()
	case k < 58:
		w.note("fault: %d is held up for %v", n.id, for_)
		n.paused = max(n.paused, w.now+for_)
	case k < 62:
		jump := w.between(-20*time.Second, 20*time.Second)
		w.note("fault: the clock of %d jumps by %v", n.id, jump)
		n.skew += jump
	case k < 70:
		to := w.nodes[w.rng.IntN(len(w.nodes))].id
		w.note("fault: %d does not reach %d for %v", n.id, to, for_)
		w.net.cut[n.id][to] = true
		w.after(for_, func() { w.net.cut[n.id][to] = false })
	case k < 80:
		w.note("fault: %d is alone for %v", n.id, for_)
		for _, x := range w.nodes {
			w.net.cut[n.id][x.id], w.net.cut[x.id][n.id] = true, true
		}
		w.after(for_, func() {
			for _, x := range w.nodes {
				w.net.cut[n.id][x.id], w.net.cut[x.id][n.id] = false, false
			}
		})
	case k < 86:
		to, by := w.nodes[w.rng.IntN(len(w.nodes))].id, w.between(5*time.Millisecond, 300*time.Millisecond)
		w.note("fault: %d to %d takes %v longer for %v", n.id, to, by, for_)
		w.net.slow[n.id][to] = by
		w.after(for_, func() { w.net.slow[n.id][to] = 0 })
	case k < 94:
		n.slow = w.between(5*time.Millisecond, 500*time.Millisecond)
		w.note("fault: syncs of %d take %v longer for %v", n.id, n.slow, for_)
		w.after(for_, func() { n.slow = 0 })
	default:
		_, total, err := n.disk.Usage(root)
		if err != nil || total < 1<<40 {
			return
		}
		w.full(n, for_)
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
	w.net.cut = [nodeCount + 1][nodeCount + 1]bool{}
	w.net.slow = [nodeCount + 1][nodeCount + 1]time.Duration{}
	for _, n := range w.nodes {
		n.paused, n.slow = min(n.paused, w.now), 0
		n.disk.SetCapacity(0)
		if n.armed {
			n.armed = false
			n.disarm()
		}
	}
}
