package commitlog

import (
	"errors"
	"fmt"
	"io"
	"path"
	"sort"

	"github.com/forebayhub/forebay/internal/vfs"
)

// TruncateTo drops everything at offset and after, durably. An offset inside of
// a batch takes the whole batch; at or above the end nothing happens.
//
// The order keeps every crash harmless: first the recovery point comes down, so that what is being cut is no longer vouched
// for, then go the snapshots, epochs and indexes that tell of it, then the records from the end.
func (l *Log) TruncateTo(offset int64) (err error) {
	defer func() { l.tell(err) }()
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if offset >= l.leo {
		return nil
	}
	if offset <= l.start {
		return l.restart(min(max(offset, 0), l.start))
	}
	i := l.segmentAt(offset)
	s := l.segs[i]
	h, err := s.open(false, l.now())
	if err != nil {
		return err
	}
	defer h.release()
	pos, head, err := l.locate(s, h, s.size, l.cfg.IndexBytes, offset, true)
	if err != nil {
		return fmt.Errorf("truncate %s to %d: %w", l.o.Name, offset, err)
	}
	end := offset
	if pos < s.size {
		end = min(offset, head.BaseOffset)
	}
	if end <= l.start { // DeleteBefore has left only a part of that batch
		return l.restart(l.start)
	}
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.saving.Lock()
	defer l.saving.Unlock()
	if err := l.cutBack(i, pos, end, h); err != nil {
		return l.undone(fmt.Errorf("truncate to %d: %w", offset, err))
	}
	return nil
}

// cutSince tells a reader that met what cannot be a batch whether the log was cut meanwhile, so that it has read what was gone, or half of what came after.
func (l *Log) cutSince(cuts int64) bool {
	l.w.Lock() // a truncation holds it to its end
	defer l.w.Unlock()
	return l.cuts != cuts
}

// undone is the answer for a cut that did not come to its end. ErrDiskFull and ErrNoFiles say that the log is whole, as it was or empty, and goes on; the cut
// is tried again when there is room (invariant 11). Anything else is final.
func (l *Log) undone(err error) error {
	if errors.Is(err, ErrDiskFull) || errors.Is(err, ErrNoFiles) {
		return fmt.Errorf("%s: %w", l.o.Name, err)
	}
	return l.fail(err)
}

// passing marks an error for want of room or of descriptors, which pass.
func passing(err error) error {
	switch {
	case noSpace(err):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case NoDescriptors(err):
		return fmt.Errorf("%w: %w", ErrNoFiles, err)
	}
	return err
}

// cutBack makes end the log's end, at pos in segment i; w and saving are held.
func (l *Log) cutBack(i int, pos, end int64, h *handle) error {
	s := l.segs[i]
	epochs := cutEpochs(l.epochs, end)
	table, err := l.replay(i, pos, end) // first: it opens files
	if err != nil {
		return passing(err)
	}
	if err := l.lower(position{base: s.base, pos: pos, offset: end}, epochs, end); err != nil {
		return err
	}
	later := l.segs[i+1:]
	for k := len(later) - 1; k >= 0; k-- {
		if err := l.remove(later[k]); err != nil {
			return err
		}
	}
	if err := h.file.Truncate(pos); err != nil {
		return err
	}
	l.mu.Lock()
	l.cuts++
	s.size = pos
	s.doubt(pos)
	err = s.trim(h.file, pos, l.cfg.IndexBytes)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	// What is left may not have been synced yet.
	if err := l.syncFiles(l.segs[min(max(l.segmentAt(l.synced.base), 0), i):i+1], l.folderNew, true); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segs = l.segs[: i+1 : i+1]
	l.epochs, l.table = epochs, table
	l.leo, l.durable = end, min(max(l.durable, end), end)
	l.cleaned = min(l.cleaned, end)
	l.synced = position{base: s.base, pos: pos, offset: end}
	l.forgetUnsynced()
	l.folderNew, l.namesNew = false, false
	return nil
}

