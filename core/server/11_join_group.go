package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/group"
)

// joinGroup is served by the group coordinator; it blocks until the rebalance is over.
func (s *Server) joinGroup(r *request) kmsg.Response {
	return s.d.Groups.JoinGroup(r.ctx, r.body.(*kmsg.JoinGroupRequest), group.Client{ID: r.clientID, Host: r.clientHost})
}
