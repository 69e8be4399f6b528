// Package replica holds the partitions that this node hosts and keeps them as
// the Image says: it opens their logs at first use, tells them their part, follows config changes and puts away what was
// deleted. What it does not know it sets aside and reports, never deletes (invariant 8).
package replica

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/internal/vfs"
)

// ErrUnknown is the answer for a partition that the Image does not have; ErrElsewhere for
// one that this node does not host.
var (
	ErrUnknown   = errors.New("unknown topic or partition")      // UNKNOWN_TOPIC_OR_PARTITION
	ErrElsewhere = errors.New("not a replica of this partition") // NOT_LEADER_OR_FOLLOWER
)

// Options make a Set.
type Options struct {
	NodeID metadata.NodeID
	FS     vfs.FS
	Dirs   []*Dir // at least one
	// Placement knows where each partition lies. Nil: there is one directory, for good.
	Placement *Placement
	// Replaced are the ids of directories whose disk was replaced by an empty one.
	Replaced map[string]bool
	// Failed is told at once that a directory has failed, and AllFailed that it was the last one. They must not block. Nil: nobody.
	Failed         func(*Dir, error)
	AllFailed      func(error)
	Durability     commitlog.Durability
	Ran            commitlog.Durability // of the runs before
	Files          *commitlog.Files     // bounds what the logs have open; nil: 1,024 segments
	Logger         *slog.Logger         // nil: silent
	Now            func() time.Time
	ProducerExpiry time.Duration
	BootID         string // of the machine
	// Settings resolves a topic's configuration.
	Settings func(image *metadata.Image, topic string) controller.TopicSettings
	// Parallel is how many logs are recovered or closed at a time. 0: 8.
	Parallel int
	// Watermarks is the file of checkpointed high watermarks; "": none.
	Watermarks string
	Following  Following
	Throttling Throttling
}

// Set is the partitions of this node. All methods may be called concurrently.
//
// Lock order: following, slot.mu, mu, then the partition's. Logs are opened and
// closed with only slot.mu held.
type Set struct {
	o Options

	following sync.Mutex // held over Update and Leaders: callbacks come in order

	mu struct {
		sync.RWMutex
		image    *metadata.Image
		topics   map[string]*hosted
		leaders  map[string][]func(int32, bool, int32)
		removals map[string][]*removal // by folder, oldest first, until they are renamed
		graves   []grave               // renamed, to be removed
		closed   bool
	}
	work chan struct{} // room for one: Run has something to do

	degraded    atomic.Bool   // not every directory is there
	aside       atomic.Bool   // a log could not be opened, or has failed: see shut
	unavailable chan struct{} // room for one: see UnavailableChanged

	leading, fetching *throttle
	followers         *followers
	repairs           *repairs
	scrubs            scrubs
	isr               *isrKeeper         // nil: the ISR stays as it is
	marks             map[fetchKey]int64 // checkpointed before the start
	moves             isrMoves
	saving            sync.Mutex
	saved             []byte // the file of watermarks; saving held
}

// hosted is a topic with the partitions of it that are here.
type hosted struct {
	topic    *metadata.Topic
	settings controller.TopicSettings
	slots    []*slot // by number; nil: elsewhere

	throttledLeader, throttledFollower throttledHere
}

// slot is one hosted partition, its log open or not.
type slot struct {
	mu       sync.Mutex
	state    *metadata.Partition
	settings controller.TopicSettings
	dir      *Dir                                // that its partition lies in, or will; nil: it was not asked for yet
	p        atomic.Pointer[partition.Partition] // written with mu held
	err      error                               // why it could not be opened; final until a restart
	gone     bool
	// throttled says that its fetches are bound by the follower's rate.
	throttled atomic.Bool

	damaged atomic.Bool        // it is in repairs
	mending sync.Mutex         // held while its files are set back; after mu, and nobody but the repair holds it for long
	stop    context.CancelFunc // ends that; guarded by mu
}

