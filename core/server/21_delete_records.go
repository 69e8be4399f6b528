package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"
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
