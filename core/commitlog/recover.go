package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"time"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Recovery. Everything before the recovery point was synced when the point was written, or written since the machine was booted, so it is not read again here:
// its CRCs are compared when it is first served. From the point on every batch is read and checked. The first that is
// not whole ends the log, if it can be the tail that a crash has torn; if there are whole batches behind it and the tail
// cannot be torn like that, it is damage, and the log does not open: bytes that may have been acknowledged are
// never cut in silence (invariant 10).

// recovery is what one Open works with.
type recovery struct {
	l        *Log
	files    *listing
	point    position // where the check begins
	killed   bool     // the page cache is what the process before has left
	at       int      // index of the point's segment
	clean    bool     // its indexes are whole up to the point
	from     int64    // offset from which producers are replayed
	saved    []epochEntry
	all      bool  // epochs and aborted transactions are replayed from the start as well
	next     int64 // offset that the next batch has at least
	replayed int64 // ms: when forgotten producers were last seen, for all we know
	changed  bool  // files were cut
}

func (l *Log) recover() error {
	files, ok, err := list(l.fs, l.dir)
	if err != nil || !ok {
		return err
	}
	l.made = true
	if len(files.swaps) > 0 {
		if err := l.finishSwaps(files.swaps); err != nil {
			return err
		}
		if files, _, err = list(l.fs, l.dir); err != nil {
			return err
		}
	}
	for _, name := range files.loose {
		if err := l.fs.Remove(path.Join(l.dir, name)); err != nil && !notExist(err) {
			return err
		}
	}
	if files.bounds {
		b, err := l.readBounds()
		if err != nil {
			return err
		}
		l.start, l.cleaned, l.bounds = b.start, b.cleaned, b
	}
	if err := l.openSegments(files.segs); err != nil {
		return err
	}
	r := &recovery{l: l, files: &files, replayed: l.now().UnixMilli()}
	if err := r.findPoint(); err != nil {
		return err
	}
	if len(l.segs) > 0 {
		if err := r.load(); err != nil {
			return err
		}
		if err := r.walk(); err != nil {
			return err
		}
	}
	return r.finish()
}

func (l *Log) readBounds() (b bounds, err error) {
	raw, err := vfs.ReadFile(l.fs, path.Join(l.dir, boundsName), 4096)
	if notExist(err) {
		return b, nil
	}
	if err == nil {
		b, err = decodeBounds(raw)
	}
	if err != nil {
		// It was written whole and synced: it cannot be torn. Guessing would bring deleted records back.
		return b, &CorruptError{File: path.Join(l.dir, boundsName), Err: err}
	}
	return b, nil
}

// openSegments makes the segments; those wholly below the start offset go, as retention was about to.
func (l *Log) openSegments(bases []int64) error {
	for i, base := range bases {
		s := newSegment(l.fs, l.files, l.dir, base, l.now())
		if i+1 < len(bases) && bases[i+1] <= l.start {
			if err := l.remove(s); err != nil {
				return err
			}
			continue
		}
		st, err := l.fs.Stat(s.path())
		if err != nil {
			return err
		}
		s.size = st.Size()
		l.segs = append(l.segs, s)
	}
	return nil
}

