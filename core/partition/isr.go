package partition

import (
	"errors"
	"slices"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// follower is what the leader knows of a replica in its epoch: the fetch offset is the acknowledgement.
type follower struct {
	end   int64 // it has everything below, as durably as the topic promises; -1: it has not fetched yet
	start int64 // of its log
	epoch int64 // the registration under which it fetched; -1: not told

	// As Kafka's replica.lag.time.max.ms counts: caughtUp is when it last had all that the leader had.
	caughtUp  time.Time
	fetchedAt time.Time
	leaderEnd int64 // at fetchedAt
	sent      int64 // the offset that it was last sent records from, plus one; 0: it has asked for others since

	// stuck is where it gets no further: it was sent records from there, and from nowhere else since.
	stuck struct {
		at          int64
		since, last time.Time
		times       int
	}
}

// A replica that is sent the same records stuckTimes, and still after stuckAfter, cannot take them: its disk is full, as a rule. Kafka waits for replica.lag.time.max.ms. Who was sent
// them and has said nothing since may be slow.
const (
	stuckAfter = 5 * time.Second
	stuckTimes = 3
)

// isStuck says that a replica does not take what it is sent.
func (f *follower) isStuck() bool {
	return f.end == f.stuck.at && f.stuck.times >= stuckTimes && f.stuck.last.Sub(f.stuck.since) > stuckAfter
}

// wished is a change of the ISR that was asked for and may be agreed to at any time.
type wished struct {
	isr    []metadata.NodeID
	change metadata.ISRChange
	asking bool // on its way now
}

// endLocked is the end of a member of the ISR; the watermark cannot pass it.
func (p *Partition) endLocked(n metadata.NodeID) int64 {
	if n == p.node {
		return p.log.DurableOffset()
	}
	if f := p.mu.followers[n]; f != nil {
		return f.end
	}
	return -1 // has not fetched in this epoch: nothing is known to be there
}

// forgetLocked drops what a newer agreed state has overtaken.
func (p *Partition) forgetLocked(state *metadata.Partition) {
	if p.mu.wished != nil && state.PartitionEpoch > p.mu.wished.change.PartitionEpoch {
		p.mu.wished = nil
	}
	for _, n := range p.mu.state.ISR {
		if !slices.Contains(state.ISR, n) {
			// It comes back by what it fetches from now on, not by what it had: it may have lost that (invariant 4).
			delete(p.mu.followers, n)
		}
	}
	for _, n := range state.ISR {
		if slices.Contains(p.mu.state.ISR, n) {
			continue
		}
		if p.mu.followers[n] == nil {
			p.mu.followers[n] = &follower{end: -1, epoch: -1}
		}
		p.mu.followers[n].caughtUp = p.now()
	}
}

// replicates says whether a node follows this leader.
func (p *Partition) replicates(n metadata.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return n != p.node && slices.Contains(p.mu.state.Replicas, n)
}

// fetched notes that a follower has everything below an offset. What it asked for in an epoch t that has ended meanwhile tells nothing of this one's log. again
// says that it asks for what it was sent just now: it may not have been able to use it.
func (p *Partition) fetched(r *ReadRequest, t *term) (again bool) {
	p.mu.Lock()
	if t != p.term.Load() || !slices.Contains(p.mu.state.Replicas, r.Replica) || r.Replica == p.node || !t.leading {
		p.mu.Unlock()
		return false
	}
	f := p.mu.followers[r.Replica]
	if f == nil {
		f = &follower{epoch: -1}
		p.mu.followers[r.Replica] = f
	}
	if r.NodeEpoch >= 0 && r.NodeEpoch < f.epoch {
		p.mu.Unlock()
		return false // from before it was registered anew
	}
	now, end := p.now(), p.log.EndOffset()
	if r.Offset > end {
		p.mu.Unlock()
		return false // an empty log that begins beyond this one's end: it has nothing of what will be appended here before that
	}
	again, f.sent = f.sent == r.Offset+1, 0
	switch {
	case r.Offset >= end:
		f.caughtUp = now
	case !f.fetchedAt.IsZero() && r.Offset >= f.leaderEnd:
		f.caughtUp = f.fetchedAt
	}
	before, deleted := p.hw.Load(), r.LogStart > f.start // for who waits in AwaitDeleted
	f.end, f.start, f.epoch, f.fetchedAt, f.leaderEnd = r.Offset, r.LogStart, r.NodeEpoch, now, end
	acked := p.liftLocked()
	var waiters []*Waiter
	if p.hw.Load() > before || deleted {
		waiters = p.waitersLocked()
	}
	joins := p.wish != nil && p.mu.wished == nil && p.joinsLocked(r.Replica, f, t)
	p.mu.Unlock()
	p.tell(acked, waiters)
	if joins {
		p.wish(p)
	}
	return again
}

// gave notes what a follower is sent.
func (p *Partition) gave(r *ReadRequest) {
	p.mu.Lock()
	f := p.mu.followers[r.Replica]
	if f == nil {
		p.mu.Unlock()
		return
	}
	f.sent = r.Offset + 1
	now := p.now()
	if f.stuck.at != r.Offset || f.stuck.times == 0 {
		f.stuck.at, f.stuck.since, f.stuck.times = r.Offset, now, 0
	}
	f.stuck.last = now
	f.stuck.times++
	leaves := p.wish != nil && p.mu.wished == nil && f.isStuck() && p.sparesLocked(r.Replica, len(p.mu.state.ISR))
	p.mu.Unlock()
	if leaves {
		p.wish(p)
	}
}

// sparesLocked says that a member of an ISR of so many can leave it, and enough are left to acknowledge records.
func (p *Partition) sparesLocked(n metadata.NodeID, members int) bool {
	return slices.Contains(p.mu.state.ISR, n) && p.enoughLocked(members-1)
}

// preferred is the replica that a consumer near to it is to read from, if that is another one than this leader: in sync, and with that
// offset in its log; of several the one that has most. Like Kafka's RackAwareReplicaSelector (KIP-392).
func (p *Partition) preferred(offset int64, near func(metadata.NodeID) bool) (best metadata.NodeID, ok bool) {
	if !p.term.Load().leading || near(p.node) {
		return -1, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	best = -1
	var has *follower
	for _, n := range p.mu.state.ISR {
		f := p.mu.followers[n]
		if f == nil || f.end < offset || f.start > offset || !near(n) {
			continue
		}
		if has == nil || f.end > has.end || f.end == has.end && f.caughtUp.After(has.caughtUp) {
			best, has = n, f
		}
	}
	return best, has != nil
}

// joinsLocked says that a replica may come into the ISR: it has all that may be read, and
// all that was acknowledged before this epoch, so the watermark need not wait for it.
func (p *Partition) joinsLocked(n metadata.NodeID, f *follower, t *term) bool {
	return f.end >= max(p.hw.Load(), t.start) && !slices.Contains(p.mu.state.ISR, n)
}

// Nodes is what Wish needs to know of the others: the registration of a node that is not fenced.
type Nodes func(metadata.NodeID) (epoch int64, ok bool)

// Wish gives the change of the ISR that is called for, if any: replicas that have been behind for longer
// than lag leave, and at once those that cannot take what they are sent, as long as others are enough to acknowledge; those that have caught up join. Whoever takes it must tell Wished what became of it. From here on it counts as if it might be agreed to.
func (p *Partition) Wish(lag time.Duration, nodes Nodes) (c metadata.ISRChange, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.term.Load()
	if !t.leading || p.mu.closed {
		return c, false
	}
	if w := p.mu.wished; w != nil {
		if w.asking {
			return c, false
		}
		w.asking = true
		return w.change, true // the same again: nobody knows what became of it
	}
	s := &p.mu.state
	c = metadata.ISRChange{
		Topic: s.TopicID, Number: s.Number, Leader: p.node, LeaderEpoch: s.LeaderEpoch, PartitionEpoch: s.PartitionEpoch,
	}
	now, end := p.now(), p.log.EndOffset()
	var isr []metadata.NodeID
	members := len(s.ISR)
	for _, n := range s.Replicas {
		f, in := p.mu.followers[n], slices.Contains(s.ISR, n)
		epoch, alive := nodes(n)
		switch {
		case n == p.node:
			c.NodeEpoch = epoch
		case in && (f == nil || f.end < end && (now.Sub(f.caughtUp) > lag || f.isStuck() && p.sparesLocked(n, members))):
			members--
			continue
		case in && f.epoch >= 0:
			epoch = f.epoch
		case in:
		case f == nil || !p.joinsLocked(n, f, t) || !alive || f.epoch >= 0 && f.epoch != epoch:
			continue
		}
		isr = append(isr, n)
		c.ISR = append(c.ISR, metadata.ISRMember{ID: n, Epoch: epoch})
	}
	if len(isr) == len(s.ISR) && !slices.ContainsFunc(isr, func(n metadata.NodeID) bool { return !slices.Contains(s.ISR, n) }) {
		return c, false
	}
	p.mu.wished = &wished{isr: isr, change: c, asking: true}
	return c, true
}

// Wished tells what became of a change that Wish gave. Only a sure refusal takes it back: what nobody knows of may still
// be agreed to, so the watermark waits for those who might have joined.
func (p *Partition) Wished(c metadata.ISRChange, err error) {
	p.mu.Lock()
	w := p.mu.wished
	if w == nil || w.change.PartitionEpoch != c.PartitionEpoch || w.change.LeaderEpoch != c.LeaderEpoch {
		p.mu.Unlock()
		return // overtaken by a newer state
	}
	var acked []*ack
	var waiters []*Waiter
	switch {
	case err == nil, errors.Is(err, metadata.ErrStale):
		// The Image that tells it is on its way; until it comes the change stays.
	case errors.Is(err, metadata.ErrIneligible), errors.Is(err, metadata.ErrUnknownTopic):
		p.mu.wished = nil
		before := p.hw.Load()
		acked = p.liftLocked()
		if p.hw.Load() > before {
			waiters = p.waitersLocked()
		}
	default:
		w.asking = false
	}
	p.mu.Unlock()
	p.tell(acked, waiters)
}
