package server

import "github.com/twmb/franz-go/pkg/kmsg"

// listGroups lists the groups that this node coordinates.
func (s *Server) listGroups(r *request) kmsg.Response {
	return s.d.Groups.ListGroups(r.body.(*kmsg.ListGroupsRequest))
}
