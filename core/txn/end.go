package txn

import (
	"context"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
)

// EndTxn commits or aborts. It answers once the decision is durable; the markers follow in the background, and whatever
// the producer asks next waits for them. From v5 on (TV2) the answer has the epoch of the next transaction, so an EndTxn
// that was held up on its way can never end a later transaction than its own.
func (c *Coordinator) EndTxn(ctx context.Context, req *kmsg.EndTxnRequest) *kmsg.EndTxnResponse {
	resp := kmsg.NewPtrEndTxnResponse()
	resp.Version = req.Version
	resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = c.end(ctx, req)
	if resp.ErrorCode = c.sure(resp.ErrorCode); resp.ErrorCode != 0 {
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		if req.Version < 2 && resp.ErrorCode == kerr.ProducerFenced.Code {
			resp.ErrorCode = kerr.InvalidProducerEpoch.Code
		}
	}
	return resp
}

// verdict is what is to be done about an EndTxn.
type verdict int8

const (
	refuse verdict = iota // answer with the code
	answer                // it has been done already: a retry
	await                 // look again when the state has changed
	finish                // write prepareCommit or prepareAbort
	bump                  // abort of a transaction in which nothing was done: only the epoch changes
)

func (c *Coordinator) end(ctx context.Context, req *kmsg.EndTxnRequest) (int64, int16, int16) {
	if req.TransactionalID == "" {
		return -1, -1, kerr.InvalidRequest.Code
	}
	tv2 := req.Version >= 5
	fresh := int64(-1)
	patience := c.park(ctx)
	for {
		s, code := c.lock(ctx, req.TransactionalID)
		if code != 0 {
			return -1, -1, code
		}
		t := s.txns[req.TransactionalID]
		if t == nil {
			s.unlock()
			return -1, -1, kerr.InvalidProducerIDMapping.Code
		}
		v, code := t.cur.judge(req.ProducerID, req.ProducerEpoch, req.Commit, tv2, s.now())
		if t.busy && v != refuse && v != answer {
			v = await
		}
		switch v {
		case refuse:
			s.unlock()
			return -1, -1, code
		case answer:
			producer, epoch := t.cur.after()
			s.unlock()
			return producer, epoch, 0
		case await:
			if code := patience.wait(t); code != 0 {
				return -1, -1, code
			}
			continue
		}
		if tv2 && exhausted(t.cur.epoch) && fresh < 0 {
			s.unlock()
			var err error
			if fresh, err = c.producerID(ctx); err != nil {
				return -1, -1, kerr.CoordinatorNotAvailable.Code
			}
			continue
		}
		next := t.cur.ended(req.Commit, tv2, fresh, s.now())
		if v == bump {
			next = next.completed(s.now())
			return next.producer, next.epoch, t.writeAndWait(ctx, next, nil)
		}
		producer, epoch := next.after()
		return producer, epoch, t.writeAndWait(ctx, next, t.finish)
	}
}

// judge holds an EndTxn against the current state. TransactionCoordinator.endTransaction in Apache Kafka has the same
// table; where that one sends the client away with CONCURRENT_TRANSACTIONS, the request waits here, but for one:
// a commit that may have overtaken its records (KIP-890: they are what adds partitions). They come when it is answered, not before.
func (m *meta) judge(producer int64, epoch int16, commit, tv2 bool, now int64) (verdict, int16) {
	same := m.producer == producer && m.epoch == epoch
	v2 := m.version >= 2 && m.lastEpoch >= 0
	retry := v2 && m.producer == producer && m.lastEpoch == epoch && int32(m.epoch) == int32(epoch)+1 ||
		v2 && m.previous == producer && m.lastEpoch == epoch && exhausted(epoch) && m.epoch == 0 && m.phase.complete()
	if p, e := m.after(); m.phase.preparing() && p == producer && e == epoch && m.next >= 0 {
		same = true
	}
	switch {
	case m.producer != producer && !retry && !same:
		return refuse, kerr.InvalidProducerIDMapping.Code
	case !same && !retry:
		return refuse, kerr.ProducerFenced.Code
	}
	if !tv2 && same {
		retry = retry || m.phase != ongoing // with TV1 the epoch does not tell
	}
	matches := m.phase == prepareCommit && commit || m.phase == prepareAbort && !commit ||
		m.phase == completeCommit && commit || m.phase == completeAbort && !commit
	switch {
	case m.phase == ongoing:
		if !same {
			return refuse, kerr.ProducerFenced.Code // of the transaction before: this one is not its
		}
		return finish, 0
	case m.phase == empty:
		if !same {
			return refuse, kerr.ProducerFenced.Code
		}
		if tv2 && !commit {
			return bump, 0
		}
		return refuse, kerr.InvalidTxnState.Code
	case retry && matches:
		return answer, 0
	case retry:
		return refuse, kerr.InvalidTxnState.Code
	case commit && (m.phase.preparing() || now-m.updated < overtakenFor):
		return refuse, kerr.ConcurrentTransactions.Code
	case m.phase.preparing():
		return await, 0 // the next transaction's, which must be empty
	case commit:
		return refuse, kerr.InvalidTxnState.Code
	}
	return bump, 0
}

