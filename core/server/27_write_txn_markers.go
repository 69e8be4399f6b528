package server

import "github.com/twmb/franz-go/pkg/kmsg"

// writeTxnMarkers is served by the transaction coordinator.
func (s *Server) writeTxnMarkers(r *request) kmsg.Response {
	return s.d.Txns.WriteTxnMarkers(r.ctx, r.body.(*kmsg.WriteTxnMarkersRequest))
}
