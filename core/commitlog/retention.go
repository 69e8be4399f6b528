package commitlog

import (
	"fmt"
	"sort"
	"time"
)

// idleFiles is how long the file of a segment that nobody reads stays open.
const idleFiles = time.Minute

// DeleteBefore raises the start offset (DeleteRecords), durably, to at most the
// end. Segments that are wholly below it go at once.
func (l *Log) DeleteBefore(offset int64) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if offset > l.leo {
		return fmt.Errorf("%s: %w: delete before %d, the log ends at %d", l.o.Name, ErrOffsetOutOfRange, offset, l.leo)
	}
	return l.raiseStart(offset)
}

// raiseStart raises the start offset and removes what lies below; w is held. The new start is durable before a
// file goes, so a crash cannot bring deleted records back; and readers are past it, so nobody finds a hole.
func (l *Log) raiseStart(offset int64) error {
	if offset <= l.start {
		return nil
	}
	if l.made {
		if err := l.writeBounds(bounds{start: offset, cleaned: l.cleaned}); err != nil {
			return l.writeError(err)
		}
	}
	n := 0 // the segment of offset stays, and with it the active one
	if i := l.segmentAt(offset); i > 0 {
		n = i
	}
	l.mu.Lock()
	gone := l.segs[:n]
	l.start = offset
	l.segs = append([]*segment(nil), l.segs[n:]...)
	l.epochs = raiseEpochs(l.epochs, offset)
	l.epochsDirty = true
	if k := sort.Search(len(l.aborted), func(i int) bool { return l.aborted[i].LastOffset >= offset }); k > 0 {
		l.aborted = append([]abortedTxn(nil), l.aborted[k:]...)
	}
	l.mu.Unlock()
	for _, s := range gone {
		if err := l.remove(s); err != nil {
			// It is swept at the next start; the log itself is well.
			l.log.Warn("segment could not be removed", "file", s.path(), "error", err)
		}
	}
	return nil
}

// Maintain does what retention asks for below hw; called from time to time by the owner. It also ends a compacted
// log's segment for max.compaction.lag.ms, forgets silent producers, closes idle files and moves the recovery point.
func (l *Log) Maintain(hw int64) (err error) {
	defer func() { l.tell(err) }()
	now := l.now()
	l.mu.Lock()
	l.sawLocked(hw)
	cfg, segs := l.cfg, l.segs
	behind := l.failed == nil && !l.closed && len(l.segs) > 0 &&
		(l.synced.offset > l.saved.synced.offset || l.o.Durability == Relaxed && l.leo > l.saved.written.offset)
	l.mu.Unlock()
	for _, s := range segs {
		s.idle(now.Add(-idleFiles))
	}
	if behind {
		if err := l.savePoint(false); err != nil {
			return err
		}
	}
	return l.retain(hw, &cfg, now)
}

// retain applies retention.ms and retention.bytes.
func (l *Log) retain(hw int64, cfg *Config, now time.Time) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	l.mu.Lock()
	l.table.expire(now.Add(-l.o.ProducerExpiry).UnixMilli())
	size := l.sizeLocked()
	l.mu.Unlock()
	if n := len(l.segs); n > 0 && cfg.Compact && cfg.MaxCompactionLag > 0 && l.segs[n-1].size > 0 {
		// Only what is not active is compacted, and a log that is silent would never end its segment by itself.
		first, ok, err := l.segs[n-1].begun(now)
		if err != nil {
			return err
		}
		if ok && first < now.Add(-cfg.MaxCompactionLag).UnixMilli() {
			_, h, err := l.roll(now)
			if err != nil {
				return err
			}
			h.release()
		}
	}
	if !cfg.Delete {
		return nil
	}
	start := l.start
	for i, s := range l.segs {
		last := i == len(l.segs)-1
		end := l.leo
		if !last {
			end = l.segs[i+1].base
		}
		if end > hw || s.size == 0 {
			break
		}
		over := cfg.RetentionBytes > 0 && size-s.size >= cfg.RetentionBytes
		if !over && cfg.RetentionAge > 0 {
			old, err := l.olderThan(s, last, cfg, now.Add(-cfg.RetentionAge))
			if err != nil {
				return err
			}
			over = old
		}
		if !over {
			break
		}
		if last {
			_, h, err := l.roll(now)
			if err != nil {
				return err
			}
			h.release()
		}
		size -= s.size
		start = end
	}
	return l.raiseStart(start)
}

// olderThan tells whether a segment's latest record is older; without timestamps the file's age counts.
func (l *Log) olderThan(s *segment, last bool, cfg *Config, limit time.Time) (bool, error) {
	if !last {
		if err := s.ready(cfg.IndexBytes, l.now()); err != nil {
			return false, err
		}
	}
	if s.maxTime >= 0 {
		return s.maxTime < limit.UnixMilli(), nil
	}
	st, err := l.fs.Stat(s.path())
	if err != nil {
		return false, err
	}
	return st.ModTime().Before(limit), nil
}
