package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
)

// AlterPartitionReassignments (key 45), versions 0–1 (KIP-455). v1 can ask for the number of replicas to stay (KIP-860).

func (s *Server) alterPartitionReassignments(r *request) kmsg.Response {
	req := r.body.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	ctx, cancel := adminContext(r.ctx, req.TimeoutMillis)
	defer cancel()
	var wishes []controller.Reassignment
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			w := controller.Reassignment{Topic: t.Topic, Number: p.Partition}
			if p.Replicas != nil {
				w.Replicas = make([]metadata.NodeID, len(p.Replicas))
			}
			for k, id := range p.Replicas {
				w.Replicas[k] = metadata.NodeID(id)
			}
			wishes = append(wishes, w)
		}
	}
	errs := s.d.Controller.Reassign(ctx, wishes, !req.AllowReplicationFactorChange)
	for _, t := range req.Topics {
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			err := errs[0]
			errs = errs[1:]
			s.unexpected("reassignment failed", err, "topic", t.Topic, "partition", p.Partition)
			part := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			part.Partition, part.ErrorCode, part.ErrorMessage = p.Partition, codeOf(err), messageOf(err)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
