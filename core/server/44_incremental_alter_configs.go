package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// IncrementalAlterConfigs (key 44), versions 0–1 (KIP-339).

func (s *Server) incrementalAlterConfigs(r *request) kmsg.Response {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	type resource struct {
		kind kmsg.ConfigResourceType
		name string
	}
	times := map[resource]int{}
	for _, res := range req.Resources {
		times[resource{res.ResourceType, res.ResourceName}]++
	}
	for _, res := range req.Resources {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = res.ResourceType, res.ResourceName
		var ops []controller.ConfigOp
		names := map[string]bool{}
		var err error
		for _, c := range res.Configs {
			if names[c.Name] {
				err = refuse(kerr.InvalidRequest, "the request changes config "+c.Name+" more than once")
			}
			names[c.Name] = true
			ops = append(ops, controller.ConfigOp{Name: c.Name, Op: int8(c.Op), Value: c.Value})
		}
		if times[resource{res.ResourceType, res.ResourceName}] > 1 {
			err = refuse(kerr.InvalidRequest, "the request names this resource more than once")
		}
		if err == nil {
			err = s.alterResource(r.ctx, res.ResourceType, res.ResourceName, ops, req.ValidateOnly)
		}
		s.unexpected("alter configs failed", err, "resource", res.ResourceName)
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}
