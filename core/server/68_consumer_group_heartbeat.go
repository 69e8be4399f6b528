package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/group"
)

// consumerGroupHeartbeat is served by the group coordinator (KIP-848).
func (s *Server) consumerGroupHeartbeat(r *request) kmsg.Response {
	return s.d.Groups.ConsumerGroupHeartbeat(r.ctx, r.body.(*kmsg.ConsumerGroupHeartbeatRequest), group.Client{ID: r.clientID, Host: r.clientHost})
}