// overtakenFor is for how long after a transaction's end a commit of nothing is taken for one that has overtaken its records, in ms: Kafka's
// Java client sends such a one when it begins and commits a transaction while its sender thread is just done with the last.
// INVALID_TXN_STATE is the end of that producer. Kafka is as patient as long as it writes markers.
const overtakenFor = 1000

// ended is the state in which the decision is made and not yet told to the partitions. fresh is a producer id for the
// case that epochs run out.
func (m *meta) ended(commit, tv2 bool, fresh int64, now int64) meta {
	next := *m
	next.phase, next.updated, next.version, next.next = prepareAbort, now, 0, -1
	if commit {
		next.phase = prepareCommit
	}
	if tv2 {
		next.version, next.lastEpoch, next.epoch = 2, m.epoch, m.epoch+1 // KIP-890: fences what is still on its way
		if exhausted(m.epoch) {
			next.next = fresh
		}
	}
	return next
}

// completed is the state after the markers.
func (m *meta) completed(now int64) meta {
	next := *m
	next.phase, next.parts, next.updated = completeAbort, nil, now
	if m.phase == prepareCommit {
		next.phase = completeCommit
	}
	next.previous = m.producer
	if m.next >= 0 {
		next.producer, next.epoch, next.next = m.next, 0, -1
	}
	return next
}

// fence aborts the ongoing transaction on the coordinator's own account. The epoch rises, and no retry is recognised:
// the producer that had it can write nothing more (invariant 7). The shard is locked.
func (t *txn) fence() error {
	next := t.cur
	next.phase, next.updated, next.version, next.next, next.lastEpoch = prepareAbort, t.state.now(), 2, -1, -1
	if next.epoch < math.MaxInt16 {
		next.epoch++
	}
	return t.write(next, func(err error) {
		if err == nil {
			t.finish()
		}
	})
}

// cutShort says that fence ended the last transaction: an abort of its producer would have left lastEpoch, or an older version.
func (m *meta) cutShort() bool { return m.phase == completeAbort && m.version >= 2 && m.lastEpoch < 0 }

// timedOut aborts a transaction that has been open for too long: it holds up every read_committed reader of its partitions.
func (t *txn) timedOut() {
	if t.cur.phase != ongoing {
		return
	}
	if t.busy {
		t.timer.Arm(100 * time.Millisecond)
		return
	}
	t.state.c.log.Warn("transaction aborted: it was open for longer than its transaction.timeout.ms",
		"transactional_id", t.id, "producer_id", t.cur.producer, "epoch", t.cur.epoch,
		"timeout", time.Duration(t.cur.timeout)*time.Millisecond, "partitions", len(t.cur.parts))
	if err := t.fence(); err != nil {
		t.state.c.log.Error("transaction that timed out could not be aborted; trying again", "transactional_id", t.id, "error", err)
		t.timer.Arm(time.Second)
	}
}

// finish writes the markers of the decision that cur is, in the background. The shard is locked.
func (t *txn) finish() {
	c, s, m := t.state.c, t.state, t.cur
	// The highest epoch is the one that fence cannot raise.
	p := statelog.Producer{ID: m.producer, Epoch: m.epoch, Bumped: m.version >= 2 && m.epoch < math.MaxInt16}
	number, coordinatorEpoch := s.shard.Number, s.shard.Epoch
	c.spawn(func() {
		if !c.mark(p, coordinatorEpoch, m.phase == prepareCommit, m.sorted(), func() bool { return s.gone() }) {
			return
		}
		for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
			s.shard.Mu.Lock()
			if s.shard.Dead() || t.busy || t.cur.phase != m.phase || t.cur.epoch != m.epoch || t.cur.producer != m.producer {
				s.unlock()
				return
			}
			next := t.cur.completed(s.now())
			// The next transaction's records come after this one in the log, so what they build on is never lost
			// without them: nobody has to wait until it is durable.
			err := s.shard.Append(statelog.NoProducer, []statelog.Record{next.record(t.id)}, func(int64, error) {})
			if err == nil {
				t.set(next)
				t.wake()
				s.unlock()
				return
			}
			s.unlock()
			c.log.Warn("end of a transaction was not written; trying again", "transactional_id", t.id, "partition", number, "error", err)
			if !c.pause(delay) {
				return
			}
		}
	})
}

// gone says that this node no longer coordinates the partition.
func (s *state) gone() bool {
	s.shard.Mu.Lock()
	defer s.unlock()
	return s.shard.Dead()
}