// New makes an empty Set; Start fills it.
func New(o Options) *Set {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Parallel == 0 {
		o.Parallel = 8
	}
	if o.Files == nil {
		o.Files = commitlog.NewFiles(0)
	}
	s := &Set{o: o, work: make(chan struct{}, 1), unavailable: make(chan struct{}, 1), leading: newThrottle(o.Throttling.Window), fetching: newThrottle(o.Throttling.Window)}
	for _, d := range o.Dirs {
		if d.Err != nil {
			d.failed.Store(&d.Err)
			d.closed = true // nothing was ever open
			s.degraded.Store(true)
		}
		d.suspect.Store(d.Suspect)
	}
	if len(o.Replaced) > 0 {
		s.degraded.Store(true)
	}
	s.followers = newFollowers(s, o.Following)
	s.repairs = newRepairs(s)
	if o.Following.ISR != nil {
		s.isr = newISRKeeper(s, o.Following.ISR, s.followers.f.Lag)
	}
	s.mu.topics = map[string]*hosted{}
	s.mu.leaders = map[string][]func(int32, bool, int32){}
	s.mu.removals = map[string][]*removal{}
	return s
}

// Partition finds a hosted partition; its log is opened at the first call.
func (s *Set) Partition(topic string, number int32) (*partition.Partition, error) {
	sl, err := s.slot(topic, number)
	if err != nil {
		return nil, err
	}
	if p := sl.p.Load(); p != nil {
		return p, nil
	}
	return s.open(sl, false)
}

// slot finds a hosted partition, its log open or not.
func (s *Set) slot(topic string, number int32) (*slot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.mu.topics[topic]
	if h == nil || number < 0 || int(number) >= len(h.slots) {
		return nil, ErrUnknown
	}
	if sl := h.slots[number]; sl != nil {
		return sl, nil
	}
	return nil, ErrElsewhere
}

// change is one callback of Leaders.
type change struct {
	fns     []func(int32, bool, int32)
	number  int32
	leading bool
	epoch   int32
}

// Leaders calls fn at once and again whenever this node starts or stops leading a
// partition of one of the topics: coordinators follow their partitions with it. fn must not block. It may
// call Partition, but not Leaders.
func (s *Set) Leaders(topic string, fn func(number int32, leading bool, epoch int32)) {
	s.following.Lock()
	defer s.following.Unlock()
	s.mu.Lock()
	s.mu.leaders[topic] = append(s.mu.leaders[topic], fn)
	h := s.mu.topics[topic]
	var states []*metadata.Partition
	if h != nil {
		for n, sl := range h.slots {
			if sl != nil {
				states = append(states, h.topic.Partitions[n])
			}
		}
	}
	s.mu.Unlock()
	for _, p := range states {
		fn(p.Number, p.Leader == s.o.NodeID, int32(p.LeaderEpoch))
	}
}

// Update makes the Set as image says. It does not block on the disk: logs are
// opened later, deleted ones put away by Run.
func (s *Set) Update(image *metadata.Image) {
	s.following.Lock()
	defer s.following.Unlock()
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return
	}
	var changes []change
	var updates []func()
	for name, h := range s.mu.topics {
		if t := image.Topics[name]; t == nil || t.ID != h.topic.ID {
			changes = append(changes, s.dropLocked(h, image)...)
			updates = append(updates, func() {
				for _, sl := range h.slots {
					if sl != nil {
						s.followers.assign(sl, nil)
					}
				}
			})
		}
	}
	old := s.mu.image
	broker := old == nil || !same(old.BrokerConfigs, image.BrokerConfigs)
	if broker && s.o.Throttling.Rates != nil {
		leader, follower := s.o.Throttling.Rates(image)
		s.leading.set(leader)
		s.fetching.set(follower)
	}
	topics := old == nil || !same(old.TopicConfigs, image.TopicConfigs)
	configs := func(name string) bool {
		return s.mu.topics[name] == nil || broker || topics && !same(old.TopicConfigs[name], image.TopicConfigs[name])
	}
	var changed []string
	for name, t := range image.Topics {
		if h := s.mu.topics[name]; h == nil || h.topic != t || configs(name) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed) // the same Image is taken over in the same order
	for _, name := range changed {
		c, u := s.takeLocked(s.mu.topics[name], image.Topics[name], image, configs(name))
		changes, updates = append(changes, c...), append(updates, u...)
	}
	s.mu.image = image
	s.mu.Unlock()
	if s.degraded.Load() || s.aside.Load() {
		poke(s.unavailable) // who leads what, or is in sync, may have changed
	}
	for _, fn := range updates {
		fn()
	}
	if s.repairs.count() > 0 {
		poke(s.unavailable)
		poke(s.repairs.work)
	}
	for _, c := range changes {
		for _, fn := range c.fns {
			fn(c.number, c.leading, c.epoch)
		}
	}
}

