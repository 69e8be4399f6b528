// Package partition is one replica's leader or follower state over a commitlog:
// high watermark, last stable offset, who waits for them.
package partition

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
)

// Partition is a replica on this node. All methods may be called concurrently.
//
// Lock order: appending, mu, then the log's own locks; callbacks (acknowledgements,
// waiters) are called with neither held.
type Partition struct {
	Topic   string
	TopicID metadata.TopicID
	Number  int32

	node    metadata.NodeID
	log     *commitlog.Log
	now     func() time.Time
	wish    func(*Partition)
	prepare func() error // makes the log's folder ours, before its first append
	hw      atomic.Int64 // never falls while the partition is open: invariant 3
	ready   atomic.Bool  // prepare has been done
	opened  atomic.Bool  // log is set

	// appending is held for reading by an append from the check of its epoch to its end,
	// so that nothing is appended under an epoch that is over.
	appending sync.RWMutex
	tails     atomic.Int32 // len(mu.tails), for appends

	mu struct {
		sync.Mutex
		state     metadata.Partition // as agreed
		minISR    int
		closed    bool
		followers map[metadata.NodeID]*follower // of the current leader epoch
		wished    *wished                       // an ISR change that may be agreed to at any time
		acks      ackQueue
		waiters   []*Waiter
		tails     []*Waiter // those of followers
		synced    []*Waiter // woken when the durable end has risen
	}
	// term is what readers need of state, without the lock.
	term atomic.Pointer[term]
}

// term is this node's part in one leader epoch.
type term struct {
	leading bool
	epoch   int32
	closed  bool
	start   int64 // a leader's log end when the epoch began: everything that was ever acknowledged lies below
}

// Errors by which a request is refused.
var (
	ErrNotLeader    = errors.New("not the leader of this partition") // NOT_LEADER_OR_FOLLOWER
	ErrFencedEpoch  = errors.New("leader epoch is older")            // FENCED_LEADER_EPOCH
	ErrUnknownEpoch = errors.New("leader epoch is newer")            // UNKNOWN_LEADER_EPOCH
	ErrNotEnough    = errors.New("not enough in-sync replicas")      // NOT_ENOUGH_REPLICAS
	// ErrNotEnoughAfter is an append that is in the log, but the ISR has become smaller than
	// min.insync.replicas before it was acknowledged.
	ErrNotEnoughAfter = errors.New("not enough in-sync replicas any more") // NOT_ENOUGH_REPLICAS_AFTER_APPEND
	// ErrNotYet is a question for the end of what may be read, which a new leader learns only from its followers (KIP-207).
	ErrNotYet = errors.New("the high watermark is not known yet") // OFFSET_NOT_AVAILABLE
)

// AnyEpoch is an expected leader epoch that matches all.
const AnyEpoch int32 = -1

// Options make a Partition.
type Options struct {
	Node   metadata.NodeID
	State  *metadata.Partition
	MinISR int
	// Open opens the log; advanced is for its Options.
	Open func(advanced func()) (*commitlog.Log, error)
	// Prepare is called before the first append, and again until it succeeds. Nil: nothing to do.
	Prepare func() error
	// HighWatermark is one that was checkpointed: a lower bound of what was readable.
	HighWatermark int64
	// Wish is called when another ISR is called for, with no lock held; it must not block. See Partition.Wish. Nil: none.
	Wish func(*Partition)
	Now  func() time.Time // nil: time.Now
}

