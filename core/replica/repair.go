package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
)

// Repair of replicas whose log is damaged, from a leader that has all that was acknowledged. DESIGN.md says in which order, and why.

// repairs are the damaged replicas of this node. The goroutine is Run's; it repairs one at a time, of a lone node none.
type repairs struct {
	set  *Set
	work chan struct{} // room for one
	done atomic.Int64

	mu sync.Mutex // a leaf: damage is told with locks of a log held
	by map[*slot]*damage
}

// damage is what is wrong with a replica's log. All but err is the goroutine's.
type damage struct {
	err    error
	seen   bool
	epoch  metadata.Epoch // when it was seen: offsets that were fetched from in later ones are those of the log as it is set back
	told   bool           // that it cannot be repaired for now
	warned bool           // that a step has failed

	cut atomic.Bool // its files are being changed, or were, so it has less than it had
}

// repairPause is before the next try of what could not be done.
const repairPause = 200 * time.Millisecond

func newRepairs(s *Set) *repairs {
	return &repairs{set: s, work: make(chan struct{}, 1), by: map[*slot]*damage{}}
}

// damaged notes that a slot's log is damaged. It does not block.
func (s *Set) damaged(sl *slot, err error) {
	r := s.repairs
	r.mu.Lock()
	first := r.by[sl] == nil
	if first {
		r.by[sl] = &damage{err: err}
		sl.damaged.Store(true)
	}
	r.mu.Unlock()
	if first {
		poke(r.work)
		poke(s.unavailable)
	}
}

// list is what is damaged, in the order of folders.
func (r *repairs) list() []*slot {
	r.mu.Lock()
	slots := slices.Collect(maps.Keys(r.by))
	r.mu.Unlock()
	slices.SortFunc(slots, func(a, b *slot) int { return cmp.Compare(folder(a.agreed()), folder(b.agreed())) })
	return slots
}

func (r *repairs) of(sl *slot) *damage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[sl]
}

func (r *repairs) forget(sl *slot) {
	r.mu.Lock()
	delete(r.by, sl)
	sl.damaged.Store(false)
	r.mu.Unlock()
	poke(r.set.unavailable)
}

// count is how many replicas are damaged.
func (r *repairs) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.by)
}

// standsAside is told to the cluster (Unavailable) of a damaged replica when others have all that was acknowledged: then it is counted on no more. Once
// that is agreed it stays so until the replica is repaired, or nobody is left who may have everything.
func (s *Set) standsAside(image *metadata.Image, p *metadata.Partition) bool {
	if slices.ContainsFunc(p.ISR, func(n metadata.NodeID) bool { return n != s.o.NodeID && image.Usable(p, n) }) {
		return true
	}
	return slices.Contains(p.Offline, s.o.NodeID) && (p.Leader >= 0 || slices.ContainsFunc(slices.Concat(p.ISR, p.ELR), func(n metadata.NodeID) bool { return n != s.o.NodeID }))
}

// dispensable says that a replica may lose what it has: another leads, so it has all that was ever acknowledged, and nobody believes that of this one.
func (s *Set) dispensable(p *metadata.Partition) bool {
	return slices.Contains(p.Offline, s.o.NodeID) && p.Leader >= 0 && p.Leader != s.o.NodeID &&
		!slices.Contains(p.ISR, s.o.NodeID) && !slices.Contains(p.ELR, s.o.NodeID)
}

// hurt are the partitions of image whose replica here is damaged and stands aside.
func (s *Set) hurt(image *metadata.Image) (list []metadata.PartitionID) {
	for _, sl := range s.repairs.list() {
		id := sl.agreed().ID()
		t := image.TopicIDs[id.Topic]
		if t == nil || int(id.Number) >= len(t.Partitions) {
			continue
		}
		d := s.repairs.of(sl)
		if p := t.Partitions[id.Number]; d != nil && slices.Contains(p.Replicas, s.o.NodeID) && (d.cut.Load() || s.standsAside(image, p)) {
			list = append(list, id)
		}
	}
	return list
}

// Damaged lists the replicas whose log is damaged and not repaired yet, and what was found.
func (s *Set) Damaged() map[string]error {
	m := map[string]error{}
	for _, sl := range s.repairs.list() {
		if d := s.repairs.of(sl); d != nil {
			m[folder(sl.agreed())] = d.err
		}
	}
	return m
}

