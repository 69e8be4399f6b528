package txn

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/statelog"
)

// state is the transactional ids of one partition of __transaction_state.
type state struct {
	c      *Coordinator
	shard  *statelog.Shard
	txns   map[string]*txn
	expiry *statelog.Timer
}

// txn is one transactional id. It is guarded by its shard's lock.
type txn struct {
	id      string
	state   *state
	cur     meta
	busy    bool          // a change of cur is being written
	adding  bool          // and it only adds partitions
	changed chan struct{} // closed when cur or busy change; nil: nobody waits
	timer   *statelog.Timer
}

func (s *state) unlock() { s.shard.Mu.Unlock() }

func (s *state) now() int64 { return s.c.keeper.Now().UnixMilli() }

func (s *state) add(id string, m meta) *txn {
	t := &txn{id: id, state: s, cur: m}
	t.timer = s.shard.NewTimer(t.timedOut)
	s.txns[id] = t
	return t
}

// Replay takes a batch of the log into the state.
func (s *state) Replay(b statelog.Batch) error {
	if b.Control {
		return nil
	}
	for _, r := range b.Records {
		id, m, ok, err := decode(r)
		if err != nil {
			return err
		}
		switch {
		case !ok:
		case m == nil:
			delete(s.txns, id)
		default:
			s.add(id, *m)
		}
	}
	return nil
}

// Loaded resumes what the last coordinator had decided, and starts the clocks of what it had not.
func (s *state) Loaded() {
	for _, id := range slices.Sorted(maps.Keys(s.txns)) { // the same log is taken up in the same way
		t := s.txns[id]
		if t.cur.phase.preparing() {
			t.finish()
		}
		t.clock()
	}
	s.expiry = s.shard.NewTimer(s.expire)
	s.expiry.Arm(s.c.o.ExpiryInterval)
}

// Resigned lets whoever waits look again, and find that this is not the coordinator.
func (s *state) Resigned() {
	s.expiry.Disarm()
	for _, t := range s.txns {
		t.timer.Disarm()
		t.wake()
	}
}

// clock arms the timeout of an ongoing transaction.
func (t *txn) clock() {
	if t.cur.phase != ongoing {
		t.timer.Disarm()
		return
	}
	end := time.UnixMilli(t.cur.start).Add(time.Duration(t.cur.timeout) * time.Millisecond)
	t.timer.Arm(end.Sub(t.state.c.keeper.Now()))
}

func (t *txn) set(m meta) {
	restart := t.cur.phase != m.phase || t.cur.start != m.start || t.cur.timeout != m.timeout
	t.cur = m
	if restart {
		t.clock()
	}
}

func (t *txn) wake() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// write makes next the current state once it is durable, and then tells.
func (t *txn) write(next meta, then func(error)) error {
	t.busy = true
	t.adding = next.phase == ongoing
	err := t.state.shard.Append(statelog.NoProducer, []statelog.Record{next.record(t.id)}, func(_ int64, err error) {
		t.busy = false
		if err == nil {
			t.set(next)
		}
		t.wake()
		then(err)
	})
	if err != nil {
		t.busy = false
	}
	return err
}

// writeAndWait is write for a handler: it unlocks, and waits until next is durable.
func (t *txn) writeAndWait(ctx context.Context, next meta, then func()) int16 {
	done := make(chan error, 1)
	err := t.write(next, func(err error) {
		if err == nil && then != nil {
			then()
		}
		done <- err
	})
	t.state.unlock()
	if err != nil {
		return codeOf(err)
	}
	return codeOf(t.state.c.outcome(ctx, done))
}

// parking is the patience of one request.
type parking struct {
	ctx   context.Context
	c     *Coordinator
	limit <-chan time.Time // nil until it has to wait
}

func (c *Coordinator) park(ctx context.Context) *parking { return &parking{ctx: ctx, c: c} }

// wait unlocks t's shard and waits until t changes. When patience is over it is CONCURRENT_TRANSACTIONS: Kafka's clients
// then wait 20 ms and more, and ask again.
func (p *parking) wait(t *txn) int16 {
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	changed := t.changed
	t.state.unlock()
	if p.limit == nil {
		p.limit = statelog.After(p.c.turns, p.c.o.ParkTime)
	}
	if _, err := statelog.Await(p.ctx, p.c.turns, changed, p.limit); err != nil {
		return kerr.ConcurrentTransactions.Code
	}
	return 0
}

// lock finds the state of a transactional id and locks its shard; the caller unlocks.
func (c *Coordinator) lock(ctx context.Context, id string) (*state, int16) {
	s, err := c.keeper.Lock(ctx, id)
	if err != nil {
		return nil, codeOf(err)
	}
	return s.State.(*state), 0
}

// expire forgets transactional ids that nobody has used for long.
func (s *state) expire() {
	s.expiry.Arm(s.c.o.ExpiryInterval)
	before := s.now() - s.c.o.IDExpiry.Milliseconds()
	for _, id := range slices.Sorted(maps.Keys(s.txns)) {
		t := s.txns[id]
		if t.busy || t.cur.updated > before || t.cur.phase != empty && !t.cur.phase.complete() {
			continue
		}
		t.busy = true
		err := s.shard.Append(statelog.NoProducer, []statelog.Record{tombstone(id)}, func(_ int64, err error) {
			t.busy = false
			if err == nil {
				delete(s.txns, id)
			}
			t.wake()
		})
		if err != nil {
			t.busy = false
			s.c.log.Warn("expired transactional ids were not removed", "error", err)
			return
		}
	}
}
