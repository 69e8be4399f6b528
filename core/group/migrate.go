package group

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// A group changes its protocol while its members work (KIP-848, "Online migration"). The first member that speaks the
// consumer protocol makes the classic group a consumer group; its classic members stay, and are served below by the
// requests that they know: a member joins again for each step of its reconciliation, and finds its assignment, made
// by the server, in SyncGroup. When the last consumer member has gone, the group is a classic one again.

// Values of group.consumer.migration.policy.
const (
	MigrateBoth   = "bidirectional"
	MigrateUp     = "upgrade"
	MigrateDown   = "downgrade"
	MigrateNever  = "disabled"
	consumerProto = "consumer" // the protocol type of classic consumers
)

func (o ConsumerOptions) upgrades() bool {
	return o.Migration == MigrateBoth || o.Migration == MigrateUp
}

func (o ConsumerOptions) downgrades() bool {
	return o.Migration == MigrateBoth || o.Migration == MigrateDown
}

// upgrade gives the records that make a classic group with members a consumer group.
func (g *group) upgrade(im *metadata.Image) ([]change, *refusal) {
	cannot := func(why string) ([]change, *refusal) {
		return nil, refuse(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because %s.", g.id, why)
	}
	o := g.state.c.o.Consumer
	switch {
	case !o.upgrades():
		return cannot("online upgrade is disabled")
	case g.protocolType != consumerProto:
		return cannot("the group does not use the consumer embedded protocol")
	case len(g.members) > o.MaxSize:
		return cannot("the group size exceeds the consumer group maximum size")
	}
	out := []change{{kind: keyClassic, group: g.id}, {keyEpoch, g.id, "", groupEpoch{epoch: g.generation}}}
	taken := parts{}
	for _, m := range g.sorted() {
		meta, ok := readSubscription(m.subscription(g.protocol))
		if !ok {
			return cannot("the embedded consumer protocol is malformed")
		}
		assigned := parts{}
		if len(m.assignment) > 0 {
			a := kmsg.NewConsumerMemberAssignment()
			if a.ReadFrom(m.assignment) != nil {
				return cannot("the embedded consumer protocol is malformed")
			}
			for _, t := range a.Topics {
				if topic := im.Topics[t.Topic]; topic != nil {
					for _, n := range t.Partitions {
						if !taken.has(topic.ID, n) {
							taken.add(topic.ID, n, 0)
							assigned.add(topic.ID, n, g.generation)
						}
					}
				}
			}
		}
		v := &memberValue{
			instance: m.instance, rack: meta.Rack, client: m.client, topics: cleanTopics(meta.Topics),
			rebalance: int32(m.rebalanceTimeout.Milliseconds()), classic: classicOf(int32(m.sessionTimeout.Milliseconds()), m.protocols),
		}
		out = append(out,
			change{keyMember, g.id, m.id, v}, change{keyTarget, g.id, m.id, targetValue(assigned)},
			change{keyCurrent, g.id, m.id, currentValue{epoch: g.generation, previous: g.generation, state: memberStable, assigned: assigned, revoking: parts{}}})
	}
	return append(out, change{keyTargetEpoch, g.id, "", targetEpoch(g.generation)}), nil
}

// retire ends a classic group whose place a consumer group has taken: who waits in it comes again.
func (g *group) retire() {
	for _, m := range g.members {
		g.answerJoin(m, joinError(m.id, kerr.RebalanceInProgress.Code))
		g.answerSync(m, syncError(kerr.RebalanceInProgress.Code))
		m.timer.Disarm()
	}
	for id := range g.pending {
		g.dropPending(id)
	}
	g.join.Disarm()
	g.sync.Disarm()
	g.phase = dead
}

// subscription is a member's metadata under the group's protocol, or before there is one under its first.
func (m *member) subscription(protocol string) []byte {
	if b := m.metadata(protocol); b != nil || len(m.protocols) == 0 {
		return b
	}
	return m.protocols[0].Metadata
}

func readSubscription(b []byte) (kmsg.ConsumerMemberMetadata, bool) {
	meta := kmsg.NewConsumerMemberMetadata()
	return meta, meta.ReadFrom(b) == nil
}

func classicOf(session int32, protocols []kmsg.JoinGroupRequestProtocol) *classicMember {
	c := &classicMember{session: session}
	for _, p := range protocols {
		c.protocols = append(c.protocols, classicProtocol{strings.Clone(p.Name), bytes.Clone(p.Metadata)})
	}
	return c
}

// remove removes members. When those that are left all speak the classic protocol, though not all of them did, the group
// becomes a classic one.
func (cg *consumerGroup) remove(im *metadata.Image, ids ...string) []change {
	rest := cg.with(nil, ids...)
	classic := 0
	for _, m := range rest {
		if m.classic != nil {
			classic++
		}
	}
	c := cg.group.state.c
	if classic == 0 || classic < len(rest) || cg.classicMembers() == len(cg.members) || !c.o.Consumer.downgrades() || len(rest) > c.o.MaxSize {
		return cg.fence(im, ids...)
	}
	g := cg.downgraded(im, rest)
	if g == nil {
		return cg.fence(im, ids...)
	}
	return append(cg.tombstones(), change{keyClassic, g.id, "", classicValue{g}})
}

// downgraded is the classic group that the members make; nil: no protocol is spoken by all of them.
func (cg *consumerGroup) downgraded(im *metadata.Image, members map[string]*consumer) *group {
	g := newGroup(cg.group.state, cg.group.id)
	g.offsets, g.open = cg.group.offsets, cg.group.open
	g.generation, g.stored = cg.epoch, true
	for _, id := range slices.Sorted(maps.Keys(members)) {
		c := members[id]
		m := g.newMember(id, c.instance, c.client)
		m.sessionTimeout, m.rebalanceTimeout, m.isNew = millis(c.classic.session), millis(c.rebalance), false
		for _, p := range c.classic.protocols {
			m.protocols = append(m.protocols, kmsg.JoinGroupRequestProtocol{Name: p.name, Metadata: p.metadata})
		}
		m.assignment = c.classicAssignment(im)
		g.add(m, consumerProto)
	}
	if g.protocol = g.selectProtocol(); g.protocol == "" {
		return nil
	}
	g.phase = stable
	g.subscribe()
	return g
}

// classicValue is a classic group that a consumer group becomes.
type classicValue struct{ g *group }

func (v classicValue) appendTo([]byte) []byte { return groupRecord(v.g, v.g.since).Value }

// adopt puts a classic group in the place of the consumer group that it was, and has its members join again.
func (s *state) adopt(g *group) {
	s.groups[g.id] = g
	for _, m := range g.members {
		g.beat(m)
	}
	g.prepareRebalance("the last member that spoke the consumer protocol has gone")
}

// classicAssignment is what a classic member finds in SyncGroup.
func (m *consumer) classicAssignment(im *metadata.Image) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	if len(m.classic.protocols) > 0 {
		if meta, ok := readSubscription(m.classic.protocols[0].metadata); ok {
			a.Version = min(max(meta.Version, 0), 3)
		}
	}
	for _, id := range m.assigned.topics() {
		if t := im.TopicIDs[id]; t != nil {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: t.Name, Partitions: m.assigned.numbers(id)})
		}
	}
	return a.AppendTo(nil)
}