// Open opens the log and takes the agreed state.
func Open(o Options) (*Partition, error) {
	p := &Partition{
		Topic: o.State.Topic, TopicID: o.State.TopicID, Number: o.State.Number,
		node: o.Node, prepare: o.Prepare, wish: o.Wish, now: o.Now,
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.term.Store(&term{epoch: -1})
	p.mu.followers = map[metadata.NodeID]*follower{}
	log, err := o.Open(p.advanced)
	if err != nil {
		return nil, err
	}
	p.log = log
	// What lay before the start was readable once, and so was what lies below a checkpoint (invariant 3).
	p.hw.Store(max(log.StartOffset(), min(o.HighWatermark, log.EndOffset())))
	p.ready.Store(o.Prepare == nil)
	p.opened.Store(true)
	p.Update(o.State, o.MinISR)
	return p, nil
}

// Update takes a newer agreed state. It waits for appends under way, which end in the page cache.
func (p *Partition) Update(state *metadata.Partition, minISR int) {
	p.appending.Lock()
	p.mu.Lock()
	p.mu.minISR = minISR
	if p.mu.state.PartitionEpoch > state.PartitionEpoch || p.mu.closed {
		p.mu.Unlock()
		p.appending.Unlock()
		return
	}
	before := p.term.Load()
	now := &term{leading: state.Leader == p.node, epoch: int32(state.LeaderEpoch)}
	p.forgetLocked(state)
	p.mu.state = *state
	var lost, few []*ack
	changed := before.leading != now.leading || before.epoch != now.epoch
	if changed {
		p.mu.followers = map[metadata.NodeID]*follower{}
		if now.leading {
			// A failed log refuses, as it will refuse every append: nothing begins in it then.
			_ = p.log.BeginEpoch(now.epoch)
			now.start = p.log.EndOffset()
			for _, n := range state.ISR { // they have their time to show up
				p.mu.followers[n] = &follower{end: -1, epoch: -1, caughtUp: p.now()}
			}
		}
		p.term.Store(now)
		if before.leading {
			// Another epoch may cut the log back: who waits must ask its leader.
			lost = p.mu.acks.drain()
		}
	}
	hw := p.hw.Load()
	acked := p.liftLocked()
	if p.underMinLocked() {
		few = p.mu.acks.drain()
	}
	var waiters []*Waiter
	if changed || p.hw.Load() > hw {
		waiters = p.waitersLocked()
	}
	if changed {
		waiters = append(waiters, p.mu.tails...)
		waiters = append(waiters, p.mu.synced...)
	}
	p.mu.Unlock()
	p.appending.Unlock()
	finish(lost, ErrNotLeader)
	finish(few, ErrNotEnoughAfter)
	p.tell(acked, waiters)
}

// Close ends all waiting. The log stays open: it is the owner's.
func (p *Partition) Close() {
	p.appending.Lock()
	defer p.appending.Unlock()
	p.mu.Lock()
	p.mu.closed = true
	p.term.Store(&term{epoch: int32(p.mu.state.LeaderEpoch), closed: true})
	lost, waiters := p.mu.acks.drain(), slices.Concat(p.mu.waiters, p.mu.tails, p.mu.synced)
	p.mu.Unlock()
	finish(lost, ErrNotLeader)
	p.tell(nil, waiters)
}

// Log gives the log for what needs no leadership: sizes, epochs, producers.
func (p *Partition) Log() *commitlog.Log { return p.log }

// Leader says whether this node leads, and the leader epoch.
func (p *Partition) Leader() (leading bool, epoch int32) {
	t := p.term.Load()
	return t.leading, t.epoch
}

// check refuses who does not know the current leader epoch (KIP-320).
func (p *Partition) check(epoch int32) (*term, error) {
	t := p.term.Load()
	switch {
	case epoch != AnyEpoch && epoch < t.epoch:
		return t, ErrFencedEpoch
	case epoch != AnyEpoch && epoch > t.epoch:
		return t, ErrUnknownEpoch
	case !t.leading:
		return t, ErrNotLeader
	}
	return t, nil
}

// Append appends batches as the leader. allISR refuses when the ISR is smaller than min.insync.replicas.
func (p *Partition) Append(b []byte, epoch int32, origin commitlog.Origin, allISR bool) (commitlog.Appended, error) {
	return p.append(epoch, allISR, func(leaderEpoch int32) (commitlog.Appended, error) { return p.log.Append(b, leaderEpoch, origin) })
}

// AppendGuarded is Append of a client's or a coordinator's batch under a guard of the log's Verify.
func (p *Partition) AppendGuarded(b []byte, epoch int32, origin commitlog.Origin, g commitlog.Guard, allISR bool) (commitlog.Appended, error) {
	return p.append(epoch, allISR, func(leaderEpoch int32) (commitlog.Appended, error) {
		return p.log.AppendGuarded(b, leaderEpoch, origin, g)
	})
}

func (p *Partition) append(epoch int32, allISR bool, write func(leaderEpoch int32) (commitlog.Appended, error)) (commitlog.Appended, error) {
	if !p.ready.Load() {
		if err := p.prepareOnce(); err != nil {
			return commitlog.Appended{}, err
		}
	}
	p.appending.RLock()
	defer p.appending.RUnlock()
	t, err := p.check(epoch)
	if err != nil {
		return commitlog.Appended{}, err
	}
	if allISR {
		p.mu.Lock()
		few := p.underMinLocked()
		p.mu.Unlock()
		if few {
			return commitlog.Appended{}, ErrNotEnough
		}
	}
	a, err := write(t.epoch)
	a.Epoch = t.epoch
	if err == nil && p.tails.Load() > 0 {
		p.mu.Lock()
		tails := slices.Clone(p.mu.tails)
		p.mu.Unlock()
		p.tell(nil, tails)
	}
	return a, err
}

func (p *Partition) prepareOnce() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready.Load() {
		return nil
	}
	if p.mu.closed {
		return ErrNotLeader // the folder's name may be another topic's by now
	}
	if err := p.prepare(); err != nil {
		return err
	}
	p.ready.Store(true)
	return nil
}

// ISR is the agreed in-sync replicas.
func (p *Partition) ISR() []metadata.NodeID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.state.ISR
}
