package commitlog

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/forebayhub/forebay/core/record"
)

// segmentAt is the index of the segment that holds offset; mu is held.
func (l *Log) segmentAt(offset int64) int {
	return sort.Search(len(l.segs), func(i int) bool { return l.segs[i].base > offset }) - 1
}

// Read finds whole batches from the one that contains offset from, up to limit
// (exclusive offset), at most max bytes, but at least one batch when minOne. from == limit or end gives an
// empty Slice; below the start or above the end is ErrOffsetOutOfRange. A Slice does not reach over a segment's end.
func (l *Log) Read(from, limit int64, max int, minOne bool) (Slice, error) {
	for {
		l.mu.RLock()
		if err := l.readableLocked(from); err != nil {
			l.mu.RUnlock()
			return Slice{}, err
		}
		if limit > l.leo {
			limit = l.leo
		}
		i := l.segmentAt(from)
		if from >= limit || i < 0 {
			l.mu.RUnlock()
			return Slice{}, nil
		}
		s, every, toEnd, cuts := l.segs[i], l.cfg.IndexBytes, limit >= l.leo, l.cuts
		size, at := s.size, place{before: l.leo, epochs: l.epochs}
		var next int64 = -1
		if i+1 < len(l.segs) {
			next, toEnd = l.segs[i+1].base, false
			at.before = next
		}
		l.mu.RUnlock()

		slice, err := l.readSegment(s, size, at, every, from, limit, max, minOne, toEnd)
		if errors.Is(err, errGone) {
			if err := l.settled(); err != nil {
				return Slice{}, err
			}
			continue // retention or compaction was faster
		}
		// Of an index, too: it is rebuilt at the first cut that it meets, and there may have been another.
		if (errors.Is(err, ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errBadIndex)) && l.cutSince(cuts) {
			continue
		}
		if err = l.damage(s, err); err != nil {
			l.tell(err)
		}
		if err != nil || slice.Len > 0 || next < 0 || next >= limit {
			slice.More = slice.More || slice.Len > 0 && slice.end && next >= 0 && next < limit
			return slice, err
		}
		// Compaction has left a gap at the end of this segment, or what is left is not to be given.
		if !slice.end {
			return slice, nil
		}
		from = next
	}
}

// settled waits for who has taken a segment away from a reader, and holds w until another one is in its place, or none is to be. On an error none will ever be.
func (l *Log) settled() error {
	l.w.Lock()
	defer l.w.Unlock()
	return l.writable()
}

// Doubt has the bytes from the batch of offset on compared with their CRCs again before they are read: somebody could not use them.
func (l *Log) Doubt(offset int64) error {
	l.mu.RLock()
	i := l.segmentAt(offset)
	if l.closed || i < 0 {
		l.mu.RUnlock()
		return nil
	}
	s, size, every, cuts := l.segs[i], l.segs[i].size, l.cfg.IndexBytes, l.cuts
	l.mu.RUnlock()
	h, err := s.open(false, l.now())
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.release()
	pos, _, err := l.locate(s, h, size, every, offset, false)
	if err != nil && l.cutSince(cuts) {
		return nil // it is read anew by who asked
	}
	l.tell(err)
	if err == nil {
		s.doubt(pos)
	}
	return err
}

// readableLocked says whether an offset can be read.
func (l *Log) readableLocked(from int64) error {
	if l.closed {
		return ErrClosed
	}
	if from < l.start || from > l.leo {
		return fmt.Errorf("%s: %w: %d is not in [%d, %d]", l.o.Name, ErrOffsetOutOfRange, from, l.start, l.leo)
	}
	return nil
}

// readSegment reads in one segment, of which size bytes are published.
func (l *Log) readSegment(s *segment, size int64, at place, every, from, limit int64, most int, minOne, toEnd bool) (Slice, error) {
	h, err := s.open(false, l.now())
	if err != nil {
		return Slice{}, err
	}
	ok := false
	defer func() {
		if !ok {
			h.release()
		}
	}()
	pos, first, err := l.locate(s, h, size, every, from, false)
	if err != nil {
		return Slice{}, err
	}
	if pos == size {
		return Slice{end: true}, nil
	}
	end, more := pos+int64(first.Size()), first.LastOffset()+1 < limit
	if first.LastOffset() >= limit {
		// limit lies inside of the batch, or of a gap before it; or the offset is damaged, and who waits for it would wait for ever.
		return Slice{}, s.verify(h.file, pos, end, size, at)
	}
	if end-pos > int64(most) {
		if !minOne {
			return Slice{}, nil
		}
	} else if toEnd && size-pos <= int64(most) {
		end, more = size, false // the usual: up to the end of the log
	} else if end, more, err = l.extent(s, h, size, end, pos+int64(most), limit); err != nil {
		return Slice{}, err
	}
	if err := s.verify(h.file, pos, end, size, at); err != nil {
		return Slice{}, err
	}
	ok = true
	return Slice{File: h.file, Pos: pos, Len: int(end - pos), More: more, end: end == size, release: h.release}, nil
}

