package commitlog

import "github.com/forebayhub/forebay/core/record"

// Guard ties an append of a transactional batch to what the log knew when the coordinator was asked about the transaction (KIP-890): a
// marker that comes in between takes the guard's meaning away, and the append is refused instead of opening a transaction that
// nobody will end. Like Kafka's VerificationGuard. The zero Guard guards nothing.
type Guard struct{ n uint64 }

// ongoing is the guard of a batch whose transaction was open in the log: it must still be.
var ongoing = Guard{1}

// verification is one question to the coordinator about a producer, or several that overlap. It ends with the first batch of the
// transaction, or with a marker. lowest is the lowest sequence that was asked for: a higher one must not get in first, or the
// lower one never will (KAFKA-15459).
type verification struct {
	guard  Guard
	epoch  int16
	lowest int32
	time   int64 // ms
}

// Verify is called before the coordinator is asked about a transactional batch; ask is false when its transaction is
// open here already. The guard is for AppendGuarded.
func (l *Log) Verify(producer int64, epoch int16, sequence int32) (g Guard, ask bool) {
	l.mu.RLock()
	open := l.table.inTxn(producer, epoch)
	l.mu.RUnlock()
	if open {
		return ongoing, false
	}
	l.w.Lock()
	defer l.w.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.table
	if t.inTxn(producer, epoch) {
		return ongoing, false
	}
	v := t.verifying[producer]
	switch {
	case v == nil:
		l.guards++
		v = &verification{guard: Guard{ongoing.n + l.guards}, epoch: epoch, lowest: sequence}
		if t.verifying == nil {
			t.verifying = map[int64]*verification{}
		}
		t.verifying[producer] = v
	case epoch > v.epoch:
		v.epoch, v.lowest = epoch, sequence
	case epoch == v.epoch:
		v.lowest = min(v.lowest, sequence)
	}
	v.time = l.now().UnixMilli()
	return v.guard, true
}

// Decided says that a producer's transaction of an epoch has nothing open here and a marker behind it: it needs none. What was asked about it is then over
// as by a marker: an append under the old yes would open a transaction that its coordinator takes for ended.
func (l *Log) Decided(producer int64, epoch int16) bool {
	l.w.Lock()
	defer l.w.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.table.byID[producer]
	if p == nil || p.epoch < epoch || p.txnStart >= 0 || p.coord < 0 {
		return false
	}
	delete(l.table.verifying, producer)
	return true
}

// Unverified forgets a question that the coordinator has answered with a no that stays one.
func (l *Log) Unverified(producer int64, g Guard) {
	l.w.Lock()
	defer l.w.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.table.verifying[producer]; v != nil && v.guard == g {
		delete(l.table.verifying, producer)
	}
}

func (t *table) inTxn(producer int64, epoch int16) bool {
	p := t.byID[producer]
	return p != nil && p.txnStart >= 0 && p.epoch == epoch
}

// guarded says whether a transactional batch may be appended under g.
func (t *table) guarded(h *record.Header, g Guard) bool {
	if g == (Guard{}) || !h.Attributes.Transactional() {
		return true
	}
	if t.inTxn(h.ProducerID, h.ProducerEpoch) {
		return true
	}
	v := t.verifying[h.ProducerID]
	return v != nil && v.guard == g
}
