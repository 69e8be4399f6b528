package commitlog

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"time"

	"github.com/forebayhub/forebay/core/record"
)

// Append writes whole RecordBatches (v2), one after the other in b, and
// patches base offset and leader epoch into b. It returns once they are in the page
// cache; DurableOffset tells when they are safe. It does not keep b.
//
// A client's Append with a producer id must be one batch, as Kafka's clients send it: only then is it known what a
// retry repeats. A refused Append has written nothing.
func (l *Log) Append(b []byte, leaderEpoch int32, origin Origin) (Appended, error) {
	return l.append(b, leaderEpoch, origin, Guard{})
}

// AppendGuarded is Append under what Verify gave: ErrInvalidTxnState when a marker has come in between.
func (l *Log) AppendGuarded(b []byte, leaderEpoch int32, origin Origin, g Guard) (Appended, error) {
	return l.append(b, leaderEpoch, origin, g)
}

func (l *Log) append(b []byte, leaderEpoch int32, origin Origin, g Guard) (Appended, error) {
	l.mu.RLock()
	cfg := l.cfg
	l.mu.RUnlock()
	now := l.now()
	stamp := record.NoTimestamp
	if cfg.LogAppendTime && origin != FromLeader {
		stamp = now.UnixMilli()
	}
	var few [4]record.Header
	heads, err := inspect(few[:0], b, &cfg, origin, stamp, now)
	var conds []condition
	if err == nil && origin == FromClient && cfg.Conditional {
		conds, err = conditions(b)
	}
	if err == nil && origin == FromClient && cfg.recodes(heads) {
		recoded := recodeBuffers.Get().(*[]byte)
		defer putRecoded(recoded)
		*recoded, err = recode((*recoded)[:0], b, heads, &cfg)
		b = *recoded
	}
	if err == nil && origin == FromLeader {
		b, heads, err = upTo(leaderEpoch, b, heads)
	}
	if err != nil {
		return Appended{Base: -1, Last: -1, AppendTime: -1}, fmt.Errorf("append to %s: %w", l.o.Name, err)
	}

	l.w.Lock()
	a, err := l.appendLocked(b, heads, leaderEpoch, origin, g, conds, &cfg, now)
	l.w.Unlock()
	a.AppendTime = stamp
	if err != nil || a.Duplicate {
		return a, err
	}
	if l.o.Durability == PowerSafe {
		l.syncer.mark(l)
		return a, nil
	}
	l.mu.RLock()
	syncDue := l.syncDueLocked()
	pointDue := len(l.segs) > 0 && l.pointDueLocked(l.endLocked()) // StartAt may have been here meanwhile
	l.mu.RUnlock()
	if syncDue || pointDue {
		l.syncer.mark(l)
	}
	if !syncDue && cfg.FlushAge > 0 {
		l.syncIn(cfg.FlushAge)
	}
	if l.o.Advanced != nil {
		l.o.Advanced()
	}
	return a, nil
}

// upTo leaves out what is of a newer epoch than the one in which it was fetched. A leader that has lost its lead while its answer is on the way, and
// has cut its log back and goes on copying, may send the new epoch's bytes from where its own were: what lies between
// this log and them is not known to be the same.
func upTo(epoch int32, b []byte, heads []record.Header) ([]byte, []record.Header, error) {
	size := 0
	for i := range heads {
		if heads[i].LeaderEpoch > epoch {
			if i == 0 {
				return nil, nil, fmt.Errorf("%w: a batch at %d of epoch %d, fetched in epoch %d", ErrNewerEpoch, heads[i].BaseOffset, heads[i].LeaderEpoch, epoch)
			}
			return b[:size], heads[:i], nil
		}
		size += heads[i].Size()
	}
	return b, heads, nil
}

// inspect parses and checks all batches; no lock is held. It writes the append time, if there is one.
func inspect(heads []record.Header, b []byte, cfg *Config, origin Origin, stamp int64, now time.Time) ([]record.Header, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: no batch", ErrCorrupt)
	}
	for len(b) > 0 {
		h, batch, rest, err := record.Next(b)
		if err != nil {
			return nil, classify(err)
		}
		if err := batch.Check(); err != nil {
			return nil, classify(err)
		}
		if origin == FromClient {
			if err := checkClient(&h, batch, cfg, now.UnixMilli()); err != nil {
				return nil, err
			}
		}
		if h.Attributes.Control() {
			if _, _, err := record.ParseMarker(&h, batch); err != nil {
				return nil, classify(err)
			}
		}
		if stamp != record.NoTimestamp {
			batch.PatchAppendTime(stamp)
			h.MaxTimestamp = stamp
		}
		heads = append(heads, h)
		b = rest
	}
	if origin == FromClient && len(heads) > 1 {
		for i := range heads {
			if heads[i].HasProducer() {
				return nil, fmt.Errorf("%w: %d batches of an idempotent producer in one append", ErrInvalidRecord, len(heads))
			}
		}
	}
	return heads, nil
}