// same says whether two maps are one: an Image shares what did not change.
func same[K comparable, V any](a, b map[K]V) bool {
	return len(a) == 0 && len(b) == 0 || reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// takeLocked makes a topic as t says. It gives what to do once the lock is free.
func (s *Set) takeLocked(h *hosted, t *metadata.Topic, image *metadata.Image, configs bool) (changes []change, updates []func()) {
	if h == nil {
		h = &hosted{topic: &metadata.Topic{}}
		s.mu.topics[t.Name] = h
	}
	if configs {
		h.settings = s.o.Settings(image, t.Name)
		h.throttledLeader = parseThrottled(h.settings.LeaderThrottled, s.o.NodeID)
		h.throttledFollower = parseThrottled(h.settings.FollowerThrottled, s.o.NodeID)
	}
	before := h.topic
	h.topic = t
	slots := make([]*slot, len(t.Partitions))
	copy(slots, h.slots)
	h.slots = slots
	fns := s.mu.leaders[t.Name]
	for n, p := range t.Partitions {
		here := slices.Contains(p.Replicas, s.o.NodeID)
		sl := slots[n]
		var was *metadata.Partition
		if n < len(before.Partitions) {
			was = before.Partitions[n]
		}
		switch {
		case !here && sl != nil:
			slots[n] = nil
			s.putAwayLocked(h, sl, was, image)
			changes = append(changes, change{fns, int32(n), false, int32(p.LeaderEpoch)})
			updates = append(updates, func() { s.followers.assign(sl, nil) })
			continue
		case !here:
			continue
		case sl == nil:
			sl = &slot{state: p, settings: h.settings}
			slots[n] = sl
			was = nil
		case was == p && !configs:
			continue
		}
		if was != nil && p.Leader == s.o.NodeID {
			s.moves.count(was.ISR, p.ISR)
		}
		settings := h.settings
		sl.throttled.Store(h.throttledFollower.has(p.Number))
		updates = append(updates, func() {
			sl.update(p, settings) // first: what is fetched in an epoch is taken only by a partition that knows it
			s.followers.assign(sl, p)
		})
		if was == nil || was.LeaderEpoch != p.LeaderEpoch || was.Leader != p.Leader {
			changes = append(changes, change{fns, int32(n), p.Leader == s.o.NodeID, int32(p.LeaderEpoch)})
		}
	}
	return changes, updates
}

// dropLocked takes a deleted topic out.
func (s *Set) dropLocked(h *hosted, image *metadata.Image) (changes []change) {
	delete(s.mu.topics, h.topic.Name)
	for n, sl := range h.slots {
		if sl == nil {
			continue
		}
		p := h.topic.Partitions[n]
		s.putAwayLocked(h, sl, p, image)
		changes = append(changes, change{s.mu.leaders[p.Topic], p.Number, false, int32(p.LeaderEpoch)})
	}
	return changes
}

func (sl *slot) update(state *metadata.Partition, settings controller.TopicSettings) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.state, sl.settings = state, settings
	if p := sl.p.Load(); p != nil {
		p.Log().SetConfig(settings.Log)
		p.Update(state, settings.MinInSync)
	}
}

