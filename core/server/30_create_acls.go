package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
)

// CreateACLs (key 30), versions 1–3 (KIP-140). What is there already is made again without an error.

func (s *Server) createACLs(r *request) kmsg.Response {
	req := r.body.(*kmsg.CreateACLsRequest)
	resp := kmsg.NewPtrCreateACLsResponse()
	var acls []auth.ACL
	for _, c := range req.Creations {
		acls = append(acls, auth.ACL{
			Resource: int8(c.ResourceType), Pattern: int8(c.ResourcePatternType), Name: c.ResourceName, Principal: c.Principal, Host: c.Host,
			Operation: int8(c.Operation), Permission: int8(c.PermissionType),
		})
	}
	errs := make([]error, len(acls))
	if s.d.Policy == nil {
		for n := range errs {
			errs[n] = errNoAuthorizer
		}
	} else {
		ctx, cancel := adminContext(r.ctx, 30_000)
		defer cancel()
		errs = s.d.Controller.CreateACLs(ctx, acls)
	}
	for _, err := range errs {
		s.unexpected("create ACLs failed", err)
		out := kmsg.NewCreateACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Results = append(resp.Results, out)
	}
	return resp
}
