package server

import "github.com/twmb/franz-go/pkg/kmsg"

// addOffsetsToTxn is served by the transaction coordinator.
func (s *Server) addOffsetsToTxn(r *request) kmsg.Response {
	return s.d.Txns.AddOffsetsToTxn(r.ctx, r.body.(*kmsg.AddOffsetsToTxnRequest))
}
