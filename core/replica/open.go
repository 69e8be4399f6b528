package replica

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
)

// ownerFile in a partition's folder says whose records these are: a topic that was
// deleted and created anew has another id. Its text is Kafka's partition.metadata (KIP-516).
const ownerFile = "partition.metadata"

func folder(p *metadata.Partition) string {
	return p.Topic + "-" + strconv.Itoa(int(p.Number))
}

// parseFolder splits a folder's name into topic and partition.
func parseFolder(name string) (topic string, number int32, ok bool) {
	at := strings.LastIndexByte(name, '-')
	if at < 1 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(name[at+1:], 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != name[at+1:] || metadata.ValidateTopicName(name[:at]) != nil {
		return "", 0, false
	}
	return name[:at], int32(n), true
}

// exists says that a slot's partition has a folder in a directory that is online.
func (s *Set) exists(sl *slot) bool {
	sl.mu.Lock()
	d, state := s.seat(sl), sl.state
	sl.mu.Unlock()
	if d == nil || d.Failed() != nil {
		return false
	}
	_, err := s.o.FS.Stat(path.Join(d.Path, folder(state)))
	return err == nil
}

// seat is homeLocked for who only looks: nil when the partition lies nowhere yet.
func (s *Set) seat(sl *slot) *Dir {
	switch {
	case sl.dir != nil:
		return sl.dir
	case s.o.Placement == nil:
		return s.o.Dirs[0]
	}
	return s.dirOf(s.o.Placement.Home(sl.state.ID()))
}

// open gives a slot's partition, opening its log if need be; ours says that the folder is known to be this topic's.
func (s *Set) open(sl *slot, ours bool) (*partition.Partition, error) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	switch {
	case sl.gone || sl.state == nil:
		return nil, ErrUnknown
	case sl.p.Load() != nil || sl.err != nil:
		return sl.p.Load(), sl.err
	}
	s.finishRemoval(folder(sl.state), sl) // where it lay before is not where it lies
	d, err := s.homeLocked(sl)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", commitlog.ErrFailed, folder(sl.state), err) // the directory was reported
	}
	p, err := s.openLog(sl, d, ours)
	if commitlog.NoDescriptors(err) {
		return nil, fmt.Errorf("%w: %s: %w", commitlog.ErrNoFiles, folder(sl.state), err) // it passes
	}
	if s.unreadable(d, err) {
		return nil, fmt.Errorf("%w: %s: %w", commitlog.ErrFailed, folder(sl.state), err)
	}
	if err != nil {
		sl.err = fmt.Errorf("%w: %s: %w", commitlog.ErrFailed, folder(sl.state), err)
		if errors.Is(err, commitlog.ErrCorrupt) {
			s.damaged(sl, err)
		}
		s.aside.Store(true)
		poke(s.unavailable)
		s.o.Logger.Error("partition is offline", "partition", folder(sl.state), "err", err)
		return nil, sl.err
	}
	sl.p.Store(p)
	return p, nil
}

func (s *Set) openLog(sl *slot, d *Dir, ours bool) (*partition.Partition, error) {
	name, key := folder(sl.state), sl.state.ID()
	if !ours {
		if err := s.checkOwner(d, sl.state); err != nil {
			return nil, err
		}
	}
	var wish func(*partition.Partition)
	if s.isr != nil {
		wish = s.isr.wish
	}
	return partition.Open(partition.Options{
		Node: s.o.NodeID, State: sl.state, MinISR: sl.settings.MinInSync,
		HighWatermark: s.watermarkOf(sl), Wish: wish, Now: s.o.Now,
		Open: func(advanced func()) (*commitlog.Log, error) {
			o := s.logOptions(sl, d)
			o.Advanced = advanced
			o.Damaged = func(err error) { s.damaged(sl, err) }
			return commitlog.Open(o)
		},
		Prepare: func() error {
			var err error
			if s.o.Placement != nil {
				err = s.o.Placement.Put(key, d.ID)
			}
			if err == nil {
				if err = s.claim(d, name, key.Topic); err != nil && !roomless(err) && s.failIn(d, err) {
					err = fmt.Errorf("%w: %w", commitlog.ErrFailed, err)
				}
			}
			if roomless(err) {
				err = fmt.Errorf("%w: %w", commitlog.ErrDiskFull, err)
			}
			return err
		},
	})
}

