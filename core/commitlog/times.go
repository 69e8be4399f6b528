package commitlog

import (
	"errors"
	"io"

	"github.com/forebayhub/forebay/core/record"
)

// OffsetForTime finds the first record whose timestamp is ts (ms) or later; offset -1 when there is none.
func (l *Log) OffsetForTime(ts int64) (offset, timestamp int64, epoch int32, err error) {
	err = l.undisturbed(func() (err error) {
		offset = -1
		return l.eachSegment(func(s *segment, size, maxTime, start int64) (bool, error) {
			if maxTime < ts {
				return true, nil
			}
			offset, timestamp, err = l.searchTime(s, size, start, func(h *record.Header) bool { return h.MaxTimestamp >= ts },
				ts, func(r *record.Record) bool { return r.Timestamp >= ts })
			return offset < 0, err
		})
	})
	return l.found(offset, timestamp, err)
}

// MaxTimestamp is the record with the highest timestamp; -1 when empty.
func (l *Log) MaxTimestamp() (offset, timestamp int64, epoch int32, err error) {
	err = l.undisturbed(func() error {
		var best *segment
		most := int64(-1)
		offset = -1
		err := l.eachSegment(func(s *segment, _, maxTime, _ int64) (bool, error) {
			if maxTime > most {
				best, most = s, maxTime
			}
			return true, nil
		})
		if err != nil || best == nil {
			return err
		}
		l.mu.RLock()
		size, start := best.size, l.start
		l.mu.RUnlock()
		offset, timestamp, err = l.searchTime(best, size, start, func(h *record.Header) bool { return h.MaxTimestamp >= most },
			most, func(r *record.Record) bool { return r.Timestamp >= most })
		return err
	})
	return l.found(offset, timestamp, err)
}

// undisturbed has a search that met a segment that was taken away begin anew: what is in its place is not to be passed over.
func (l *Log) undisturbed(search func() error) error {
	for {
		err := search()
		if !errors.Is(err, errGone) {
			return err
		}
		if err := l.settled(); err != nil {
			return err
		}
	}
}

func (l *Log) found(offset, timestamp int64, err error) (int64, int64, int32, error) {
	if err != nil || offset < 0 {
		l.tell(err)
		return -1, -1, -1, err
	}
	return offset, timestamp, l.EpochAt(offset), nil
}

// eachSegment visits the segments from the oldest until fn returns false, with what is published of each.
func (l *Log) eachSegment(fn func(s *segment, size, maxTime, start int64) (bool, error)) error {
	l.mu.RLock()
	segs, every := l.segs, l.cfg.IndexBytes
	l.mu.RUnlock()
	for i, s := range segs {
		if i < len(segs)-1 {
			if err := s.ready(every, l.now()); err != nil {
				return err
			}
		}
		l.mu.RLock()
		size, maxTime, start := s.size, s.maxTime, l.start
		l.mu.RUnlock()
		more, err := fn(s, size, maxTime, start)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// searchTime finds the first record at or after start that wants holds for, in the batches that may has picked.
func (l *Log) searchTime(s *segment, size, start int64, may func(*record.Header) bool, ts int64, wants func(*record.Record) bool) (int64, int64, error) {
	h, err := s.open(false, l.now())
	if err != nil {
		return -1, -1, err
	}
	defer h.release()
	pos := int64(0)
	if _, rel, ok, err := s.times.lastWhere(func(at int64, _ uint32) bool { return at < ts }); err == nil && ok {
		// All records before that batch are older than ts.
		if _, p, err := s.floor(int64(rel)); err == nil && p <= size {
			pos = p
		}
	}
	w := newWalker(h.file, s.path(), pos, size, headerStep)
	defer w.done()
	var r record.Reader
	for {
		head, err := w.header()
		if errors.Is(err, io.EOF) {
			return -1, -1, nil
		}
		if err != nil {
			return -1, -1, err
		}
		if head.LastOffset() < start || !may(&head) {
			w.skip(&head)
			continue
		}
		batch, err := w.checked(&head)
		if err == nil {
			err = r.Reset(head, batch, 0)
		}
		if err != nil {
			return -1, -1, err
		}
		for r.Next() {
			if rec := r.Record(); rec.Offset >= start && wants(rec) {
				return rec.Offset, rec.Timestamp, nil
			}
		}
		if r.Err() != nil {
			return -1, -1, r.Err()
		}
		w.skip(&head)
	}
}