// damage says once that a segment is damaged, if that is what err says.
func (l *Log) damage(s *segment, err error) error {
	if errors.Is(err, ErrCorrupt) && s.told.CompareAndSwap(false, true) {
		l.log.Error("a segment is damaged; its records from there on are not served", "log", l.o.Name, "error", err)
	}
	return err
}

// locate finds the first batch whose last offset is at or above from: its position and header; pos == size when there is none.
// held tells whether the caller holds w.
func (l *Log) locate(s *segment, h *handle, size, every, from int64, held bool) (pos int64, head record.Header, err error) {
	if err := s.ready(every, l.now()); err != nil {
		return 0, head, err
	}
	for try := 0; ; try++ {
		var rel int64
		if rel, pos, err = s.floor(from - s.base); err == nil && pos < size {
			head, pos, err = s.walkTo(h, pos, size, from, rel)
		}
		if err == nil || try > 0 || !errors.Is(err, errBadIndex) {
			return pos, head, err
		}
		l.log.Warn("index does not fit its log and is rebuilt", "file", s.index.name, "error", err)
		if err := l.reindex(s, every, held); err != nil {
			return 0, head, err
		}
	}
}

// floor looks an offset up: the base offset (relative) and position of an indexed batch at or before it.
func (s *segment) floor(rel int64) (at, pos int64, err error) {
	at, p, ok, err := s.index.floor(rel)
	if err != nil {
		return 0, 0, errors.Join(errBadIndex, err)
	}
	if !ok {
		return -1, 0, nil
	}
	return at, int64(p), nil
}

// walkTo steps from an indexed position to the batch that holds from. The batch at
// the position must be the one that the index says (rel), else the index is bad.
func (s *segment) walkTo(h *handle, pos, size, from, rel int64) (head record.Header, at int64, err error) {
	w := newWalker(h.file, s.path(), pos, size, 8<<10)
	defer w.done()
	next := s.base
	for first := true; ; first = false {
		head, err = w.follows(next, anywhere) // else a batch would be passed over
		if errors.Is(err, io.EOF) {
			return head, size, nil
		}
		if first && pos > 0 && (err != nil || head.BaseOffset != s.base+rel) {
			return head, 0, fmt.Errorf("%w: no batch of offset %d at byte %d of %s", errBadIndex, s.base+rel, pos, w.name)
		}
		if err != nil {
			return head, 0, err
		}
		if head.LastOffset() >= from {
			return head, w.pos, nil
		}
		w.skip(&head)
		next = head.LastOffset() + 1
	}
}

// extent finds where a read that has one batch already ends: at most at byte stop, below offset limit. more says that it was stop that ended it.
func (l *Log) extent(s *segment, h *handle, size, end, stop, limit int64) (at int64, more bool, err error) {
	// Jump near the end by the index: to the last entry that is within both bounds.
	rel, p, ok, err := s.index.lastWhere(func(rel int64, p uint32) bool { return int64(p) <= stop && s.base+rel < limit })
	w := newWalker(h.file, s.path(), end, size, 8<<10)
	defer w.done()
	if err == nil && ok && int64(p) > end && int64(p) < size {
		w.pos = int64(p)
		// As everywhere, the index is only believed when the batch is there.
		if head, err := w.header(); err == nil && head.BaseOffset == s.base+rel {
			end = w.pos
		}
		w.pos = end
	}
	for {
		head, err := w.header()
		if errors.Is(err, io.EOF) {
			return end, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		if head.LastOffset() >= limit {
			return end, false, nil
		}
		if w.pos+int64(head.Size()) > stop {
			return end, true, nil
		}
		w.skip(&head)
		end = w.pos
	}
}

// reindex rebuilds the indexes of a segment while nobody appends to it.
func (l *Log) reindex(s *segment, every int64, held bool) error {
	if !held {
		l.w.Lock()
		defer l.w.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.io.Lock()
	s.sound = false
	s.io.Unlock()
	return s.rebuild(every, l.now())
}
