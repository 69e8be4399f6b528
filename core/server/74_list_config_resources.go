package server

import (
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources (key 74), versions 0–1 (KIP-1000, KIP-1142): what has configs. Version 0 asks for
// subscriptions to client metrics only.

func (s *Server) listConfigResources(r *request) kmsg.Response {
	req := r.body.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	img := s.d.Controller.Image()
	kinds := req.ResourceTypes
	switch {
	case req.Version == 0:
		kinds = []int8{int8(kmsg.ConfigResourceTypeClientMetrics)}
	case len(kinds) == 0:
		kinds = []int8{int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker), int8(kmsg.ConfigResourceTypeBrokerLogger), int8(kmsg.ConfigResourceTypeClientMetrics), int8(kmsg.ConfigResourceTypeGroupConfig)}
	}
	for _, kind := range kinds {
		var names []string
		switch kmsg.ConfigResourceType(kind) {
		case kmsg.ConfigResourceTypeTopic:
			names = slices.Sorted(maps.Keys(img.Topics))
		case kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger:
			for _, id := range slices.Sorted(maps.Keys(img.Nodes)) {
				names = append(names, strconv.Itoa(int(id)))
			}
		case kmsg.ConfigResourceTypeGroupConfig: // groups that have configs, whether they are there or not
			names = slices.Sorted(maps.Keys(img.GroupConfigs))
		case kmsg.ConfigResourceTypeClientMetrics:
			names = s.d.Controller.MetricsSubscriptions()
		default:
			resp.ErrorCode, resp.ConfigResources = kerr.UnsupportedVersion.Code, nil
			return resp
		}
		for _, name := range names {
			out := kmsg.NewListConfigResourcesResponseConfigResource()
			out.Name, out.Type = name, kind
			resp.ConfigResources = append(resp.ConfigResources, out)
		}
	}
	return resp
}