func (l *Log) appendLocked(b []byte, heads []record.Header, leaderEpoch int32, origin Origin, g Guard, conds []condition, cfg *Config, now time.Time) (Appended, error) {
	a := Appended{Base: -1, Last: -1, LogStart: l.start}
	if err := l.writable(); err != nil {
		return a, err
	}
	next := l.leo
	for i := range heads {
		h := &heads[i]
		if origin == FromLeader {
			if h.BaseOffset < next {
				return a, fmt.Errorf("append to %s: %w: batch at %d, the log ends at %d", l.o.Name, ErrOffsetOutOfRange, h.BaseOffset, next)
			}
		} else {
			if h.HasProducer() && !h.Attributes.Control() {
				dup, is, err := l.table.check(h, origin)
				if err != nil {
					return a, fmt.Errorf("append to %s: %w", l.o.Name, err)
				}
				if is {
					a.Base, a.Last, a.Duplicate = dup.first, dup.last, true
					return a, nil
				}
				if !l.table.guarded(h, g) {
					return a, fmt.Errorf("append to %s: %w: the transaction of producer %d was ended meanwhile", l.o.Name, ErrInvalidTxnState, h.ProducerID)
				}
			}
			h.BaseOffset, h.LeaderEpoch = next, leaderEpoch
		}
		next = h.LastOffset() + 1
	}
	// After duplicates: a retry of what was appended is not refused for its own records.
	if err := l.checkConditions(conds, l.leo); err != nil {
		return a, err
	}
	if err := l.patch(b, heads, origin); err != nil {
		return a, fmt.Errorf("append to %s: %w", l.o.Name, err)
	}
	if !l.syncer.space.room(l.fs, path.Dir(l.dir), int64(len(b)), origin == FromCoordinator || origin == FromBump, now) {
		return a, fmt.Errorf("append to %s: %w: %s", l.o.Name, ErrDiskFull, l.dir)
	}
	newest := record.NoTimestamp
	for i := range heads {
		newest = max(newest, heads[i].MaxTimestamp)
	}
	s, h, err := l.prepare(int64(len(b)), next-1, newest, cfg, now)
	if err != nil {
		return a, err
	}
	defer h.release()
	pos := s.size
	if err := l.write(s, h, b); err != nil {
		return a, err
	}
	l.publish(s, b, heads, pos, cfg, now)
	a.Base, a.Last = heads[0].BaseOffset, next-1
	return a, nil
}

// patch writes offsets and epoch into the batches, and refuses markers of those who may not decide.
func (l *Log) patch(b []byte, heads []record.Header, origin Origin) error {
	if origin == FromLeader {
		return nil
	}
	for i := range heads {
		h := &heads[i]
		batch := record.Batch(b[:h.Size()])
		if h.Attributes.Control() && h.HasProducer() {
			m, ok, err := record.ParseMarker(h, batch)
			if err == nil && ok {
				err = l.table.checkMarker(h, m, origin == FromBump)
			}
			if err != nil {
				return err
			}
		}
		batch.Patch(h.BaseOffset, h.LeaderEpoch)
		b = b[h.Size():]
	}
	return nil
}

// old tells whether a segment has reached segment.ms: by the clock, or by the time between its first batch and the one that
// is to come, as Kafka counts, so that old records that are loaded anew do not all lie in one segment.
func (s *segment) old(newest int64, cfg *Config, now time.Time) (bool, error) {
	age := cfg.SegmentAge
	if cfg.Compact && cfg.MaxCompactionLag > 0 {
		age = min(age, cfg.MaxCompactionLag)
	}
	age -= s.jitter
	if now.Sub(s.created) >= age {
		return true, nil
	}
	if newest < 0 {
		return false, nil
	}
	first, ok, err := s.begun(now)
	return ok && newest-first > age.Milliseconds(), err
}

// prepare gives the segment that takes n more bytes up to offset last and time newest, and its file: the active one, or a new one.
func (l *Log) prepare(n, last, newest int64, cfg *Config, now time.Time) (*segment, *handle, error) {
	if l.bounds.cleaned > l.cleaned {
		// Compaction has seen records that were cut off since. What is appended in their place it has not seen: the values below a tombstone there would be
		// passed over, and a hole of a power cut taken for its doing.
		if err := l.writeBounds(bounds{start: l.start, cleaned: l.cleaned}); err != nil {
			return nil, nil, l.writeError(err)
		}
	}
	if len(l.segs) > 0 {
		s := l.segs[len(l.segs)-1]
		full := s.size > 0 && (s.size+n > cfg.SegmentBytes || s.index.bytes()+offsetWidth > int(cfg.IndexFileBytes) || s.times.bytes()+timeWidth > int(cfg.IndexFileBytes))
		if !full && s.size > 0 {
			old, err := s.old(newest, cfg, now)
			if err != nil {
				return nil, nil, l.writeError(err)
			}
			full = old
		}
		if !full && last-s.base <= math.MaxInt32 && s.size+n <= math.MaxUint32 {
			h, err := s.open(false, now)
			if err != nil {
				return nil, nil, l.writeError(err)
			}
			return s, h, nil
		}
	}
	return l.roll(now)
}

