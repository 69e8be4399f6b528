package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/group"
)

// consumerGroupHeartbeat is served by the group coordinator (KIP-848). A regular expression stands for the topics among its matches that
// the member may describe.
func (s *Server) consumerGroupHeartbeat(r *request) kmsg.Response {
	return s.d.Groups.ConsumerGroupHeartbeat(r.ctx, r.body.(*kmsg.ConsumerGroupHeartbeatRequest), group.Client{ID: r.clientID, Host: r.clientHost},
		func(topic string) bool { return r.may(auth.Describe, auth.Topic, topic) })
}
