package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/internal/vfs"
)

// SetBack is what becomes of a damaged log of which the cluster has another copy: from the first damaged segment on it is moved into
// quarantine, whole files as they are, and the log ends before them. What is left has been read, and its CRCs compared. The log must be closed. The one for a
// log that has no other copy is Repair.
//
// A guard is written first, with which the log does not open, and goes last, so a crash leaves a log that has to be set back again. The last segment is moved
// first: what is left has no hole.
type SetBack struct {
	FS  vfs.FS
	Dir string // the partition's folder
	// Quarantine is a folder of its own, on the same file system; made if anything is moved.
	Quarantine string
	// Start is the least offset that is needed: the other copy's log start. What is damaged below it goes, with what lies before, and takes nothing after it along.
	Start int64
	// All moves everything, sound or not.
	All bool
}

// Cut is what was moved.
type Cut struct {
	Moved []string // names of files
	Bytes int64
	Cause error // the first damage; nil: none was found
}

// setBackGuard is the content of a manifest that is none.
const setBackGuard = "this log is being set back: a node that has another copy of it does so again at its next start; without one, forebay log repair\n"

// Run sets the log back. It ends early with ctx, and may be called again then.
func (b SetBack) Run(ctx context.Context) (cut Cut, err error) {
	files, ok, err := list(b.FS, b.Dir)
	if err != nil || !ok {
		return cut, err
	}
	cleaned := int64(0)
	small := []string{boundsName} // what goes with everything
	guards := []int64{}
	for _, base := range files.swaps {
		raw, err := vfs.ReadFile(b.FS, segmentName(b.Dir, base, swapSuffix), maxStateFile)
		switch text := string(raw); {
		case err != nil:
			return cut, err
		case text == setBackGuard || text == repairGuard:
			guards = append(guards, base)
			continue
		}
		if err = (&Log{fs: b.FS, dir: b.Dir}).finishSwaps([]int64{base}); errors.Is(err, ErrCorrupt) || errors.Is(err, errBadState) {
			small, b.All, cut.Cause = append(small, path.Base(segmentName(b.Dir, base, swapSuffix))), true, err
		} else if err != nil {
			return cut, err
		}
	}
	if len(files.swaps) > len(guards) {
		if files, _, err = list(b.FS, b.Dir); err != nil {
			return cut, err
		}
	}
	switch v, err := (&Log{fs: b.FS, dir: b.Dir}).readBounds(); {
	case errors.Is(err, ErrCorrupt):
		b.All, cut.Cause = true, err
	case err != nil:
		return cut, err
	default:
		cleaned = v.cleaned
	}
	low, high, cause, err := b.look(ctx, files.segs, cleaned)
	if err != nil {
		return cut, err
	}
	if cut.Cause == nil {
		cut.Cause = cause
	}
	if b.All {
		low, high = 0, 0
	}
	// The last goes first, and what is below the start from its beginning: what is left has no hole.
	var gone []int64
	for _, base := range slices.Backward(files.segs[high:]) {
		gone = append(gone, base)
	}
	gone = append(gone, files.segs[:low]...)
	if err := b.move(gone, small, &cut); err != nil {
		return cut, err
	}
	return cut, b.end(guards)
}

// look finds what is damaged: everything before segs[low] and from segs[high] on is to go.
func (b SetBack) look(ctx context.Context, segs []int64, cleaned int64) (low, high int, cause error, err error) {
	high = len(segs)
	if b.All || high == 0 {
		return 0, high, nil, nil
	}
	point, _, err := readPoint(b.FS, b.Dir)
	if err != nil {
		return 0, 0, nil, err
	}
	known, err := savedEpochs(b.FS, b.Dir, point.synced.offset)
	if err != nil {
		return 0, 0, nil, err
	}
	next := segs[0]
	for i, base := range segs {
		at := placeOf(segs, i, known, point.synced, point.written)
		name := segmentName(b.Dir, base, logSuffix)
		var damage error
		if base > next && base > cleaned {
			damage = &CorruptError{File: name, Err: fmt.Errorf("%w: the segment before ends at offset %d", ErrCorrupt, next)}
		}
		end, err := b.readSegment(ctx, name, max(next, base), at)
		switch {
		case err == nil:
		case errors.Is(err, ErrCorrupt):
			damage = errors.Join(damage, err)
		default:
			return 0, 0, nil, err
		}
		if next = end; damage == nil {
			continue
		}
		if cause == nil {
			cause = damage
		}
		if at.before > b.Start {
			return low, i, cause, nil
		}
		low, next = i+1, at.before
	}
	for _, at := range []position{point.synced, point.written} {
		if last := segs[high-1]; cause == nil && at.base > last && at.pos > 0 {
			cause = &CorruptError{File: segmentName(b.Dir, at.base, logSuffix), Err: fmt.Errorf("%w: the file is missing, it had %d bytes", ErrCorrupt, at.pos)}
		}
	}
	return low, high, cause, nil
}

