// Package statelog is what the group and the transaction coordinator have in
// common: state that lives in the partitions of an internal topic.
//
// A Keeper follows the partitions of the topic that this node leads. It replays
// each into a State before anybody is served from it, writes records for it,
// and applies them in the order of the log once they are durable on every
// in-sync replica: so whatever a coordinator has told anybody survives a
// restart (invariants 1 and 2).
package statelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/forebayhub/forebay/core/partition"
)

// Errors by which a coordinator refuses.
var (
	ErrNotCoordinator = errors.New("not the coordinator")               // NOT_COORDINATOR
	ErrLoading        = errors.New("coordinator is loading its log")    // COORDINATOR_LOAD_IN_PROGRESS
	ErrUnavailable    = errors.New("coordinator's topic has no leader") // COORDINATOR_NOT_AVAILABLE
)

// Options make a Keeper.
type Options struct {
	Topic string
	// Open finds a partition that this node hosts.
	Open func(number int32) (Store, error)
	// Follow calls fn at once and then for every partition of the topic that this node starts or stops leading.
	Follow func(fn func(number int32, leading bool, epoch int32))
	// Placed says how many partitions the topic has, and whether this node leads the one of them that is asked about
	// in the newest metadata; partitions is 0 while the topic does not exist.
	Placed func(number int32) (partitions int32, here bool)
	// NewState makes the empty state of a partition.
	NewState func(*Shard) State
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: silent
	// LoadWait is how long a request waits for a partition that is being loaded before it is told so. Zero: 2 s.
	LoadWait time.Duration
	Turns    Turns // nil: goroutines
}

// Keeper keeps the partitions of one topic. All methods may be called concurrently.
type Keeper struct {
	o      Options
	now    func() time.Time
	log    *slog.Logger
	timers timers

	mu      sync.Mutex
	shards  map[int32]*Shard // leading; loaded or not
	changed chan struct{}    // closed, and replaced, when shards or a loaded flag change
	acks    []ack            // bounded by what is in flight: one per append of a waiting request
	events  []event
	wake    chan struct{} // room for one: acks or events wait, or the first timer has changed
	stopped bool
}

type ack struct {
	shard *Shard
	last  int64
	err   error
}

type event struct {
	number  int32
	leading bool
	epoch   int32
}

// parallelLoads bounds the partitions that are replayed at the same time.
const parallelLoads = 4

// Pauses before a partition that could not be loaded is tried again.
const (
	retryLoad    = 100 * time.Millisecond
	retryLoadMax = time.Minute
)

// NewKeeper makes a Keeper; Run makes it work.
func NewKeeper(o Options) *Keeper {
	k := &Keeper{o: o, now: o.Now, log: o.Logger, shards: map[int32]*Shard{}, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
	if k.now == nil {
		k.now = time.Now
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.o.LoadWait == 0 {
		k.o.LoadWait = 2 * time.Second
	}
	k.timers.wake = k.wake
	return k
}

// Now is the Keeper's clock.
func (k *Keeper) Now() time.Time { return k.now() }

// Run follows the topic until ctx ends; then every waiting request is answered with ErrNotCoordinator.
func (k *Keeper) Run(ctx context.Context) error {
	k.o.Follow(func(number int32, leading bool, epoch int32) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.events = append(k.events, event{number, leading, epoch})
		k.poke()
	})
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallelLoads)
	for range parallelLoads {
		slots <- struct{}{}
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		k.step(ctx, &wg, slots)
		wait := time.Hour
		for {
			t, d, ok := k.timers.due(k.now())
			if t != nil {
				t.run(k.now())
				continue
			}
			if ok {
				wait = d
			}
			break
		}
		limit := timer.C
		if k.o.Turns == nil {
			timer.Reset(wait)
		} else {
			limit = k.o.Turns.After(wait)
		}
		if _, err := Await(ctx, k.o.Turns, k.wake, limit); err != nil && !errors.Is(err, ErrLate) {
			k.stop()
			wg.Wait()
			return nil
		}
	}
}

