package server

import "github.com/twmb/franz-go/pkg/kmsg"

// listTransactions lists the transactional ids that this node coordinates.
func (s *Server) listTransactions(r *request) kmsg.Response {
	return s.d.Txns.ListTransactions(r.body.(*kmsg.ListTransactionsRequest))
}