// placeOf is what is known of the i-th of a closed log's segments: points are where the log has been once.
func placeOf(segs []int64, i int, epochs []epochEntry, points ...position) place {
	at := place{before: math.MaxInt64, epochs: epochs}
	if i+1 < len(segs) {
		at.before = segs[i+1]
	}
	for _, p := range points {
		if p.base == segs[i] && p.pos > at.had.pos {
			at.had = p
		}
	}
	return at
}

// readSegment compares all CRCs of a segment, whose offsets lie in its place from next on.
func (b SetBack) readSegment(ctx context.Context, name string, next int64, at place) (end int64, err error) {
	f, err := b.FS.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return next, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return next, err
	}
	if st.Size() < at.had.pos {
		return next, &CorruptError{File: name, Pos: st.Size(), Err: fmt.Errorf("%w: the file ends here, it had %d bytes", ErrCorrupt, at.had.pos)}
	}
	w := newWalker(f, name, 0, st.Size(), bodyStep)
	defer w.done()
	for {
		if err := ctx.Err(); err != nil {
			return next, err
		}
		h, err := w.follows(next, at)
		if errors.Is(err, io.EOF) {
			return next, nil
		}
		if err == nil {
			_, err = w.checked(&h)
		}
		if err != nil {
			return next, err
		}
		w.skip(&h)
		next = h.LastOffset() + 1
	}
}

// move puts segments into quarantine, with the small files if all go. Nothing is changed of a sound log.
func (b SetBack) move(segs []int64, small []string, cut *Cut) error {
	var names []string
	for _, base := range segs {
		names = append(names, path.Base(segmentName(b.Dir, base, logSuffix)))
	}
	if b.All {
		for _, name := range small {
			if _, err := b.FS.Stat(path.Join(b.Dir, name)); err == nil {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 && cut.Cause == nil {
		return nil
	}
	if err := vfs.MkdirAllSync(b.FS, b.Quarantine, 0o755); err != nil {
		return err
	}
	if err := vfs.WriteFile(b.FS, b.guard(), []byte(setBackGuard), true); err != nil {
		return err
	}
	if err := b.forget(); err != nil {
		return err
	}
	for _, name := range names {
		st, err := b.FS.Stat(path.Join(b.Dir, name))
		if err != nil {
			return err
		}
		if err := b.FS.Rename(path.Join(b.Dir, name), path.Join(b.Quarantine, name)); err != nil {
			return err
		}
		// Each for itself: after a power cut the later ones must not be there without those before.
		if err := b.FS.SyncDir(b.Quarantine); err != nil {
			return err
		}
		if err := b.FS.SyncDir(b.Dir); err != nil {
			return err
		}
		cut.Moved, cut.Bytes = append(cut.Moved, name), cut.Bytes+st.Size()
	}
	return nil
}

// guard has the name of a manifest that no log can have.
func (b SetBack) guard() string { return segmentName(b.Dir, math.MaxInt64, swapSuffix) }

// forget removes what a start makes anew from the segments, and the recovery point, which vouches for what is about to go.
func (b SetBack) forget() error { return removeDerived(b.FS, b.Dir, recoveryName) }

// removeDerived removes what a start makes anew from a log's segments, and more of its files, and syncs the folder.
func removeDerived(fsys vfs.FS, dir string, more ...string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		derived := name == epochsName || slices.Contains(more, name)
		for _, suffix := range []string{indexSuffix, timeSuffix, txnSuffix, snapSuffix} {
			derived = derived || strings.HasSuffix(name, suffix)
		}
		if derived {
			if err := fsys.Remove(path.Join(dir, name)); err != nil && !notExist(err) {
				return err
			}
		}
	}
	return fsys.SyncDir(dir)
}

// end lets the log open again.
func (b SetBack) end(guards []int64) error {
	names := []string{b.guard()}
	for _, base := range guards {
		names = append(names, segmentName(b.Dir, base, swapSuffix))
	}
	for _, name := range names {
		if err := b.FS.Remove(name); err != nil && !notExist(err) {
			return err
		}
	}
	return b.FS.SyncDir(b.Dir)
}