// makeFolder makes the folder unless it is there; w is held. Its name is durable with the next sync of files.
func (l *Log) makeFolder() error {
	if l.made {
		return nil
	}
	if err := l.fs.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	l.made = true
	l.mu.Lock()
	defer l.mu.Unlock()
	l.folderNew = true
	return nil
}

// roll ends the active segment and starts the next. What it leaves in the page cache is synced by the Syncer.
func (l *Log) roll(now time.Time) (*segment, *handle, error) {
	if err := l.makeFolder(); err != nil {
		return nil, nil, l.writeError(err)
	}
	s := newSegment(l.fs, l.files, l.dir, l.leo, now)
	s.sound = true
	l.mu.RLock()
	most := min(l.cfg.SegmentJitter, l.cfg.SegmentAge)
	l.mu.RUnlock()
	if most > 0 {
		s.jitter = rand.N(most)
	}
	h, err := s.open(true, now)
	if err != nil {
		return nil, nil, l.writeError(err)
	}
	if len(l.segs) > 0 {
		last := l.segs[len(l.segs)-1]
		if err := last.seal(false); err != nil && !noSpace(err) {
			l.log.Warn("index could not be written and will be rebuilt", "log", l.o.Name, "error", err)
		}
		l.files.took(last)
		l.snapshot(l.leo)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segs = append(l.segs[:len(l.segs):len(l.segs)], s)
	l.namesNew = true
	return s, h, nil
}

// write is the one pwrite of an Append.
func (l *Log) write(s *segment, h *handle, b []byte) error {
	if _, err := h.file.WriteAt(b, s.size); err != nil {
		// What was written in part must not be found by recovery after the next append.
		if terr := h.file.Truncate(s.size); terr != nil {
			return l.fail(fmt.Errorf("%w; cut back: %w", err, terr))
		}
		return l.writeError(err)
	}
	return nil
}

// writeError tells a full disk and want of descriptors, which pass (invariant 11), from a failed disk, which does not.
func (l *Log) writeError(err error) error {
	if NoDescriptors(err) {
		return fmt.Errorf("append to %s: %w: %w", l.o.Name, ErrNoFiles, err)
	}
	if noSpace(err) {
		l.syncer.space.full()
		return fmt.Errorf("append to %s: %w: %w", l.o.Name, ErrDiskFull, err)
	}
	return l.fail(err)
}

// publish makes what was written readable.
func (l *Log) publish(s *segment, b []byte, heads []record.Header, pos int64, cfg *Config, now time.Time) {
	ms := now.UnixMilli()
	s.vouch(pos, pos+int64(len(b)))
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.size == 0 {
		s.created = now
		s.first.Store(heads[0].MaxTimestamp + 1)
	}
	for i := range heads {
		h := &heads[i]
		l.applyLocked(h, record.Batch(b[:h.Size()]), ms)
		s.note(h, pos, cfg.IndexBytes)
		pos += int64(h.Size())
		b = b[h.Size():]
	}
	before := l.leo
	l.leo = heads[len(heads)-1].LastOffset() + 1
	l.unsynced += pos - s.size
	l.syncer.unsynced.Add(pos - s.size)
	s.size = pos
	if l.o.Durability == Relaxed && l.durable == before && !l.flushDueLocked() {
		l.durable = l.leo
	}
}

// flushDueLocked tells whether a Relaxed log has as many records that are not synced as flush.messages allows. Then what
// comes is durable only with the next sync, as Kafka flushes before it answers.
func (l *Log) flushDueLocked() bool {
	return l.cfg.FlushMessages > 0 && l.leo-l.synced.offset >= l.cfg.FlushMessages
}

// syncDueLocked tells whether a Relaxed log has something to sync: what waits for it by flush.messages or flush.ms, or segments that have ended.
// The active one is left to the kernel, which writes it in its own time, until there is so much of all logs that it would slow them down.
func (l *Log) syncDueLocked() bool {
	return l.durable < l.leo || l.syncAsked || l.unsynced >= 8*l.pointEvery && l.syncer.unsynced.Load() >= l.syncer.most || len(l.segs) > 0 && l.synced.base < l.segs[len(l.segs)-1].base
}

// endLocked is the log's end; there is a segment.
func (l *Log) endLocked() position {
	last := l.segs[len(l.segs)-1]
	return position{base: last.base, pos: last.size, offset: l.leo}
}

// applyLocked takes a batch into the leader epochs, the producers and the transactions.
func (l *Log) applyLocked(h *record.Header, batch record.Batch, ms int64) {
	l.assignEpochLocked(h.LeaderEpoch, h.BaseOffset)
	if !h.HasProducer() {
		return
	}
	m, ok, err := record.ParseMarker(h, batch)
	if err != nil {
		return // inspect and recovery have let only whole ones through
	}
	if aborted, is := l.table.apply(h, m, ok, ms); is {
		l.aborted = append(l.aborted, aborted)
	}
}
