package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// CreatePartitions (key 37), versions 0–3 (KIP-195).

func (s *Server) createPartitions(r *request) kmsg.Response {
	req := r.body.(*kmsg.CreatePartitionsRequest)
	resp := kmsg.NewPtrCreatePartitionsResponse()
	ctx, cancel := adminContext(r.ctx, req.TimeoutMillis)
	defer cancel()
	seen := map[string]bool{}
	for _, t := range req.Topics {
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = t.Topic
		var assignment [][]metadata.NodeID
		for _, a := range t.Assignment {
			var nodes []metadata.NodeID
			for _, id := range a.Replicas {
				nodes = append(nodes, metadata.NodeID(id))
			}
			assignment = append(assignment, nodes)
		}
		var err error
		if seen[t.Topic] {
			err = refuse(kerr.InvalidRequest, "the request names this topic more than once")
		} else {
			err = s.d.Controller.CreatePartitions(ctx, t.Topic, t.Count, assignment, req.ValidateOnly)
		}
		seen[t.Topic] = true
		s.unexpected("create partitions failed", err, "topic", t.Topic)
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
