package server

import "github.com/twmb/franz-go/pkg/kmsg"

// syncGroup is served by the group coordinator.
func (s *Server) syncGroup(r *request) kmsg.Response {
	return s.d.Groups.SyncGroup(r.ctx, r.body.(*kmsg.SyncGroupRequest))
}
