package controller

import (
	"context"
	"slices"
	"time"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

// stableFor is how long a node has lived without a break before it is given a vote. Like ServerStabilizationTime of raft-autopilot.
const stableFor = 10 * time.Second

// life is since when a member is alive, or is not.
type life struct {
	alive bool
	epoch int64 // of its registration
	since time.Time
}

// watch is what this leader has seen of the members' lives. A new leader begins anew: it changes nothing before it has seen for itself that a
// voter stays away. A node that comes back now and then is not dead, and one that goes now and then is not stable.
type watch map[metadata.NodeID]life

// look takes down who is alive now; who is no member is forgotten.
func (w watch) look(image *metadata.Image, members []consensus.Member, now time.Time) {
	for id := range w {
		if !slices.ContainsFunc(members, func(m consensus.Member) bool { return m.ID == id }) {
			delete(w, id)
		}
	}
	for _, m := range members {
		var is life
		if n := image.Nodes[m.ID]; n != nil {
			is.alive, is.epoch = !n.Fenced, n.Epoch
		}
		if was, ok := w[m.ID]; !ok || was.alive != is.alive || was.epoch != is.epoch {
			is.since = now
			w[m.ID] = is
		}
	}
}

// shift moves everything that was seen: this process was held up, and has seen nothing meanwhile.
func (w watch) shift(by time.Duration) {
	for id, l := range w {
		l.since = l.since.Add(by)
		w[id] = l
	}
}

// standing is what a member is worth as a voter.
type standing struct {
	consensus.Member
	votes    bool
	alive    bool
	long     bool // alive without a break, or dead, for so long that it counts
	draining bool
	removed  bool
}

func (s standing) good() bool  { return !s.removed && !s.draining && (s.alive || !s.long) }
func (s standing) ready() bool { return !s.removed && !s.draining && s.alive && s.long }
func (s standing) dead() bool  { return !s.alive && s.long }

// The changes of the quorum.
const (
	keep = iota
	promote
	demote
	expel
	handOver // this node leads, and must not: Member is to lead
)

type votersChange struct {
	do int
	consensus.Member
}

// planVoters says what to change next, one thing. Votes are given and taken so that 3 to 5 nodes that live have one; nobody loses his who
// is well, so that nothing changes for the sake of order. A voter that is dead first loses its vote, which never makes agreement harder, and then another
// one gets it; a voter that is leaving keeps its own until another has it. No change leaves fewer living voters than its agreement needs.
//
// It is what Consul's autopilot does (raft-autopilot, Reconcile and PruneDeadServers), with even numbers of voters avoided.
func planVoters(members []standing, self metadata.NodeID) votersChange {
	var voters, good, ready, living int
	for _, m := range members {
		switch {
		case m.votes:
			voters++
			if m.good() {
				good++
			}
			if m.alive {
				living++
			}
		case m.ready():
			ready++
		}
	}
	want := good + ready
	switch {
	case want >= consensus.MaxVoters:
		want = consensus.MaxVoters
	case want >= consensus.MinVoters:
		want = consensus.MinVoters
	}
	// spare says whether m's vote can be missed.
	spare := func(m standing) bool {
		left := living
		if m.alive {
			left--
		}
		return !m.votes || left > (voters-1)/2
	}
	if m := member(members, func(m standing) bool { return m.removed && spare(m) }); m != nil {
		return leave(members, *m, self, expel)
	}
	if m := member(members, func(m standing) bool {
		return m.votes && m.dead() && spare(m) && (ready > 0 && good < want || voters > consensus.MinVoters)
	}); m != nil {
		return votersChange{demote, m.Member}
	}
	if m := member(members, func(m standing) bool { return !m.votes && m.ready() }); m != nil && good < want && living+1 > (voters+1)/2 {
		return votersChange{promote, m.Member}
	}
	if m := member(members, func(m standing) bool { return m.votes && m.draining && spare(m) }); m != nil && good >= consensus.MinVoters {
		return leave(members, *m, self, demote)
	}
	return votersChange{}
}

// leave takes a member's vote or place; the leader first gives its lead to another.
func leave(members []standing, m standing, self metadata.NodeID, do int) votersChange {
	if m.ID != self {
		return votersChange{do, m.Member}
	}
	if next := member(members, func(o standing) bool { return o.votes && o.alive && o.good() && o.ID != self }); next != nil {
		return votersChange{handOver, next.Member}
	}
	return votersChange{}
}

func member(members []standing, so func(standing) bool) *standing {
	if n := slices.IndexFunc(members, so); n >= 0 {
		return &members[n]
	}
	return nil
}

// tendVoters makes one change of the quorum, if one is due.
func (a *Active) tendVoters(ctx context.Context) {
	if a.o.Voters == nil {
		return
	}
	voters, others, err := a.o.Group.Members()
	if err != nil {
		return // it does not lead any more
	}
	image, now := a.o.Group.Image(), a.now()
	all := slices.Concat(voters, others)
	a.watch.look(image, all, now)
	var members []standing
	for n, m := range all {
		l := a.watch[m.ID]
		s := standing{Member: m, votes: n < len(voters), alive: l.alive, draining: image.Draining(m.ID), removed: image.Removed(m.ID)}
		if enough := a.o.VoterDead; l.alive {
			s.long = now.Sub(l.since) >= min(stableFor, enough)
		} else {
			s.long = now.Sub(l.since) >= enough
		}
		members = append(members, s)
	}
	slices.SortFunc(members, func(x, y standing) int { return int(x.ID) - int(y.ID) })
	switch c := planVoters(members, a.o.Node); c.do {
	case promote:
		if !a.o.Voters.CaughtUp(ctx, c.Member) {
			return // tried again
		}
		a.changed("a node votes on the metadata from now on", c, a.o.Voters.Promote(c.Member))
	case demote:
		a.changed("a node does not vote on the metadata any more: it is dead, or leaves", c, a.o.Voters.Demote(c.ID))
	case expel:
		a.changed("a removed node is out of the metadata quorum", c, a.o.Voters.Expel(c.ID))
	case handOver:
		a.changed("the lead of the metadata quorum goes to another node: this one leaves", c, a.o.Voters.HandOverTo(c.Member))
	}
}

func (a *Active) changed(what string, c votersChange, err error) {
	if err != nil {
		a.logger.Warn("the metadata quorum could not be changed", "node", c.ID, "err", err)
		return
	}
	a.logger.Info(what, "node", c.ID)
}
