package partition

import "slices"

// advanced is called by the log after its durable offset has risen.
func (p *Partition) advanced() {
	if !p.opened.Load() {
		return // Update looks at the log once it is open
	}
	p.mu.Lock()
	before := p.hw.Load()
	acked := p.liftLocked()
	var waiters []*Waiter
	if p.hw.Load() > before {
		waiters = p.waitersLocked()
	}
	waiters = append(waiters, p.mu.synced...)
	p.mu.Unlock()
	p.tell(acked, waiters)
}

// underMinLocked says that this node leads fewer in-sync replicas than the topic asks for. A
// topic cannot ask for more than it has replicas; under reassignment, than it had or is to have: writes do not stop for that.
func (p *Partition) underMinLocked() bool {
	return p.term.Load().leading && !p.enoughLocked(len(p.mu.state.ISR))
}

// enoughLocked says that an ISR of so many acknowledges records.
func (p *Partition) enoughLocked(members int) bool {
	return members >= p.mu.minISR || members >= min(len(p.mu.state.Origin()), len(p.mu.state.Target()))
}

// liftLocked raises the high watermark to the least durable end over the in-sync replicas
// and gives the acknowledgements that are due. It never lowers it (invariant 3). With one replica that is
// the log's own durable offset (invariant 1).
//
// A replica that is about to join the ISR counts from the moment that it is wished for, one that is about to leave until that is agreed: the
// maximal ISR. Below min.insync.replicas nothing is lifted (KIP-966): what becomes readable then could be lost with one machine.
func (p *Partition) liftLocked() []*ack {
	if !p.term.Load().leading || p.mu.closed || p.underMinLocked() {
		return nil
	}
	hw := p.log.DurableOffset()
	for _, n := range p.mu.state.ISR {
		hw = min(hw, p.endLocked(n))
	}
	if w := p.mu.wished; w != nil {
		for _, n := range w.isr {
			hw = min(hw, p.endLocked(n))
		}
	}
	if hw > p.hw.Load() {
		p.hw.Store(hw)
	}
	return p.mu.acks.below(p.hw.Load())
}

// tell calls back, with no lock held.
func (p *Partition) tell(acked []*ack, waiters []*Waiter) {
	finish(acked, nil)
	for _, w := range waiters {
		select {
		case w.C <- struct{}{}:
		default: // woken already
		}
	}
}

// HighWatermark is the end of what may be read.
func (p *Partition) HighWatermark() int64 { return p.hw.Load() }

// LastStable is the end of what read_committed may see.
func (p *Partition) LastStable() int64 { return p.log.LastStable(p.hw.Load()) }

// Waiter is woken when a partition that it watches may have something new. C has room for one.
type Waiter struct {
	C chan struct{}
	// Tail is a follower's wait: for the end of the log, not for the high watermark. It does not change while anything is watched.
	Tail bool
}

// NewWaiter makes a Waiter.
func NewWaiter() *Waiter { return &Waiter{C: make(chan struct{}, 1)} }

// Watch wakes w when the high watermark or the last stable offset rises or a follower's log starts later (a Tail: when something is appended, or deleted by hand), or
// leadership changes.
func (p *Partition) Watch(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Tail {
		p.mu.tails = append(p.mu.tails, w)
		p.tails.Store(int32(len(p.mu.tails)))
		return
	}
	p.mu.waiters = append(p.mu.waiters, w)
}

// Unwatch undoes one Watch.
func (p *Partition) Unwatch(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Tail {
		p.mu.tails = without(p.mu.tails, w)
		p.tails.Store(int32(len(p.mu.tails)))
		return
	}
	p.mu.waiters = without(p.mu.waiters, w)
}

// without takes one w out of list, whose order does not matter.
func without(list []*Waiter, w *Waiter) []*Waiter {
	at := slices.Index(list, w)
	if at < 0 {
		return list
	}
	last := len(list) - 1
	list[at] = list[last]
	list[last] = nil
	return list[:last]
}

// waitersLocked copies the waiters, so that they can be woken without the lock.
func (p *Partition) waitersLocked() []*Waiter { return slices.Clone(p.mu.waiters) }