// lower brings the recovery point down, durably, and drops what tells of offsets from end on. With ErrDiskFull or ErrNoFiles the log can go on as it was: it
// vouches for less than it has, a snapshot that is gone is made up from the one before, and the other files are written again before the point rises.
func (l *Log) lower(to position, epochs []epochEntry, end int64) error {
	if err := l.lowerPoint(to); err != nil {
		return err
	}
	if n := sort.Search(len(l.snaps), func(i int) bool { return l.snaps[i] > end }); n < len(l.snaps) {
		all := l.snaps
		if err := l.dropSnapshots(n); err != nil {
			return err
		}
		if err := vfs.SyncDir(l.fs, l.dir); err != nil {
			l.snaps = all // the next cut syncs the folder for them
			return passing(err)
		}
	}
	if len(epochs) != len(l.epochs) {
		l.mu.Lock()
		l.epochsDirty = true
		l.mu.Unlock()
		if err := vfs.WriteFile(l.fs, path.Join(l.dir, epochsName), encodeEpochs(epochs), true); err != nil {
			return passing(err)
		}
	}
	kept := sort.Search(len(l.aborted), func(i int) bool { return l.aborted[i].LastOffset >= end })
	l.mu.Lock()
	l.abortedDisk = min(l.abortedDisk, end)
	l.mu.Unlock()
	for _, s := range l.segs {
		n := sort.Search(len(l.aborted), func(i int) bool { return l.aborted[i].LastOffset >= s.base })
		s.txns = min(s.txns, max(kept-n, 0))
	}
	for _, s := range l.segs {
		if err := l.cutTxns(s); err != nil {
			return passing(err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aborted = l.aborted[:kept:kept]
	return nil
}

// lowerPoint brings the recovery point down to a position, durably.
func (l *Log) lowerPoint(to position) error {
	p := point{seq: l.saved.seq + 1, boot: l.boot, synced: to, written: to}
	if l.synced.offset < to.offset {
		p.synced = l.synced // what lies between is not synced yet
	}
	if l.saved.seq == 0 || l.saved.written.offset <= to.offset {
		return nil
	}
	// Both slots: else a torn write of the next would leave the high one.
	for range 2 {
		if err := writePoint(l.fs, l.dir, p, true); err != nil {
			return passing(err)
		}
		p.seq++
	}
	p.seq--
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = p
	return nil
}

// dropSnapshots removes the snapshots from the nth on.
func (l *Log) dropSnapshots(n int) error {
	for _, at := range l.snaps[n:] {
		if err := l.fs.Remove(segmentName(l.dir, at, snapSuffix)); err != nil && !notExist(err) {
			return err
		}
	}
	l.snaps = l.snaps[:n]
	return nil
}

// trim makes the indexes anew for a log file that now ends at pos. The old files go, and the caller
// syncs the folder: a sealed index that a power cut brought back would be believed as soon as the segment has its old size
// again, with other batches.
func (s *segment) trim(f io.ReaderAt, pos, every int64) error {
	for _, x := range []*sparse{s.index, s.times} {
		x.close()
		if err := s.fs.Remove(x.name); err != nil && !notExist(err) {
			return err
		}
	}
	s.forget()
	w := newWalker(f, s.path(), 0, pos, headerStep)
	defer w.done()
	for {
		head, err := w.header()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.note(&head, w.pos, every)
		w.skip(&head)
	}
}

// replay makes the producers as of end, from the newest snapshot below it and the headers of segments
// up to pos in segment i.
func (l *Log) replay(i int, pos, end int64) (*table, error) {
	t, from := newTable(), l.segs[0].base
	for k := len(l.snaps) - 1; k >= 0; k-- {
		raw, err := vfs.ReadFile(l.fs, segmentName(l.dir, l.snaps[k], snapSuffix), maxStateFile)
		if err != nil {
			continue // the one before will do
		}
		if got, at, err := decodeTable(raw); err == nil && at <= end {
			t, from = got, at
			break
		}
	}
	r := &recovery{l: &Log{table: t, o: l.o, log: l.log}, from: from, replayed: l.now().UnixMilli()}
	r.point.offset = end
	for k := max(l.segmentAt(from), 0); k <= i; k++ {
		size := l.segs[k].size
		if k == i {
			size = pos
		}
		if err := l.replaySegment(r, l.segs[k], size, end); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (l *Log) replaySegment(r *recovery, s *segment, size, end int64) error {
	h, err := s.open(false, l.now())
	if err != nil {
		return err
	}
	defer h.release()
	w := newWalker(h.file, s.path(), 0, size, headerStep)
	defer w.done()
	for {
		head, batch, err := r.step(w, false)
		if errors.Is(err, io.EOF) || err == nil && head.BaseOffset >= end {
			return nil
		}
		if err != nil {
			return err
		}
		r.apply(&head, batch)
		w.skip(&head)
	}
}

// StartAt drops all records and makes the log begin at offset, durably: for a follower whose leader has
// nothing older. (Kafka: truncateFullyAndStartAt.)
func (l *Log) StartAt(offset int64) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	return l.restart(offset)
}

// restart is StartAt; w is held.
//
// What can find no room comes first, or when the log is empty already; what lies in between only removes. A start after a crash finds the old records, from
// the new start on if that was durable, or none of them.
func (l *Log) restart(offset int64) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.saving.Lock()
	defer l.saving.Unlock()
	if l.made || offset > 0 {
		if err := l.wipe(offset); err != nil {
			return l.undone(fmt.Errorf("start at %d: %w", offset, err))
		}
	}
	l.empty(offset)
	return nil
}

// empty makes the log one that starts at offset and has nothing, in memory.
func (l *Log) empty(offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts++
	l.segs, l.aborted, l.epochs, l.table = nil, nil, nil, newTable()
	l.start, l.leo, l.durable, l.cleaned, l.abortedDisk = offset, offset, offset, offset, offset
	l.synced, l.epochsDirty = position{base: offset, offset: offset}, false
	l.forgetUnsynced()
	l.folderNew, l.namesNew = l.folderNew && !l.made, false
}

// forgetUnsynced is for what is synced otherwise, or gone; mu is held.
func (l *Log) forgetUnsynced() {
	l.syncer.unsynced.Add(-l.unsynced)
	l.unsynced = 0
}

// wipe removes everything, and has the log start at offset. An error for which undone lets it go on leaves all, or nothing.
func (l *Log) wipe(offset int64) error {
	// Below all that is there, and below what will be: as long as old segments are there a start checks them all.
	from := offset
	if len(l.segs) > 0 {
		from = min(from, l.segs[0].base)
	}
	if err := l.lowerPoint(position{base: from, offset: from}); err != nil {
		return err
	}
	if offset > l.bounds.start {
		fresh := !l.made
		if err := l.makeFolder(); err != nil {
			return passing(err)
		}
		if err := l.writeBounds(bounds{start: offset, cleaned: offset}); err != nil {
			return passing(err)
		}
		if fresh { // nothing else is synced here before the first record
			if err := l.syncFiles(nil, true, true); err != nil {
				return err
			}
		}
	}
	if err := l.dropSnapshots(0); err != nil {
		return err
	}
	if err := l.fs.Remove(path.Join(l.dir, epochsName)); err != nil && !notExist(err) {
		return err
	}
	for k := len(l.segs) - 1; k >= 0; k-- {
		if err := l.remove(l.segs[k]); err != nil {
			return err
		}
	}
	if err := l.syncFiles(nil, l.folderNew, true); err != nil {
		return err
	}
	if offset == l.bounds.start {
		return nil
	}
	// Not before: what DeleteRecords has taken would be there again after a crash.
	l.empty(l.bounds.start)
	if err := l.writeBounds(bounds{start: offset, cleaned: offset}); err != nil {
		return passing(err)
	}
	return nil
}

// writeBounds is durable when it returns; w is held.
func (l *Log) writeBounds(b bounds) error {
	if err := vfs.WriteFile(l.fs, path.Join(l.dir, boundsName), encodeBounds(b), true); err != nil {
		l.bounds.cleaned = max(l.bounds.cleaned, b.cleaned) // it may be there
		return err
	}
	l.bounds = b
	return nil
}
