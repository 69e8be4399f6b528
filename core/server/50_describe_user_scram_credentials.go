package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeUserScramCredentials (key 50), version 0 (KIP-554). There are no users; kafka-configs asks beside quotas.

func (s *Server) describeUserSCRAMCredentials(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	for _, u := range req.Users {
		out := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		err := refuse(kerr.ResourceNotFound, "Attempt to describe a user credential that does not exist: "+u.Name)
		out.User, out.ErrorCode, out.ErrorMessage = u.Name, codeOf(err), messageOf(err)
		resp.Results = append(resp.Results, out)
	}
	return resp
}
