package group

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

func joinError(member string, code int16) *kmsg.JoinGroupResponse {
	r := kmsg.NewPtrJoinGroupResponse()
	r.ErrorCode, r.MemberID, r.Generation = code, member, -1
	return r
}

// JoinGroup waits until the group's next generation begins, or says at once why not. When ctx ends first, the member
// stays for its session timeout: the client may come back.
func (c *Coordinator) JoinGroup(ctx context.Context, req *kmsg.JoinGroupRequest, client Client) *kmsg.JoinGroupResponse {
	resp := c.join(ctx, req, client)
	resp.Version = req.Version
	if req.Version < 7 && resp.Protocol == nil {
		none := ""
		resp.Protocol = &none // not nullable before
	}
	return resp
}

func (c *Coordinator) join(ctx context.Context, req *kmsg.JoinGroupRequest, client Client) *kmsg.JoinGroupResponse {
	if req.Group == "" {
		return joinError(req.MemberID, kerr.InvalidGroupID.Code)
	}
	if s := millis(req.SessionTimeoutMillis); s < c.o.MinSessionTimeout || s > c.o.MaxSessionTimeout {
		return joinError(req.MemberID, kerr.InvalidSessionTimeout.Code)
	}
	if len(req.Protocols) > maxProtocols {
		return joinError(req.MemberID, kerr.InconsistentGroupProtocol.Code)
	}
	if req.RebalanceTimeoutMillis < 0 {
		req.RebalanceTimeoutMillis = req.SessionTimeoutMillis // v0 has none
	}
	s, code := c.lock(ctx, req.Group)
	if code != 0 {
		return joinError(req.MemberID, code)
	}
	g := s.groups[req.Group]
	if g == nil {
		if req.MemberID != "" {
			s.unlock()
			return joinError(req.MemberID, kerr.UnknownMemberID.Code)
		}
		g = s.group(req.Group)
	}
	if g.consumer != nil {
		if g.consumer.phase() != empty {
			return c.joinConsumer(ctx, s, g.consumer, req, client)
		}
		if err := s.write(g.consumer.tombstones(), func(error) {}); err != nil {
			s.unlock()
			return joinError(req.MemberID, codeOf(err))
		}
		g = s.group(req.Group)
	}
	wait := make(chan *kmsg.JoinGroupResponse, 1)
	answer := g.joinLocked(req, client, wait)
	if answer != nil {
		g.tryCompleteJoin()
		s.unlock()
		return answer
	}
	g.tryCompleteJoin()
	s.unlock()
	select {
	case r := <-wait:
		return r
	case <-ctx.Done():
	}
	s.shard.Mu.Lock()
	defer s.unlock()
	select {
	case r := <-wait:
		return r
	default:
	}
	for _, m := range g.members {
		if m.joining == wait {
			m.joining = nil
			m.isNew = false
			g.beat(m)
		}
	}
	return joinError(req.MemberID, kerr.RebalanceInProgress.Code)
}

// joinLocked answers at once, or takes the member into the rebalance and leaves wait with it.
func (g *group) joinLocked(req *kmsg.JoinGroupRequest, client Client, wait chan *kmsg.JoinGroupResponse) *kmsg.JoinGroupResponse {
	if !g.accepts(req.MemberID) {
		if m := g.members[req.MemberID]; m != nil {
			g.remove(m)
		}
		g.dropPending(req.MemberID)
		return joinError("", kerr.GroupMaxSizeReached.Code)
	}
	if g.phase == dead {
		return joinError(req.MemberID, kerr.CoordinatorNotAvailable.Code)
	}
	if !g.supports(req.ProtocolType, req.Protocols) {
		return joinError(req.MemberID, kerr.InconsistentGroupProtocol.Code)
	}
	if req.MemberID == "" {
		return g.joinNew(req, client, wait)
	}
	if g.pending[req.MemberID] != nil {
		g.addAndRebalance(req, req.MemberID, client, wait)
		return nil
	}
	if code := g.validate(req.MemberID, req.InstanceID); code != 0 {
		return joinError(req.MemberID, code)
	}
	m := g.members[req.MemberID]
	switch {
	case g.phase == empty:
		return joinError(req.MemberID, kerr.UnknownMemberID.Code)
	case g.phase == completing && m.matches(req.Protocols):
		// It may not have received the answer to its JoinGroup: the same once more.
		return g.joined(m, false)
	case g.phase == stable && g.leader != m.id && m.matches(req.Protocols):
		return g.joined(m, false)
	}
	// The leader of a stable group asks for a rebalance by joining again, others by new metadata.
	g.update(m, req, wait)
	g.maybeRebalance("member " + m.id + " joins again")
	return nil
}

// What is kept of members that have been told an id and may never come back with it.
const (
	maxPending    = 4096 // of a group
	maxClientPart = 255  // bytes of the client's id in the member's
)

// joinNew is a member without a member id.
func (g *group) joinNew(req *kmsg.JoinGroupRequest, client Client, wait chan *kmsg.JoinGroupResponse) *kmsg.JoinGroupResponse {
	if req.InstanceID != nil {
		id := *req.InstanceID + "-" + g.state.c.newID()
		if old, ok := g.static[*req.InstanceID]; ok {
			return g.replaceStatic(req, g.members[old], id, wait)
		}
		g.addAndRebalance(req, id, client, wait)
		return nil
	}
	id := client.ID
	if len(id) > maxClientPart {
		id = strings.ToValidUTF8(id[:maxClientPart], "")
	}
	id += "-" + g.state.c.newID()
	if req.Version < 4 {
		g.addAndRebalance(req, id, client, wait)
		return nil
	}
	// KIP-394: members whose JoinGroup was lost would pile up, so the id is told first.
	t := g.state.shard.NewTimer(func() {
		delete(g.pending, id)
		g.tryCompleteJoin()
	})
	for other := range g.pending {
		if len(g.pending) < maxPending {
			break
		}
		g.dropPending(other) // any: whoever is about to come back is seldom hit, and joins anew
	}
	g.pending[id] = t
	t.Arm(millis(req.SessionTimeoutMillis))
	return joinError(id, kerr.MemberIDRequired.Code)
}

