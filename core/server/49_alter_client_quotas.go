package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// AlterClientQuotas (key 49), versions 0–1 (KIP-546).

func (s *Server) alterClientQuotas(r *request) kmsg.Response {
	req := r.body.(*kmsg.AlterClientQuotasRequest)
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	var alterations []controller.QuotaAlteration
	for _, e := range req.Entries {
		var a controller.QuotaAlteration
		out := kmsg.NewAlterClientQuotasResponseEntry()
		for _, p := range e.Entity {
			a.Entity = append(a.Entity, controller.QuotaPart{Type: p.Type, Name: p.Name})
			part := kmsg.NewAlterClientQuotasResponseEntryEntity()
			part.Type, part.Name = p.Type, p.Name
			out.Entity = append(out.Entity, part)
		}
		for _, o := range e.Ops {
			a.Ops = append(a.Ops, controller.QuotaOp{Key: o.Key, Value: o.Value, Remove: o.Remove})
		}
		alterations = append(alterations, a)
		resp.Entries = append(resp.Entries, out)
	}
	ctx, cancel := adminContext(r.ctx, 30_000)
	defer cancel()
	for n, err := range s.d.Controller.AlterQuotas(ctx, alterations, req.ValidateOnly) {
		s.unexpected("alter quotas failed", err)
		resp.Entries[n].ErrorCode, resp.Entries[n].ErrorMessage = codeOf(err), messageOf(err)
	}
	return resp
}
