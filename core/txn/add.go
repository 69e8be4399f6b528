package txn

import (
	"context"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
)

// VerifyOrAdd is what a transactional Produce asks before it appends: with add (Produce v12 and later, TV2 of
// KIP-890) the partitions join the producer's transaction, without it they must already be in it. The result has one
// Kafka error code per partition, in order; 0 is yes. It may block while the producer's last transaction is still being
// finished, for Options.ParkTime at most. Codes are those that a producer understands; TRANSACTION_ABORTABLE is for
// Produce v11 and later, before that it is INVALID_TXN_STATE.
func (c *Coordinator) VerifyOrAdd(ctx context.Context, transactionalID string, producerID int64, epoch int16, parts []TopicPartition, add bool) []int16 {
	codes := c.verifyOrAdd(ctx, transactionalID, producerID, epoch, parts, add, true)
	for i, code := range codes {
		switch code {
		case kerr.ProducerFenced.Code:
			codes[i] = kerr.InvalidProducerEpoch.Code
		case kerr.ConcurrentTransactions.Code:
			if !add {
				codes[i] = kerr.NotEnoughReplicas.Code
			}
		case kerr.CoordinatorLoadInProgress.Code, kerr.CoordinatorNotAvailable.Code, kerr.NotCoordinator.Code, kerr.OperationNotAttempted.Code:
			codes[i] = kerr.NotEnoughReplicas.Code // what a producer retries; nothing was wrong with a partition that was not attempted
		}
	}
	return codes
}

// verifyOrAdd asks the coordinator of the id, here or on another node.
func (c *Coordinator) verifyOrAdd(ctx context.Context, id string, producer int64, epoch int16, parts []TopicPartition, add, tv2 bool) []int16 {
	if id == "" {
		return same(kerr.InvalidRequest.Code, len(parts))
	}
	if number := c.PartitionFor(id); number >= 0 && c.host.peers() != nil {
		if p := c.host.image().Partition(Topic, number); p != nil && p.Leader >= 0 && p.Leader != c.node {
			return c.ask(ctx, p.Leader, id, producer, epoch, parts, add)
		}
	}
	return c.enlist(ctx, id, producer, epoch, parts, add, tv2)
}

func same(code int16, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = code
	}
	return out
}

// ask is verifyOrAdd on another node.
func (c *Coordinator) ask(ctx context.Context, node metadata.NodeID, id string, producer int64, epoch int16, parts []TopicPartition, add bool) []int16 {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = 5
	rt := kmsg.NewAddPartitionsToTxnRequestTransaction()
	rt.TransactionalID, rt.ProducerID, rt.ProducerEpoch, rt.VerifyOnly = id, producer, epoch, !add
	for _, tp := range parts {
		t := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
		t.Topic, t.Partitions = tp.Topic, []int32{tp.Partition}
		if n := len(rt.Topics); n > 0 && rt.Topics[n-1].Topic == tp.Topic {
			rt.Topics[n-1].Partitions = append(rt.Topics[n-1].Partitions, tp.Partition)
			continue
		}
		rt.Topics = append(rt.Topics, t)
	}
	req.Transactions = append(req.Transactions, rt)
	resp, err := c.host.peers().AddPartitionsToTxn(ctx, node, req)
	if err != nil {
		return same(kerr.CoordinatorNotAvailable.Code, len(parts))
	}
	if resp.ErrorCode != 0 {
		return same(resp.ErrorCode, len(parts))
	}
	found := map[TopicPartition]int16{}
	for _, t := range resp.Transactions {
		for _, rt := range t.Topics {
			for _, p := range rt.Partitions {
				found[TopicPartition{rt.Topic, p.Partition}] = p.ErrorCode
			}
		}
	}
	out := same(kerr.CoordinatorNotAvailable.Code, len(parts))
	for i, tp := range parts {
		if code, ok := found[tp]; ok {
			out[i] = code
		}
	}
	return out
}

