package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// DeleteRecords (key 21), versions 0–2 (KIP-107).

func (s *Server) deleteRecords(r *request) kmsg.Response {
	req := r.body.(*kmsg.DeleteRecordsRequest)
	resp := kmsg.NewPtrDeleteRecordsResponse()
	for _, t := range req.Topics {
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = t.Topic
		for _, want := range t.Partitions {
			part := kmsg.NewDeleteRecordsResponseTopicPartition()
			part.Partition, part.LowWatermark = want.Partition, -1
			p, err := s.d.Replicas.Partition(t.Topic, want.Partition)
			if err == nil {
				err = s.mayDeleteRecords(t.Topic)
			}
			if err == nil {
				part.LowWatermark, err = p.DeleteBefore(want.Offset)
			}
			if err != nil {
				part.LowWatermark = -1
				s.unexpected("delete records failed", err, "topic", t.Topic, "partition", want.Partition)
			}
			part.ErrorCode = codeOf(err)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// mayDeleteRecords protects what only compaction may take away: the coordinators' state, and topics that keep the
// last record of every key.
func (s *Server) mayDeleteRecords(topic string) error {
	if controller.Internal(topic) {
		return refuse(kerr.InvalidTopicException, "the records of an internal topic are not deleted by hand")
	}
	if log := s.d.Controller.Settings(s.d.Controller.Image(), topic).Log; log.Compact && !log.Delete {
		return refuse(kerr.PolicyViolation, "cleanup.policy of the topic does not delete")
	}
	return nil
}