// joinConsumer is JoinGroup of a consumer group. It does not wait for others; the shard is locked, and unlocked here.
func (c *Coordinator) joinConsumer(ctx context.Context, s *state, cg *consumerGroup, req *kmsg.JoinGroupRequest, client Client) *kmsg.JoinGroupResponse {
	resp, changes, applied := cg.joinClassic(req, client)
	if resp.ErrorCode != 0 {
		s.unlock()
		return resp
	}
	code := s.wait(ctx, func(done func(error)) error {
		err := s.write(changes, done)
		if err == nil {
			applied()
		}
		return err
	})
	if code != 0 {
		return joinError(req.MemberID, code)
	}
	return resp
}

func (cg *consumerGroup) joinClassic(req *kmsg.JoinGroupRequest, client Client) (*kmsg.JoinGroupResponse, []change, func()) {
	s := cg.group.state
	im := s.c.host.image()
	id := strings.Clone(req.MemberID)
	refused := func(code int16) (*kmsg.JoinGroupResponse, []change, func()) { return joinError(id, code), nil, nil }
	if len(cg.members) >= s.c.o.Consumer.MaxSize && cg.members[id] == nil {
		return refused(kerr.GroupMaxSizeReached.Code)
	}
	if req.ProtocolType != consumerProto || !cg.speaks(req.Protocols) {
		return refused(kerr.InconsistentGroupProtocol.Code)
	}
	meta, ok := readSubscription(req.Protocols[0].Metadata)
	if !ok {
		return refused(kerr.InconsistentGroupProtocol.Code)
	}
	unknown := id == ""
	if unknown {
		id = s.c.newID()
		if req.Version >= 4 && req.InstanceID == nil {
			return refused(kerr.MemberIDRequired.Code)
		}
	}
	d := &draft{cg: cg, image: im, targets: cg.target}
	switch {
	case req.InstanceID == nil:
		d.member = cg.member(id)
	case unknown:
		if current, known := cg.static[*req.InstanceID]; known {
			d.replace(cg.members[current], id)
		} else {
			d.member = cg.member(id)
		}
	case cg.static[*req.InstanceID] == "":
		return refused(kerr.UnknownMemberID.Code)
	case cg.static[*req.InstanceID] != id:
		return refused(kerr.FencedInstanceID.Code)
	default:
		d.member = cg.member(id)
	}
	next := *d.member
	next.client, next.topics, next.regex = client, cleanTopics(meta.Topics), nil
	next.rebalance, next.classic = req.RebalanceTimeoutMillis, classicOf(req.SessionTimeoutMillis, req.Protocols)
	if req.InstanceID != nil {
		next.instance = clonePtr(req.InstanceID)
	}
	if meta.Rack != nil {
		next.rack = clonePtr(meta.Rack)
	}
	if r := d.subscribe(&next, s); r != nil {
		return refused(r.code)
	}
	d.target()
	owned := parts{}
	for _, o := range meta.OwnedPartitions {
		if t := im.Topics[o.Topic]; t != nil {
			for _, n := range o.Partitions {
				owned.add(t.ID, n, 0)
			}
		}
	}
	d.reconcile(owned)
	resp := kmsg.NewPtrJoinGroupResponse()
	protocolType, protocol := consumerProto, next.classic.protocols[0].name
	resp.MemberID, resp.Generation, resp.ProtocolType, resp.Protocol = id, d.next.currentValue.epoch, &protocolType, &protocol
	return resp, d.changes, func() {
		cg.seen, cg.lookAt = d.seen, d.lookAt
		k := cg.clock(id)
		k.session.Arm(millis(req.SessionTimeoutMillis))
		k.rebalance.Arm(millis(req.RebalanceTimeoutMillis)) // until it sends SyncGroup
	}
}