// Located is where a hosted partition lies: its directory, nil when it has none yet, and the partition as far as its log can be used.
func (s *Set) Located(topic string, number int32) (*Dir, *partition.Partition, error) {
	p, err := s.Partition(topic, number)
	sl, serr := s.slot(topic, number)
	if serr != nil {
		return nil, nil, serr
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return s.seat(sl), p, err
}

// Hosted calls fn for every partition that is here and open, in no order.
func (s *Set) Hosted(fn func(*partition.Partition)) {
	for _, sl := range s.slots() {
		if p := sl.p.Load(); p != nil {
			fn(p)
		}
	}
}

// Offline lists the partitions whose log could not be opened, and why; not those that went offline with their directory.
func (s *Set) Offline() map[string]error {
	m := map[string]error{}
	for _, sl := range s.slots() {
		sl.mu.Lock()
		if sl.err != nil {
			m[folder(sl.state)] = sl.err
		}
		sl.mu.Unlock()
	}
	return m
}

// slots are the hosted partitions, by topic and number: what is done to all is done in the same order every time.
func (s *Set) slots() []*slot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*slot
	for _, name := range slices.Sorted(maps.Keys(s.mu.topics)) {
		for _, sl := range s.mu.topics[name].slots {
			if sl != nil {
				list = append(list, sl)
			}
		}
	}
	return list
}

// Maintain does what retention asks for, log by log, and opens those that have records but were not used yet.
func (s *Set) Maintain(ctx context.Context) {
	for _, sl := range s.slots() {
		if ctx.Err() != nil {
			return
		}
		sl.mu.Lock()
		p, state := sl.p.Load(), sl.state
		sl.mu.Unlock()
		if p == nil {
			if !s.exists(sl) {
				continue
			}
			var err error
			if p, err = s.open(sl, false); err != nil {
				continue // reported when it failed
			}
		}
		if err := p.Log().Maintain(p.HighWatermark()); err != nil && !errors.Is(err, commitlog.ErrClosed) && !errors.Is(err, commitlog.ErrFailed) {
			s.o.Logger.Error("log maintenance failed", "partition", folder(state), "err", err)
		}
	}
}

// Clean compacts the logs that ask for it, threads at a time (log.cleaner.threads). What was not used since the start
// is left to Maintain to open.
func (s *Set) Clean(ctx context.Context, threads int, o commitlog.Cleaning) {
	var due []*partition.Partition
	s.Hosted(func(p *partition.Partition) {
		if p.Log().Compacts() {
			due = append(due, p)
		}
	})
	_ = parallel(threads, due, func(p *partition.Partition) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.Log().Clean(p.HighWatermark(), o); err != nil && !errors.Is(err, commitlog.ErrClosed) && !errors.Is(err, commitlog.ErrFailed) {
			s.o.Logger.Error("compaction failed", "topic", p.Topic, "partition", p.Number, "err", err)
		}
		return nil
	})
}

// Close closes every log, several at a time. The first error tells that the data directory was not left clean.
func (s *Set) Close() error {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.closeFailed()
	s.finishRemovals()
	s.saveWatermarks()
	err := parallel(s.o.Parallel, s.slots(), func(sl *slot) error {
		sl.mu.Lock()
		defer sl.mu.Unlock()
		sl.gone = true
		p := sl.p.Load()
		if p == nil {
			return nil
		}
		p.Close()
		return p.Log().Close()
	})
	if s.o.Placement != nil {
		err = errors.Join(err, s.o.Placement.Close())
	}
	return err
}

// parallel calls fn for each of list, n at a time, and gives all errors.
func parallel[T any](n int, list []T, fn func(T) error) error {
	errs := make([]error, len(list))
	if min(n, len(list)) == 1 {
		for i := range list {
			errs[i] = fn(list[i])
		}
		return errors.Join(errs...)
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(n, len(list)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(list)); i = next.Add(1) - 1 {
				errs[i] = fn(list[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
