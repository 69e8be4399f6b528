package server

import "github.com/twmb/franz-go/pkg/kmsg"

// offsetCommit is served by the group coordinator.
func (s *Server) offsetCommit(r *request) kmsg.Response {
	return s.d.Groups.OffsetCommit(r.ctx, r.body.(*kmsg.OffsetCommitRequest))
}
