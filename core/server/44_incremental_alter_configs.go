package server

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/internal/loglevel"
)

// IncrementalAlterConfigs (key 44), versions 0–1 (KIP-339).

func (s *Server) incrementalAlterConfigs(r *request) kmsg.Response {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	ctx, cancel := adminContext(r.ctx, alterMillis)
	defer cancel()
	repeated := newRepeated(len(req.Resources), func(i int) resource { return resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName} })
	// What is so already is not agreed on anew, one resource after the other: MirrorMaker names every config of all its topics at once. That it is so
	// is known once this node has all that others have changed before.
	learnt := slices.ContainsFunc(req.Resources, func(res kmsg.IncrementalAlterConfigsRequestResource) bool {
		return res.ResourceType != kmsg.ConfigResourceTypeBrokerLogger // levels of loggers are this node's own
	}) && s.d.Controller.Current(ctx) == nil
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
			err = s.alterLoggers(res.ResourceName, ops, req.ValidateOnly)
		default:
			if err = controller.CheckOps(ops); err == nil {
				if learnt {
					ops = s.withoutVain(resource{res.ResourceType, res.ResourceName}, ops)
				}
				err = s.alterResource(ctx, res.ResourceType, res.ResourceName, ops, req.ValidateOnly)
			}
		}
		s.unexpected("alter configs failed", err, "resource", res.ResourceName)
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

// withoutVain leaves out what deletes what is not set, and what sets what is set so.
func (s *Server) withoutVain(r resource, ops []controller.ConfigOp) []controller.ConfigOp {
	own := s.ownConfigs(r)
	return slices.DeleteFunc(ops, func(o controller.ConfigOp) bool {
		v, set := own[o.Name]
		return o.Op == int8(kmsg.IncrementalAlterConfigOpDelete) && !set || o.Op == int8(kmsg.IncrementalAlterConfigOpSet) && set && v == *o.Value
	})
}

// alterLoggers sets levels of this node's loggers, all or none (KIP-412). Like Kafka's RuntimeLoggerManager.
func (s *Server) alterLoggers(node string, ops []controller.ConfigOp, validateOnly bool) error {
	if err := controller.CheckOps(ops); err != nil {
		return err
	}
	if node == "" {
		return refuse(kerr.InvalidRequest, "Node id must be an integer, but it is: ")
	}
	if err := s.checkOwn(node, "Node"); err != nil {
		return err
	}
	for _, o := range ops {
		if err := s.checkLogger(o); err != nil {
			return err
		}
	}
	for _, o := range ops {
		switch {
		case validateOnly:
		case o.Op == int8(kmsg.IncrementalAlterConfigOpSet):
			s.d.Loggers.Set(o.Name, *o.Value)
		default:
			s.d.Loggers.Unset(o.Name)
		}
	}
	return nil
}

func (s *Server) checkLogger(o controller.ConfigOp) error {
	op := kmsg.IncrementalAlterConfigOp(o.Op)
	switch op {
	case kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete:
	default:
		return refuse(kerr.InvalidRequest, op.String()+" operation is not allowed for the BROKER_LOGGER resource")
	}
	switch {
	case !s.d.Loggers.Has(o.Name):
		return refuse(kerr.InvalidConfig, "Logger "+o.Name+" does not exist!")
	case op == kmsg.IncrementalAlterConfigOpDelete && o.Name == loglevel.Root:
		return refuse(kerr.InvalidRequest, "Removing the log level of the root logger is not allowed")
	case op == kmsg.IncrementalAlterConfigOpSet && !slices.Contains(loglevel.Names, *o.Value):
		return refuse(kerr.InvalidConfig, "Cannot set the log level of "+o.Name+" to a level that is not supported. Valid log levels are "+strings.Join(loglevel.Names, ", "))
	}
	return nil
}
