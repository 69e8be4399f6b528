package server

import "github.com/twmb/franz-go/pkg/kmsg"

// offsetDelete is served by the group coordinator.
func (s *Server) offsetDelete(r *request) kmsg.Response {
	return s.d.Groups.OffsetDelete(r.ctx, r.body.(*kmsg.OffsetDeleteRequest))
}
