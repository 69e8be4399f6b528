package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/partition"
)

// OffsetForLeaderEpoch (key 23), versions 2–4: a consumer or follower learns
// where its log was cut (KIP-101, KIP-279, KIP-320).

func (s *Server) offsetForLeaderEpoch(r *request) kmsg.Response {
	req := r.body.(*kmsg.OffsetForLeaderEpochRequest)
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	for _, t := range req.Topics {
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		for _, want := range t.Partitions {
			part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			part.Partition, part.LeaderEpoch, part.EndOffset = want.Partition, -1, -1
			p, err := s.d.Replicas.Partition(t.Topic, want.Partition)
			if err == nil {
				err = leads(p, want.CurrentLeaderEpoch)
			}
			if err == nil {
				part.LeaderEpoch, part.EndOffset = p.Log().EpochEnd(want.LeaderEpoch)
			}
			s.unexpected("offset for leader epoch failed", err, "topic", t.Topic, "partition", want.Partition)
			part.ErrorCode = codeOf(err)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// leads says why not, when this node does not lead p in the epoch that a client knows.
func leads(p *partition.Partition, epoch int32) error {
	leading, current := p.Leader()
	switch {
	case !leading:
		return partition.ErrNotLeader
	case epoch == partition.AnyEpoch || epoch == current:
		return nil
	case epoch < current:
		return partition.ErrFencedEpoch
	default:
		return partition.ErrUnknownEpoch
	}
}
