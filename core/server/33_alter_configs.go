package server

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
)

// AlterConfigs (key 33), versions 0–2: the old form, which names the whole set;
// what it leaves out goes back to its default (KIP-133).

func (s *Server) alterConfigs(r *request) kmsg.Response {
	req := r.body.(*kmsg.AlterConfigsRequest)
	resp := kmsg.NewPtrAlterConfigsResponse()
	ctx, cancel := adminContext(r.ctx, alterMillis)
	defer cancel()
	behind := s.d.Controller.Current(ctx) // what is left out is deleted: that of another node, too
	repeated := newRepeated(len(req.Resources), func(i int) resource { return resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName} })
	for _, res := range req.Resources {
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = res.ResourceType, res.ResourceName
		err := repeated.check(resource{res.ResourceType, res.ResourceName})
		if err == nil {
			err = behind
		}
		if err == nil {
			err = s.alterResource(ctx, res.ResourceType, res.ResourceName, s.replaceOps(res), req.ValidateOnly)
		}
		s.unexpected("alter configs failed", err, "resource", res.ResourceName)
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

// alterMillis is what a change of configs, which says no timeout, may take, whatever it names: as long as Kafka's clients wait for an answer.
const alterMillis = 30_000

// replaceOps sets what is given and deletes what else is set on the resource itself.
func (s *Server) replaceOps(res kmsg.AlterConfigsRequestResource) []controller.ConfigOp {
	own := s.ownConfigs(resource{res.ResourceType, res.ResourceName})
	var ops []controller.ConfigOp
	given := map[string]bool{}
	for _, c := range res.Configs {
		given[c.Name] = true
		ops = append(ops, controller.ConfigOp{Name: c.Name, Op: int8(kmsg.IncrementalAlterConfigOpSet), Value: c.Value})
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if !given[name] {
			ops = append(ops, controller.ConfigOp{Name: name, Op: int8(kmsg.IncrementalAlterConfigOpDelete)})
		}
	}
	return ops
}

// ownConfigs are what is set on a resource itself.
func (s *Server) ownConfigs(r resource) map[string]string {
	image := s.d.Controller.Image()
	switch r.kind {
	case kmsg.ConfigResourceTypeTopic:
		return image.TopicConfigs[r.name]
	case kmsg.ConfigResourceTypeBroker:
		return image.BrokerConfigs[r.name]
	case kmsg.ConfigResourceTypeGroupConfig:
		return image.GroupConfigs[r.name]
	case kmsg.ConfigResourceTypeClientMetrics:
		return controller.OwnMetricsConfigs(image, r.name)
	}
	return nil
}

// resource is what has configs.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

// repeated counts how often a request names each resource.
type repeated map[resource]int

func newRepeated(n int, at func(int) resource) repeated {
	times := repeated{}
	for i := range n {
		times[at(i)]++
	}
	return times
}

func (t repeated) check(r resource) error {
	if t[r] > 1 {
		return refuse(kerr.InvalidRequest, "Each resource must appear at most once.")
	}
	return nil
}

// alterResource applies ops to a topic, a broker, a group or a subscription to client metrics.
func (s *Server) alterResource(ctx context.Context, kind kmsg.ConfigResourceType, name string, ops []controller.ConfigOp, validateOnly bool) error {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		return s.d.Controller.AlterTopicConfigs(ctx, name, ops, validateOnly)
	case kmsg.ConfigResourceTypeBroker:
		return s.d.Controller.AlterBrokerConfigs(ctx, name, ops, validateOnly)
	case kmsg.ConfigResourceTypeGroupConfig:
		return s.d.Controller.AlterGroupConfigs(ctx, name, ops, validateOnly)
	case kmsg.ConfigResourceTypeClientMetrics:
		return s.d.Controller.AlterMetricsConfigs(ctx, name, ops, validateOnly)
	default:
		return refuse(kerr.InvalidRequest, fmt.Sprintf("Unknown resource type %d", kind))
	}
}