// roomless tells whether err is a full disk or quota.
func roomless(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// logOptions are those of a slot's log in d, without its callbacks but that of a failed disk; sl.mu is held.
func (s *Set) logOptions(sl *slot, d *Dir) commitlog.Options {
	name := folder(sl.state)
	return commitlog.Options{
		FS: s.o.FS, Dir: path.Join(d.Path, name), Name: name, Config: sl.settings.Log, Durability: s.o.Durability, Ran: s.o.Ran, Syncer: d.Syncer, Files: s.o.Files,
		Now: s.o.Now, Logger: s.o.Logger, ProducerExpiry: s.o.ProducerExpiry, Clean: d.Clean, Suspect: d.Suspect, BootID: s.o.BootID,
		Failed: func(err error) {
			if !s.failIn(d, err) {
				s.aside.Store(true)
				poke(s.unavailable)
			}
		},
	}
}

// checkOwner sets a folder aside that holds another topic's records, or nobody knows whose. Where this replica counts as one that has all that was
// acknowledged the folder stays, as a damaged log: with an empty one it would lead, and others would cut back to that.
func (s *Set) checkOwner(d *Dir, p *metadata.Partition) error {
	dir := path.Join(d.Path, folder(p))
	id, err := readOwner(s, dir)
	why := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		entries, derr := s.o.FS.ReadDir(dir)
		if errors.Is(derr, fs.ErrNotExist) || derr == nil && len(entries) == 0 {
			return nil // new
		}
		why = "it has records but no " + ownerFile
	case errors.Is(err, errOwner):
		why = err.Error()
	case err != nil:
		return err // it could not be read: no reason to believe that it is not ours
	case id != p.TopicID:
		why = fmt.Sprintf("it belongs to topic id %s, the topic is now %s", id, p.TopicID)
	default:
		return nil
	}
	if s.counts(p) && !s.knows(id) {
		return &commitlog.CorruptError{File: path.Join(dir, ownerFile), Err: fmt.Errorf("%w: %s", commitlog.ErrCorrupt, why)}
	}
	return s.setAside(d, folder(p), why)
}

// counts says that others may count on what this replica of a partition has, and that a damaged one is repaired; p may be nil.
func (s *Set) counts(p *metadata.Partition) bool {
	return p != nil && s.o.Following.NewEpoch != nil && len(p.Replicas) > 1 && (slices.Contains(p.ISR, s.o.NodeID) || slices.Contains(p.ELR, s.o.NodeID))
}

// knows says that there is a topic of that id, or that it was deleted.
func (s *Set) knows(id metadata.TopicID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.image != nil && (s.mu.image.TopicIDs[id] != nil || slices.Contains(s.mu.image.Deleted, id))
}

// claim makes a partition's folder and writes into it whose it is, before the first record. In power-safe it leaves the folders' syncs to the log: its
// first one is of the same, and nothing is acknowledged before it.
func (s *Set) claim(d *Dir, folder string, id metadata.TopicID) error {
	dir := path.Join(d.Path, folder)
	if got, err := readOwner(s, dir); err == nil && got == id {
		return nil
	}
	if err := s.o.FS.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := path.Join(dir, ownerFile)
	f, err := s.o.FS.OpenFile(name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("version: 0\ntopic_id: "+id.String()+"\n"), 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.o.FS.Rename(name+".new", name)
	}
	if s.o.Durability == commitlog.PowerSafe {
		return err
	}
	if err == nil {
		err = s.o.FS.SyncDir(dir)
	}
	if err == nil {
		err = s.o.FS.SyncDir(d.Path)
	}
	return err
}

func readOwner(s *Set, dir string) (id metadata.TopicID, err error) {
	f, err := s.o.FS.OpenFile(path.Join(dir, ownerFile), os.O_RDONLY, 0)
	if err != nil {
		return id, err
	}
	defer f.Close()
	b := make([]byte, 256)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return id, err
	}
	return parseOwner(string(b[:n]))
}

// errOwner is a file that was read and does not say whose the records are.
var errOwner = errors.New(ownerFile + " is damaged")

func parseOwner(text string) (id metadata.TopicID, err error) {
	rest, ok := strings.CutPrefix(text, "version: 0\ntopic_id: ")
	if !ok {
		return id, fmt.Errorf("%w: it is not of version 0", errOwner)
	}
	if id, err = uuid.Parse(strings.TrimSuffix(rest, "\n")); err != nil {
		return id, fmt.Errorf("%w: %w", errOwner, err)
	}
	return id, nil
}
