package server

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerGroupDescribe finds none: groups of KIP-848 are not served. Java's Admin asks here first, also for classic groups,
// and goes on to DescribeGroups when it is told GROUP_ID_NOT_FOUND.
func (s *Server) consumerGroupDescribe(r *request) kmsg.Response {
	req := r.body.(*kmsg.ConsumerGroupDescribeRequest)
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	for _, id := range req.Groups {
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		message := fmt.Sprintf("Group %s is not a consumer group.", id)
		g.Group, g.ErrorCode, g.ErrorMessage = id, kerr.GroupIDNotFound.Code, &message
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}
