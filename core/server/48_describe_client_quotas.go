package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeClientQuotas (key 48), versions 0–1 (KIP-546). No quota can be set, so none is found.

func (s *Server) describeClientQuotas(*request) kmsg.Response {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // null would be an error to the Java client
	return resp
}
