package server

import "github.com/twmb/franz-go/pkg/kmsg"

// consumerGroupDescribe is served by the group coordinator (KIP-848).
func (s *Server) consumerGroupDescribe(r *request) kmsg.Response {
	return s.d.Groups.ConsumerGroupDescribe(r.ctx, r.body.(*kmsg.ConsumerGroupDescribeRequest))
}
