package server

import "github.com/twmb/franz-go/pkg/kmsg"

// heartbeat is served by the group coordinator.
func (s *Server) heartbeat(r *request) kmsg.Response {
	return s.d.Groups.Heartbeat(r.ctx, r.body.(*kmsg.HeartbeatRequest))
}
