package server

import "github.com/twmb/franz-go/pkg/kmsg"

// describeTransactions is served by the transaction coordinator.
func (s *Server) describeTransactions(r *request) kmsg.Response {
	return s.d.Txns.DescribeTransactions(r.ctx, r.body.(*kmsg.DescribeTransactionsRequest))
}