// enlist verifies or adds as the coordinator.
func (c *Coordinator) enlist(ctx context.Context, id string, producer int64, epoch int16, parts []TopicPartition, add, tv2 bool) []int16 {
	codes := c.enlistNow(ctx, id, producer, epoch, parts, add, tv2)
	for i, code := range codes {
		codes[i] = c.sure(code)
	}
	return codes
}

func (c *Coordinator) enlistNow(ctx context.Context, id string, producer int64, epoch int16, parts []TopicPartition, add, tv2 bool) []int16 {
	patience := c.park(ctx)
	for {
		s, code := c.lock(ctx, id)
		if code != 0 {
			return same(code, len(parts))
		}
		t := s.txns[id]
		if t == nil {
			s.unlock()
			return same(kerr.InvalidProducerIDMapping.Code, len(parts))
		}
		if code := t.cur.fenced(producer, epoch); code != 0 {
			s.unlock()
			return same(code, len(parts))
		}
		missing := 0
		out := make([]int16, len(parts))
		for i, tp := range parts {
			if _, ok := t.cur.parts[tp]; !ok || t.cur.phase != ongoing {
				missing++
				out[i] = kerr.TransactionAbortable.Code
			}
		}
		if t.cur.phase.preparing() || t.busy && !(t.adding && missing == 0) {
			// The last transaction is being finished, or another request's partitions are being written.
			if code := patience.wait(t); code != 0 {
				return same(code, len(parts))
			}
			continue
		}
		if missing == 0 || !add {
			s.unlock()
			return out
		}
		return same(t.writeAndWait(ctx, t.cur.with(parts, tv2, s.now()), nil), len(parts))
	}
}

// fenced says why a producer is not the one that m is about, or 0.
func (m *meta) fenced(producer int64, epoch int16) int16 {
	if p, e := m.after(); p == producer && e == epoch {
		return 0
	}
	if m.producer != producer {
		return kerr.InvalidProducerIDMapping.Code
	}
	return kerr.ProducerFenced.Code
}

// with is m with more partitions, begun if it was not.
func (m *meta) with(parts []TopicPartition, tv2 bool, now int64) meta {
	next := *m
	if m.phase != ongoing {
		next.phase, next.start, next.parts = ongoing, now, nil
	}
	next.parts = maps.Clone(next.parts)
	if next.parts == nil {
		next.parts = map[TopicPartition]struct{}{}
	}
	for _, tp := range parts {
		next.parts[tp] = struct{}{}
	}
	next.updated, next.version = now, 0
	if tv2 {
		next.version = 2
	}
	return next
}

// AddPartitionsToTxn serves clients before KIP-890 (v0 to v3) and other nodes (v4 and later, several transactions).
func (c *Coordinator) AddPartitionsToTxn(ctx context.Context, req *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	resp.Version = req.Version
	if req.Version >= 4 {
		for _, rt := range req.Transactions {
			resp.Transactions = append(resp.Transactions, c.addTransaction(ctx, &rt))
		}
		return resp
	}
	rt := kmsg.NewAddPartitionsToTxnRequestTransaction()
	rt.TransactionalID, rt.ProducerID, rt.ProducerEpoch = req.TransactionalID, req.ProducerID, req.ProducerEpoch
	for _, t := range req.Topics {
		tt := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
		tt.Topic, tt.Partitions = t.Topic, t.Partitions
		rt.Topics = append(rt.Topics, tt)
	}
	for _, t := range c.addTransaction(ctx, &rt).Topics {
		at := kmsg.NewAddPartitionsToTxnResponseTopic()
		at.Topic = t.Topic
		for _, p := range t.Partitions {
			ap := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			ap.Partition, ap.ErrorCode = p.Partition, p.ErrorCode
			if req.Version < 2 && ap.ErrorCode == kerr.ProducerFenced.Code {
				ap.ErrorCode = kerr.InvalidProducerEpoch.Code
			}
			at.Partitions = append(at.Partitions, ap)
		}
		resp.Topics = append(resp.Topics, at)
	}
	return resp
}

