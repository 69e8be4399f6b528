package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
)

// Dir is a log directory: one of log.dirs. DESIGN.md has the promises.
type Dir struct {
	ID         string // directory.id of its meta.properties; "" for the one directory of a node without log.dirs
	Name       string // as tools see it
	Path       string // a folder for each partition
	Quarantine string // what is not ours, on the same file system
	Syncer     *commitlog.Syncer
	// Clean says that it was shut down in good order: logs are opened at first use. Otherwise Start recovers every log there is.
	Clean bool
	// Suspect says that it failed in an earlier run and can be read again: it may have lost what was not synced, also what the page cache still has. See Set.Trust.
	Suspect bool
	// Err is why it could not be opened at all; nil: it could.
	Err error

	failed     atomic.Pointer[error] // why it is offline
	partitions atomic.Int64
	suspect    atomic.Bool
	missed     atomic.Bool // Start could not open one of its logs
	closed     bool        // its partitions are; Run's
}

// Failed is why a directory is offline; nil: it is not.
func (d *Dir) Failed() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Recovered says that Start has opened every log of it that was to be recovered, and that it is online. What could not be opened may still hold what
// earlier runs have not brought to the disk.
func (d *Dir) Recovered() bool { return d.Failed() == nil && !d.missed.Load() }

// errDirOffline is the cause of the ErrFailed that a partition of an offline directory answers.
var errDirOffline = errors.New("its log directory is offline")

// Dirs are the log directories, in the order of log.dirs.
func (s *Set) Dirs() []*Dir { return s.o.Dirs }

func (s *Set) dirOf(id string) *Dir {
	for _, d := range s.o.Dirs {
		if d.ID == id {
			return d
		}
	}
	return nil
}

// Fail takes a directory offline, for good: a write or a sync in it has failed. It does not block; Run does the rest.
func (s *Set) Fail(d *Dir, err error) {
	if !d.failed.CompareAndSwap(nil, &err) {
		return
	}
	if s.o.Failed != nil {
		s.o.Failed(d, err)
	}
	left := slices.ContainsFunc(s.o.Dirs, func(d *Dir) bool { return d.Failed() == nil })
	if !left {
		if s.o.AllFailed != nil {
			s.o.AllFailed(err)
		}
		return
	}
	s.o.Logger.Error("a log directory has failed and is offline until the next start", "dir", d.Path, "partitions", d.partitions.Load(), "err", err)
	s.degraded.Store(true)
	poke(s.work)
	poke(s.unavailable)
}

// failIn is Fail for an error that a log of d has met, if it is one of the disk.
func (s *Set) failIn(d *Dir, err error) bool {
	if !OfDisk(err) {
		return false
	}
	s.Fail(d, err)
	return true
}

// unreadable is failIn for what was met before anything was written. Without log.dirs it is the affair of that log alone: the node would end,
// and with it what can be read.
func (s *Set) unreadable(d *Dir, err error) bool {
	return s.o.Placement != nil && s.failIn(d, err)
}

// OfDisk says that an error came from a disk that does not do what it should: not from what lies on it, nor from a limit.
func OfDisk(err error) bool {
	var file *fs.PathError
	var link *os.LinkError
	var call *os.SyscallError
	var errno syscall.Errno
	if !errors.As(err, &file) && !errors.As(err, &link) && !errors.As(err, &call) && !errors.As(err, &errno) {
		return false
	}
	return !roomless(err) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrClosed) &&
		!errors.Is(err, commitlog.ErrCorrupt) && !commitlog.NoDescriptors(err)
}

// homeLocked is the directory of a slot's partition; sl.mu is held. One that has none yet gets one.
func (s *Set) homeLocked(sl *slot) (*Dir, error) {
	if sl.dir != nil {
		return sl.dir, s.offline(sl.dir)
	}
	if s.o.Placement == nil {
		sl.dir = s.o.Dirs[0]
		return sl.dir, nil
	}
	key := sl.state.ID()
	id := s.o.Placement.Home(key)
	if d := s.dirOf(id); d != nil {
		sl.dir = d
		return d, s.offline(d)
	}
	if s.lost(id, sl.state) {
		return nil, fmt.Errorf("%w: %s is not there", errDirOffline, id)
	}
	d := s.fewest()
	if d == nil {
		return nil, errDirOffline
	}
	if id != "" {
		// At once, and not with the first record: what comes from the leader may be no record for long.
		if err := s.o.Placement.Put(key, d.ID); err != nil {
			return nil, err
		}
		s.o.Logger.Info("a partition of a replaced log directory begins anew from its leader", "partition", folder(sl.state), "dir", d.Path)
	}
	d.partitions.Add(1)
	sl.dir = d
	return d, nil
}

// offline is the error of a directory that is.
func (s *Set) offline(d *Dir) error {
	if err := d.Failed(); err != nil {
		return fmt.Errorf("%w: %s: %w", errDirOffline, d.Path, err)
	}
	return nil
}

