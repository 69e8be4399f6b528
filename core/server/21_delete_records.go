package server

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
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
	ctx, cancel := context.WithTimeout(r.ctx, time.Duration(max(0, req.TimeoutMillis))*time.Millisecond)
	defer cancel()
	for _, t := range resp.Topics {
		for i := range t.Partitions {
			if part := &t.Partitions[i]; part.ErrorCode == 0 {
				s.awaitDeleted(ctx, t.Topic, part)
			}
		}
	}
	return resp
}

// awaitDeleted waits until no replica has what the leader has deleted.
func (s *Server) awaitDeleted(ctx context.Context, topic string, part *kmsg.DeleteRecordsResponseTopicPartition) {
	p, err := s.d.Replicas.Partition(topic, part.Partition)
	if err == nil {
		part.LowWatermark, err = p.AwaitDeleted(ctx, part.LowWatermark, func(n metadata.NodeID) bool {
			node := s.d.Controller.Image().Nodes[n]
			return node != nil && !node.Fenced
		})
	}
	switch {
	case err == nil:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		part.LowWatermark, part.ErrorCode = -1, kerr.RequestTimedOut.Code
	default:
		part.LowWatermark, part.ErrorCode = -1, codeOf(err)
	}
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
