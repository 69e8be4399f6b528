package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// syncGroup is served by the group coordinator.
func (s *Server) syncGroup(r *request) kmsg.Response {
	req := r.body.(*kmsg.SyncGroupRequest)
	if req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) { // KIP-559: nullable, and yet not optional
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = kerr.InconsistentGroupProtocol.Code
		return resp
	}
	return s.d.Groups.SyncGroup(r.ctx, req)
}
