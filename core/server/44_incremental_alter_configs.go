package server

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// IncrementalAlterConfigs (key 44), versions 0–1 (KIP-339).

func (s *Server) incrementalAlterConfigs(r *request) kmsg.Response {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	repeated := newRepeated(len(req.Resources), func(i int) resource { return resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName} })
	for _, res := range req.Resources {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = res.ResourceType, res.ResourceName
		var ops []controller.ConfigOp
		for _, c := range res.Configs {
			ops = append(ops, controller.ConfigOp{Name: c.Name, Op: int8(c.Op), Value: c.Value})
		}
		err := repeated.check(resource{res.ResourceType, res.ResourceName})
		switch {
		case err != nil:
		case res.ResourceType == kmsg.ConfigResourceTypeBrokerLogger:
			err = s.alterLoggers(res.ResourceName, ops)
		default:
			err = s.alterResource(r.ctx, res.ResourceType, res.ResourceName, ops, req.ValidateOnly)
		}
		s.unexpected("alter configs failed", err, "resource", res.ResourceName)
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

// alterLoggers refuses as Kafka's RuntimeLoggerManager does: no node has a logger whose level could be set.
func (s *Server) alterLoggers(node string, ops []controller.ConfigOp) error {
	if node == "" {
		return refuse(kerr.InvalidRequest, "Node id must be an integer, but it is: ")
	}
	if err := s.d.Controller.CheckNode(node, "Node"); err != nil {
		return err
	}
	for _, o := range ops {
		switch kmsg.IncrementalAlterConfigOp(o.Op) {
		case kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete:
			return refuse(kerr.InvalidConfig, "Logger "+o.Name+" does not exist!")
		case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
			return refuse(kerr.InvalidRequest, kmsg.IncrementalAlterConfigOp(o.Op).String()+" operation is not allowed for the BROKER_LOGGER resource")
		default:
			return refuse(kerr.InvalidRequest, fmt.Sprintf("Unknown operation type %d", o.Op))
		}
	}
	return nil
}
