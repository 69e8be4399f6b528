package server

import "github.com/twmb/franz-go/pkg/kmsg"

// initProducerID is served by the transaction coordinator.
func (s *Server) initProducerID(r *request) kmsg.Response {
	return s.d.Txns.InitProducerID(r.ctx, r.body.(*kmsg.InitProducerIDRequest))
}
