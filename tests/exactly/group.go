package exactly

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// group is the model of a classic group of static members (KIP-345) at its coordinator. The log's mutex is over it.
type group struct {
	l          *Log
	name       string
	generation int32
	state      string // Empty, PreparingRebalance, CompletingRebalance, Stable
	leader     string
	protocol   string
	members    map[string]*member // by instance
	made       int                // member ids so far
	round      int                // of rebalances: a deadline of an earlier one means nothing
	changed    chan struct{}
}

type member struct {
	id, client, instance string
	metadata             []byte
	assignment           []byte
	joined               bool // waits for the next generation
	session              time.Duration
	heard                int // a session that began before the latest sign of life means nothing
}

func (l *Log) group(name string) *group {
	g := l.groups[name]
	if g == nil {
		g = &group{l: l, name: name, state: "Empty", members: map[string]*member{}, changed: make(chan struct{})}
		l.groups[name] = g
	}
	return g
}

func (g *group) wakeLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// await unlocks until something has changed, or the connection that asks is gone.
func (g *group) await(c *conn) (there bool) {
	changed := g.changed
	g.l.mu.Unlock()
	defer g.l.mu.Lock()
	select {
	case <-changed:
		return true
	case <-c.gone:
		return false
	}
}

func (g *group) hearLocked(m *member) {
	m.heard++
	heard := m.heard
	time.AfterFunc(m.session, func() {
		g.l.mu.Lock()
		defer g.l.mu.Unlock()
		switch {
		case g.members[m.instance] != m || m.heard != heard:
		case m.joined:
			g.hearLocked(m) // who waits for the others is not silent
		default:
			g.l.w.note("the session of %s in %s is over", m.client, g.name)
			g.removeLocked(m)
		}
	})
}

func (g *group) removeLocked(m *member) {
	delete(g.members, m.instance)
	if g.leader == m.id {
		g.leader = ""
	}
	g.rebalanceLocked()
}

// rebalanceLocked asks everybody to join again.
func (g *group) rebalanceLocked() {
	if len(g.members) == 0 {
		g.state = "Empty"
		g.generation++
		g.wakeLocked()
		return
	}
	if g.state != "PreparingRebalance" {
		g.state = "PreparingRebalance"
		g.round++
		round := g.round
		time.AfterFunc(10*time.Second, func() {
			g.l.mu.Lock()
			defer g.l.mu.Unlock()
			if g.state == "PreparingRebalance" && g.round == round {
				g.beginLocked()
			}
		})
	}
	g.completeLocked()
	g.wakeLocked()
}

// completeLocked begins the generation when all have joined.
func (g *group) completeLocked() {
	for _, m := range g.members {
		if !m.joined {
			return
		}
	}
	g.beginLocked()
}

// beginLocked begins a generation. Static members that have not joined stay in it until their session ends.
func (g *group) beginLocked() {
	g.leader = ""
	for _, m := range g.sorted() {
		if m.joined && g.leader == "" {
			g.leader = m.id
		}
	}
	if g.leader == "" {
		g.state = "PreparingRebalance" // nobody is there
		return
	}
	g.generation++
	g.state = "CompletingRebalance"
	for _, m := range g.members {
		if m.joined {
			g.hearLocked(m)
		}
		m.joined, m.assignment = false, nil
	}
	g.wakeLocked()
}

func (g *group) sorted() []*member {
	out := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *member) int { return cmp.Compare(a.instance, b.instance) })
	return out
}

// restartedLocked: who reloads a group gives every member a new session.
func (g *group) restartedLocked() {
	for _, m := range g.members {
		if m.joined { // its request is gone
			m.joined = false
		}
		g.hearLocked(m)
	}
	g.wakeLocked()
}

// memberLocked finds who asks.
func (g *group) memberLocked(id string, instance *string) (*member, *kerr.Error) {
	if instance == nil {
		return nil, kerr.InvalidRequest // the runtime's are static
	}
	m := g.members[*instance]
	switch {
	case m == nil:
		return nil, kerr.UnknownMemberID
	case m.id != id:
		return nil, kerr.FencedInstanceID
	}
	return m, nil
}

