package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// removal puts a partition's folder away: it closes the log and renames the
// folder, at once or by whoever wants the name first.
type removal struct {
	once  sync.Once
	slot  *slot
	state *metadata.Partition
	// deleted says that the deletion was agreed. Otherwise the folder is set aside:
	// absence is no reason to delete (invariant 8).
	deleted bool
	delay   time.Duration
}

// grave is a renamed folder that is removed when its time has come.
type grave struct {
	path string
	due  time.Time
}

const graveSuffix = "-delete"

func (s *Set) putAwayLocked(h *hosted, sl *slot, p *metadata.Partition, image *metadata.Image) {
	deleted := slices.Contains(image.Deleted, p.TopicID)
	if t := image.TopicIDs[p.TopicID]; t != nil {
		// The topic lives on; this replica of it was moved elsewhere.
		deleted = int(p.Number) < len(t.Partitions) && !slices.Contains(t.Partitions[p.Number].Replicas, s.o.NodeID)
	}
	name := folder(p)
	s.mu.removals[name] = append(s.mu.removals[name], &removal{slot: sl, state: p, deleted: deleted, delay: h.settings.Log.FileDeleteDelay})
	poke(s.work)
}

// finishRemoval frees a folder's name, if deleted partitions still have it: all of them, or
// those that had it before slot before.
func (s *Set) finishRemoval(name string, before *slot) {
	s.mu.RLock()
	list := slices.Clone(s.mu.removals[name])
	s.mu.RUnlock()
	for _, r := range list {
		if r.slot == before {
			return
		}
		r.once.Do(func() { s.remove(name, r) })
	}
}

func (s *Set) finishRemovals() {
	s.mu.RLock()
	names := make([]string, 0, len(s.mu.removals))
	for name := range s.mu.removals {
		names = append(names, name)
	}
	s.mu.RUnlock()
	for _, name := range names {
		s.finishRemoval(name, nil)
	}
}

func (s *Set) remove(name string, r *removal) {
	defer func() {
		s.mu.Lock()
		left := slices.DeleteFunc(s.mu.removals[name], func(o *removal) bool { return o == r })
		if len(left) == 0 {
			delete(s.mu.removals, name)
		} else {
			s.mu.removals[name] = left
		}
		s.mu.Unlock()
	}()
	r.slot.mu.Lock()
	r.slot.gone = true
	p, d := r.slot.p.Swap(nil), s.seat(r.slot)
	if r.slot.stop != nil {
		r.slot.stop()
	}
	r.slot.mu.Unlock()
	r.slot.mending.Lock() // a repair has let go of its files, and none begins: it sees gone
	defer r.slot.mending.Unlock()
	if p != nil {
		p.Close()
		if err := p.Log().Close(); err != nil {
			s.o.Logger.Warn("closing a deleted log", "partition", name, "err", err)
		}
	}
	if d != nil {
		d.partitions.Add(-1)
	}
	if s.o.Placement != nil {
		s.o.Placement.Drop(r.state.ID())
	}
	if d == nil || d.Failed() != nil {
		return // it never had a record; or the next start that sees the directory decides
	}
	if _, err := s.o.FS.Stat(path.Join(d.Path, name)); errors.Is(err, fs.ErrNotExist) {
		return // never had a record
	}
	if !r.deleted {
		if err := s.setAside(d, name, "its topic is gone without a deletion"); err != nil {
			s.o.Logger.Error("setting a partition aside failed", "partition", name, "err", err)
		}
		return
	}
	if err := s.bury(d, name, r.state.TopicID, r.delay); err != nil {
		s.o.Logger.Error("deleting a partition failed", "partition", name, "err", err)
	}
}

// bury renames a folder for its removal after a delay.
func (s *Set) bury(d *Dir, name string, id metadata.TopicID, delay time.Duration) error {
	// The longest topic names leave no room for a suffix.
	begin := path.Join(d.Path, name[:min(len(name), 180)]+"."+strings.ReplaceAll(id.String(), "-", ""))
	to := begin + graveSuffix
	for n := 1; ; n++ { // a replica may be moved away again before the last one's folder is gone
		if _, err := s.o.FS.Stat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		to = fmt.Sprintf("%s.%d%s", begin, n, graveSuffix)
	}
	if err := s.o.FS.Rename(path.Join(d.Path, name), to); err != nil {
		return err
	}
	if err := s.o.FS.SyncDir(d.Path); err != nil {
		return err
	}
	s.addGrave(to, delay)
	return nil
}

func (s *Set) addGrave(p string, delay time.Duration) {
	s.mu.Lock()
	s.mu.graves = append(s.mu.graves, grave{path: p, due: s.o.Now().Add(delay)})
	s.mu.Unlock()
	poke(s.work)
}

// setAside moves a folder of a log directory to its quarantine and reports it.
func (s *Set) setAside(d *Dir, name, why string) error {
	if err := vfs.MkdirAllSync(s.o.FS, d.Quarantine, 0o755); err != nil {
		return err
	}
	to := path.Join(d.Quarantine, name)
	for n := 1; ; n++ {
		if _, err := s.o.FS.Stat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		to = path.Join(d.Quarantine, fmt.Sprintf("%s.%d", name, n))
	}
	if err := s.o.FS.Rename(path.Join(d.Path, name), to); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	if err := s.o.FS.SyncDir(d.Quarantine); err != nil {
		return err
	}
	if err := s.o.FS.SyncDir(d.Path); err != nil {
		return err
	}
	s.o.Logger.Warn("unknown data was set aside; look at it, then remove it by hand", "from", path.Join(d.Path, name), "to", to, "why", why)
	return nil
}

// Run puts deleted partitions away, follows other nodes and looks after ISRs until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.followers.run(ctx) })
	wg.Go(func() { s.repairs.run(ctx) })
	if s.isr != nil {
		wg.Go(func() { s.isr.run(ctx) })
	}
	if s.o.Watermarks != "" {
		wg.Go(func() { s.checkpoint(ctx) })
	}
	for {
		s.closeFailed()
		s.finishRemovals()
		next, ok := s.removeDue()
		var timer <-chan time.Time
		if ok {
			timer = time.After(next)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.work:
		case <-timer:
		}
	}
}

// removeDue removes what is due; it gives the time until something else is.
func (s *Set) removeDue() (next time.Duration, ok bool) {
	now := s.o.Now()
	s.mu.Lock()
	var due, later []grave
	for _, g := range s.mu.graves {
		if g.due.After(now) {
			if d := g.due.Sub(now); !ok || d < next {
				next, ok = d, true
			}
			later = append(later, g)
		} else {
			due = append(due, g)
		}
	}
	s.mu.graves = later
	s.mu.Unlock()
	for _, g := range due {
		if err := s.o.FS.RemoveAll(g.path); err != nil {
			s.o.Logger.Error("removing a deleted partition failed", "path", g.path, "err", err)
		}
	}
	return next, ok
}