// speaks says whether one of these protocols is spoken by all classic members.
func (cg *consumerGroup) speaks(ps []kmsg.JoinGroupRequestProtocol) bool {
	for _, p := range ps {
		all := true
		for _, m := range cg.members {
			if m.classic != nil {
				all = all && slices.ContainsFunc(m.classic.protocols, func(c classicProtocol) bool { return c.name == p.Name })
			}
		}
		if all {
			return true
		}
	}
	return false
}

// classicMember finds the member that a classic request names, and checks its generation: that is its epoch.
func (cg *consumerGroup) classicMember(id string, instance *string, generation int32) (*consumer, int16) {
	if instance != nil {
		switch cg.static[*instance] {
		case "":
			return nil, kerr.UnknownMemberID.Code
		case id:
		default:
			return nil, kerr.FencedInstanceID.Code
		}
	}
	m := cg.members[id]
	switch {
	case m == nil || m.classic == nil:
		return nil, kerr.UnknownMemberID.Code
	case generation != m.currentValue.epoch:
		return nil, kerr.IllegalGeneration.Code
	}
	return m, 0
}

// rejoin gives a classic member its rebalance timeout to join again.
func (cg *consumerGroup) rejoin(m *consumer) int16 {
	if k := cg.clock(m.id); !k.rebalance.Armed() {
		k.rebalance.Arm(millis(m.rebalance))
	}
	return kerr.RebalanceInProgress.Code
}

