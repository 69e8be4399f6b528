package statelog

import (
	"fmt"
	"sync"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
)

// State is what a coordinator keeps of one partition. Replay is called while the partition is loaded, by one
// goroutine; the others are called with the Shard's lock held.
type State interface {
	// Replay takes a batch of the log into the state. An error fails the load.
	Replay(Batch) error
	// Loaded is called once when all has been replayed: start timers, resume work.
	Loaded()
	// Resigned is called once when this node stops coordinating the partition: answer whoever waits.
	Resigned()
}

// Shard is one partition of a coordinator's topic that this node leads and has replayed. Mu guards it and the State.
// Mu may be held over Append, which is a write to the page cache, and over nothing that waits.
type Shard struct {
	Mu     sync.Mutex
	Number int32
	Epoch  int32 // the leader epoch: coordinator epoch
	State  State

	keeper  *Keeper
	store   Store
	loaded  bool
	dead    bool
	end     int64 // offset after the last appended record
	pending []pending
}

// pending is an append that is not acknowledged.
type pending struct {
	last  int64
	apply func(offset int64, err error)
}

// Append writes records in one batch and returns at once. apply is called, with Mu held and in the order of the log,
// when the batch is durable on every in-sync replica, with its last offset (the i-th of n records lies at
// offset-n+1+i), or with the error that it may not be. An error from Append itself means that nothing was written
// and apply is not called. Mu is held by the caller.
func (s *Shard) Append(p Producer, records []Record, apply func(offset int64, err error)) error {
	return s.AppendGuarded(p, commitlog.Guard{}, records, apply)
}

// AppendGuarded is Append of records of p's transaction under a guard of Verify.
func (s *Shard) AppendGuarded(p Producer, g commitlog.Guard, records []Record, apply func(offset int64, err error)) error {
	batch, err := EncodeBatch(s.keeper.now().UnixMilli(), p, records...)
	if err != nil {
		return err
	}
	if len(batch) > batchLimit {
		return fmt.Errorf("%w: a coordinator's batch of %d bytes, which may have %d", commitlog.ErrTooLarge, len(batch), batchLimit)
	}
	return s.append(func() (int64, error) { return s.store.Append(batch, s.Epoch, g) }, apply)
}

// Verify is commitlog.Log's, for AppendGuarded: it is called before the transaction's coordinator is asked. Mu is held by the caller.
func (s *Shard) Verify(p Producer) (g commitlog.Guard, ask bool) { return s.store.Verify(p) }

// Unverified is commitlog.Log's. Mu is held by the caller.
func (s *Shard) Unverified(p Producer, g commitlog.Guard) { s.store.Unverified(p, g) }

// Settled calls fn, with Mu held, once everything that has been appended so far is durable: at once when it is. So an
// answer that writes nothing tells nothing that a crash could take back. Mu is held by the caller.
func (s *Shard) Settled(fn func(err error)) {
	switch n := len(s.pending); {
	case s.dead:
		fn(ErrNotCoordinator)
	case n == 0:
		fn(nil)
	default:
		s.pending = append(s.pending, pending{last: s.pending[n-1].last, apply: func(_ int64, err error) { fn(err) }})
	}
}

// AppendMarker is Append for the control batch that ends a transaction.
func (s *Shard) AppendMarker(p Producer, coordinatorEpoch int32, commit bool, apply func(offset int64, err error)) error {
	return s.append(func() (int64, error) {
		last, _, err := s.store.AppendMarker(EncodeMarker(s.keeper.now().UnixMilli(), p, coordinatorEpoch, commit), s.Epoch, p)
		return last, err
	}, apply)
}

func (s *Shard) append(write func() (last int64, err error), apply func(int64, error)) error {
	if s.dead {
		return ErrNotCoordinator
	}
	last, err := write()
	if err != nil {
		return err
	}
	s.end = last + 1
	s.pending = append(s.pending, pending{last: last, apply: apply})
	// done may be called with locks of the partition held, and at once: it only leaves a note for the Keeper's loop.
	s.store.WhenAcked(last, s.Epoch, func(err error) { s.keeper.note(ack{shard: s, last: last, err: err}) })
	return nil
}

// Dead says that this node no longer coordinates the partition; Mu is held by the caller.
func (s *Shard) Dead() bool { return s.dead }

// acked applies what the log has acknowledged, in the order of the log.
func (s *Shard) acked(last int64) {
	n := 0
	for n < len(s.pending) && s.pending[n].last <= last {
		n++
	}
	done := s.pending[:n:n]
	s.pending = s.pending[n:]
	if len(s.pending) == 0 {
		s.pending = nil
	}
	for _, p := range done {
		p.apply(p.last, nil)
	}
}

// resign fails what is pending and ends the state; Mu is held.
func (s *Shard) resign() {
	if s.dead {
		return
	}
	s.dead = true
	for _, p := range s.pending {
		p.apply(p.last, ErrNotCoordinator)
	}
	s.pending = nil
	if s.loaded {
		s.State.Resigned()
	}
}

// Timer calls fire, with the Shard's lock held, once its time has come. All methods want the Shard's lock.
type Timer struct {
	shard *Shard
	fire  func()
	at    time.Time // guarded by the lock of timers too
	armed bool
	index int // in the heap; -1: not there. Guarded by the lock of timers
}

// NewTimer makes a Timer that is not armed.
func (s *Shard) NewTimer(fire func()) *Timer { return &Timer{shard: s, fire: fire, index: -1} }

// Arm sets or moves the time.
func (t *Timer) Arm(d time.Duration) {
	t.armed = true
	t.shard.keeper.timers.set(t, t.shard.keeper.now().Add(d))
}

// Disarm forgets it.
func (t *Timer) Disarm() {
	if t.armed {
		t.armed = false
		t.shard.keeper.timers.drop(t)
	}
}

// Armed says whether it will fire.
func (t *Timer) Armed() bool { return t.armed }