// findPoint finds where to begin.
func (r *recovery) findPoint() error {
	l := r.l
	var p point
	var ok bool
	if r.files.point {
		var err error
		if p, ok, err = readPoint(l.fs, l.dir); err != nil {
			return err
		}
	}
	l.saved, l.synced = p, p.synced
	r.killed = sameBoot(p.boot, l.boot) && !l.o.Suspect
	had := "written since the machine was booted"
	if !r.killed {
		l.saved.written, had = p.synced, "synced"
	}
	r.point = l.saved.written
	if len(l.segs) == 0 {
		if ok && r.point.pos > 0 && r.point.offset > l.start {
			return &CorruptError{File: segmentName(l.dir, r.point.base, logSuffix), Err: fmt.Errorf("%w: the file is missing, it had %d bytes", ErrCorrupt, r.point.pos)}
		}
		r.next = max(l.start, r.point.offset)
		return nil
	}
	first, last := l.segs[0], l.segs[len(l.segs)-1]
	begin := position{base: first.base, offset: first.base}
	if !ok || r.point.base < first.base { // never written, or retention has passed it
		r.point = begin
	}
	if !ok || l.synced.base < first.base {
		l.synced = begin
	}
	r.at = sort.Search(len(l.segs), func(i int) bool { return l.segs[i].base >= r.point.base })
	if r.at == len(l.segs) || l.segs[r.at].base != r.point.base {
		return &CorruptError{File: segmentName(l.dir, r.point.base, logSuffix), Err: fmt.Errorf("%w: the file is missing, it had %d bytes; the last segment is %s", ErrCorrupt, r.point.pos, last.path())}
	}
	if s := l.segs[r.at]; s.size < r.point.pos {
		return &CorruptError{File: s.path(), Pos: s.size, Err: fmt.Errorf("%w: the file ends here, %d bytes were %s", ErrCorrupt, r.point.pos, had)}
	}
	r.next = first.base
	return nil
}

// load takes what the small files know as of the point.
func (r *recovery) load() error {
	l := r.l
	if r.files.epochs {
		var err error
		if r.saved, err = readEpochs(l.fs, l.dir); errors.Is(err, errBadState) {
			l.log.Warn("leader epochs are rebuilt from the log", "file", path.Join(l.dir, epochsName), "error", err)
			r.all = true
		} else if err != nil {
			return err
		}
	}
	var indexed []*segment // with transactions that were aborted
	for _, s := range l.segs {
		if _, ok := slices.BinarySearch(r.files.txns, s.base); ok {
			indexed = append(indexed, s)
		}
	}
	aborted, err := readAborted(l.fs, l.dir, indexed, r.point.offset)
	if errors.Is(err, errBadState) {
		l.log.Warn("transaction index is rebuilt from the log", "log", l.o.Name, "error", err)
		r.all = true
	} else if err != nil {
		return err
	}
	r.from = l.segs[0].base
	if r.all {
		for _, s := range indexed {
			s.txns = 0
			if err := l.cutTxns(s); err != nil {
				return err
			}
		}
	} else {
		l.aborted, l.abortedDisk = aborted, r.point.offset
		for _, s := range indexed {
			if err := l.cutTxns(s); err != nil {
				return err
			}
		}
		l.epochs = cutEpochs(r.saved, r.point.offset)
		r.loadSnapshot(r.files.snaps)
	}
	s := l.segs[r.at]
	if r.point.pos > 0 {
		size := s.size
		s.size = r.point.pos
		r.clean = s.load() == nil
		s.size = size
	}
	if !r.clean {
		s.forget()
	}
	return nil
}

// loadSnapshot finds the newest good snapshot at or below the point.
func (r *recovery) loadSnapshot(snaps []int64) {
	l := r.l
	for i := len(snaps) - 1; i >= 0; i-- {
		if snaps[i] > r.point.offset {
			continue
		}
		name := segmentName(l.dir, snaps[i], snapSuffix)
		raw, err := vfs.ReadFile(l.fs, name, maxStateFile)
		if err == nil {
			t, at, derr := decodeTable(raw)
			if derr == nil && at == snaps[i] {
				l.table, r.from = t, at
				return
			}
			err = errors.Join(derr, errBadState)
		}
		l.log.Warn("producer snapshot is not used", "file", name, "error", err)
	}
}

