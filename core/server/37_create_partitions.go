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
	limit := s.mutations(r, req.Version >= 3)
	img := s.d.Controller.Image()
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
		} else if known := img.Topics[t.Topic]; known != nil && !limit.take(max(0, int(t.Count)-len(known.Partitions))) {
			err = refuse(kerr.ThrottlingQuotaExceeded, "The throttling quota has been exceeded.")
		} else {
			err = s.d.Controller.CreatePartitions(ctx, t.Topic, t.Count, assignment, req.ValidateOnly)
		}
		seen[t.Topic] = true
		s.unexpected("create partitions failed", err, "topic", t.Topic)
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Topics = append(resp.Topics, out)
	}
	resp.ThrottleMillis = limit.millis()
	return resp
}
