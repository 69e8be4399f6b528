package commitlog

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// A swap puts one rewritten file in the place of one or more neighbouring segments:
//
//  1. <base>.log.cleaned is written and synced, and <base>.txnindex.cleaned if aborted transactions remain;
//  2. <base>.swap, which lists the segments that it replaces, is written and synced: from here on it will happen;
//  3. the first segment's indexes go, .cleaned is renamed over the old files, the other segments go;
//  4. the folder is synced, the manifest goes.
//
// A start that finds a manifest does 3 and 4 again; one that finds only .cleaned removes it.

// rewrite is a segment that is being written.
type rewrite struct {
	l     *Log
	seg   *segment
	every int64
	name  string
	file  vfs.File
	buf   []byte
	done  bool
}

func newRewrite(l *Log, base, every int64) (*rewrite, error) {
	w := &rewrite{l: l, seg: newSegment(l.fs, l.files, l.dir, base, l.now()), every: every, name: segmentName(l.dir, base, logSuffix+cleanedSuffix)}
	w.seg.sound = true
	f, err := l.fs.OpenFile(w.name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	w.file = f
	return w, err
}

func (w *rewrite) add(b record.Batch) error {
	h, err := record.Parse(b)
	if err != nil {
		return err
	}
	w.seg.noteInMemory(&h, w.seg.size, w.every)
	w.seg.size += int64(len(b))
	if w.buf = append(w.buf, b...); len(w.buf) >= bodyStep {
		return w.flush()
	}
	return nil
}

func (w *rewrite) flush() error {
	_, err := w.file.WriteAt(w.buf, w.seg.size-int64(len(w.buf)))
	w.buf = w.buf[:0]
	return err
}

// finish makes the file durable. Want of room that the file system finds only now passes: nothing counts on this file yet.
func (w *rewrite) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	err := w.file.Sync()
	if err != nil && !noSpace(err) {
		return w.l.fail(err)
	}
	return err
}

// keepTxns writes the aborted transactions that the new segment's .txnindex has, durably.
func (w *rewrite) keepTxns(list []abortedTxn) error {
	if len(list) == 0 {
		return nil
	}
	name := segmentName(w.l.dir, w.seg.base, txnSuffix+cleanedSuffix)
	f, err := w.l.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	b := txnHead(w.seg.base)
	for _, a := range list {
		b = encodeTxn(b, a)
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	w.seg.txns = len(list)
	return err
}

// discard removes the file unless it was swapped in.
func (w *rewrite) discard() {
	if w.file != nil {
		_ = w.file.Close() // synced, or not wanted
	}
	if !w.done {
		_ = w.l.fs.Remove(w.name) // swept at the next start
	}
}

// swap puts the rewritten segment in the place of group. Aborted transactions whose marker is below
// the pass's end have no records left, and are forgotten at the next start: until then a reader may still send the old bytes.
func (l *Log) swap(group []*segment, w *rewrite, c *cleaner) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if l.cuts != c.cuts { // a segment that was cut and has grown again is the same, with other records
		return errGone
	}
	first := l.segmentAt(group[0].base)
	if first < 0 || first+len(group) >= len(l.segs) {
		return errGone
	}
	for i, s := range group {
		if l.segs[first+i] != s { // retention was here meanwhile
			return errGone
		}
	}
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.RLock()
	synced := l.synced.base
	l.mu.RUnlock()
	if synced <= group[len(group)-1].base {
		return errGone
	}
	// The recovery point must lie behind: its position would mean nothing in the new file.
	// And durably: after a power cut the slot before would be read.
	if err := l.savePointHeld(true); err != nil {
		return err
	}
	if l.saved.synced.base < synced {
		return fmt.Errorf("%w: recovery point cannot be written", errGone)
	}
	var m manifest
	for _, s := range group {
		m.bases = append(m.bases, s.base)
	}
	if err := w.keepTxns(l.abortedIn(max(c.end, group[0].base), l.segs[first+len(group)].base)); err != nil {
		return err
	}
	m.txns = w.seg.txns > 0
	name := segmentName(l.dir, group[0].base, swapSuffix)
	err := vfs.WriteFile(l.fs, name, m.encode(), true)
	if noSpace(err) || NoDescriptors(err) {
		// It may be there, and a start would carry it out, without the new segment that is given up now.
		back := l.fs.Remove(name)
		if back == nil || notExist(back) {
			back = vfs.SyncDir(l.fs, l.dir)
		}
		if back == nil {
			return err
		}
		err = errors.Join(err, back)
	}
	w.done = true // the new segment stays, for the manifest that may
	if err != nil {
		return l.fail(err)
	}
	defer l.keep(group...)()
	for _, s := range group {
		s.drop()
	}
	if err := l.replaceFiles(m); err != nil {
		return l.fail(err)
	}
	l.mu.Lock()
	segs := append([]*segment(nil), l.segs[:first]...)
	segs = append(segs, w.seg)
	l.segs = append(segs, l.segs[first+len(group):]...)
	l.mu.Unlock()
	w.seg.vouch(0, w.seg.size)
	if err := w.seg.seal(false); err != nil && !noSpace(err) {
		l.log.Warn("index could not be written and will be rebuilt", "log", l.o.Name, "error", err)
	}
	if err := l.endSwap(name); err != nil {
		return l.fail(err)
	}
	return nil
}

