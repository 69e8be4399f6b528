package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
)

// maybeRebalance begins a rebalance unless one is under way.
func (g *group) maybeRebalance(reason string) {
	if g.phase == stable || g.phase == completing || g.phase == empty {
		g.prepareRebalance(reason)
	}
}

// prepareRebalance waits for all members to join again, for the rebalance timeout at most.
func (g *group) prepareRebalance(reason string) {
	if g.phase == completing {
		for _, m := range g.members {
			m.assignment = nil
			if g.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: kerr.RebalanceInProgress.Code}) {
				g.beat(m)
			}
		}
	}
	g.nextAssignment = nil
	clear(g.awaitSync)
	g.sync.Disarm()
	g.state.c.log.Debug("group rebalances", "group", g.id, "generation", g.generation, "state", g.phase, "reason", reason)
	timeout := g.rebalanceTimeout()
	if d := g.state.c.o.InitialRebalanceDelay; g.phase == empty && d > 0 {
		g.joinLimit = g.state.c.keeper.Now().Add(max(timeout, d))
		g.grown = false
		g.join.Arm(d)
	} else {
		g.join.Arm(timeout)
	}
	g.to(preparing)
}

// tryCompleteJoin begins the next generation when everybody is there.
func (g *group) tryCompleteJoin() {
	if g.phase == preparing && g.joinLimit.IsZero() && g.allJoined() {
		g.completeJoin()
	}
}

// joinExpired is the end of the initial delay or of the rebalance timeout.
func (g *group) joinExpired() {
	if g.phase != preparing {
		return
	}
	if !g.joinLimit.IsZero() {
		left := g.joinLimit.Sub(g.state.c.keeper.Now())
		if g.grown && left > 0 {
			g.grown = false
			g.join.Arm(min(left, g.state.c.o.InitialRebalanceDelay))
			return
		}
	}
	g.completeJoin()
}

// completeJoin begins the next generation with those who have joined. Dynamic members who have not are out; static
// ones stay until their session ends.
func (g *group) completeJoin() {
	g.join.Disarm()
	g.joinLimit, g.grown = time.Time{}, false
	for _, m := range g.sorted() {
		if m.joining == nil && m.instance == nil {
			g.remove(m)
		}
	}
	if len(g.members) == 0 {
		g.becomeEmpty()
		return
	}
	if leader := g.members[g.leader]; leader == nil || leader.joining == nil {
		g.leader = ""
		for _, m := range g.sorted() {
			if m.joining != nil {
				g.leader = m.id
				break
			}
		}
		if g.leader == "" { // nobody has joined, only static members are left: until their sessions end
			g.leader = g.sorted()[0].id
			g.join.Arm(g.rebalanceTimeout())
			return
		}
	}
	g.generation++
	g.protocol = g.selectProtocol()
	g.subscribe()
	g.to(completing)
	clear(g.awaitSync)
	for _, m := range g.sorted() {
		g.answerJoin(m, g.joined(m, false))
		m.isNew = false
		g.awaitSync[m.id] = struct{}{}
		g.beat(m)
	}
	g.sync.Arm(g.rebalanceTimeout())
}

// becomeEmpty ends the last generation: written, so that the offsets' retention counts from here.
func (g *group) becomeEmpty() {
	g.generation++
	g.protocol, g.leader = "", ""
	g.subscribe()
	g.to(empty)
	if err := g.store(func(_ int64, err error) {
		if err != nil {
			g.state.c.log.Warn("empty group was not written", "group", g.id, "error", err)
		}
	}); err != nil {
		// The last generation will come back after a restart, and its members time out: harmless.
		g.state.c.log.Warn("empty group was not written", "group", g.id, "error", err)
	}
}

// syncExpired puts out the members that have not sent SyncGroup within the rebalance timeout.
func (g *group) syncExpired() {
	if len(g.awaitSync) == 0 || g.phase != completing && g.phase != stable {
		return
	}
	for id := range g.awaitSync {
		if m := g.members[id]; m != nil {
			g.remove(m)
		}
	}
	g.prepareRebalance("members did not send SyncGroup in time")
	g.tryCompleteJoin()
}

// memberExpired is the end of a member's session.
func (g *group) memberExpired(m *member) {
	if g.members[m.id] != m {
		return
	}
	if !m.isNew && (m.joining != nil || m.syncing != nil) {
		return // it waits here: alive, as far as one can tell
	}
	g.state.c.log.Info("group member failed: no heartbeat within its session timeout", "group", g.id, "member", m.id, "client", m.client.ID, "host", m.client.Host)
	g.removeAndUpdate(m, "member "+m.id+" failed")
}

// removeAndUpdate takes a member out and lets the group go on.
func (g *group) removeAndUpdate(m *member, reason string) {
	g.answerJoin(m, joinError("", kerr.UnknownMemberID.Code))
	g.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: kerr.UnknownMemberID.Code})
	g.remove(m)
	if g.phase == stable || g.phase == completing {
		g.prepareRebalance(reason)
	}
	g.tryCompleteJoin()
}

// beat starts the member's session anew.
func (g *group) beat(m *member) { m.timer.Arm(m.sessionTimeout) }

// store writes the group's generation.
func (g *group) store(apply func(int64, error)) error {
	s := g.state
	g.stored = true
	return s.shard.Append(statelog.NoProducer, []statelog.Record{groupRecord(g, s.c.keeper.Now().UnixMilli())}, apply)
}