// run repairs until ctx ends.
func (r *repairs) run(ctx context.Context) {
	for {
		var again <-chan time.Time
		r.stepAll(ctx)
		if r.count() > 0 {
			again = time.After(repairPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.work:
		case <-again:
		}
	}
}

func (r *repairs) stepAll(ctx context.Context) {
	for _, sl := range r.list() {
		if d := r.of(sl); d != nil {
			r.step(ctx, sl, d)
		}
	}
}

// step does what can be done for a damaged replica now.
func (r *repairs) step(ctx context.Context, sl *slot, d *damage) {
	s := r.set
	sl.mu.Lock()
	p, gone, dir := sl.state, sl.gone, s.seat(sl)
	sl.mu.Unlock()
	if gone {
		r.forget(sl)
		return
	}
	if !d.seen {
		d.seen, d.epoch = true, p.LeaderEpoch
		s.o.Logger.Error("the log of a replica is damaged", "partition", folder(p), "leader", p.Leader, "isr", p.ISR, "error", d.err)
	}
	var err error
	switch {
	case dir == nil || dir.Failed() != nil:
	case !slices.Contains(p.Offline, s.o.NodeID):
		s.mu.RLock()
		alone := s.mu.image != nil && !s.standsAside(s.mu.image, p)
		s.mu.RUnlock()
		if alone && !d.told {
			d.told = true
			s.o.Logger.Error("a damaged replica stays as it is: no other in-sync replica is there to copy from. It is repaired by itself as soon as one is; "+
				"if none will be, stop the node and run forebay log repair on its folder", "partition", folder(p), "isr", p.ISR, "eligible", p.ELR, "error", d.err)
		}
	case !s.dispensable(p):
		// Somebody else is to lead first.
	case p.LeaderEpoch == d.epoch:
		// What was fetched, or is still on its way, told the leader of more than there will be. It counts in its own epoch only (KIP-320).
		err = s.o.Following.NewEpoch(ctx, p)
	default:
		err = r.mend(ctx, sl, p, dir, d)
	}
	switch {
	case err == nil, ctx.Err() != nil, d.warned:
	case errors.Is(err, metadata.ErrStale), errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.UnknownLeaderEpoch), errors.Is(err, kerr.FencedLeaderEpoch):
		// One of the two has not seen the newest Image yet.
	default:
		d.warned = true
		s.o.Logger.Warn("a damaged replica could not be repaired yet; trying on", "partition", folder(p), "leader", p.Leader, "error", err)
	}
}

// mend sets the log back, so that it is copied anew from there.
func (r *repairs) mend(ctx context.Context, sl *slot, p *metadata.Partition, dir *Dir, d *damage) error {
	s := r.set
	start, err := s.followers.earliest(ctx, p.Leader, p.Topic, p.Number, int32(p.LeaderEpoch))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sl.mu.Lock()
	if sl.gone {
		sl.mu.Unlock()
		return nil
	}
	sl.mending.Lock()
	defer sl.mending.Unlock()
	old := sl.p.Swap(nil)
	sl.err = fmt.Errorf("%w: %s: it is damaged and is being repaired from node %d: %w", commitlog.ErrFailed, folder(p), p.Leader, d.err)
	sl.stop = cancel
	d.cut.Store(true)
	options := s.logOptions(sl, dir)
	sl.mu.Unlock()
	if old != nil {
		old.Close()
		if err := old.Log().Close(); err != nil {
			s.o.Logger.Debug("closing a damaged log", "partition", folder(p), "err", err)
		}
	}
	cut, kept, err := setBack(ctx, options, dir, start)
	if err != nil {
		return err
	}
	sl.mu.Lock()
	sl.err, sl.stop = nil, nil
	sl.mu.Unlock()
	r.forget(sl)
	r.done.Add(1)
	if len(cut.Moved) > 0 {
		s.o.Logger.Warn("a damaged replica was set back and is copied anew from its leader; look at what was set aside, then remove it by hand",
			"partition", folder(p), "leader", p.Leader, "files", len(cut.Moved), "bytes", cut.Bytes, "to", kept, "cause", cut.Cause)
	} else {
		s.o.Logger.Warn("a replica was read in full and goes on from what it has", "partition", folder(p), "leader", p.Leader, "was", d.err, "is", cut.Cause)
	}
	return nil
}

// setBack sets the log of closed options back until it opens.
func setBack(ctx context.Context, o commitlog.Options, dir *Dir, start int64) (cut commitlog.Cut, kept string, err error) {
	for n := 1; kept == ""; n++ {
		name := path.Join(dir.Quarantine, fmt.Sprintf("%s.repair-%d", o.Name, n))
		if _, err := o.FS.Stat(name); errors.Is(err, fs.ErrNotExist) {
			kept = name
		} else if err != nil {
			return cut, kept, err
		}
	}
	back := commitlog.SetBack{FS: o.FS, Dir: o.Dir, Quarantine: kept, Start: start}
	if cut, err = back.Run(ctx); err != nil {
		return cut, kept, err
	}
	// Here, where nobody waits for it: to open a log whose recovery point is gone takes long.
	log, err := commitlog.Open(o)
	if err == nil {
		return cut, kept, log.Close()
	}
	if !errors.Is(err, commitlog.ErrCorrupt) {
		return cut, kept, err
	}
	back.All = true
	all, aerr := back.Run(ctx)
	all.Moved, all.Bytes, all.Cause = append(cut.Moved, all.Moved...), all.Bytes+cut.Bytes, cmp.Or(cut.Cause, err)
	return all, kept, aerr
}
