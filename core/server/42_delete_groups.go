package server

import "github.com/twmb/franz-go/pkg/kmsg"

// deleteGroups is served by the group coordinator.
func (s *Server) deleteGroups(r *request) kmsg.Response {
	return s.d.Groups.DeleteGroups(r.ctx, r.body.(*kmsg.DeleteGroupsRequest))
}
