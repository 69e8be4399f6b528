package server

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/partition"
)

// ListOffsets (key 2), versions 1–11. v7 max timestamp (KIP-734), v8 earliest
// local (KIP-405), v9 latest tiered (KIP-1005), v11 earliest pending upload (KIP-1023).

// Timestamps with a meaning of their own, and the version that brought each.
const (
	tsMaxTimestamp    = -3
	tsEarliestLocal   = -4
	tsLatestTiered    = -5
	tsEarliestPending = -6
)

// readCommitted is the isolation level of Fetch and ListOffsets that bounds a reader by the last stable offset.
const readCommitted = 1

// listOffsets answers once for each partition. Like Kafka's ListOffsetsRequest.duplicatePartitions.
func (s *Server) listOffsets(r *request) kmsg.Response {
	req := r.body.(*kmsg.ListOffsetsRequest)
	resp := kmsg.NewPtrListOffsetsResponse()
	if req.IsolationLevel < 0 || req.IsolationLevel > readCommitted {
		for _, t := range req.Topics {
			out := listedTopic(resp, t.Topic)
			for _, p := range t.Partitions {
				out.Partitions = append(out.Partitions, listedOffset(p.Partition, kerr.UnknownServerError))
			}
		}
		return resp
	}
	times := map[topicPartition]int{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			times[topicPartition{t.Topic, p.Partition}]++
		}
	}
	topics := map[string]int{}
	for _, t := range req.Topics {
		if len(t.Partitions) == 0 {
			continue
		}
		at, again := topics[t.Topic]
		if !again {
			at = len(resp.Topics)
			topics[t.Topic] = at
			listedTopic(resp, t.Topic)
		}
		out := &resp.Topics[at]
		for i := range t.Partitions {
			want := &t.Partitions[i]
			switch n := times[topicPartition{t.Topic, want.Partition}]; {
			case n == 0: // answered
			case n > 1:
				times[topicPartition{t.Topic, want.Partition}] = 0
				out.Partitions = append(out.Partitions, listedOffset(want.Partition, kerr.InvalidRequest))
			default:
				part := listedOffset(want.Partition, nil)
				err := s.listOffset(req, t.Topic, want, &part)
				part.ErrorCode = codeOf(err)
				s.unexpected("list offsets failed", err, "topic", t.Topic, "partition", part.Partition)
				out.Partitions = append(out.Partitions, part)
			}
		}
	}
	return resp
}

// topicPartition names a partition.
type topicPartition struct {
	topic  string
	number int32
}

func listedTopic(resp *kmsg.ListOffsetsResponse, name string) *kmsg.ListOffsetsResponseTopic {
	out := kmsg.NewListOffsetsResponseTopic()
	out.Topic = name
	resp.Topics = append(resp.Topics, out)
	return &resp.Topics[len(resp.Topics)-1]
}

// listedOffset is an answer without an offset.
func listedOffset(number int32, err error) kmsg.ListOffsetsResponseTopicPartition {
	part := kmsg.NewListOffsetsResponseTopicPartition()
	part.Partition, part.ErrorCode = number, codeOf(err)
	part.Offset, part.Timestamp, part.LeaderEpoch = -1, -1, -1
	return part
}

func (s *Server) listOffset(req *kmsg.ListOffsetsRequest, topic string, want *kmsg.ListOffsetsRequestTopicPartition, out *kmsg.ListOffsetsResponseTopicPartition) error {
	v, ts := req.Version, want.Timestamp
	switch {
	case ts == tsMaxTimestamp && v < 7, ts == tsEarliestLocal && v < 8, ts == tsLatestTiered && v < 9,
		ts == tsEarliestPending && v < 11, ts < tsEarliestPending:
		return kerr.UnsupportedVersion
	}
	p, err := s.d.Replicas.Partition(topic, want.Partition)
	switch {
	case err != nil:
		return err
	case ts == tsEarliestPending:
		return nil // no tiered storage: nothing is pending
	}
	bound := partition.ToWatermark
	switch {
	case req.ReplicaID != -1: // no consumer
		bound = partition.ToEnd
	case req.IsolationLevel == readCommitted:
		bound = partition.ToStable
	}
	out.Offset, out.Timestamp, out.LeaderEpoch, err = p.ListOffset(ts, want.CurrentLeaderEpoch, bound)
	if err != nil {
		out.Offset, out.Timestamp, out.LeaderEpoch = -1, -1, -1
	}
	if v < 5 && errors.Is(err, partition.ErrNotYet) {
		return kerr.LeaderNotAvailable // KIP-207: older clients do not know the other
	}
	return err
}
