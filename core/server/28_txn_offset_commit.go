package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
)

// txnOffsetCommit asks the transaction coordinator, then writes through the group coordinator. From v5 on (TV2, KIP-890) the
// offsets' partition joins the transaction by this alone.
func (s *Server) txnOffsetCommit(r *request) kmsg.Response {
	req := r.body.(*kmsg.TxnOffsetCommitRequest)
	p := statelog.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	return s.d.Groups.TxnOffsetCommit(r.ctx, req, func() int16 {
		return s.d.Txns.AdmitOffsets(r.ctx, req.TransactionalID, req.Group, p, req.Version >= 5)
	})
}
