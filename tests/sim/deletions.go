package sim

import "time"

// startDeletions has records deleted now and then: by somebody who asks the leader (DeleteRecords), up to any offset that can be read.
func (w *World) startDeletions() {
	if w.o.Kind != Deletions {
		return
	}
	pause := []time.Duration{100, 500, 2000}[w.rng.IntN(3)] * time.Millisecond
	var next func()
	next = func() {
		if !w.calm {
			w.deleteRecords(data(int32(w.rng.IntN(int(w.partitions)))))
			w.after(w.between(pause/2, 2*pause), next)
		}
	}
	w.after(time.Second, next)
}

// deleteRecords deletes most of what is there, or a little of it.
func (w *World) deleteRecords(k part) {
	leader, _, ok := w.leaderOf(k)
	if !ok {
		return
	}
	w.net.send(outside, leader, true, func(bool) {
		n := w.node(leader)
		p, err := n.find(k)
		if err != nil {
			return
		}
		if leading, _ := p.Leader(); !leading {
			return
		}
		start, hw := p.Log().StartOffset(), p.HighWatermark()
		before := start + int64(float64(hw-start)*w.rng.Float64())
		if w.rng.Float64() < 0.2 {
			before = hw // all: a replica that comes new begins where the others end
		}
		w.check.deleted[k] = max(w.check.deleted[k], before) // also where the answer is lost
		w.moment(0.2, 30*time.Millisecond)
		got, err := p.DeleteBefore(before)
		w.note("node %d deletes before %d of %v: %d, %v", n.id, before, k, got, err)
		if err == nil && got < before {
			w.fail("node %d was to delete before %d of %v, and its log begins at %d", n.id, before, k, got)
		}
	})
}

// logStart is where a replica's log begins: where the leader's does, or beyond, if it has led and deleted more.
func (n *node) logStart(k part) int64 {
	q, err := n.find(k)
	if err != nil {
		n.w.fail("node %d has no %v: %v", n.id, k, err)
		return 0
	}
	return q.Log().StartOffset()
}