// accepts says whether group.max.size lets the member in.
func (g *group) accepts(id string) bool {
	limit := g.state.c.o.MaxSize
	switch g.phase {
	case empty, dead:
		return true
	case preparing:
		m := g.members[id]
		return m != nil && m.joining != nil || g.joiningMembers() < limit
	}
	return g.members[id] != nil || len(g.members) < limit
}

// validate finds the member; a static member's instance must be its own.
func (g *group) validate(id string, instance *string) int16 {
	if instance != nil {
		current, ok := g.static[*instance]
		if !ok {
			return kerr.UnknownMemberID.Code
		}
		if current != id {
			return kerr.FencedInstanceID.Code
		}
	}
	if g.members[id] == nil {
		return kerr.UnknownMemberID.Code
	}
	return 0
}

func (g *group) newMember(id string, instance *string, client Client) *member {
	m := &member{id: id, instance: instance, client: client, isNew: true}
	m.timer = g.state.shard.NewTimer(func() { g.memberExpired(m) })
	return m
}

func (g *group) addAndRebalance(req *kmsg.JoinGroupRequest, id string, client Client, wait chan *kmsg.JoinGroupResponse) {
	m := g.newMember(id, req.InstanceID, client)
	g.add(m, req.ProtocolType)
	g.update(m, req, wait)
	g.grown = true
	// A new member has no id to send heartbeats with, and its client may be gone: it does not wait for ever.
	m.timer.Arm(newMemberTimeout)
	g.maybeRebalance("new member " + id)
}

// update takes over what a JoinGroup says; an older JoinGroup of the same member is superseded.
func (g *group) update(m *member, req *kmsg.JoinGroupRequest, wait chan *kmsg.JoinGroupResponse) {
	g.answerJoin(m, joinError(m.id, kerr.RebalanceInProgress.Code))
	m.protocols = cloneProtocols(req.Protocols) // the request's bytes are the connection's
	m.sessionTimeout = millis(req.SessionTimeoutMillis)
	m.rebalanceTimeout = millis(req.RebalanceTimeoutMillis)
	m.joining = wait
}

// replaceStatic gives a static member that has been restarted its new member id (KIP-345). A stable group whose
// protocol does not change is not rebalanced.
func (g *group) replaceStatic(req *kmsg.JoinGroupRequest, m *member, id string, wait chan *kmsg.JoinGroupResponse) *kmsg.JoinGroupResponse {
	oldLeader, oldID := g.leader, m.id
	g.answerJoin(m, joinError(oldID, kerr.FencedInstanceID.Code))
	g.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: kerr.FencedInstanceID.Code})
	delete(g.members, oldID)
	if _, ok := g.awaitSync[oldID]; ok {
		delete(g.awaitSync, oldID)
		g.awaitSync[id] = struct{}{}
	}
	m.id = id
	g.members[id] = m
	g.static[*m.instance] = id
	if g.leader == oldID {
		g.leader = id
	}
	g.update(m, req, wait)
	switch g.phase {
	case stable:
		g.beat(m)
		if g.selectProtocol() != g.protocol {
			g.maybeRebalance("static member " + *m.instance + " comes back with another protocol")
			return nil
		}
		skip := req.Version >= 9
		err := g.store(func(_ int64, err error) {
			if m.joining != wait {
				return
			}
			g.beat(m) // its session may have ended while this waited, and ended nothing (memberExpired)
			if err != nil {
				g.answerJoin(m, joinError("", codeOf(err)))
				return
			}
			r := g.joined(m, skip && g.leader == m.id)
			if !skip {
				// Before v9 a leader cannot be told to keep the assignment: it must not know that it leads.
				r.LeaderID, r.Members = oldLeader, nil
			}
			g.answerJoin(m, r)
		})
		if err != nil {
			m.joining = nil
			return joinError("", codeOf(err))
		}
	case completing:
		g.prepareRebalance("static member " + *m.instance + " was restarted during a rebalance")
	case preparing:
	}
	return nil
}

// joined is the answer to a member of the current generation.
func (g *group) joined(m *member, skip bool) *kmsg.JoinGroupResponse {
	r := kmsg.NewPtrJoinGroupResponse()
	protocolType, protocol := g.protocolType, g.protocol
	r.Generation, r.ProtocolType, r.Protocol, r.LeaderID, r.MemberID, r.SkipAssignment = g.generation, &protocolType, &protocol, g.leader, m.id, skip
	if g.leader == m.id && (skip || g.phase == completing) {
		r.Members = g.roster()
	}
	return r
}

func cloneProtocols(ps []kmsg.JoinGroupRequestProtocol) []kmsg.JoinGroupRequestProtocol {
	out := make([]kmsg.JoinGroupRequestProtocol, len(ps))
	for i, p := range ps {
		out[i] = kmsg.JoinGroupRequestProtocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)}
	}
	return out
}

func (g *group) answerJoin(m *member, r *kmsg.JoinGroupResponse) {
	if m.joining != nil {
		m.joining <- r // has room for the one answer
		m.joining = nil
	}
}
