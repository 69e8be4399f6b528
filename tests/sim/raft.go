package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

// raft is a model of the metadata quorum: one agreed log, a leader that a majority can talk to, nodes that learn of the log
// late. A proposal whose leader loses its majority may be agreed to later, or never.
type raft struct {
	w      *World
	images []*metadata.Image // by index
	leader metadata.NodeID   // who was elected last
	term   uint64
	lonely time.Duration      // since when it has no majority; -1: it has
	limbo  []metadata.Command // of leaders that could not tell
}

func newRaft(w *World) raft {
	return raft{w: w, images: []*metadata.Image{metadata.NewImage()}, leader: -1, lonely: -1}
}

func (r *raft) last() uint64           { return uint64(len(r.images) - 1) }
func (r *raft) image() *metadata.Image { return r.images[len(r.images)-1] }

// majority says whether a node can agree on something with a majority.
func (r *raft) majority(id metadata.NodeID) bool {
	n := 0
	for _, x := range r.w.nodes {
		if x.id == id || x.awake() && r.w.net.both(id, x.id) {
			n++
		}
	}
	return n > len(r.w.nodes)/2 && r.w.node(id).awake()
}

// works says that there is a leader that knows of it and has a majority.
func (r *raft) works() bool {
	return r.leader > 0 && r.w.node(r.leader).term == r.term && r.majority(r.leader)
}

// Timeouts of the model.
const (
	raftTick     = 50 * time.Millisecond
	raftElection = 500 * time.Millisecond
)

// tick elects a leader when there is none that works.
func (r *raft) tick() {
	r.w.after(raftTick, r.tick)
	if r.works() {
		r.lonely = -1
		return
	}
	if r.lonely < 0 {
		r.lonely = r.w.now
	}
	if r.w.now-r.lonely < r.w.between(raftElection, 2*raftElection) {
		return
	}
	var able []metadata.NodeID
	for _, n := range r.w.nodes {
		if r.majority(n.id) {
			able = append(able, n.id)
		}
	}
	if len(able) > 0 {
		r.elect(able[r.w.rng.IntN(len(able))])
	}
}

func (r *raft) elect(id metadata.NodeID) {
	r.leader, r.lonely = id, -1
	r.term++
	r.w.note("raft: node %d leads in term %d", id, r.term)
	limbo := r.limbo
	r.limbo = nil
	for _, c := range limbo { // what an old leader had written down somewhere
		if r.w.chance(0.5) {
			r.commit(c)
		}
	}
	r.w.node(id).term = r.term
}

// handOver makes another node the leader, if there is one.
func (r *raft) handOver() {
	for _, n := range r.w.nodes {
		if n.id != r.leader && r.majority(n.id) {
			r.w.node(r.leader).term = 0
			r.elect(n.id)
			return
		}
	}
}

// commit agrees on a command.
func (r *raft) commit(c metadata.Command) metadata.Result {
	decoded, err := metadata.Decode(metadata.Encode(c))
	if err != nil {
		r.w.fail("a command is not what was encoded: %v", err)
		return metadata.Result{Err: err}
	}
	before := r.image()
	next, result := metadata.Apply(before, before.Index+1, decoded)
	r.images = append(r.images, next)
	r.w.note("raft: %d %T %+v: %v %v", next.Index, c, c, result.Err, result.Errs)
	r.w.check.metadata(before, next, c)
	for _, n := range r.w.nodes {
		r.tell(n)
	}
	return result
}

// tell lets a node learn of what was agreed, in its time.
func (r *raft) tell(n *node) {
	d := r.w.between(200*time.Microsecond, 5*time.Millisecond)
	if !r.w.calm && r.w.chance(r.w.behind) {
		d = r.w.between(5*time.Millisecond, 800*time.Millisecond)
	}
	if r.leader > 0 {
		d += r.w.net.slow[r.leader][n.id]
	}
	n.later(d, func() { r.learn(n) })
}