// begin has a load done beside the loop.
func (k *Keeper) begin(wg *sync.WaitGroup, load func()) {
	if k.o.Turns != nil {
		k.o.Turns.Go(load)
		return
	}
	wg.Go(load)
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) note(a ack) {
	k.mu.Lock()
	k.acks = append(k.acks, a)
	k.mu.Unlock()
	k.poke()
}

// step handles what has been noted since the last step.
func (k *Keeper) step(ctx context.Context, wg *sync.WaitGroup, slots chan struct{}) {
	k.mu.Lock()
	acks, events := k.acks, k.events
	k.acks, k.events = nil, nil
	k.mu.Unlock()
	for _, e := range events {
		k.follow(ctx, e, wg, slots)
	}
	for _, a := range acks {
		a.shard.Mu.Lock()
		if a.shard.dead {
			a.shard.Mu.Unlock()
			continue
		}
		if a.err == nil {
			a.shard.acked(a.last)
			a.shard.Mu.Unlock()
			continue
		}
		// Whether the record is in the log is not known, so the state in memory may differ from it: load it again.
		a.shard.resign()
		e := event{number: a.shard.Number, leading: true, epoch: a.shard.Epoch}
		a.shard.Mu.Unlock()
		k.log.Warn("coordinator record was not acknowledged; its partition is loaded again", "topic", k.o.Topic, "partition", e.number, "error", a.err)
		k.follow(ctx, e, wg, slots)
	}
}

// follow starts or stops coordinating a partition.
func (k *Keeper) follow(ctx context.Context, e event, wg *sync.WaitGroup, slots chan struct{}) {
	k.mu.Lock()
	old := k.shards[e.number]
	k.mu.Unlock()
	if old != nil {
		old.Mu.Lock()
		same := e.leading && old.Epoch == e.epoch && !old.dead
		if !same {
			old.resign()
		}
		old.Mu.Unlock()
		if same {
			return
		}
	}
	k.mu.Lock()
	delete(k.shards, e.number)
	if !e.leading {
		k.changedLocked()
		k.mu.Unlock()
		return
	}
	s := &Shard{Number: e.number, Epoch: e.epoch, keeper: k}
	s.State = k.o.NewState(s)
	k.shards[e.number] = s
	k.changedLocked()
	k.mu.Unlock()
	k.begin(wg, func() {
		waits := false // for replicas, and that is told
		for pause := retryLoad; ; pause = min(2*pause, retryLoadMax) {
			err := k.load(ctx, s, slots)
			if err == nil {
				return
			}
			s.Mu.Lock()
			dead := s.dead
			s.State = k.o.NewState(s)
			s.Mu.Unlock()
			if dead || ctx.Err() != nil {
				return
			}
			level, few := slog.LevelError, errors.Is(err, partition.ErrNotEnoughAfter)
			switch {
			case errors.Is(err, partition.ErrNotLeader):
				level = slog.LevelDebug // it leads no more, and is about to hear of it
			case few: // nothing was read, and when the others are back is not this node's to say
				level, pause = slog.LevelWarn, retryLoad
			}
			if !few || !waits {
				k.log.Log(ctx, level, "coordinator could not load a partition; trying again", "topic", k.o.Topic, "partition", e.number, "error", err, "pause", pause)
			}
			waits = waits || few
			if !Pause(ctx, k.o.Turns, pause) {
				return
			}
		}
	})
}

