package partition

// ack is one appender's wait for the high watermark.
type ack struct {
	offset int64
	done   func(error)
}

// ackQueue holds waits in the order of their offsets. Appends come in that order
// nearly always, so adding is O(1) in practice and taking is O(taken). Its length is bounded by the requests in flight, which the
// server bounds in bytes (invariant 9).
type ackQueue struct {
	list []*ack
	head int
}

func (q *ackQueue) add(a *ack) {
	q.list = append(q.list, a)
	for i := len(q.list) - 1; i > q.head && q.list[i-1].offset > a.offset; i-- {
		q.list[i], q.list[i-1] = q.list[i-1], q.list[i]
	}
}

// below takes the waits for offsets under hw.
func (q *ackQueue) below(hw int64) []*ack {
	n := q.head
	for n < len(q.list) && q.list[n].offset < hw {
		n++
	}
	if n == q.head {
		return nil
	}
	taken := append([]*ack(nil), q.list[q.head:n]...)
	clear(q.list[q.head:n])
	q.head = n
	if q.head*2 >= len(q.list) {
		m := copy(q.list, q.list[q.head:])
		clear(q.list[m:])
		q.list, q.head = q.list[:m], 0
	}
	return taken
}

// drain takes all.
func (q *ackQueue) drain() []*ack {
	taken := append([]*ack(nil), q.list[q.head:]...)
	q.list, q.head = nil, 0
	return taken
}

func (q *ackQueue) remove(a *ack) {
	for i := q.head; i < len(q.list); i++ {
		if q.list[i] == a {
			copy(q.list[i:], q.list[i+1:])
			q.list[len(q.list)-1] = nil
			q.list = q.list[:len(q.list)-1]
			return
		}
	}
}

func finish(acks []*ack, err error) {
	for _, a := range acks {
		a.done(err)
	}
}

// WhenAcked calls done(nil) once the high watermark is above offset: the record that was appended
// there in a leader epoch (Appended.Epoch) is durable on every in-sync replica. It calls done with an error when this node stops leading in that epoch first, also
// where that was before the call: what lies at offset since may be another's record. So it does when the ISR is
// smaller than min.insync.replicas. It may
// call done at once, from this goroutine, or later from another; done must not block. cancel forgets it; done
// may be on its way already.
func (p *Partition) WhenAcked(offset int64, epoch int32, done func(error)) (cancel func()) {
	if p.hw.Load() > offset && p.leads(epoch) { // in this order: a watermark of a later epoch does not count
		done(nil)
		return func() {}
	}
	a := &ack{offset: offset, done: done}
	p.mu.Lock()
	var now bool
	var err error
	switch {
	case !p.leads(epoch):
		now, err = true, ErrNotLeader
	case p.hw.Load() > offset:
		now = true
	case p.underMinLocked():
		now, err = true, ErrNotEnoughAfter
	default:
		p.mu.acks.add(a)
	}
	p.mu.Unlock()
	if now {
		done(err)
		return func() {}
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mu.acks.remove(a)
	}
}

// leads says that this node leads in an epoch.
func (p *Partition) leads(epoch int32) bool {
	t := p.term.Load()
	return t.leading && (epoch == AnyEpoch || epoch == t.epoch)
}
