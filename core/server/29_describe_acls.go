package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
)

// DescribeACLs (key 29), versions 1–3 (KIP-140; v1 patterns, KIP-290).

// errNoAuthorizer is told who asks for ACLs where there are none, in the words of an Apache Kafka without an authorizer.
var errNoAuthorizer = refuse(kerr.SecurityDisabled, "No Authorizer is configured.")

func (s *Server) describeACLs(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeACLsRequest)
	resp := kmsg.NewPtrDescribeACLsResponse()
	f := auth.Filter{
		Resource: int8(req.ResourceType), Pattern: int8(req.ResourcePatternType), Name: req.ResourceName,
		Principal: req.Principal, Host: req.Host, Operation: int8(req.Operation), Permission: int8(req.PermissionType),
	}
	err := errNoAuthorizer
	if s.d.Policy != nil {
		if err = f.Check(); err != nil {
			err = refuse(kerr.InvalidRequest, err.Error())
		}
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = codeOf(err), messageOf(err)
		return resp
	}
	for _, a := range s.d.Controller.ACLs(f) { // in the order of their resources
		at := len(resp.Resources) - 1
		if at < 0 || int8(resp.Resources[at].ResourceType) != a.Resource || int8(resp.Resources[at].ResourcePatternType) != a.Pattern || resp.Resources[at].ResourceName != a.Name {
			res := kmsg.NewDescribeACLsResponseResource()
			res.ResourceType, res.ResourcePatternType, res.ResourceName = kmsg.ACLResourceType(a.Resource), kmsg.ACLResourcePatternType(a.Pattern), a.Name
			resp.Resources = append(resp.Resources, res)
			at++
		}
		out := kmsg.NewDescribeACLsResponseResourceACL()
		out.Principal, out.Host, out.Operation, out.PermissionType = a.Principal, a.Host, kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
		resp.Resources[at].ACLs = append(resp.Resources[at].ACLs, out)
	}
	return resp
}