// learn applies what the leader can tell a node now.
func (r *raft) learn(n *node) {
	if r.works() && r.w.net.both(r.leader, n.id) {
		n.apply(r.last())
	}
}

var errUnknown = errors.New("nobody knows what became of it")

// propose is a proposal by who believes to lead.
func (r *raft) propose(id metadata.NodeID, c metadata.Command) (metadata.Result, error) {
	n := r.w.node(id)
	switch {
	case n.term == 0 || n.term != r.term:
		n.term = 0
		return metadata.Result{}, consensus.ErrNotLeader
	case !r.majority(id):
		if len(r.limbo) < 16 {
			r.limbo = append(r.limbo, c)
		}
		return metadata.Result{}, errUnknown
	}
	result := r.commit(c)
	n.apply(r.last())
	return result, nil
}

// proposal is one made by any node, wherever the leader is.
type proposal struct {
	n     *node
	gen   int
	c     metadata.Command
	until time.Duration
	over  bool
	done  func(metadata.Result, error)
}

// proposeFrom proposes until somebody has agreed, for 5 s; a command may be agreed to more than once. done is called once.
func (r *raft) proposeFrom(n *node, c metadata.Command, done func(metadata.Result, error)) {
	p := &proposal{n: n, gen: n.gen, c: c, until: r.w.now + 5*time.Second, done: done}
	p.try()
}

func (p *proposal) finish(result metadata.Result, err error) {
	if !p.over {
		p.over = true
		p.done(result, err)
	}
}

func (p *proposal) try() {
	if p.over {
		return
	}
	w := p.n.w
	if w.now >= p.until {
		p.finish(metadata.Result{}, errUnknown)
		return
	}
	p.n.later(w.between(300*time.Millisecond, time.Second), p.try)
	leader := w.raft.leader
	if leader < 0 {
		return
	}
	w.net.send(p.n.id, leader, true, func(again bool) {
		result, err := w.raft.propose(leader, p.c)
		if again || err != nil {
			return // who asked finds out by asking again
		}
		index := w.raft.last()
		w.net.send(leader, p.n.id, false, func(bool) {
			if p.n.gen == p.gen {
				p.n.apply(index)
				p.finish(result, nil)
			}
		})
	})
}

// quorum is the metadata quorum as a node's active controller sees it.
type quorum struct{ n *node }

func (q quorum) Propose(_ context.Context, c metadata.Command) (metadata.Result, error) {
	switch c := c.(type) {
	case *metadata.FenceNode:
		q.n.w.check.fencing(q.n, c)
	case *metadata.ChangePartition:
		q.n.w.check.given(q.n, c)
	case *metadata.ReassignPartitions:
		q.n.w.check.moved(q.n, c)
	}
	return q.n.w.raft.propose(q.n.id, c)
}
func (q quorum) Image() *metadata.Image { return q.n.image() }
func (q quorum) Term() uint64           { return q.n.term }

func (q quorum) Current(ctx context.Context) error { return q.Barrier(ctx) }

func (q quorum) Barrier(context.Context) error {
	r := &q.n.w.raft
	if q.n.term != r.term || !r.majority(q.n.id) {
		return consensus.ErrNotLeader
	}
	q.n.apply(r.last())
	q.n.w.check.controller(q.n)
	return nil
}

func (q quorum) Leader() (metadata.NodeID, bool) { return q.n.w.raft.leader, q.n.w.raft.leader > 0 }
func (q quorum) Admit(consensus.Member) error    { return nil }
func (q quorum) Members() (voters, others []consensus.Member, err error) {
	return nil, nil, nil
}
func (q quorum) Status(context.Context, string) (consensus.Status, error) {
	return consensus.Status{}, errUnknown
}

// ids are the nodes in order.
func ids(nodes []*node, keep func(*node) bool) (list []metadata.NodeID) {
	for _, n := range nodes {
		if keep(n) {
			list = append(list, n.id)
		}
	}
	slices.Sort(list)
	return list
}
