package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// UnregisterBroker (key 64), version 0 (KIP-631).

func (s *Server) unregisterBroker(r *request) kmsg.Response {
	req := r.body.(*kmsg.UnregisterBrokerRequest)
	resp := kmsg.NewPtrUnregisterBrokerResponse()
	ctx, cancel := adminContext(r.ctx, 0)
	defer cancel()
	err := s.d.Controller.Unregister(ctx, metadata.NodeID(req.BrokerID))
	s.unexpected("unregister broker failed", err, "node", req.BrokerID)
	resp.ErrorCode, resp.ErrorMessage = codeOf(err), messageOf(err)
	return resp
}
