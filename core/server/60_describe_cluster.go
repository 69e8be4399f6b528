package server

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// DescribeCluster (key 60), versions 0–2 (KIP-700). v1 endpoint type (KIP-919), v2 fenced brokers (KIP-1073).
// Since when they are so is told in tagged fields of ours (wire.SinceTag).

// Endpoint types: what a client asks for.
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

func (s *Server) describeCluster(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeClusterRequest)
	resp := kmsg.NewPtrDescribeClusterResponse()
	img := s.d.Controller.Image()
	resp.EndpointType, resp.ClusterAuthorizedOperations = endpointBrokers, opsUnknown
	if req.Version >= 1 && req.EndpointType != endpointBrokers {
		err := refuse(kerr.UnsupportedEndpointType, fmt.Sprintf("endpoint type %d is not known", req.EndpointType))
		if req.EndpointType == endpointControllers {
			err = refuse(kerr.MismatchedEndpointType, "this is a broker's listener, not a controller's")
		}
		resp.ErrorCode, resp.ErrorMessage = codeOf(err), messageOf(err)
		return resp
	}
	resp.ClusterID = img.ClusterID
	resp.ControllerID = int32(s.controllerID(img))
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = opsCluster
	}
	for _, id := range slices.Sorted(maps.Keys(img.Nodes)) {
		n := img.Nodes[id]
		if n.Fenced && !req.IncludeFencedBrokers {
			continue
		}
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Rack, b.IsFenced = int32(n.ID), rackOf(n), n.Fenced
		b.Host, b.Port = s.d.Advertised(n, r.listener)
		for tag, ms := range map[uint32]int64{wire.SinceTag: n.Since, wire.DrainingTag: n.DrainingSince} {
			if ms != 0 {
				b.UnknownTags.Set(tag, binary.BigEndian.AppendUint64(nil, uint64(ms)))
			}
		}
		resp.Brokers = append(resp.Brokers, b)
	}
	return resp
}
