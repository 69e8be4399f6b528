package group

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/wire"
)

// leaseWait is how long an OffsetFetch waits for this node's lease: as long as the metadata quorum is without a leader for a moment.
const leaseWait = 2 * time.Second

// OffsetFetch answers with committed offsets; a partition without one has -1.
//
// A coordinator that others cannot hear any more does not know whether another one has taken over, and committed offsets since. What it has in memory is
// answered only under a lease that still holds when it has been read; else NOT_COORDINATOR, and the client looks elsewhere. (Kafka answers, until it hears of the other one.)
func (c *Coordinator) OffsetFetch(ctx context.Context, req *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	if c.lease != nil && !c.lease.Leased() {
		wait, cancel := context.WithTimeout(ctx, leaseWait)
		c.lease.AwaitLease(wait)
		cancel()
	}
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Version = req.Version
	if req.Version >= 8 {
		whole := wire.Seen[string]{}
		for i := range req.Groups {
			g := &req.Groups[i]
			if _, told := whole[g.Group]; told && g.Topics == nil {
				continue // all of its offsets once are enough
			}
			rg := c.fetchGroup(ctx, g, req.Version, req.RequireStable)
			if g.Topics == nil && rg.ErrorCode == 0 {
				whole.First(g.Group)
			}
			resp.Groups = append(resp.Groups, rg)
		}
		return resp
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics != nil {
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = t.Topic, t.Partitions
		g.Topics = append(g.Topics, gt)
	}
	rg := c.fetchGroup(ctx, &g, req.Version, req.RequireStable)
	resp.ErrorCode = rg.ErrorCode
	if req.Version < 2 && rg.ErrorCode != 0 { // there the error stands at each partition
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetFetchResponseTopic()
			rt.Topic = t.Topic
			for _, n := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseTopicPartition()
				none := ""
				rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = n, -1, -1, &none, rg.ErrorCode
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	}
	for _, t := range rg.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (c *Coordinator) fetchGroup(ctx context.Context, req *kmsg.OffsetFetchRequestGroup, version int16, requireStable bool) kmsg.OffsetFetchResponseGroup {
	resp := c.readGroup(ctx, req, version, requireStable)
	if c.lease != nil && resp.ErrorCode == 0 && !c.lease.Leased() {
		resp.Topics, resp.ErrorCode = nil, kerr.NotCoordinator.Code
	}
	return resp
}

func (c *Coordinator) readGroup(ctx context.Context, req *kmsg.OffsetFetchRequestGroup, version int16, requireStable bool) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = req.Group
	s, code := c.lock(ctx, req.Group)
	if code != 0 {
		resp.ErrorCode = code
		return resp
	}
	defer s.unlock()
	if g := s.groups[req.Group]; g != nil && g.consumer != nil {
		if resp.ErrorCode = g.consumer.mayFetch(req.MemberID, req.MemberEpoch); resp.ErrorCode != 0 {
			return resp
		}
	}
	topics := req.Topics
	if topics == nil {
		topics = s.committedTopics(req.Group, version >= 10)
	}
	for _, t := range topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		name, id, code := c.resolve(t.Topic, t.TopicID, version >= 10)
		if version < 10 {
			code = 0 // a topic that is gone has no offsets; that is no error
		}
		for _, n := range t.Partitions {
			rp := s.fetch(groupPartition{req.Group, topicPartition{name, n}}, id, requireStable)
			if code != 0 {
				rp.ErrorCode = code
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *state) fetch(k groupPartition, topicID [16]byte, requireStable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	metadata := ""
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = k.partition, -1, -1, &metadata
	if requireStable && s.unstable(k) {
		rp.ErrorCode = kerr.UnstableOffsetCommit.Code
		return rp
	}
	g := s.groups[k.group]
	if g == nil {
		return rp
	}
	if o := g.offsets[k.topicPartition]; o != nil && !stale(o, topicID) {
		metadata = o.metadata
		rp.Offset, rp.LeaderEpoch = o.offset, o.leaderEpoch
	}
	return rp
}

// stale says whether an offset was committed for a topic that is gone: that there is none of its name (a zero id) or another one. This node's
// Image is no older than the one by which the commit was taken: it has this node as the coordinator.
func stale(o *offset, topicID [16]byte) bool {
	return o.topicID != [16]byte{} && o.topicID != topicID
}

// idOf is the topic's id; zero: there is none of that name.
func idOf(image *metadata.Image, topic string) metadata.TopicID {
	if t := image.Topics[topic]; t != nil {
		return t.ID
	}
	return metadata.TopicID{}
}

// committedTopics is everything that a group has committed, for a client that asks for all.
func (s *state) committedTopics(group string, byID bool) []kmsg.OffsetFetchRequestGroupTopic {
	g := s.groups[group]
	if g == nil {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(g.offsets), func(a, b topicPartition) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	var out []kmsg.OffsetFetchRequestGroupTopic
	image := s.c.host.image()
	for _, k := range keys {
		id := idOf(image, k.topic)
		if stale(g.offsets[k], id) || byID && id == [16]byte{} {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Topic != k.topic {
			rt := kmsg.NewOffsetFetchRequestGroupTopic()
			rt.Topic, rt.TopicID = k.topic, id
			out = append(out, rt)
		}
		last := &out[len(out)-1]
		last.Partitions = append(last.Partitions, k.partition)
	}
	return out
}
