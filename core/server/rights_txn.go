package server

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
)

var txnRefused = kerr.TransactionalIDAuthorizationFailed.Code

// initProducerIDRights: WRITE on the transactional id; without one IDEMPOTENT_WRITE on the cluster, or WRITE on any topic (KIP-679).
func initProducerIDRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.InitProducerIDRequest)
	code := int16(0)
	switch {
	case req.TransactionalID != nil && !r.may(auth.Write, auth.TransactionalID, *req.TransactionalID):
		code = txnRefused
	case req.TransactionalID == nil && !r.mayCluster(auth.IdempotentWrite) && !r.rules.AllowsSome(r.principal, r.host, auth.Write, auth.Topic):
		code = kerr.ClusterAuthorizationFailed.Code
	}
	if code == 0 {
		return nil, nil
	}
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, -1, -1
	return resp, nil
}

// addPartitionsToTxnRights: WRITE on the transactional id and on every topic, or nothing is added; since version 4 it is for nodes.
func addPartitionsToTxnRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.AddPartitionsToTxnRequest)
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if req.Version >= 4 {
		if r.mayCluster(auth.ClusterAction) {
			return nil, nil
		}
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return resp, nil
	}
	known := r.may(auth.Write, auth.TransactionalID, req.TransactionalID)
	_, no := part(req.Topics, func(t *kmsg.AddPartitionsToTxnRequestTopic) bool { return r.may(auth.Write, auth.Topic, t.Topic) })
	if known && len(no) == 0 {
		return nil, nil
	}
	for _, t := range req.Topics {
		code := kerr.OperationNotAttempted.Code
		switch {
		case !known:
			code = txnRefused
		case !r.may(auth.Write, auth.Topic, t.Topic):
			code = topicRefused
		}
		out := kmsg.NewAddPartitionsToTxnResponseTopic()
		out.Topic = t.Topic
		for _, n := range t.Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			p.Partition, p.ErrorCode = n, code
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func addOffsetsToTxnRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.AddOffsetsToTxnRequest)
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	switch {
	case !r.may(auth.Write, auth.TransactionalID, req.TransactionalID):
		resp.ErrorCode = txnRefused
	case !r.may(auth.Read, auth.Group, req.Group):
		resp.ErrorCode = groupRefused
	default:
		return nil, nil
	}
	return resp, nil
}

func endTxnRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	if r.may(auth.Write, auth.TransactionalID, r.body.(*kmsg.EndTxnRequest).TransactionalID) {
		return nil, nil
	}
	resp := kmsg.NewPtrEndTxnResponse()
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = txnRefused, -1, -1
	return resp, nil
}

// txnOffsetCommitRights: WRITE on the transactional id, READ on the group and on each topic.
func txnOffsetCommitRights(s *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.TxnOffsetCommitRequest)
	refused := func(t *kmsg.TxnOffsetCommitRequestTopic, code int16) kmsg.TxnOffsetCommitResponseTopic {
		out := kmsg.NewTxnOffsetCommitResponseTopic()
		out.Topic, out.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			op := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			op.Partition, op.ErrorCode = p.Partition, code
			out.Partitions = append(out.Partitions, op)
		}
		return out
	}
	code := int16(0)
	switch {
	case !r.may(auth.Write, auth.TransactionalID, req.TransactionalID):
		code = txnRefused
	case !r.may(auth.Read, auth.Group, req.Group):
		code = groupRefused
	}
	if code != 0 {
		resp := kmsg.NewPtrTxnOffsetCommitResponse()
		for i := range req.Topics {
			resp.Topics = append(resp.Topics, refused(&req.Topics[i], code))
		}
		return resp, nil
	}
	yes, no := part(req.Topics, func(t *kmsg.TxnOffsetCommitRequestTopic) bool {
		name := s.topicOf(t.Topic, t.TopicID)
		return name == "" || r.may(auth.Read, auth.Topic, name)
	})
	req.Topics = yes
	amend := func(resp kmsg.Response) {
		for i := range no {
			resp.(*kmsg.TxnOffsetCommitResponse).Topics = append(resp.(*kmsg.TxnOffsetCommitResponse).Topics, refused(&no[i], topicRefused))
		}
	}
	if len(yes) == 0 && len(no) > 0 { // nothing is left to join the transaction for
		resp := kmsg.NewPtrTxnOffsetCommitResponse()
		amend(resp)
		return resp, nil
	}
	return nil, amend
}

func describeTransactionsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DescribeTransactionsRequest)
	yes, no := part(req.TransactionalIDs, func(id *string) bool { return r.may(auth.Describe, auth.TransactionalID, *id) })
	req.TransactionalIDs = yes
	return nil, func(resp kmsg.Response) {
		d := resp.(*kmsg.DescribeTransactionsResponse)
		for i := range d.TransactionStates {
			t := &d.TransactionStates[i]
			t.Topics = slices.DeleteFunc(t.Topics, func(t kmsg.DescribeTransactionsResponseTransactionStateTopic) bool {
				return !r.may(auth.Describe, auth.Topic, t.Topic)
			})
		}
		for _, id := range no {
			out := kmsg.NewDescribeTransactionsResponseTransactionState()
			out.TransactionalID, out.ErrorCode = id, txnRefused
			d.TransactionStates = append(d.TransactionStates, out)
		}
	}
}

func listTransactionsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	return nil, func(resp kmsg.Response) {
		l := resp.(*kmsg.ListTransactionsResponse)
		l.TransactionStates = slices.DeleteFunc(l.TransactionStates, func(t kmsg.ListTransactionsResponseTransactionState) bool {
			return !r.may(auth.Describe, auth.TransactionalID, t.TransactionalID)
		})
	}
}