// load replays a partition up to the end that it has now, once that end is acknowledged: nothing that is replayed can
// be taken back, and nothing that an older leader acknowledged is missed. Only the reading takes one of slots: who waits for other nodes is in nobody's way.
func (k *Keeper) load(ctx context.Context, s *Shard, slots chan struct{}) error {
	st, err := k.o.Open(s.Number)
	if err != nil {
		return err
	}
	began := k.now()
	start, end := st.Bounds()
	if end > start {
		acked := make(chan error, 1)
		cancel := st.WhenAcked(end-1, s.Epoch, func(err error) { acked <- err })
		failed, err := Await(ctx, k.o.Turns, acked, nil)
		if err != nil {
			cancel()
			return err
		}
		if failed != nil {
			return failed
		}
	}
	if _, err := Await(ctx, k.o.Turns, slots, nil); err != nil {
		return err
	}
	defer func() { slots <- struct{}{} }()
	for from := start; from < end; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b, err := st.Read(from, end)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			break // compaction may have left nothing up to the end
		}
		for len(b) > 0 {
			batch, n, err := DecodeBatch(b)
			if err != nil {
				return fmt.Errorf("replay %s-%d from %d: %w", k.o.Topic, s.Number, from, err)
			}
			b = b[n:]
			if batch.Last < from {
				continue
			}
			if err := s.State.Replay(batch); err != nil {
				return fmt.Errorf("replay %s-%d at %d: %w", k.o.Topic, s.Number, batch.Base, err)
			}
			from = batch.Last + 1
		}
	}
	s.Mu.Lock()
	if s.dead {
		s.Mu.Unlock()
		return ErrNotCoordinator
	}
	s.store, s.end, s.loaded = st, end, true
	s.State.Loaded()
	s.Mu.Unlock()
	k.mu.Lock()
	k.changedLocked()
	k.mu.Unlock()
	if d := k.now().Sub(began); d > time.Second {
		k.log.Info("coordinator loaded a partition", "topic", k.o.Topic, "partition", s.Number, "records_to", end, "took", d)
	}
	return nil
}

func (k *Keeper) changedLocked() {
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *Keeper) stop() {
	k.mu.Lock()
	k.stopped = true
	shards := k.shards
	k.shards = map[int32]*Shard{}
	k.changedLocked()
	k.mu.Unlock()
	for _, s := range shards {
		s.Mu.Lock()
		s.resign()
		s.Mu.Unlock()
	}
}

// Lock finds the Shard of an id and locks it. While its partition is loaded, or this node is about to notice that it
// leads it, Lock waits for LoadWait at most.
func (k *Keeper) Lock(ctx context.Context, id string) (*Shard, error) {
	partitions, _ := k.o.Placed(0)
	if partitions == 0 {
		return nil, ErrUnavailable
	}
	return k.LockNumber(ctx, PartitionFor(id, partitions))
}

// LockNumber is Lock by the partition's number.
func (k *Keeper) LockNumber(ctx context.Context, number int32) (*Shard, error) {
	var limit <-chan time.Time
	for {
		k.mu.Lock()
		s, changed, stopped := k.shards[number], k.changed, k.stopped
		k.mu.Unlock()
		refuse := ErrLoading
		if stopped {
			return nil, ErrNotCoordinator
		}
		if s != nil {
			s.Mu.Lock()
			if s.loaded && !s.dead {
				return s, nil
			}
			s.Mu.Unlock()
		} else if _, here := k.o.Placed(number); !here {
			return nil, ErrNotCoordinator
		} else {
			refuse = ErrNotCoordinator
		}
		if limit == nil {
			limit = After(k.o.Turns, k.o.LoadWait)
		}
		if _, err := Await(ctx, k.o.Turns, changed, limit); errors.Is(err, ErrLate) {
			return nil, refuse
		} else if err != nil {
			return nil, err
		}
	}
}

// Each calls fn for every partition that is led here, with its lock held; loading says that some are left out.
func (k *Keeper) Each(fn func(*Shard)) (loading bool) {
	k.mu.Lock()
	shards := make([]*Shard, 0, len(k.shards))
	for _, s := range k.shards {
		shards = append(shards, s)
	}
	k.mu.Unlock()
	for _, s := range shards {
		s.Mu.Lock()
		if s.loaded && !s.dead {
			fn(s)
		} else if !s.dead {
			loading = true
		}
		s.Mu.Unlock()
	}
	return loading
}
