package group

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/wire"
)

// authorizedUnknown is the value of authorized operations that were not asked for.
const authorizedUnknown = -1 << 31

// groupOperations is what anybody may do with a group while there are no ACLs: READ (3), DELETE (6), DESCRIBE (8),
// DESCRIBE_CONFIGS (10), ALTER_CONFIGS (11), as bits.
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

// DescribeGroups shows groups with their members.
func (c *Coordinator) DescribeGroups(ctx context.Context, req *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Version = req.Version
	seen := wire.Seen[string]{}
	for _, id := range req.Groups {
		if !seen.First(id) {
			continue
		}
		rg := kmsg.NewDescribeGroupsResponseGroup()
		rg.Group, rg.AuthorizedOperations = id, authorizedUnknown
		if req.IncludeAuthorizedOperations {
			rg.AuthorizedOperations = groupOperations
		}
		s, code := c.lock(ctx, id)
		if code != 0 {
			rg.ErrorCode = code
			resp.Groups = append(resp.Groups, rg)
			continue
		}
		if g := s.groups[id]; g != nil && g.consumer == nil {
			g.describe(&rg)
		} else {
			rg.State = string(dead)
			if req.Version >= 6 { // KIP-1043
				rg.ErrorCode = kerr.GroupIDNotFound.Code
				m := fmt.Sprintf("Group %s not found.", id)
				if g != nil {
					m = fmt.Sprintf("Group %s is not a classic group.", id)
				}
				rg.ErrorMessage = &m
			}
		}
		s.unlock()
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

func (g *group) describe(rg *kmsg.DescribeGroupsResponseGroup) {
	rg.State, rg.ProtocolType = string(g.phase), g.protocolType
	if g.phase == stable {
		rg.Protocol = g.protocol
	}
	for _, m := range g.sorted() {
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		if g.phase == stable {
			rm.ProtocolMetadata, rm.MemberAssignment = m.metadata(g.protocol), m.assignment
		}
		rg.Members = append(rg.Members, rm)
	}
}

// ListGroups lists the groups that are coordinated here.
func (c *Coordinator) ListGroups(req *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse {
	resp := kmsg.NewPtrListGroupsResponse()
	resp.Version = req.Version
	in := func(list []string) func(string) bool {
		set := wire.Seen[string]{}
		for _, v := range list {
			set.First(strings.ToLower(v))
		}
		return func(s string) bool {
			_, named := set[strings.ToLower(s)]
			return named || len(list) == 0
		}
	}
	wantState, wantType := in(req.StatesFilter), in(req.TypesFilter)
	loading := c.keeper.Each(func(s *statelog.Shard) {
		for _, g := range s.State.(*state).groups {
			kind, protocol := "classic", g.protocolType
			if g.consumer != nil {
				kind, protocol = "consumer", "consumer"
			}
			state := string(g.shown())
			if !wantState(state) || !wantType(kind) {
				continue
			}
			rg := kmsg.NewListGroupsResponseGroup()
			rg.Group, rg.ProtocolType, rg.GroupState, rg.GroupType = g.id, protocol, state, kind
			resp.Groups = append(resp.Groups, rg)
		}
	})
	if loading {
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
	}
	return resp
}

// DeleteGroups removes groups without members, with their offsets.
func (c *Coordinator) DeleteGroups(ctx context.Context, req *kmsg.DeleteGroupsRequest) *kmsg.DeleteGroupsResponse {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Version = req.Version
	for _, id := range req.Groups {
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group, rg.ErrorCode = id, c.deleteGroup(ctx, id)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

func (c *Coordinator) deleteGroup(ctx context.Context, id string) int16 {
	s, code := c.lock(ctx, id)
	if code != 0 {
		return code
	}
	g := s.groups[id]
	if g == nil {
		s.unlock()
		return kerr.GroupIDNotFound.Code
	}
	if g.shown() != empty {
		s.unlock()
		return kerr.NonEmptyGroup.Code
	}
	keys := make([]topicPartition, 0, len(g.offsets))
	for k := range g.offsets {
		keys = append(keys, k)
	}
	// What open transactions have written goes too: their later commit must not bring the group back.
	for producer := range g.open {
		for k := range s.pending[producer] {
			if k.group == id && g.offsets[k.topicPartition] == nil {
				keys = append(keys, k.topicPartition)
			}
		}
	}
	return s.wait(ctx, func(done func(error)) error { return s.remove(g, keys, true, done) })
}

// OffsetDelete removes committed offsets of topics that the group does not read.
func (c *Coordinator) OffsetDelete(ctx context.Context, req *kmsg.OffsetDeleteRequest) *kmsg.OffsetDeleteResponse {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version = req.Version
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return resp
	}
	s, code := c.lock(ctx, req.Group)
	if code != 0 {
		resp.ErrorCode = code
		return resp
	}
	g := s.groups[req.Group]
	if g == nil || g.consumer == nil && g.phase != empty && g.protocolType != "consumer" {
		resp.ErrorCode = kerr.GroupIDNotFound.Code
		if g != nil {
			resp.ErrorCode = kerr.NonEmptyGroup.Code
		}
		s.unlock()
		return resp
	}
	var keys []topicPartition
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition = p.Partition
			k := topicPartition{t.Topic, p.Partition}
			switch {
			case c.known(t.Topic, p.Partition) != 0 && g.offsets[k] == nil:
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case g.subscribes(t.Topic):
				rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			case g.offsets[k] != nil:
				keys = append(keys, k)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	resp.ErrorCode = s.wait(ctx, func(done func(error)) error { return s.remove(g, keys, false, done) })
	return resp
}

// wait runs start with the lock held, unlocks, and waits for done.
func (s *state) wait(ctx context.Context, start func(done func(error)) error) int16 {
	outcome := make(chan error, 1)
	err := start(func(err error) { outcome <- err })
	s.unlock()
	if err != nil {
		return codeOf(err)
	}
	select {
	case err := <-outcome:
		return codeOf(err)
	case <-ctx.Done():
		return codeOf(ctx.Err())
	}
}

// removedBytes is about how large a batch of tombstones becomes: well below max.message.bytes, however many offsets go.
const removedBytes = 256 << 10

// remove writes tombstones for offsets, and for the group itself when whole; done is called once they are durable. An error means that done
// will not be called: some of the offsets may go all the same.
func (s *state) remove(g *group, keys []topicPartition, whole bool, done func(error)) error {
	const rest = metadata.MaxTopicName + 64 // what a record has beside the group's name
	for few := max(1, removedBytes/(len(g.id)+rest)); len(keys) > few; keys = keys[few:] {
		if err := s.removeFew(g, keys[:few], false, func(error) {}); err != nil {
			return err
		}
	}
	return s.removeFew(g, keys, whole, done)
}

// removeFew is remove of what goes into one batch.
func (s *state) removeFew(g *group, keys []topicPartition, whole bool, done func(error)) error {
	var records []statelog.Record
	for _, k := range keys {
		records = append(records, offsetRecord(g.id, k.topic, k.partition, nil))
	}
	if whole && g.stored {
		records = append(records, groupTombstone(g.id))
	}
	if whole && g.consumer != nil {
		for _, c := range g.consumer.tombstones() {
			records = append(records, c.record())
		}
	}
	apply := func() {
		for _, k := range keys {
			s.forget(groupPartition{g.id, k})
		}
		// A commit or a join may have come while the tombstones were on their way: then the group lives on.
		if whole && g.shown() == empty && len(g.offsets) == 0 && len(g.pending) == 0 {
			g.phase = dead
			g.join.Disarm()
			for producer := range g.open {
				for k := range s.pending[producer] {
					if k.group == g.id {
						delete(s.pending[producer], k)
					}
				}
			}
			if s.groups[g.id] == g {
				delete(s.groups, g.id)
			}
		}
	}
	if len(records) == 0 {
		apply()
		done(nil)
		return nil
	}
	return s.shard.Append(statelog.NoProducer, records, func(_ int64, err error) {
		if err == nil {
			apply()
		}
		done(err)
	})
}

// expire removes offsets that have outlived their retention, offsets of topics that are gone, and groups with nothing
// left (KIP-211). An offset that is being committed anew stays: the old one's end would lie behind the new one in the log.
func (s *state) expire() {
	s.expiry.Arm(s.c.o.ExpiryInterval)
	now := s.c.keeper.Now().UnixMilli()
	image := s.c.host.image()
	var failed int
	var why error
	for _, g := range s.groups {
		var keys []topicPartition
		for k, o := range g.offsets {
			key := groupPartition{g.id, k}
			if (stale(o, idOf(image, k.topic)) || g.expired(o, k.topic, now)) && !s.unstable(key) && s.writing[key] == 0 {
				keys = append(keys, k)
			}
		}
		whole := len(keys) == len(g.offsets) && len(g.open) == 0 && len(g.pending) == 0 && g.shown() == empty && !s.beingWritten(g.id)
		if len(keys) == 0 && !whole {
			continue
		}
		if err := s.remove(g, keys, whole, func(error) {}); err != nil {
			failed, why = failed+1, err // those of the other groups may go
		}
	}
	if failed > 0 && !s.shard.Dead() {
		s.c.log.Warn("expired offsets were not removed", "groups", failed, "error", why)
	}
}

// expired says whether an offset's time is over: counted from when the group became empty, or for a name without
// members from the commit, or while a consumer group does not read the topic, from the commit too.
func (g *group) expired(o *offset, topic string, now int64) bool {
	retention := g.state.c.o.OffsetRetention.Milliseconds()
	switch {
	case g.consumer != nil:
		return now-o.time >= retention && !g.consumer.subscribes(topic)
	case o.expires >= 0:
		return g.phase == empty && now >= o.expires
	case g.protocolType == "":
		return now-o.time >= retention
	case g.phase == empty:
		return now-max(g.since, o.time) >= retention
	case g.protocolType == "consumer" && g.phase == stable:
		return now-o.time >= retention && !g.subscribes(topic)
	}
	return false
}