// walk replays the segments from the snapshot on and checks those from the point on.
func (r *recovery) walk() error {
	l := r.l
	for i := min(max(l.segmentAt(r.from), 0), r.at); i < len(l.segs); i++ {
		if i > r.at && l.segs[i].base != r.next {
			if l.segs[i].base < r.next || l.segs[i].base > l.cleaned {
				return r.hole(i)
			}
			r.next = l.segs[i].base // compaction has taken the records between
		}
		more, err := r.walkSegment(i)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (r *recovery) walkSegment(i int) (more bool, err error) {
	l, s := r.l, r.l.segs[i]
	h, err := s.open(false, l.now())
	if err != nil {
		return false, err
	}
	defer h.release()
	trusted, step := s.size, headerStep // up to here no CRC is compared
	noted := s.size                     // up to here the indexes are whole
	pos := int64(0)
	r.next = max(r.next, s.base)
	if i >= r.at {
		trusted, noted = 0, 0
		s.sound = true
	}
	if i == r.at {
		trusted = r.point.pos
		if r.clean {
			noted = trusted
			if r.from >= r.point.offset {
				pos, r.next = trusted, r.point.offset
			}
		}
	}
	w := newWalker(h.file, s.path(), pos, s.size, step)
	defer w.done()
	for {
		if w.pos >= trusted && w.step == headerStep {
			w.step = bodyStep
		}
		head, batch, err := r.step(w, w.pos >= trusted)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if w.pos >= trusted && errors.Is(err, ErrCorrupt) {
				return false, r.tail(i, h, w.pos, err)
			}
			return false, err
		}
		if w.pos >= trusted && max(l.o.Durability, l.o.Ran) == Relaxed && !r.killed && r.older(&head) {
			return false, r.cut(i, w.pos, &CorruptError{File: s.path(), Pos: w.pos, Err: fmt.Errorf("%w: leader epoch %d after %d", ErrCorrupt, head.LeaderEpoch, l.epochs[len(l.epochs)-1].epoch)})
		}
		if w.pos == 0 {
			s.first.Store(head.MaxTimestamp + 1)
		}
		if w.pos >= noted {
			s.note(&head, w.pos, l.cfg.IndexBytes)
		}
		r.apply(&head, batch)
		w.skip(&head)
		r.next = head.LastOffset() + 1
	}
	if i == r.at && r.next < r.point.offset {
		r.next = r.point.offset
	}
	if s.size > trusted {
		s.vouch(trusted, s.size)
	}
	return true, nil
}

// step reads one batch, with its bytes where they are needed.
func (r *recovery) step(w *walker, check bool) (head record.Header, batch record.Batch, err error) {
	head, err = w.header()
	if err != nil {
		return head, nil, err
	}
	if check {
		if head.BaseOffset < r.next {
			return head, nil, &CorruptError{File: w.name, Pos: w.pos, Err: fmt.Errorf("%w: offset %d after %d", ErrCorrupt, head.BaseOffset, r.next-1)}
		}
		batch, err = w.checked(&head)
	} else if head.Attributes.Control() {
		batch, err = w.batch(&head)
	}
	return head, batch, err
}

// older tells a batch of a leader epoch before the one of the records that it follows. Epochs never fall along a log, so it is from before a cut, and a power cut
// has brought it back: in relaxed, where neither the cut nor what came after it may have reached the disk.
func (r *recovery) older(h *record.Header) bool {
	n := len(r.l.epochs)
	return n > 0 && h.LeaderEpoch >= 0 && h.LeaderEpoch < r.l.epochs[n-1].epoch && r.l.epochs[n-1].start < h.BaseOffset
}

// apply replays a batch: producers from the snapshot on, the rest from the point on.
func (r *recovery) apply(h *record.Header, batch record.Batch) {
	l := r.l
	if h.BaseOffset >= r.point.offset || r.all {
		l.assignEpochLocked(h.LeaderEpoch, h.BaseOffset)
	}
	if h.BaseOffset < r.from || !h.HasProducer() {
		return
	}
	m, ok, err := record.ParseMarker(h, batch)
	if err != nil {
		l.log.Warn("marker is not understood", "log", l.o.Name, "offset", h.BaseOffset, "error", err)
		return
	}
	if a, is := l.table.apply(h, m, ok, r.replayed); is && (a.LastOffset >= r.point.offset || r.all) {
		l.aborted = append(l.aborted, a)
	}
}

// tail decides about a batch that is not whole, at pos in segment i: the end of the log, or damage.
func (r *recovery) tail(i int, h *handle, pos int64, cause error) error {
	l, s := r.l, r.l.segs[i]
	end := s.size
	behind := false
	for _, later := range l.segs[i+1:] {
		behind = behind || later.size > 0
	}
	at, found, err := wholeBatchAfter(h.file, pos, s.size, r.next)
	if err != nil {
		return err
	}
	if found {
		behind, end = true, at
	}
	if behind {
		// A process that was killed leaves the page cache: of what it wrote only the last write can be torn.
		if r.killed {
			return cause
		}
		// A power cut can lose any sectors of what was not synced. They read as zeros; damaged bytes do not.
		torn, err := zeroSector(h.file, pos, end, s.size)
		if err != nil {
			return err
		}
		if !torn {
			return cause
		}
	}
	return r.cut(i, pos, cause)
}

// hole is a segment that does not begin where the one before ends, above the recovery point.
func (r *recovery) hole(i int) error {
	l := r.l
	cause := &CorruptError{File: l.segs[i].path(), Err: fmt.Errorf("%w: the segment before ends at offset %d", ErrCorrupt, r.next)}
	if r.killed {
		return cause
	}
	return r.cut(i-1, l.segs[i-1].size, cause)
}

// cut ends the log at pos in segment i.
func (r *recovery) cut(i int, pos int64, cause error) error {
	l, s := r.l, r.l.segs[i]
	lost := s.size - pos
	for _, later := range l.segs[i+1:] {
		lost += later.size
	}
	l.log.Warn("torn tail is cut: it was not yet durable", "log", l.o.Name, "file", s.path(), "byte", pos, "bytes", lost, "offset", r.next, "cause", cause)
	for k := len(l.segs) - 1; k > i; k-- {
		if err := l.remove(l.segs[k]); err != nil {
			return err
		}
	}
	l.segs = l.segs[:i+1]
	h, err := s.open(false, l.now())
	if err != nil {
		return err
	}
	defer h.release()
	if err := h.file.Truncate(pos); err != nil {
		return err
	}
	if err := h.file.Sync(); err != nil {
		return err
	}
	if err := s.trim(h.file, pos, l.cfg.IndexBytes); err != nil {
		return err
	}
	if i == r.at && pos > r.point.pos {
		s.vouch(r.point.pos, pos)
	} else if i > r.at {
		s.vouch(0, pos)
	}
	s.size, r.changed = pos, true
	return nil
}

// finish settles the ends and makes the tail durable, as Durability says.
func (r *recovery) finish() error {
	l := r.l
	l.leo = r.next
	if len(l.segs) > 0 {
		for _, e := range r.saved { // an epoch that has no records yet
			if e.start == l.leo {
				l.assignEpochLocked(e.epoch, e.start)
			}
		}
		l.start = max(l.start, l.segs[0].base)
	} else {
		l.start = l.leo
	}
	if l.start > l.leo { // the start was durable, the records before it were not
		for k := len(l.segs) - 1; k >= 0; k-- {
			if err := l.remove(l.segs[k]); err != nil {
				return err
			}
		}
		l.segs, l.leo, r.changed = nil, l.start, true
		l.epochs, l.aborted, l.table = nil, nil, newTable()
	}
	l.epochsDirty = len(l.epochs) > 0 && string(encodeEpochs(l.epochs)) != string(encodeEpochs(r.saved))
	for _, at := range r.files.snaps {
		if at <= l.leo {
			l.snaps = append(l.snaps, at)
			continue
		}
		// It would be taken for the truth when the log has grown past it with other content.
		if err := l.fs.Remove(segmentName(l.dir, at, snapSuffix)); err != nil && !notExist(err) {
			return err
		}
		r.changed = true
	}
	if r.changed {
		if err := vfs.SyncDir(l.fs, l.dir); err != nil {
			return err
		}
	}
	l.cleaned = min(l.cleaned, l.leo)
	return r.settle()
}

// settle makes the tail behind what was synced durable before anyone is told that it is.
func (r *recovery) settle() error {
	l := r.l
	l.durable = l.leo
	if len(l.segs) == 0 {
		l.synced = position{base: l.leo, offset: l.leo}
		l.folderNew = true // whoever made the folder may not have come to sync it
		return nil
	}
	last := l.segs[len(l.segs)-1]
	last.created = r.firstTime(last)
	end := l.endLocked()
	if l.synced == end {
		// The process before may have been killed before it synced the folder from which it had removed segments. A power cut would bring
		// them back, behind what is appended now.
		l.namesNew = true
		return nil
	}
	if l.o.Suspect {
		if err := l.writeAgain(); err != nil {
			return err
		}
	}
	if l.o.Durability == Relaxed {
		for i := len(l.segs) - 1; i >= 0 && l.segs[i].base >= l.synced.base; i-- {
			l.unsynced += l.segs[i].size
		}
		l.unsynced -= l.synced.pos
		l.syncer.unsynced.Add(l.unsynced)
		l.folderNew, l.namesNew = true, true
		return nil
	}
	var dirty []*segment
	for i := len(l.segs) - 1; i >= 0 && l.segs[i].base >= l.synced.base; i-- {
		dirty = append(dirty, l.segs[i])
	}
	if err := l.syncFiles(dirty, true, true); err != nil {
		return err
	}
	l.synced = end
	if l.failed == nil {
		return l.savePoint(false)
	}
	return nil
}

// writeAgain writes everything behind what is synced to where it is, so that the next sync is about it.
func (l *Log) writeAgain() error {
	buf := make([]byte, bodyStep)
	for _, s := range l.segs[max(l.segmentAt(l.synced.base), 0):] {
		h, err := s.open(false, l.now())
		if err != nil {
			return err
		}
		defer h.release()
		pos := int64(0)
		if s.base == l.synced.base {
			pos = l.synced.pos
		}
		for ; pos < s.size; pos += int64(len(buf)) {
			buf = buf[:min(int64(cap(buf)), s.size-pos)]
			if _, err := h.file.ReadAt(buf, pos); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if _, err := h.file.WriteAt(buf, pos); err != nil {
				return err
			}
		}
		buf = buf[:cap(buf)]
	}
	return nil
}

// firstTime is when a segment was begun, for roll by age: its first batch's timestamp, if that can be.
func (r *recovery) firstTime(s *segment) time.Time {
	now := r.l.now()
	ms, ok, err := s.begun(now)
	if err != nil || !ok || ms == 0 || ms > now.UnixMilli() {
		return now
	}
	return time.UnixMilli(ms)
}

// wholeBatchAfter looks for a batch with a good CRC and a later offset anywhere behind pos.
func wholeBatchAfter(f io.ReaderAt, pos, size, next int64) (at int64, found bool, err error) {
	const overlap = record.HeaderSize
	buf := make([]byte, min(bodyStep, size-pos))
	for at := pos + 1; at < size; {
		n := int(min(int64(len(buf)), size-at))
		if _, err := f.ReadAt(buf[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		for k := 0; k+overlap <= n; k++ {
			skip := bytes.IndexByte(buf[k+16:n], record.Magic)
			if skip < 0 {
				break
			}
			k += skip
			if k+overlap > n {
				break
			}
			h, err := record.Parse(buf[k:n])
			if err != nil || h.BaseOffset < next || h.BaseOffset > next+1<<31 || at+int64(k)+int64(h.Size()) > size {
				continue
			}
			w := newWalker(f, "", at+int64(k), size, h.Size())
			_, err = w.checked(&h)
			w.done()
			if err == nil {
				return at + int64(k), true, nil
			}
		}
		if at+int64(n) >= size {
			break
		}
		at += int64(n) - overlap + 1
	}
	return 0, false, nil
}

// zeroSector tells whether a sector that the bytes [pos, end) lie in was not written: from pos, or from its beginning,
// it reads as zeros to its end. What a sector has of a later batch it has of an earlier one.
func zeroSector(f io.ReaderAt, pos, end, size int64) (bool, error) {
	const sector = 512
	const least = 8 // a batch's first bytes may be zeros, but not its whole base offset
	buf := make([]byte, sector)
	for at := pos; at < end; {
		stop := min((at/sector+1)*sector, size)
		part := buf[:stop-at]
		if _, err := f.ReadAt(part, at); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if (len(part) >= least || at%sector == 0) && len(bytes.TrimRight(part, "\x00")) == 0 {
			return true, nil
		}
		at = stop
	}
	return false, nil
}
