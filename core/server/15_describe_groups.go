package server

import "github.com/twmb/franz-go/pkg/kmsg"

// describeGroups is served by the group coordinator.
func (s *Server) describeGroups(r *request) kmsg.Response {
	return s.d.Groups.DescribeGroups(r.ctx, r.body.(*kmsg.DescribeGroupsRequest))
}