// syncClassic is SyncGroup of a consumer group; the answer holds once all that was written before is durable.
func (cg *consumerGroup) syncClassic(req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	m, code := cg.classicMember(req.MemberID, req.InstanceID, req.Generation)
	if code != 0 {
		return syncError(code)
	}
	protocolType, protocol := consumerProto, m.classic.protocols[0].name
	if req.ProtocolType != nil && *req.ProtocolType != protocolType || req.Protocol != nil && *req.Protocol != protocol {
		return syncError(kerr.InconsistentGroupProtocol.Code)
	}
	if cg.epoch > m.currentValue.epoch && m.state != memberUnrevoked {
		return syncError(cg.rejoin(m))
	}
	k := cg.clock(m.id)
	k.rebalance.Disarm()
	k.session.Arm(millis(m.classic.session))
	return &kmsg.SyncGroupResponse{ProtocolType: &protocolType, Protocol: &protocol, MemberAssignment: m.classicAssignment(cg.group.state.c.host.image())}
}

// heartbeatClassic is Heartbeat of a consumer group. A member joins again when there is a new epoch, when it has to give
// up partitions, and when those that it waits for are free.
func (cg *consumerGroup) heartbeatClassic(req *kmsg.HeartbeatRequest) int16 {
	m, code := cg.classicMember(req.MemberID, req.InstanceID, req.Generation)
	if code != 0 {
		return code
	}
	cg.clock(m.id).session.Arm(millis(m.classic.session))
	if m.currentValue.epoch < cg.epoch || m.state == memberUnrevoked || m.state == memberUnreleased && !cg.waits(m) {
		return cg.rejoin(m)
	}
	return 0
}

// waits says whether somebody still holds what the member is to get.
func (cg *consumerGroup) waits(m *consumer) bool {
	for t, numbers := range cg.target[m.id] {
		for n := range numbers {
			if by, held := cg.held[topicIDPartition{t, n}]; held && by != m.id {
				return true
			}
		}
	}
	return false
}

// leaver finds the member that LeaveGroup names. Since Kafka 4.4 it may speak either protocol.
func (cg *consumerGroup) leaver(lm kmsg.LeaveGroupRequestMember) (string, int16) {
	id := lm.MemberID
	if lm.InstanceID != nil {
		current := cg.static[*lm.InstanceID]
		switch {
		case current == "":
			return "", kerr.UnknownMemberID.Code
		case id != "" && id != current:
			return "", kerr.FencedInstanceID.Code
		}
		id = current
	}
	if cg.members[id] == nil {
		return "", kerr.UnknownMemberID.Code
	}
	return id, 0
}

// leaveConsumer is LeaveGroup of a consumer group; the shard is locked, and unlocked here.
func (c *Coordinator) leaveConsumer(ctx context.Context, s *state, cg *consumerGroup, members []kmsg.LeaveGroupRequestMember, resp *kmsg.LeaveGroupResponse) {
	var ids []string
	for _, lm := range members {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = lm.MemberID, lm.InstanceID
		id, code := cg.leaver(lm)
		if rm.ErrorCode = code; code == 0 && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		resp.Members = append(resp.Members, rm)
	}
	var changes []change
	if len(ids) > 0 {
		changes = cg.remove(c.host.image(), ids...)
	}
	if code := s.wait(ctx, func(done func(error)) error { return s.write(changes, done) }); code != 0 {
		resp.ErrorCode, resp.Members = code, nil
	}
}
