package server

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/wire"
)

// DescribeConfigs (key 32), versions 1–4. v1 synonyms (KIP-226), v3 types and documentation (KIP-569).

func (s *Server) describeConfigs(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeConfigsRequest)
	resp := kmsg.NewPtrDescribeConfigsResponse()
	seen, left := wire.Seen[resource]{}, maxDescribedConfigs
	for _, want := range req.Resources {
		if !seen.First(resource{want.ResourceType, want.ResourceName}) {
			continue
		}
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = want.ResourceType, want.ResourceName
		var entries []controller.ConfigEntry
		var err error
		switch {
		case left <= 0:
			err = refuse(kerr.PolicyViolation, fmt.Sprintf("More than %d configs in one answer: ask for fewer resources at once.", maxDescribedConfigs))
		case want.ResourceType == kmsg.ConfigResourceTypeTopic:
			entries, err = s.d.Controller.TopicConfigs(want.ResourceName)
		case want.ResourceType == kmsg.ConfigResourceTypeBroker:
			entries, err = s.d.Controller.BrokerConfigs(want.ResourceName)
		case want.ResourceType == kmsg.ConfigResourceTypeBrokerLogger:
			entries, err = s.loggerConfigs(want.ResourceName)
		case want.ResourceType == kmsg.ConfigResourceTypeGroupConfig:
			entries, err = s.d.Controller.GroupConfigs(want.ResourceName)
		case want.ResourceType == kmsg.ConfigResourceTypeClientMetrics:
			entries, err = s.d.Controller.MetricsConfigs(want.ResourceName)
		default:
			err = refuse(kerr.InvalidRequest, "configs of this type of resource are not kept here")
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
			entries = nil
		}
		left -= len(entries)
		for i := range entries {
			if len(want.ConfigNames) == 0 || slices.Contains(want.ConfigNames, entries[i].Name) {
				out.Configs = append(out.Configs, describedConfig(req, &entries[i]))
			}
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

// maxDescribedConfigs bounds an answer: any name is a group, and has configs. Ten thousand topics have less than half as many.
const maxDescribedConfigs = 1_000_000

// loggerConfigs are the levels of this node's loggers (KIP-412).
func (s *Server) loggerConfigs(node string) ([]controller.ConfigEntry, error) {
	if node == "" {
		return nil, refuse(kerr.InvalidRequest, "Broker id must not be empty")
	}
	if err := s.checkOwn(node, "Broker"); err != nil {
		return nil, err
	}
	var entries []controller.ConfigEntry
	levels := s.d.Loggers.Levels()
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		entries = append(entries, controller.ConfigEntry{Name: name, Value: levels[name], Source: int8(kmsg.ConfigSourceDynamicBrokerLoggerConfig)})
	}
	return entries, nil
}

// checkOwn refuses every node but this one: a node's loggers are its own. called is what Kafka calls it.
func (s *Server) checkOwn(node, called string) error {
	if err := s.d.Controller.CheckNode(node, called); err != nil {
		return err
	}
	if own := strconv.Itoa(int(s.d.NodeID)); node != own {
		return refuse(kerr.InvalidRequest, fmt.Sprintf("Unexpected %s id, expected %s but received %s", strings.ToLower(called), own, node))
	}
	return nil
}

func describedConfig(req *kmsg.DescribeConfigsRequest, e *controller.ConfigEntry) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.ReadOnly, c.IsSensitive = e.Name, e.ReadOnly, e.Sensitive
	c.Value = configValue(e.Value, e.Null, e.Sensitive)
	c.Source, c.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type)
	c.IsDefault = c.Source == kmsg.ConfigSourceDefaultConfig
	if req.IncludeSynonyms {
		for _, syn := range e.Synonyms {
			o := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			o.Name, o.Source = syn.Name, kmsg.ConfigSource(syn.Source)
			o.Value = configValue(syn.Value, false, e.Sensitive)
			c.ConfigSynonyms = append(c.ConfigSynonyms, o)
		}
	}
	if req.IncludeDocumentation && e.Doc != "" || c.Source == kmsg.ConfigSourceDynamicBrokerLoggerConfig { // Kafka's loggers have an empty one
		c.Documentation = &e.Doc
	}
	return c
}

// configValue is null for a secret and for what is not set.
func configValue(v string, null, sensitive bool) *string {
	if null || sensitive {
		return nil
	}
	return &v
}
