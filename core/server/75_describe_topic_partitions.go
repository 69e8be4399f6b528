package server

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// DescribeTopicPartitions (key 75), version 0: metadata in pages (KIP-966).

// maxDescribedPartitions bounds a page. Like max.request.partition.size.limit.
const maxDescribedPartitions = 2000

func (s *Server) describeTopicPartitions(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeTopicPartitionsRequest)
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	if badCursor(req) {
		for _, t := range req.Topics {
			out := kmsg.NewDescribeTopicPartitionsResponseTopic()
			out.Topic, out.ErrorCode, out.AuthorizedOperations = &t.Topic, kerr.InvalidRequest.Code, opsUnknown
			resp.Topics = append(resp.Topics, out)
		}
		return resp
	}
	img := s.d.Controller.Image()
	var names []string
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(img.Topics))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	left := max(1, min(int(req.ResponsePartitionLimit), maxDescribedPartitions)) // an answer without any would never end
	for _, name := range names {
		from := int32(0)
		if cur := req.Cursor; cur != nil {
			if name < cur.Topic {
				continue
			}
			if name == cur.Topic {
				from = max(cur.Partition, 0)
			}
		}
		if left <= 0 {
			resp.NextCursor = nextPage(name, from)
			return resp
		}
		t := img.Topics[name]
		if t == nil {
			resp.Topics = append(resp.Topics, unknownTopic(name))
			continue
		}
		to := min(int(from)+left, len(t.Partitions))
		resp.Topics = append(resp.Topics, describedTopic(img, t, int(from), to))
		left -= max(to-int(from), 0)
		if to < len(t.Partitions) {
			resp.NextCursor = nextPage(name, int32(to))
			return resp
		}
	}
	return resp
}

// badCursor says that a page cannot begin there. Like Kafka's DescribeTopicPartitionsRequestHandler.
func badCursor(req *kmsg.DescribeTopicPartitionsRequest) bool {
	cur := req.Cursor
	return cur != nil && (cur.Partition < 0 || len(req.Topics) > 0 &&
		!slices.ContainsFunc(req.Topics, func(t kmsg.DescribeTopicPartitionsRequestTopic) bool { return t.Topic == cur.Topic }))
}

func nextPage(topic string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, partition
	return &c
}

func unknownTopic(name string) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.AuthorizedOperations = &name, opsTopic
	out.ErrorCode = kerr.UnknownTopicOrPartition.Code
	if metadata.ValidateTopicName(name) != nil {
		out.ErrorCode = kerr.InvalidTopicException.Code
	}
	return out
}

func describedTopic(img *metadata.Image, t *metadata.Topic, from, to int) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, t.Internal
	out.AuthorizedOperations = opsTopic
	for n := from; n < to; n++ {
		p := t.Partitions[n]
		part := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		part.Partition, part.LeaderEpoch = p.Number, int32(p.LeaderEpoch)
		part.LeaderID, part.ErrorCode = leaderOf(img, p)
		part.Replicas, part.ISR = nodeIDs(p.Replicas), nodeIDs(p.ISR)
		part.EligibleLeaderReplicas, part.LastKnownELR = nodeIDs(p.ELR), nodeIDs(p.LastKnownELR)
		part.OfflineReplicas = offline(img, p)
		out.Partitions = append(out.Partitions, part)
	}
	return out
}
