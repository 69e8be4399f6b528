package commitlog

import (
	"errors"
	"path"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// pointEvery is how far the end, in PowerSafe the durable one, may be ahead of the recovery point on disk: a restart scans about as much.
const pointEvery = 8 << 20

// pointDueLocked tells whether the recovery point is to move to end.
func (l *Log) pointDueLocked(end position) bool {
	at := l.saved.written
	return end.base != at.base || end.pos-at.pos >= l.pointEvery
}

// flush does what is due. In PowerSafe it makes durable what is there at its call; in Relaxed that is so if syncDueLocked,
// and else only the recovery point moves. It runs on the Syncer's goroutines; appends go on meanwhile. An error is final.
func (l *Log) flush() error {
	if l.o.Durability == Relaxed {
		l.mu.RLock()
		sync := l.syncDueLocked()
		l.mu.RUnlock()
		if !sync {
			return l.savePoint(false)
		}
	}
	return l.syncAll()
}

// syncAll makes durable what is there at its call: the data of every segment since the last sync, oldest first, then the names.
func (l *Log) syncAll() error {
	raised, due, err := l.flushHeld()
	if err != nil {
		return l.fail(err)
	}
	if raised && l.o.Advanced != nil {
		l.o.Advanced()
	}
	if due {
		return l.savePoint(false)
	}
	return nil
}

// syncIn has the log synced after d, unless that is under way (flush.ms).
func (l *Log) syncIn(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.syncTimer != nil || l.closed {
		return
	}
	l.syncTimer = time.AfterFunc(d, func() {
		l.mu.Lock()
		l.syncTimer, l.syncAsked = nil, true
		l.mu.Unlock()
		l.syncer.mark(l) // does nothing for a log that was closed meanwhile
	})
}

// flushHeld syncs and publishes. Truncation waits for it, so what it has synced is what is there.
func (l *Log) flushHeld() (raised, due bool, err error) {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	if l.failed != nil || l.closed || len(l.segs) == 0 {
		l.mu.Unlock()
		return false, false, nil
	}
	leo, before, bytes := l.leo, l.synced, l.unsynced
	l.syncAsked = false
	var dirty []*segment
	for i := len(l.segs) - 1; i >= 0 && l.segs[i].base >= before.base; i-- {
		if s := l.segs[i]; s.base != before.base || s.size != before.pos {
			dirty = append(dirty, s)
		}
	}
	end := l.endLocked()
	folderNew, namesNew := l.folderNew, l.namesNew && len(dirty) > 0 // a log that was opened and closed costs no sync
	l.folderNew, l.namesNew = false, l.namesNew && !namesNew
	l.mu.Unlock()

	if err := l.syncFiles(dirty, folderNew, namesNew); err != nil {
		return false, false, err
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = end
	l.unsynced -= bytes
	l.syncer.unsynced.Add(-bytes)
	if l.o.Durability == Relaxed && !l.flushDueLocked() {
		leo = l.leo
	}
	if l.durable < leo {
		l.durable, raised = leo, true
	}
	return raised, l.pointDueLocked(l.synced), nil
}

// syncFiles syncs segments, last one first in the list, and the folders.
func (l *Log) syncFiles(dirty []*segment, folderNew, namesNew bool) error {
	for i := len(dirty) - 1; i >= 0; i-- {
		h, err := dirty[i].openPatiently(l.now())
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return err
		}
		err = h.file.Sync()
		h.release()
		if err != nil {
			return err
		}
	}
	if namesNew {
		if err := vfs.SyncDir(l.fs, l.dir); err != nil {
			return err
		}
	}
	if folderNew {
		// The folder itself, and the data directory in case that it is as new.
		for _, dir := range []string{path.Dir(l.dir), path.Dir(path.Dir(l.dir))} {
			if err := vfs.SyncDir(l.fs, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// savePoint moves the recovery point to the synced end, in Relaxed also to the end, after what recovery will not find again behind it: aborted
// transactions and leader epochs. A full disk leaves the old point, which is as good. sync makes the point itself durable.
func (l *Log) savePoint(sync bool) error {
	l.saving.Lock()
	defer l.saving.Unlock()
	return l.savePointHeld(sync)
}

func (l *Log) savePointHeld(sync bool) error {
	l.mu.RLock()
	if l.failed != nil || l.closed || len(l.segs) == 0 {
		l.mu.RUnlock()
		return nil
	}
	p := point{seq: l.saved.seq + 1, boot: l.boot, synced: l.synced, written: l.synced}
	if l.o.Durability == Relaxed {
		p.written = l.endLocked()
	}
	var epochs []byte
	if l.epochsDirty {
		epochs = encodeEpochs(l.epochs)
	}
	list, segs := l.newlyAborted(p.written.offset), l.segs
	l.mu.RUnlock()

	err := l.saveAborted(list, segs)
	if err == nil && epochs != nil {
		err = vfs.WriteFile(l.fs, path.Join(l.dir, epochsName), epochs, true)
	}
	if err == nil {
		err = writePoint(l.fs, l.dir, p, sync)
	}
	if err != nil {
		if noSpace(err) || NoDescriptors(err) {
			return nil
		}
		return l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = p
	l.abortedDisk = max(l.abortedDisk, p.written.offset)
	if epochs != nil && string(epochs) == string(encodeEpochs(l.epochs)) {
		l.epochsDirty = false
	}
	return nil
}

// snapshot writes the producers as of offset, the end of the log; w is held. It is
// an aid: without it recovery replays from the one before.
func (l *Log) snapshot(offset int64) {
	l.mu.RLock()
	b := encodeTable(l.table, offset)
	l.mu.RUnlock()
	name := segmentName(l.dir, offset, snapSuffix)
	if err := vfs.WriteFile(l.fs, name, b, false); err != nil {
		if !noSpace(err) {
			l.log.Warn("producer snapshot could not be written", "file", name, "error", err)
		}
		return
	}
	l.snaps = append(l.snaps, offset)
	for len(l.snaps) > keptSnapshots {
		if err := l.fs.Remove(segmentName(l.dir, l.snaps[0], snapSuffix)); err != nil && !notExist(err) {
			return
		}
		l.snaps = l.snaps[1:]
	}
}

// keptSnapshots is how many snapshot files stay: one may be damaged by a power cut.
const keptSnapshots = 3

// Close flushes and writes what a clean start needs. Of a log that has failed it gives that error: what it had may not be on the disk.
func (l *Log) Close() error {
	l.w.Lock()
	defer l.w.Unlock()
	l.mu.RLock()
	closed, failed, any := l.closed, l.failed, len(l.segs) > 0
	l.mu.RUnlock()
	if closed {
		return nil
	}
	err := failed
	if err == nil && any {
		err = l.settle()
	}
	l.shut()
	return err
}

// settle brings everything in order for a start without a scan.
func (l *Log) settle() error {
	if err := l.syncAll(); err != nil {
		return err
	}
	l.mu.RLock()
	same := l.synced == l.saved.synced && !l.epochsDirty
	l.mu.RUnlock()
	if same && len(l.snaps) > 0 && l.snaps[len(l.snaps)-1] == l.leo {
		return nil // nothing has happened since it was opened
	}
	s := l.segs[len(l.segs)-1]
	l.mu.Lock()
	err := s.seal(true)
	l.mu.Unlock()
	if err != nil && !noSpace(err) {
		return l.fail(err)
	}
	if n := len(l.snaps); n == 0 || l.snaps[n-1] != l.leo {
		l.snapshot(l.leo)
	}
	return l.savePoint(true)
}

// shut ends the log's life in memory; w is held.
func (l *Log) shut() {
	l.mu.Lock()
	l.closed = true
	if l.syncTimer != nil {
		l.syncTimer.Stop()
	}
	l.mu.Unlock()
	l.syncer.forget(l)
	l.mu.Lock()
	l.forgetUnsynced() // once: Destroy may follow Close
	l.mu.Unlock()
	for _, s := range l.segs {
		s.drop()
	}
}

// Destroy closes the log and removes its folder. Slices that are out stay good.
func (l *Log) Destroy() error {
	l.w.Lock()
	defer l.w.Unlock()
	l.shut()
	if err := l.fs.RemoveAll(l.dir); err != nil && !notExist(err) {
		return err
	}
	if !l.made {
		return nil
	}
	return vfs.SyncDir(l.fs, path.Dir(l.dir))
}
