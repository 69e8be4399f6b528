package group

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/wire"
)

// ConsumerGroupDescribe shows consumer groups with their members; of a classic group Java's Admin is told
// GROUP_ID_NOT_FOUND here and goes on to DescribeGroups.
func (c *Coordinator) ConsumerGroupDescribe(ctx context.Context, req *kmsg.ConsumerGroupDescribeRequest) *kmsg.ConsumerGroupDescribeResponse {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	resp.Version = req.Version
	seen := wire.Seen[string]{}
	for _, id := range req.Groups {
		if !seen.First(id) {
			continue
		}
		rg := kmsg.NewConsumerGroupDescribeResponseGroup()
		rg.Group, rg.Members = id, []kmsg.ConsumerGroupDescribeResponseGroupMember{}
		refuse := func(code int16, message string) {
			rg.ErrorCode = code
			if message != "" {
				rg.ErrorMessage = &message
			}
		}
		s, code := c.lock(ctx, id)
		switch {
		case id == "":
			refuse(kerr.InvalidGroupID.Code, "")
		case code != 0:
			refuse(code, "")
		case s.groups[id] == nil:
			refuse(kerr.GroupIDNotFound.Code, fmt.Sprintf("Group %s not found.", id))
		case s.groups[id].consumer == nil:
			refuse(kerr.GroupIDNotFound.Code, fmt.Sprintf("Group %s is not a consumer group.", id))
		default:
			s.groups[id].consumer.describe(&rg, c.host.image())
			if req.IncludeAuthorizedOperations {
				rg.AuthorizedOperations = groupOperations
			}
		}
		if code == 0 {
			// What is shown has been written; it is told once it is durable.
			code = s.wait(ctx, func(done func(error)) error { s.shard.Settled(done); return nil })
			if code != 0 {
				rg = kmsg.NewConsumerGroupDescribeResponseGroup()
				rg.Group, rg.ErrorCode = id, code
			}
		}
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

func (cg *consumerGroup) describe(rg *kmsg.ConsumerGroupDescribeResponseGroup, im *metadata.Image) {
	rg.State, rg.Epoch, rg.AssignmentEpoch, rg.AssignorName = string(cg.phase()), cg.epoch, cg.assignmentEpoch, assignor(cg.members)
	for _, id := range slices.Sorted(maps.Keys(cg.members)) {
		m := cg.members[id]
		rm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.RackID, rm.MemberEpoch = m.id, m.instance, m.rack, m.currentValue.epoch
		rm.ClientID, rm.ClientHost = m.client.ID, m.client.Host
		rm.SubscribedTopics, rm.SubscribedTopicRegex = m.topics, m.regex
		rm.Assignment, rm.TargetAssignment = named(m.holds(), im), named(cg.target[id], im)
		if m.regex == nil {
			rm.SubscribedTopicRegex = new(string)
		}
		rm.MemberType = 1
		if m.classic != nil {
			rm.MemberType = 0
		}
		rg.Members = append(rg.Members, rm)
	}
}

// holds are the partitions that a member has: what it must still give up too.
func (m *consumer) holds() parts {
	if len(m.revoking) == 0 {
		return m.assigned
	}
	p := m.assigned.clone()
	for t, numbers := range m.revoking {
		for n, since := range numbers {
			p.add(t, n, since)
		}
	}
	return p
}

// named are partitions with the names of their topics, as far as these exist.
func named(p parts, im *metadata.Image) kmsg.Assignment {
	a := kmsg.NewAssignment()
	a.TopicPartitions = []kmsg.AssignmentTopicPartition{}
	for _, id := range p.topics() {
		if t := im.TopicIDs[id]; t != nil {
			tp := kmsg.NewAssignmentTopicPartition()
			tp.TopicID, tp.Topic, tp.Partitions = id, t.Name, p.numbers(id)
			a.TopicPartitions = append(a.TopicPartitions, tp)
		}
	}
	return a
}

// subscribes says whether a member reads the topic.
func (cg *consumerGroup) subscribes(topic string) bool {
	for _, m := range cg.members {
		if slices.Contains(m.topics, topic) || m.regex != nil && slices.Contains(cg.regexes[*m.regex].topics, topic) {
			return true
		}
	}
	return false
}

// mayCommit checks a commit's member epoch. A commit with an earlier epoch counts for partitions that the member has
// held since then (KIP-1251): nobody else can have read them meanwhile.
func (cg *consumerGroup) mayCommit(w commitWish, items []commitItem) int16 {
	if w.generation < 0 && len(cg.members) == 0 {
		return 0
	}
	if w.producer != nil && w.generation == -1 && w.member == "" && w.instance == nil {
		return 0 // a producer that says the group alone (sendOffsetsToTransaction before KIP-447): its own epoch is what fences it
	}
	m := cg.members[w.member]
	if m == nil {
		return kerr.UnknownMemberID.Code
	}
	if w.producer == nil && m.classic == nil && w.version < 9 {
		return kerr.UnsupportedVersion.Code
	}
	now := m.currentValue.epoch
	if w.generation == now {
		return 0
	}
	if m.classic != nil || w.producer != nil {
		if w.producer != nil && m.classic == nil && w.generation < now && m.since(items, w.generation) {
			return 0
		}
		if w.newer && m.classic == nil {
			return kerr.StaleMemberEpoch.Code
		}
		return kerr.IllegalGeneration.Code
	}
	if w.generation > now || !m.since(items, w.generation) {
		return kerr.StaleMemberEpoch.Code
	}
	return 0
}

// since says whether the member has held all the partitions since an epoch.
func (m *consumer) since(items []commitItem, epoch int32) bool {
	for _, it := range items {
		at, ok := m.assigned[it.topicID][it.partition]
		if !ok {
			at, ok = m.revoking[it.topicID][it.partition]
		}
		if it.code == 0 && (!ok || epoch < at) {
			return false
		}
	}
	return true
}

// mayFetch checks the member that an OffsetFetch names, from v9 on.
func (cg *consumerGroup) mayFetch(member *string, epoch int32) int16 {
	if member == nil && epoch < 0 {
		return 0
	}
	if member == nil || cg.members[*member] == nil {
		return kerr.UnknownMemberID.Code
	}
	if m := cg.members[*member]; m.currentValue.epoch != epoch {
		if m.classic != nil {
			return kerr.IllegalGeneration.Code
		}
		return kerr.StaleMemberEpoch.Code
	}
	return 0
}
