package consensus

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// One of three loses its power and another one was away: what the power cut's machine had said yes to is on its disk, so it and the one that knows
// nothing of it agree to nothing else. (Jepsen, NATS 2.12.1: with syncs that wait, one power cut and pauses were a split brain.)
func TestOnePowerCutAndAPause(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := &town{expect: 3, peers: map[metadata.NodeID]Candidate{}}
	disks := map[metadata.NodeID]*vfs.Memory{}
	var mu sync.Mutex
	var up []*peer
	nodes := func() []*peer { mu.Lock(); defer mu.Unlock(); return append([]*peer(nil), up...) }
	set := func(list ...*peer) { mu.Lock(); defer mu.Unlock(); up = list }
	var all []*peer
	for id := metadata.NodeID(1); id <= 3; id++ {
		disks[id] = vfs.NewCrash()
		if err := vfs.MkdirAllSync(disks[id], "/data", 0o755); err != nil {
			t.Fatal(err)
		}
		all = append(all, w.join(t, id, disks[id], ""))
	}
	set(all...)
	w.admitting(t, nodes)
	w.found(ctx, t, all)
	var leader *peer
	var others []*peer
	until(t, "a leader and three voters", func() bool {
		leader, others = nil, nil
		for _, p := range all {
			if p.Leads() {
				leader = p
			} else {
				others = append(others, p)
			}
		}
		if leader == nil {
			return false
		}
		v, _, err := leader.Members()
		return err == nil && len(v) == 3
	})
	paused, cut := others[0], others[1]
	if err := paused.Current(ctx); err != nil {
		t.Fatal(err)
	}
	set(leader, cut)
	paused.end()
	r, err := leader.Propose(ctx, &metadata.RegisterNode{ID: 9})
	if err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	left := disks[cut.id].Crashed(nil)
	set()
	leader.end()
	cut.end()

	back := []*peer{w.join(t, cut.id, left, ""), w.join(t, paused.id, disks[paused.id], "")}
	set(back...)
	for _, p := range back {
		if err := p.Current(ctx); err != nil {
			t.Fatal(err)
		}
		if n := p.Image().Nodes[9]; n == nil || n.Epoch != r.Epoch {
			t.Errorf("node %d: what was agreed on is forgotten: %+v", p.id, n)
		}
	}
	// The one that led comes back to what these two have agreed on meanwhile.
	if _, err := back[1].Propose(ctx, &metadata.RegisterNode{ID: 8}); err != nil {
		t.Fatal(err)
	}
	late := w.join(t, leader.id, disks[leader.id], "")
	if err := late.Current(ctx); err != nil {
		t.Fatal(err)
	}
	if late.Image().Nodes[9] == nil || late.Image().Nodes[8] == nil {
		t.Errorf("who led has another history: %+v", late.Image().Nodes)
	}
}
