package server

import "github.com/twmb/franz-go/pkg/kmsg"

// endTxn is served by the transaction coordinator.
func (s *Server) endTxn(r *request) kmsg.Response {
	return s.d.Txns.EndTxn(r.ctx, r.body.(*kmsg.EndTxnRequest))
}
