package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// AlterConfigs (key 33), versions 0–2: the old form, which names the whole set;
// what it leaves out goes back to its default (KIP-133).

func (s *Server) alterConfigs(r *request) kmsg.Response {
	req := r.body.(*kmsg.AlterConfigsRequest)
	resp := kmsg.NewPtrAlterConfigsResponse()
	for _, res := range req.Resources {
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = res.ResourceType, res.ResourceName
		ops, err := s.replaceOps(res)
		if err == nil {
			err = s.alterResource(r.ctx, res.ResourceType, res.ResourceName, ops, req.ValidateOnly)
		}
		s.unexpected("alter configs failed", err, "resource", res.ResourceName)
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

// replaceOps sets what is given and deletes what else is set on the resource itself.
func (s *Server) replaceOps(res kmsg.AlterConfigsRequestResource) ([]controller.ConfigOp, error) {
	var (
		ops     []controller.ConfigOp
		entries []controller.ConfigEntry
		own     []kmsg.ConfigSource
		err     error
	)
	switch res.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		entries, err = s.d.Controller.TopicConfigs(res.ResourceName)
		own = []kmsg.ConfigSource{kmsg.ConfigSourceDynamicTopicConfig}
	case kmsg.ConfigResourceTypeBroker:
		entries, err = s.d.Controller.BrokerConfigs(res.ResourceName)
		own = []kmsg.ConfigSource{kmsg.ConfigSourceDynamicBrokerConfig}
		if res.ResourceName == "" {
			own = []kmsg.ConfigSource{kmsg.ConfigSourceDynamicDefaultBrokerConfig}
		}
	}
	if err != nil {
		return nil, err
	}
	given := map[string]bool{}
	for _, c := range res.Configs {
		given[c.Name] = true
		op := controller.ConfigOp{Name: c.Name, Op: int8(kmsg.IncrementalAlterConfigOpSet), Value: c.Value}
		if c.Value == nil {
			op.Op = int8(kmsg.IncrementalAlterConfigOpDelete)
		}
		ops = append(ops, op)
	}
	for _, e := range entries {
		if len(own) > 0 && kmsg.ConfigSource(e.Source) == own[0] && !given[e.Name] {
			ops = append(ops, controller.ConfigOp{Name: e.Name, Op: int8(kmsg.IncrementalAlterConfigOpDelete)})
		}
	}
	return ops, nil
}

// alterResource applies ops to a topic or a broker.
func (s *Server) alterResource(ctx context.Context, kind kmsg.ConfigResourceType, name string, ops []controller.ConfigOp, validateOnly bool) error {
	ctx, cancel := adminContext(ctx, 30_000)
	defer cancel()
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		return s.d.Controller.AlterTopicConfigs(ctx, name, ops, validateOnly)
	case kmsg.ConfigResourceTypeBroker:
		return s.d.Controller.AlterBrokerConfigs(ctx, name, ops, validateOnly)
	default:
		return refuse(kerr.InvalidRequest, "configs of this type of resource are not kept here")
	}
}
