package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeACLs (key 29), versions 1–3. There is no authorizer, and consoles that ask are told so rather than
// cut off, with the code and in the words of an Apache Kafka that has none.

func (s *Server) describeACLs(*request) kmsg.Response {
	resp := kmsg.NewPtrDescribeACLsResponse()
	err := refuse(kerr.SecurityDisabled, "No Authorizer is configured.")
	resp.ErrorCode, resp.ErrorMessage = codeOf(err), messageOf(err)
	return resp
}
