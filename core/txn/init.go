package txn

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerID gives a producer its id and epoch. For a transactional id it fences whoever used it before and first
// aborts what is open.
func (c *Coordinator) InitProducerID(ctx context.Context, req *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.Version = req.Version
	resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = c.init(ctx, req)
	if resp.ErrorCode = c.sure(resp.ErrorCode); resp.ErrorCode != 0 {
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		if req.Version < 4 && resp.ErrorCode == kerr.ProducerFenced.Code {
			resp.ErrorCode = kerr.InvalidProducerEpoch.Code
		}
	}
	return resp
}

func (c *Coordinator) init(ctx context.Context, req *kmsg.InitProducerIDRequest) (int64, int16, int16) {
	if req.Version < 3 {
		req.ProducerID, req.ProducerEpoch = -1, -1
	}
	if (req.ProducerID < 0) != (req.ProducerEpoch < 0) {
		return -1, -1, kerr.InvalidRequest.Code
	}
	if req.TransactionalID == nil {
		id, err := c.producerID(ctx)
		if err != nil {
			c.log.Warn("no producer ids", "error", err)
			return -1, -1, kerr.CoordinatorNotAvailable.Code
		}
		return id, 0, 0
	}
	if *req.TransactionalID == "" {
		return -1, -1, kerr.InvalidRequest.Code
	}
	if req.TransactionTimeoutMillis <= 0 || int64(req.TransactionTimeoutMillis) > c.o.MaxTimeout.Milliseconds() {
		return -1, -1, kerr.InvalidTransactionTimeout.Code
	}
	w := initWish{id: *req.TransactionalID, timeout: req.TransactionTimeoutMillis, producer: req.ProducerID, epoch: req.ProducerEpoch, fresh: -1}
	patience := c.park(ctx)
	for {
		s, code := c.lock(ctx, w.id)
		if code != 0 {
			return -1, -1, code
		}
		t := s.txns[w.id]
		if w.fresh < 0 && (t == nil || exhausted(t.cur.epoch)) {
			s.unlock()
			var err error
			if w.fresh, err = c.producerID(ctx); err != nil {
				c.log.Warn("no producer ids", "error", err)
				return -1, -1, kerr.CoordinatorNotAvailable.Code
			}
			continue
		}
		if t == nil {
			t = s.add(w.id, meta{producer: w.fresh, previous: -1, next: -1, epoch: -1, lastEpoch: -1, phase: empty, start: -1, updated: s.now()})
		}
		if t.busy || t.cur.phase.preparing() {
			if code := patience.wait(t); code != 0 {
				return -1, -1, code
			}
			continue
		}
		if t.cur.phase == ongoing {
			if w.epoch >= 0 {
				if w.producer != t.cur.producer || w.epoch != t.cur.epoch {
					s.unlock()
					return -1, -1, kerr.ProducerFenced.Code
				}
				w.epoch++ // the abort bumps it, on behalf of this very producer
			}
			c.log.Info("transaction aborted: its transactional id was initialised anew", "transactional_id", w.id, "producer_id", t.cur.producer)
			if err := t.fence(); err != nil {
				s.unlock()
				return -1, -1, codeOf(err)
			}
			if code := patience.wait(t); code != 0 {
				return -1, -1, code
			}
			continue
		}
		next, code := t.cur.initialised(w, s.now())
		if code != 0 {
			s.unlock()
			return -1, -1, code
		}
		return next.producer, next.epoch, t.writeAndWait(ctx, next, nil)
	}
}

type initWish struct {
	id       string
	timeout  int32
	producer int64 // the id and epoch that the producer has (KIP-360); -1: none
	epoch    int16
	fresh    int64 // a new producer id, should one be needed
}

// initialised is the state after InitProducerId, or the code that refuses it. TransactionCoordinator and
// TransactionMetadata in Apache Kafka have the same table.
func (m *meta) initialised(w initWish, now int64) (meta, int16) {
	known := w.producer >= 0
	if known && m.epoch >= 0 && w.producer != m.producer && !(w.producer == m.previous && exhausted(w.epoch)) {
		return meta{}, kerr.ProducerFenced.Code
	}
	next := *m
	next.phase, next.parts, next.start, next.updated, next.timeout, next.next, next.version = empty, nil, -1, now, w.timeout, -1, 0
	switch {
	case exhausted(m.epoch) && (!known || w.epoch == m.epoch):
		next.previous, next.producer, next.epoch, next.lastEpoch = m.producer, w.fresh, 0, -1
		if known {
			next.lastEpoch = m.epoch
		}
	case !known:
		next.previous, next.epoch, next.lastEpoch = m.producer, m.epoch+1, -1
	case m.epoch < 0 || w.epoch == m.epoch:
		next.previous, next.epoch, next.lastEpoch = m.producer, m.epoch+1, m.epoch
	case m.lastEpoch >= 0 && w.epoch == m.lastEpoch:
		// A retry whose first answer was lost. Nobody else can have come in between: that would have set lastEpoch to -1.
	case m.cutShort() && m.producer == w.producer && int32(w.epoch)+1 == int32(m.epoch):
		// Its transaction ran out of time, and nobody has taken its place since: it goes on (KIP-588) with the epoch of the abort.
		next.lastEpoch = w.epoch
	default:
		return meta{}, kerr.ProducerFenced.Code
	}
	return next, 0
}
