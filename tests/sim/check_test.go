package sim

import (
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
)

// A lease is as long as the controller's clock has it: what the clock jumps by counts, unless the controller takes it for a hold-up and gives it back.
func TestLeasesByAClockThatJumps(t *testing.T) {
	const lease = controller.SessionTimeout - controller.StepEvery
	for _, c := range []struct {
		name   string
		silent time.Duration
		before time.Duration // a jump before it was heard
		jumps  []time.Duration
		early  bool
	}{
		{"no jump", lease, 0, nil, false},
		{"no jump, too early", lease - 1, 0, nil, true},
		{"a small jump", lease - 60*time.Millisecond, 0, []time.Duration{60 * time.Millisecond}, false},
		{"a small jump, too early", lease - 61*time.Millisecond, 0, []time.Duration{60 * time.Millisecond}, true},
		{"two", lease - 2*controller.HoldUp, 0, []time.Duration{controller.HoldUp, controller.HoldUp}, false},
		{"a small jump before", lease - 1, 60 * time.Millisecond, nil, true},
		{"a large jump", lease - 1, 0, []time.Duration{controller.HoldUp + 1}, true},
		{"back", lease - 1, 0, []time.Duration{-60 * time.Millisecond}, true},
	} {
		w := New(Options{Seed: 1})
		by, other := w.node(1), w.node(2)
		by.gen, by.term, other.gen = 10, 5, 20
		by.jump(c.before)
		w.check.heard(by, 3)
		for _, d := range c.jumps {
			by.jump(d)
		}
		other.jump(controller.HoldUp)
		w.now += c.silent
		w.check.fencing(by, &metadata.FenceNode{ID: 3})
		if early := w.failure != nil; early != c.early {
			t.Errorf("%s: fenced too early: %v, want %v", c.name, early, c.early)
		}
	}
}

// The controller itself fences by a clock that jumps a little, and gives a lease back when it jumps further.
func TestFencingByAClockThatJumps(t *testing.T) {
	for _, jump := range []time.Duration{controller.HoldUp, controller.HoldUp + 1, 10 * time.Second} {
		w := New(Options{Seed: 1})
		w.found()
		w.until(2*time.Second, nil)
		w.alone(w.node(3), true)
		w.after(controller.HeartbeatEvery, func() { w.node(1).jump(jump) })
		w.until(w.now+controller.SessionTimeout+2*controller.StepEvery, nil)
		if fenced := w.raft.image().Nodes[3].Fenced; !fenced || w.failure != nil {
			t.Errorf("a jump by %v: fenced %v, %v", jump, fenced, w.failure)
		}
	}
}
