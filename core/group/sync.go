package group

import (
	"bytes"
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func syncError(code int16) *kmsg.SyncGroupResponse { return &kmsg.SyncGroupResponse{ErrorCode: code} }

// SyncGroup waits until the leader's assignment is durable.
func (c *Coordinator) SyncGroup(ctx context.Context, req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	resp := c.sync(ctx, req)
	resp.Version = req.Version
	return resp
}

func (c *Coordinator) sync(ctx context.Context, req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	if req.Group == "" {
		return syncError(kerr.InvalidGroupID.Code)
	}
	s, code := c.lock(ctx, req.Group)
	if code == kerr.CoordinatorLoadInProgress.Code {
		// The rebalance was lost with the old coordinator: start over at JoinGroup. Older clients do not expect the
		// loading code here.
		return syncError(kerr.RebalanceInProgress.Code)
	}
	if code != 0 {
		return syncError(code)
	}
	g := s.groups[req.Group]
	if g == nil {
		s.unlock()
		return syncError(kerr.UnknownMemberID.Code)
	}
	if g.consumer != nil {
		r := g.consumer.syncClassic(req)
		if code := s.wait(ctx, func(done func(error)) error { s.shard.Settled(done); return nil }); code != 0 {
			return syncError(code)
		}
		return r
	}
	wait := make(chan *kmsg.SyncGroupResponse, 1)
	answer := g.syncLocked(req, wait)
	s.unlock()
	if answer != nil {
		return answer
	}
	select {
	case r := <-wait:
		return r
	case <-ctx.Done():
	}
	s.shard.Mu.Lock()
	defer s.unlock()
	if m := g.members[req.MemberID]; m != nil && m.syncing == wait {
		m.syncing = nil
		g.beat(m)
	}
	return syncError(kerr.RebalanceInProgress.Code)
}

func (g *group) syncLocked(req *kmsg.SyncGroupRequest, wait chan *kmsg.SyncGroupResponse) *kmsg.SyncGroupResponse {
	if g.phase == dead {
		return syncError(kerr.CoordinatorNotAvailable.Code)
	}
	if code := g.validate(req.MemberID, req.InstanceID); code != 0 {
		return syncError(code)
	}
	if req.Generation != g.generation {
		return syncError(kerr.IllegalGeneration.Code)
	}
	if req.ProtocolType != nil && *req.ProtocolType != g.protocolType || req.Protocol != nil && *req.Protocol != g.protocol {
		return syncError(kerr.InconsistentGroupProtocol.Code)
	}
	m := g.members[req.MemberID]
	switch g.phase {
	case preparing:
		return syncError(kerr.RebalanceInProgress.Code)
	case stable:
		g.synced(m)
		g.beat(m)
		return g.assigned(m)
	case completing:
		g.answerSync(m, syncError(kerr.RebalanceInProgress.Code)) // an older SyncGroup of the same member
		m.syncing = wait
		g.synced(m)
		if g.leader != m.id || g.nextAssignment != nil {
			return nil
		}
		return g.assign(req)
	}
	return syncError(kerr.UnknownMemberID.Code)
}

// synced notes that a member has sent SyncGroup.
func (g *group) synced(m *member) {
	delete(g.awaitSync, m.id)
	if len(g.awaitSync) == 0 {
		g.sync.Disarm()
	}
}

// assign writes the leader's assignment; once it is durable everybody is told.
func (g *group) assign(req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	generation := g.generation
	next := make(map[string][]byte, len(g.members))
	for _, a := range req.GroupAssignment {
		if g.members[a.MemberID] != nil {
			next[a.MemberID] = bytes.Clone(a.MemberAssignment)
		}
	}
	g.nextAssignment = next
	err := g.store(func(_ int64, err error) {
		if g.phase != completing || g.generation != generation {
			return // the group has gone on without it
		}
		g.nextAssignment = nil
		if err != nil {
			g.assignFailed(codeOf(err))
			return
		}
		for _, m := range g.members {
			m.assignment = next[m.id]
			if g.answerSync(m, g.assigned(m)) {
				g.beat(m)
			}
		}
		g.to(stable)
	})
	if err != nil {
		g.nextAssignment = nil
		g.assignFailed(codeOf(err))
	}
	return nil
}

func (g *group) assignFailed(code int16) {
	for _, m := range g.members {
		if g.answerSync(m, syncError(code)) {
			g.beat(m)
		}
	}
	g.maybeRebalance("the assignment could not be written")
	g.tryCompleteJoin()
}

func (g *group) assigned(m *member) *kmsg.SyncGroupResponse {
	protocolType, protocol := g.protocolType, g.protocol
	return &kmsg.SyncGroupResponse{ProtocolType: &protocolType, Protocol: &protocol, MemberAssignment: m.assignment}
}

func (g *group) answerSync(m *member, r *kmsg.SyncGroupResponse) bool {
	if m.syncing == nil {
		return false
	}
	m.syncing <- r // has room for the one answer
	m.syncing = nil
	return true
}

// Heartbeat keeps a member's session and tells it of a rebalance.
func (c *Coordinator) Heartbeat(ctx context.Context, req *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.Version = req.Version
	resp.ErrorCode = c.heartbeat(ctx, req)
	return resp
}

func (c *Coordinator) heartbeat(ctx context.Context, req *kmsg.HeartbeatRequest) int16 {
	if req.Group == "" {
		return kerr.InvalidGroupID.Code
	}
	s, code := c.lock(ctx, req.Group)
	if code == kerr.CoordinatorLoadInProgress.Code {
		return 0
	}
	if code != 0 {
		return code
	}
	defer s.unlock()
	g := s.groups[req.Group]
	if g == nil {
		return kerr.UnknownMemberID.Code
	}
	if g.phase == dead {
		return kerr.CoordinatorNotAvailable.Code
	}
	if g.consumer != nil {
		return g.consumer.heartbeatClassic(req)
	}
	if code := g.validate(req.MemberID, req.InstanceID); code != 0 {
		return code
	}
	if req.Generation != g.generation {
		return kerr.IllegalGeneration.Code
	}
	switch g.phase {
	case preparing:
		g.beat(g.members[req.MemberID])
		return kerr.RebalanceInProgress.Code
	case completing, stable:
		g.beat(g.members[req.MemberID])
		return 0
	}
	return kerr.UnknownMemberID.Code
}

// LeaveGroup takes members out.
func (c *Coordinator) LeaveGroup(ctx context.Context, req *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.Version = req.Version
	members := req.Members
	if req.Version < 3 {
		members = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return resp
	}
	s, code := c.lock(ctx, req.Group)
	if code != 0 {
		resp.ErrorCode = code
		return resp
	}
	if g := s.groups[req.Group]; g != nil && g.consumer != nil {
		c.leaveConsumer(ctx, s, g.consumer, members, resp)
		if req.Version < 3 {
			if resp.ErrorCode == 0 {
				resp.ErrorCode = resp.Members[0].ErrorCode
			}
			resp.Members = nil
		}
		return resp
	}
	defer s.unlock()
	g := s.groups[req.Group]
	if g != nil && g.phase == dead {
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp
	}
	for _, lm := range members {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = lm.MemberID, lm.InstanceID
		rm.ErrorCode = kerr.UnknownMemberID.Code
		if g != nil {
			rm.ErrorCode = g.leave(lm)
		}
		resp.Members = append(resp.Members, rm)
	}
	if req.Version < 3 {
		resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
	}
	return resp
}

func (g *group) leave(lm kmsg.LeaveGroupRequestMember) int16 {
	id := lm.MemberID
	if id == "" { // an administrator removes a static member by its instance
		if lm.InstanceID == nil || g.static[*lm.InstanceID] == "" {
			return kerr.UnknownMemberID.Code
		}
		id = g.static[*lm.InstanceID]
	}
	if g.pending[id] != nil {
		g.dropPending(id)
		g.tryCompleteJoin()
		return 0
	}
	if code := g.validate(id, lm.InstanceID); code != 0 {
		return code
	}
	reason := "member " + id + " leaves"
	if lm.Reason != nil {
		reason += ": " + *lm.Reason
	}
	g.removeAndUpdate(g.members[id], reason)
	return 0
}