func (l *Log) join(c *conn, client string, r *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	fail := func(err *kerr.Error) *kmsg.JoinGroupResponse { resp.ErrorCode = err.Code; return resp }
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(r.Group)
	if r.InstanceID == nil || len(r.Protocols) != 1 {
		return fail(kerr.InvalidRequest)
	}
	m := g.members[*r.InstanceID]
	metadata := bytes.Clone(r.Protocols[0].Metadata)
	newcomer, changes := m == nil, false
	switch {
	case r.MemberID != "":
		var err *kerr.Error
		if m, err = g.memberLocked(r.MemberID, r.InstanceID); err != nil {
			return fail(err)
		}
		changes = m.id == g.leader || !bytes.Equal(m.metadata, metadata)
	case newcomer:
		m = &member{instance: *r.InstanceID}
		g.members[m.instance] = m
		changes = true
	default: // the one of before is fenced, and its place kept
		changes = !bytes.Equal(m.metadata, metadata)
	}
	if r.MemberID == "" {
		g.made++
		before := m.id
		m.id = fmt.Sprintf("%s-%d", m.instance, g.made)
		if g.leader == before && before != "" {
			g.leader = m.id
		}
	}
	m.client, m.metadata, m.session = client, metadata, time.Duration(r.SessionTimeoutMillis)*time.Millisecond
	g.protocol = r.Protocols[0].Name
	g.hearLocked(m)
	id := m.id
	if g.state != "Stable" || changes {
		m.joined = true
		g.rebalanceLocked()
		for m.joined && m.id == id && g.members[m.instance] == m {
			if !g.await(c) {
				return fail(kerr.CoordinatorNotAvailable)
			}
		}
		if m.id != id || g.members[m.instance] != m {
			return fail(kerr.UnknownMemberID)
		}
		if g.state == "PreparingRebalance" {
			return fail(kerr.RebalanceInProgress) // one more has come
		}
	}
	resp.MemberID, resp.Generation, resp.LeaderID = m.id, g.generation, g.leader
	resp.Protocol, resp.ProtocolType = &g.protocol, &r.ProtocolType
	resp.SkipAssignment = g.leader == m.id && g.state == "Stable"
	if g.leader == m.id {
		for _, o := range g.sorted() {
			a := kmsg.NewJoinGroupResponseMember()
			a.MemberID, a.InstanceID, a.ProtocolMetadata = o.id, &o.instance, o.metadata
			resp.Members = append(resp.Members, a)
		}
	}
	return resp
}

func (l *Log) sync(c *conn, r *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(r.Group)
	for {
		m, err := g.memberLocked(r.MemberID, r.InstanceID)
		switch {
		case err != nil:
		case r.Generation != g.generation:
			err = kerr.IllegalGeneration
		case g.state == "PreparingRebalance":
			err = kerr.RebalanceInProgress
		case g.state == "CompletingRebalance" && m.id == g.leader:
			for _, a := range r.GroupAssignment {
				for _, o := range g.members {
					if o.id == a.MemberID {
						o.assignment = bytes.Clone(a.MemberAssignment)
					}
				}
			}
			g.state = "Stable"
			g.wakeLocked()
		}
		if err != nil {
			resp.ErrorCode = err.Code
			return resp
		}
		if g.state == "Stable" {
			g.hearLocked(m)
			resp.MemberAssignment, resp.Protocol, resp.ProtocolType = m.assignment, &g.protocol, r.ProtocolType
			return resp
		}
		if !g.await(c) {
			resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
			return resp
		}
	}
}

func (l *Log) beat(r *kmsg.HeartbeatRequest) *kerr.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(r.Group)
	m, err := g.memberLocked(r.MemberID, r.InstanceID)
	switch {
	case err != nil:
		return err
	case r.Generation != g.generation:
		return kerr.IllegalGeneration
	}
	g.hearLocked(m)
	if g.state == "PreparingRebalance" {
		return kerr.RebalanceInProgress
	}
	return nil
}

func (l *Log) leave(r *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	resp := kmsg.NewPtrLeaveGroupResponse()
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(r.Group)
	for _, o := range r.Members {
		out := kmsg.NewLeaveGroupResponseMember()
		out.MemberID, out.InstanceID = o.MemberID, o.InstanceID
		if o.InstanceID != nil && g.members[*o.InstanceID] != nil {
			l.w.note("%s is taken out of %s", *o.InstanceID, g.name)
			g.removeLocked(g.members[*o.InstanceID])
		} else {
			out.ErrorCode = kerr.UnknownMemberID.Code
		}
		resp.Members = append(resp.Members, out)
	}
	return resp
}

func (l *Log) describe(names []string) *kmsg.DescribeGroupsResponse {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		g := l.group(name)
		out := kmsg.NewDescribeGroupsResponseGroup()
		out.Group, out.State, out.ProtocolType, out.Protocol = name, g.state, "forebay", g.protocol
		for _, m := range g.sorted() {
			o := kmsg.NewDescribeGroupsResponseGroupMember()
			o.MemberID, o.InstanceID, o.ClientID, o.MemberAssignment, o.ProtocolMetadata = m.id, &m.instance, m.client, m.assignment, m.metadata
			out.Members = append(out.Members, o)
		}
		resp.Groups = append(resp.Groups, out)
	}
	return resp
}