func (c *Coordinator) addTransaction(ctx context.Context, rt *kmsg.AddPartitionsToTxnRequestTransaction) kmsg.AddPartitionsToTxnResponseTransaction {
	var parts []TopicPartition
	unknown := map[TopicPartition]bool{}
	image := c.host.image()
	for _, t := range rt.Topics {
		for _, n := range t.Partitions {
			tp := TopicPartition{t.Topic, n}
			parts = append(parts, tp)
			if image.Partition(t.Topic, n) == nil {
				unknown[tp] = true
			}
		}
	}
	var codes []int16
	if len(unknown) > 0 { // all or none
		codes = same(kerr.OperationNotAttempted.Code, len(parts))
		for i, tp := range parts {
			if unknown[tp] {
				codes[i] = kerr.UnknownTopicOrPartition.Code
			}
		}
	} else if rt.TransactionalID == "" {
		codes = same(kerr.InvalidRequest.Code, len(parts))
	} else {
		codes = c.enlist(ctx, rt.TransactionalID, rt.ProducerID, rt.ProducerEpoch, parts, !rt.VerifyOnly, false)
	}
	out := kmsg.NewAddPartitionsToTxnResponseTransaction()
	out.TransactionalID = rt.TransactionalID
	for _, t := range rt.Topics {
		ot := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		ot.Topic = t.Topic
		for _, n := range t.Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
			p.Partition, p.ErrorCode = n, codes[0]
			codes = codes[1:]
			ot.Partitions = append(ot.Partitions, p)
		}
		out.Topics = append(out.Topics, ot)
	}
	return out
}

// offsetsPartition is where a group's offsets go.
func (c *Coordinator) offsetsPartition(ctx context.Context, id string) (TopicPartition, int16) {
	if id == "" {
		return TopicPartition{}, kerr.InvalidGroupID.Code
	}
	if err := c.host.groups().EnsureTopic(ctx); err != nil {
		c.log.Warn("could not create a topic", "topic", controller.OffsetsTopic, "error", err)
		return TopicPartition{}, kerr.CoordinatorNotAvailable.Code
	}
	return TopicPartition{controller.OffsetsTopic, c.host.groups().PartitionFor(id)}, 0
}

// AddOffsetsToTxn adds the partition of a group's offsets, for clients before KIP-890.
func (c *Coordinator) AddOffsetsToTxn(ctx context.Context, req *kmsg.AddOffsetsToTxnRequest) *kmsg.AddOffsetsToTxnResponse {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	resp.Version = req.Version
	if req.TransactionalID == "" {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp
	}
	tp, code := c.offsetsPartition(ctx, req.Group)
	if code == 0 {
		code = c.enlist(ctx, req.TransactionalID, req.ProducerID, req.ProducerEpoch, []TopicPartition{tp}, true, false)[0]
	}
	if req.Version < 2 && code == kerr.ProducerFenced.Code {
		code = kerr.InvalidProducerEpoch.Code
	}
	resp.ErrorCode = code
	return resp
}

// AdmitOffsets is what TxnOffsetCommit asks before it writes: 0, or the code that refuses it. add is for v5 and later (TV2),
// where the offsets' partition joins the transaction by this alone.
func (c *Coordinator) AdmitOffsets(ctx context.Context, transactionalID, groupID string, p statelog.Producer, add bool) int16 {
	tp, code := c.offsetsPartition(ctx, groupID)
	if code != 0 {
		return code
	}
	code = c.verifyOrAdd(ctx, transactionalID, p.ID, p.Epoch, []TopicPartition{tp}, add, add)[0]
	switch code {
	case kerr.ProducerFenced.Code:
		return kerr.InvalidProducerEpoch.Code
	case kerr.ConcurrentTransactions.Code:
		if !add {
			return kerr.CoordinatorLoadInProgress.Code // what older clients retry
		}
	case kerr.TransactionAbortable.Code:
		if !add {
			return kerr.InvalidTxnState.Code
		}
	}
	return code
}
