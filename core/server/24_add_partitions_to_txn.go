package server

import "github.com/twmb/franz-go/pkg/kmsg"

// addPartitionsToTxn is served by the transaction coordinator.
func (s *Server) addPartitionsToTxn(r *request) kmsg.Response {
	return s.d.Txns.AddPartitionsToTxn(r.ctx, r.body.(*kmsg.AddPartitionsToTxnRequest))
}
