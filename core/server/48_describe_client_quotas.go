package server

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// DescribeClientQuotas (key 48), versions 0–1 (KIP-546).

func (s *Server) describeClientQuotas(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeClientQuotasRequest)
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	var filters []controller.QuotaFilter
	for _, c := range req.Components {
		filters = append(filters, controller.QuotaFilter{Type: c.EntityType, Match: int8(c.MatchType), Name: c.Match})
	}
	list, err := s.d.Controller.DescribeQuotas(filters, req.Strict)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = codeOf(err), messageOf(err)
		return resp
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // null would be an error to the Java client
	for _, q := range list {
		e := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, p := range q.Entity {
			part := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			part.Type, part.Name = p.Type, p.Name
			e.Entity = append(e.Entity, part)
		}
		for _, key := range slices.Sorted(maps.Keys(q.Values)) {
			v := kmsg.NewDescribeClientQuotasResponseEntryValue()
			v.Key, v.Value = key, q.Values[key]
			e.Values = append(e.Values, v)
		}
		resp.Entries = append(resp.Entries, e)
	}
	return resp
}
