package partition

import (
	"slices"

	"github.com/forebayhub/forebay/core/metadata"
)

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
	p.mu.Unlock()
	p.tell(acked, waiters)
}

// liftLocked raises the high watermark to the least durable end over the in-sync replicas
// and gives the acknowledgements that are due. It never lowers it (invariant 3). With one replica that is
// the log's own durable offset (invariant 1).
//
// The ISR here is the agreed one; a replica that is about to join counts from the moment it is proposed,
// once ISR changes are made here (the maximal ISR of Kafka's Partition.scala).
func (p *Partition) liftLocked() []*ack {
	if !p.term.Load().leading || p.mu.closed {
		return nil
	}
	hw := p.log.DurableOffset()
	for _, n := range p.mu.state.ISR {
		if n == p.node {
			continue
		}
		f := p.mu.followers[n]
		if f == nil {
			return nil // has not fetched in this epoch: nothing is known to be there
		}
		hw = min(hw, f.end)
	}
	if hw > p.hw.Load() {
		p.hw.Store(hw)
	}
	return p.mu.acks.below(p.hw.Load())
}

// fetched notes that a follower has everything below offset.
func (p *Partition) fetched(node metadata.NodeID, offset int64) {
	p.mu.Lock()
	if !slices.Contains(p.mu.state.Replicas, node) || node == p.node {
		p.mu.Unlock()
		return
	}
	f := p.mu.followers[node]
	if f == nil {
		f = &follower{}
		p.mu.followers[node] = f
	}
	f.end = offset
	before := p.hw.Load()
	acked := p.liftLocked()
	var waiters []*Waiter
	if p.hw.Load() > before {
		waiters = p.waitersLocked()
	}
	p.mu.Unlock()
	p.tell(acked, waiters)
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
type Waiter struct{ C chan struct{} }

// NewWaiter makes a Waiter.
func NewWaiter() *Waiter { return &Waiter{C: make(chan struct{}, 1)} }

// Watch wakes w when the high watermark or the last stable offset rises, or leadership changes.
func (p *Partition) Watch(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.waiters = append(p.mu.waiters, w)
}

// Unwatch undoes one Watch.
func (p *Partition) Unwatch(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.mu.waiters, w); at >= 0 {
		last := len(p.mu.waiters) - 1
		p.mu.waiters[at] = p.mu.waiters[last]
		p.mu.waiters[last] = nil
		p.mu.waiters = p.mu.waiters[:last]
	}
}

// waitersLocked copies the waiters, so that they can be woken without the lock.
func (p *Partition) waitersLocked() []*Waiter { return slices.Clone(p.mu.waiters) }
