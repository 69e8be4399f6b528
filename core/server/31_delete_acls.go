package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/controller"
)

// DeleteACLs (key 31), versions 1–3 (KIP-140): by filters; the answer has what each has found.

func (s *Server) deleteACLs(r *request) kmsg.Response {
	req := r.body.(*kmsg.DeleteACLsRequest)
	resp := kmsg.NewPtrDeleteACLsResponse()
	var filters []auth.Filter
	for _, f := range req.Filters {
		filters = append(filters, auth.Filter{
			Resource: int8(f.ResourceType), Pattern: int8(f.ResourcePatternType), Name: f.ResourceName,
			Principal: f.Principal, Host: f.Host, Operation: int8(f.Operation), Permission: int8(f.PermissionType),
		})
	}
	results := make([]controller.DeletedACLs, len(filters))
	if s.d.Policy == nil {
		for n := range results {
			results[n].Err = errNoAuthorizer
		}
	} else {
		ctx, cancel := adminContext(r.ctx, 30_000)
		defer cancel()
		results = s.d.Controller.DeleteACLs(ctx, filters)
	}
	for _, result := range results {
		s.unexpected("delete ACLs failed", result.Err)
		out := kmsg.NewDeleteACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = codeOf(result.Err), messageOf(result.Err)
		for _, a := range result.ACLs {
			m := kmsg.NewDeleteACLsResponseResultMatchingACL()
			m.ResourceType, m.ResourcePatternType, m.ResourceName = kmsg.ACLResourceType(a.Resource), kmsg.ACLResourcePatternType(a.Pattern), a.Name
			m.Principal, m.Host, m.Operation, m.PermissionType = a.Principal, a.Host, kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
			out.MatchingACLs = append(out.MatchingACLs, m)
		}
		resp.Results = append(resp.Results, out)
	}
	return resp
}
