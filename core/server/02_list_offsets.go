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

func (s *Server) listOffsets(r *request) kmsg.Response {
	req := r.body.(*kmsg.ListOffsetsRequest)
	resp := kmsg.NewPtrListOffsetsResponse()
	for _, t := range req.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		for i := range t.Partitions {
			part := kmsg.NewListOffsetsResponseTopicPartition()
			part.Partition = t.Partitions[i].Partition
			part.Offset, part.Timestamp, part.LeaderEpoch = -1, -1, -1
			err := s.listOffset(req, t.Topic, &t.Partitions[i], &part)
			part.ErrorCode = codeOf(err)
			s.unexpected("list offsets failed", err, "topic", t.Topic, "partition", part.Partition)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (s *Server) listOffset(req *kmsg.ListOffsetsRequest, topic string, want *kmsg.ListOffsetsRequestTopicPartition, out *kmsg.ListOffsetsResponseTopicPartition) error {
	p, err := s.d.Replicas.Partition(topic, want.Partition)
	if err != nil {
		return err
	}
	v, ts := req.Version, want.Timestamp
	switch {
	case ts == tsMaxTimestamp && v < 7, ts == tsEarliestLocal && v < 8, ts == tsLatestTiered && v < 9,
		ts == tsEarliestPending && v < 11, ts < tsEarliestPending:
		return kerr.UnsupportedVersion
	case ts == tsEarliestPending:
		return nil // no tiered storage: nothing is pending
	}
	out.Offset, out.Timestamp, out.LeaderEpoch, err = p.ListOffset(ts, want.CurrentLeaderEpoch, req.IsolationLevel == 1)
	if err != nil {
		out.Offset, out.Timestamp, out.LeaderEpoch = -1, -1, -1
	}
	if v < 5 && errors.Is(err, partition.ErrNotYet) {
		return kerr.LeaderNotAvailable // KIP-207: older clients do not know the other
	}
	return err
}