// replaceFiles is step 3; it may be done again.
func (l *Log) replaceFiles(m manifest) error {
	gone := func(base int64, suffixes ...string) error {
		for _, suffix := range suffixes {
			if err := l.fs.Remove(segmentName(l.dir, base, suffix)); err != nil && !notExist(err) {
				return err
			}
		}
		return nil
	}
	first := m.bases[0]
	if err := gone(first, indexSuffix, timeSuffix); err != nil {
		return err
	}
	renamed := []string{segmentName(l.dir, first, logSuffix)}
	if m.txns {
		renamed = append(renamed, segmentName(l.dir, first, txnSuffix))
	} else if err := gone(first, txnSuffix); err != nil {
		return err
	}
	for _, name := range renamed {
		if err := l.fs.Rename(name+cleanedSuffix, name); err != nil && !notExist(err) {
			return err
		}
	}
	for _, base := range m.bases[1:] {
		if err := gone(base, indexSuffix, timeSuffix, txnSuffix, logSuffix); err != nil {
			return err
		}
	}
	return nil
}

// endSwap is step 4.
func (l *Log) endSwap(name string) error {
	if err := vfs.SyncDir(l.fs, l.dir); err != nil {
		return err
	}
	if err := l.fs.Remove(name); err != nil {
		return err
	}
	return vfs.SyncDir(l.fs, l.dir)
}

// finishSwaps does at a start what a crash has left half done.
func (l *Log) finishSwaps(bases []int64) error {
	for _, base := range bases {
		name := segmentName(l.dir, base, swapSuffix)
		raw, err := vfs.ReadFile(l.fs, name, maxStateFile)
		if err != nil {
			return err
		}
		if string(raw) == repairGuard {
			return &CorruptError{File: path.Clean(name), Err: fmt.Errorf("%w: a repair was interrupted; run forebay log repair again", ErrCorrupt)}
		}
		if string(raw) == setBackGuard {
			return &CorruptError{File: path.Clean(name), Err: fmt.Errorf("%w: the log was damaged, and taking out what is was interrupted", ErrCorrupt)}
		}
		m, err := decodeManifest(raw)
		if err == nil && m.bases[0] != base {
			err = fmt.Errorf("%w: manifest of %d", errBadState, m.bases[0])
		}
		if err != nil {
			return &CorruptError{File: path.Clean(name), Err: err}
		}
		if err := l.replaceFiles(m); err != nil {
			return err
		}
		if err := l.endSwap(name); err != nil {
			return err
		}
	}
	return nil
}
