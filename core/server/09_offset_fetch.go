package server

import "github.com/twmb/franz-go/pkg/kmsg"

// offsetFetch is served by the group coordinator.
func (s *Server) offsetFetch(r *request) kmsg.Response {
	return s.d.Groups.OffsetFetch(r.ctx, r.body.(*kmsg.OffsetFetchRequest))
}
