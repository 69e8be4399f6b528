package server

import "github.com/twmb/franz-go/pkg/kmsg"

// leaveGroup is served by the group coordinator.
func (s *Server) leaveGroup(r *request) kmsg.Response {
	return s.d.Groups.LeaveGroup(r.ctx, r.body.(*kmsg.LeaveGroupRequest))
}