// lost says that a partition lies in directory id, which is not one of ours now, and may not begin anew without it.
// "" is none: it never had a record, unless that cannot be known.
func (s *Set) lost(id string, p *metadata.Partition) bool {
	if id == "" {
		return s.o.Placement.Damaged() && s.degraded.Load()
	}
	// Others have all that was ever acknowledged: the ISR, of which this replica is not. Nor is it eligible, or it would be believed to have it, too.
	copied := p.Leader >= 0 && p.Leader != s.o.NodeID && !slices.Contains(p.ISR, s.o.NodeID) && !slices.Contains(p.ELR, s.o.NodeID)
	return !s.o.Replaced[id] || !copied
}

// fewest is the directory with the fewest partitions; nil when none is online.
func (s *Set) fewest() (least *Dir) {
	for _, d := range s.o.Dirs {
		if d.Failed() == nil && (least == nil || d.partitions.Load() < least.partitions.Load()) {
			least = d
		}
	}
	return least
}

// Unavailable are the partitions of image that have a replica here which cannot be used, for its directory's sake, or because its log is damaged, cannot
// be opened or has failed, and others have all that was acknowledged.
func (s *Set) Unavailable(image *metadata.Image) []metadata.PartitionID {
	list := s.missing(image)
	for _, id := range append(s.hurt(image), s.shut(image)...) {
		if !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list
}

// missing are those whose directory is not there, or not trusted yet.
func (s *Set) missing(image *metadata.Image) (list []metadata.PartitionID) {
	if s.o.Placement == nil {
		return nil
	}
	for _, t := range image.Topics {
		for _, p := range t.Partitions {
			if !slices.Contains(p.Replicas, s.o.NodeID) {
				continue
			}
			id := s.o.Placement.Home(p.ID())
			d := s.dirOf(id)
			if d != nil && (d.Failed() != nil || d.suspect.Load()) || d == nil && s.lost(id, p) {
				list = append(list, p.ID())
			}
		}
	}
	return list
}

// shut are those whose log could not be opened, or takes no more writes, and which stand aside until the next start.
func (s *Set) shut(image *metadata.Image) (list []metadata.PartitionID) {
	for _, sl := range s.slots() {
		sl.mu.Lock()
		p, state := sl.p.Load(), sl.state
		shut := sl.err != nil || p != nil && p.Log().Failed() != nil
		sl.mu.Unlock()
		if !shut || sl.damaged.Load() {
			continue
		}
		if p := image.Partition(state.Topic, state.Number); p != nil && p.TopicID == state.TopicID && slices.Contains(p.Replicas, s.o.NodeID) && s.standsAside(image, p) {
			list = append(list, p.ID())
		}
	}
	return list
}

// UnavailableChanged is told when Unavailable may have changed.
func (s *Set) UnavailableChanged() <-chan struct{} { return s.unavailable }

// Trust takes the suspicion off directories that failed in an earlier run, once the cluster knows of it.
func (s *Set) Trust() {
	for _, d := range s.o.Dirs {
		d.suspect.Store(false)
	}
	poke(s.unavailable)
}

// closeFailed closes what lies in directories that have failed. Who has no record yet is opened elsewhere when it is needed.
func (s *Set) closeFailed() {
	for _, d := range s.o.Dirs {
		err := d.Failed()
		if err == nil || d.closed {
			continue
		}
		d.closed = true
		var mu sync.Mutex
		var moved []*slot
		_ = parallel(s.o.Parallel, s.slots(), func(sl *slot) error {
			if s.closeIn(d, sl, err) {
				mu.Lock()
				moved = append(moved, sl)
				mu.Unlock()
			}
			return nil // what went wrong in a directory that has failed is told already
		})
		s.begunAnew(moved)
	}
}

// closeIn closes a slot that lies in d. It says whether its partition is to be opened elsewhere, and was open.
func (s *Set) closeIn(d *Dir, sl *slot, err error) (moved bool) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.dir != d {
		return false
	}
	p := sl.p.Load()
	if p != nil {
		p.Log().Abandon(err)
		sl.p.Store(nil)
		p.Close() // from here on it makes no claim
		if err := p.Log().Close(); err != nil {
			s.o.Logger.Debug("closing a log of a failed directory", "partition", folder(sl.state), "err", err)
		}
	}
	if s.o.Placement == nil || s.o.Placement.Home(sl.state.ID()) != "" {
		return false
	}
	sl.dir = nil
	return p != nil
}

// begunAnew has those who follow the leadership of partitions begin anew, too: what they hold of them is closed.
func (s *Set) begunAnew(list []*slot) {
	s.following.Lock()
	defer s.following.Unlock()
	for _, sl := range list {
		sl.mu.Lock()
		p, gone := sl.state, sl.gone
		sl.mu.Unlock()
		if gone || p.Leader != s.o.NodeID {
			continue
		}
		s.mu.RLock()
		fns := slices.Clone(s.mu.leaders[p.Topic])
		s.mu.RUnlock()
		for _, fn := range fns {
			fn(p.Number, false, int32(p.LeaderEpoch))
			fn(p.Number, true, int32(p.LeaderEpoch))
		}
	}
}
