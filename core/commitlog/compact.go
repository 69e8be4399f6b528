package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"time"

	"github.com/forebayhub/forebay/core/record"
)

// Compaction (cleanup.policy=compact) keeps the last record of each key below the last stable offset,
// in the segments that are not active. Offsets stay. Like Kafka's LogCleaner:
//
//   - a tombstone stays for delete.retention.ms after the first pass that met it, so that readers see it; the time is
//     kept in the batch (KIP-534);
//   - records of aborted transactions go; a marker stays as long as a batch of its transaction does, and then as long as
//     a tombstone;
//   - a batch that is left without records stays, empty, when it holds its producer's last sequence: that of the log, and that below where the pass ends, for
//     whatever comes after it may be cut off.
//
// A pass runs when more than min.cleanable.dirty.ratio of the bytes have come since the last one, when something that it has not seen is
// older than max.compaction.lag.ms, or when a delete horizon may be over. Its memory is bounded: keys that do not fit are
// for another pass, which follows at once. It reads without a lock and takes the log's lock only to swap files.

// Cleaning bounds what a Clean takes.
type Cleaning struct {
	// Memory is the bytes of the map of keys; 24 a key. Zero means 128 MiB. Like log.cleaner.dedupe.buffer.size.
	Memory int64
	// Pace is called with the bytes that were read or written, with no lock held, and may block
	// (log.cleaner.io.max.bytes.per.second). Its error ends the pass, which then has changed nothing. Nil: no bound.
	Pace func(n int) error
}

// errPaced marks an error of Pace.
var errPaced = errors.New("compaction was told to end")

// keyHash stands for a key. With 128 random-seeded bits two keys of a log never meet in practice.
type keyHash [2]uint64

// cleaner is one pass.
type cleaner struct {
	l       *Log
	cfg     *Config
	now     int64
	segs    []*segment
	epochs  []epochEntry
	end     int64 // records at or above are not looked at
	cuts    int64 // of the log when the pass began
	seeds   [2]maphash.Seed
	last    *offsetMap // of the dirty part
	pace    func(n int) error
	more    bool // memory was used up: the rest is for the next pass
	aborted map[int64][]AbortedTxn
	tails   map[int64]int64 // a producer's last batch's last offset, below end
	unsure  map[int64]bool  // producers of whom only batches from end on are known: each of theirs may be the last below
	live    map[int64]bool  // producers of whose running transaction a batch was kept
	reader  record.Reader
	builder *record.Builder
}

// Clean compacts below hw, if cleanup.policy says so and it is worth it, in as many passes as memory asks for. Called from time to
// time by the owner; beside everything else, but one Clean at a time.
func (l *Log) Clean(hw int64, o Cleaning) (err error) {
	defer func() { l.tell(err) }()
	for {
		l.mu.RLock()
		cfg := l.cfg
		l.mu.RUnlock()
		if !cfg.Compact {
			return nil
		}
		more, err := l.compact(hw, &cfg, o, l.now())
		if err != nil || !more {
			return err
		}
	}
}

// Compacts says whether cleanup.policy asks for Clean.
func (l *Log) Compacts() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.cfg.Compact
}

// compact makes one pass if it is worth it; more tells that another one should follow.
func (l *Log) compact(hw int64, cfg *Config, o Cleaning, now time.Time) (more bool, err error) {
	if !l.compacting.TryLock() {
		return false, nil
	}
	defer l.compacting.Unlock()
	if o.Memory == 0 {
		o.Memory = 128 << 20
	}
	c := &cleaner{l: l, cfg: cfg, now: now.UnixMilli(), builder: record.NewBuilder(), pace: o.Pace,
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, last: newOffsetMap(o.Memory)}
	done, err := c.run(hw, now)
	if (errors.Is(err, ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF)) && l.cutSince(c.cuts) {
		err = fmt.Errorf("%w: %w", errGone, err) // it has read what was gone, or half of what came after
	}
	if noSpace(err) || errors.Is(err, errGone) {
		l.log.Warn("compaction stopped and will try again", "log", l.o.Name, "error", err)
		return false, nil
	}
	if errors.Is(err, errPaced) {
		return false, nil
	}
	return done && c.more, err
}

// run makes the pass; done says that it was worth one.
func (c *cleaner) run(hw int64, now time.Time) (done bool, err error) {
	l := c.l
	from, worth, err := c.plan(hw, now)
	if err != nil || !worth {
		return false, err
	}
	if err := c.index(from); err != nil {
		return false, err
	}
	c.facts()
	for _, group := range c.groups() {
		if err := c.clean(group); err != nil {
			return false, err
		}
	}
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writable(); err != nil {
		return false, err
	}
	if l.cuts != c.cuts { // what has come in place of what was cut off nobody has seen
		return false, errGone
	}
	cleaned := min(c.end, l.leo)
	if err := l.writeBounds(bounds{start: l.start, cleaned: cleaned}); err != nil {
		if noSpace(err) || NoDescriptors(err) {
			return false, nil
		}
		return false, l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleaned, l.cleanAt, l.cleanMore = cleaned, now, c.more
	return true, nil
}

// plan picks the segments: durable, stable, not active, old enough. from is where the dirty part begins.
func (c *cleaner) plan(hw int64, now time.Time) (from int64, worth bool, err error) {
	l := c.l
	stable := l.LastStable(hw)
	l.mu.RLock()
	segs, synced, cleaned, at, more := l.segs, l.synced.base, l.cleaned, l.cleanAt, l.cleanMore
	c.epochs, c.cuts = l.epochs, l.cuts
	closed := l.closed || l.failed != nil
	l.mu.RUnlock()
	if closed {
		return 0, false, nil
	}
	var clean, dirty int64
	overdue := false // max.compaction.lag.ms
	for i := 0; i < len(segs)-1; i++ {
		next := segs[i+1].base
		if next > stable || next > synced {
			break
		}
		if err := segs[i].ready(c.cfg.IndexBytes, now); err != nil {
			return 0, false, err
		}
		if c.cfg.MinCompactionLag > 0 && segs[i].maxTime > now.Add(-c.cfg.MinCompactionLag).UnixMilli() {
			break
		}
		if next <= cleaned {
			clean += l.sizeOf(segs[i])
		} else {
			dirty += l.sizeOf(segs[i])
			if !overdue && c.cfg.MaxCompactionLag > 0 {
				first, ok, err := segs[i].begun(now)
				if err != nil {
					return 0, false, err
				}
				overdue = ok && first > 0 && first < now.Add(-c.cfg.MaxCompactionLag).UnixMilli()
			}
		}
		c.segs, c.end = segs[:i+1], next
	}
	filthy := float64(dirty) > c.cfg.MinDirtyRatio*float64(dirty+clean)
	worth = dirty > 0 && (more || overdue || filthy) || clean > 0 && now.Sub(at) > c.cfg.TombstoneAge
	return min(cleaned, c.end), worth, nil
}

// each calls fn for every batch of a segment, CRC compared, until fn returns false.
func (c *cleaner) each(s *segment, fn func(h *record.Header, b record.Batch) (bool, error)) error {
	h, err := s.open(false, c.l.now())
	if err != nil {
		return err
	}
	defer h.release()
	w := newWalker(h.file, s.path(), 0, c.l.sizeOf(s), bodyStep)
	defer w.done()
	for next := s.base; ; {
		head, err := w.follows(next, place{before: math.MaxInt64, epochs: c.epochs})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		next = head.LastOffset() + 1
		b, err := w.checked(&head)
		if err != nil {
			return err
		}
		if err := c.paced(len(b)); err != nil {
			return err
		}
		more, err := fn(&head, b)
		if err != nil {
			return fmt.Errorf("compact %s at byte %d: %w", s.path(), w.pos, err)
		}
		if !more {
			return nil
		}
		w.skip(&head)
	}
}

// paced is called for every byte that is read or written.
func (c *cleaner) paced(n int) error {
	if c.pace == nil {
		return nil
	}
	if err := c.pace(n); err != nil {
		return fmt.Errorf("%w: %w", errPaced, err)
	}
	return nil
}

func (c *cleaner) hash(key []byte) keyHash {
	return keyHash{maphash.Bytes(c.seeds[0], key), maphash.Bytes(c.seeds[1], key)}
}

// index finds the newest offset of each key from offset from on; it lowers end when memory is used up.
func (c *cleaner) index(from int64) error {
	c.abortedTxns()
	c.tails = map[int64]int64{}
	for i, s := range c.segs {
		if i+1 < len(c.segs) && c.segs[i+1].base <= from {
			continue
		}
		full := false
		err := c.each(s, func(h *record.Header, b record.Batch) (bool, error) {
			if h.LastOffset() < from || h.Attributes.Control() {
				return true, nil
			}
			if c.isAborted(h) {
				c.tails[h.ProducerID] = h.LastOffset()
				return true, nil
			}
			if err := c.reader.Reset(*h, b, 0); err != nil {
				return false, err
			}
			for c.reader.Next() {
				r := c.reader.Record()
				if r.Key == nil || r.Offset < from {
					continue
				}
				if !c.last.put(c.hash(r.Key), r.Offset) {
					c.end, full = r.Offset, true
					return false, nil
				}
			}
			if h.HasProducer() {
				c.tails[h.ProducerID] = h.LastOffset()
			}
			return true, c.reader.Err()
		})
		if err != nil {
			return err
		}
		if full {
			c.more = true
			c.segs = c.segs[:i+1]
			if s.base >= c.end {
				c.segs = c.segs[:i]
			}
			return nil
		}
	}
	return nil
}

func (c *cleaner) abortedTxns() {
	c.aborted = map[int64][]AbortedTxn{}
	if len(c.segs) == 0 {
		return
	}
	for _, a := range c.l.Aborted(c.segs[0].base, c.end) {
		c.aborted[a.ProducerID] = append(c.aborted[a.ProducerID], a)
	}
}

func (c *cleaner) isAborted(h *record.Header) bool {
	if !h.Attributes.Transactional() {
		return false
	}
	for _, a := range c.aborted[h.ProducerID] {
		if h.BaseOffset >= a.FirstOffset && h.BaseOffset < a.LastOffset {
			return true
		}
	}
	return false
}

// facts notes the producers' last batches, as far as index has not met them.
func (c *cleaner) facts() {
	c.unsure, c.live = map[int64]bool{}, map[int64]bool{}
	c.l.mu.RLock()
	defer c.l.mu.RUnlock()
	for id, p := range c.l.table.byID {
		if _, met := c.tails[id]; met {
			continue
		}
		c.unsure[id] = p.n > 0
		for _, m := range p.batches[:p.n] { // oldest first
			if m.last < c.end {
				c.tails[id], c.unsure[id] = m.last, false
			}
		}
	}
	for id := range c.tails {
		if c.l.table.byID[id] == nil {
			delete(c.tails, id) // it is forgotten
		}
	}
}

// groups puts neighbours together that fit into one segment.
func (c *cleaner) groups() [][]*segment {
	var all [][]*segment
	var size int64
	for i, s := range c.segs {
		end := c.end
		if i+1 < len(c.segs) {
			end = c.segs[i+1].base
		}
		n, of := len(all), c.l.sizeOf(s)
		if n > 0 && size+of <= c.cfg.SegmentBytes && end-all[n-1][0].base <= math.MaxInt32 {
			all[n-1] = append(all[n-1], s)
			size += of
			continue
		}
		all = append(all, []*segment{s})
		size = of
	}
	return all
}

// clean rewrites a group into one file and swaps it in.
func (c *cleaner) clean(group []*segment) error {
	out, err := newRewrite(c.l, group[0].base, c.cfg.IndexBytes)
	if err != nil {
		return err
	}
	defer out.discard()
	changed := len(group) > 1
	for _, s := range group {
		err := c.each(s, func(h *record.Header, b record.Batch) (bool, error) {
			kept, err := c.filter(h, b)
			if err != nil {
				return false, err
			}
			if kept == nil {
				changed = true
				return true, nil
			}
			changed = changed || &kept[0] != &b[0]
			if h.Attributes.Transactional() && !h.Attributes.Control() {
				c.live[h.ProducerID] = true
			}
			if err := c.paced(len(kept)); err != nil {
				return false, err
			}
			return true, out.add(kept)
		})
		if err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	if err := out.finish(); err != nil {
		return err
	}
	return c.l.swap(group, out, c)
}

// filter gives what stays of a batch: b itself, a new batch (good until the next call), or nil.
func (c *cleaner) filter(h *record.Header, b record.Batch) (record.Batch, error) {
	if h.BaseOffset >= c.end || h.Count == 0 && c.isTail(h) {
		return b, nil
	}
	if h.Attributes.Control() {
		return c.filterMarker(h, b)
	}
	horizon := h.Attributes.DeleteHorizon()
	expired := horizon && h.BaseTimestamp <= c.now
	dead := c.isAborted(h)
	if err := c.reader.Reset(*h, b, 0); err != nil {
		return nil, err
	}
	keep, tombs := 0, 0
	for c.reader.Next() {
		if r := c.reader.Record(); !dead && c.stays(r, expired) {
			keep++
			if r.Value == nil {
				tombs++
			}
		}
	}
	if err := c.reader.Err(); err != nil {
		return nil, err
	}
	switch {
	case keep == int(h.Count) && keep > 0 && (tombs == 0 || horizon):
		return b, nil
	case keep == 0 && !c.isTail(h):
		return nil, nil
	}
	base := h.BaseTimestamp
	w := c.like(h)
	if tombs > 0 && !horizon {
		base = c.now + c.cfg.TombstoneAge.Milliseconds()
		w.Attributes |= record.HasDeleteHorizon
	}
	return c.rewrite(h, b, base, func(r *record.Record) bool { return !dead && c.stays(r, expired) })
}

// stays tells whether a record is its key's newest, and no tombstone whose time is over.
func (c *cleaner) stays(r *record.Record, expired bool) bool {
	if r.Offset >= c.end {
		return true
	}
	if r.Key == nil || r.Value == nil && expired {
		return false
	}
	newest, known := c.last.get(c.hash(r.Key))
	return !known || r.Offset >= newest
}

func (c *cleaner) isTail(h *record.Header) bool {
	last, ok := c.tails[h.ProducerID]
	return h.HasProducer() && (ok && last == h.LastOffset() || c.unsure[h.ProducerID])
}

// filterMarker keeps a marker while a batch of its transaction is there: a reader of the whole log would
// else see a transaction that never ends. After that it lives as long as a tombstone.
func (c *cleaner) filterMarker(h *record.Header, b record.Batch) (record.Batch, error) {
	live := c.live[h.ProducerID]
	delete(c.live, h.ProducerID)
	switch {
	case live || h.Count == 0:
		return b, nil
	case h.Attributes.DeleteHorizon():
		if h.BaseTimestamp <= c.now {
			return nil, nil
		}
		return b, nil
	}
	w := c.like(h)
	w.Attributes |= record.HasDeleteHorizon
	return c.rewrite(h, b, c.now+c.cfg.TombstoneAge.Milliseconds(), func(*record.Record) bool { return true })
}

// like readies the builder for a batch that takes h's place.
func (c *cleaner) like(h *record.Header) *record.Builder {
	w := c.builder
	w.Reset()
	w.BaseOffset, w.LeaderEpoch, w.Attributes = h.BaseOffset, h.LeaderEpoch, h.Attributes
	w.ProducerID, w.ProducerEpoch, w.BaseSequence = h.ProducerID, h.ProducerEpoch, h.BaseSequence
	return w
}

func (c *cleaner) rewrite(h *record.Header, b record.Batch, base int64, keep func(*record.Record) bool) (record.Batch, error) {
	if err := c.reader.Reset(*h, b, 0); err != nil {
		return nil, err
	}
	most := record.NoTimestamp
	w := c.builder
	for c.reader.Next() {
		if r := c.reader.Record(); keep(r) {
			w.Copy(r, base)
			most = max(most, r.Timestamp)
		}
	}
	if err := c.reader.Err(); err != nil {
		return nil, err
	}
	if h.Attributes.LogAppendTime() || w.Count() == 0 {
		most = h.MaxTimestamp
	}
	w.Span(h.LastOffsetDelta)
	w.Times(base, most)
	return w.Bytes()
}

// manifest says what one rewritten file replaces.
type manifest struct {
	bases []int64 // of the segments; the first is the file's
	txns  bool    // a .txnindex.cleaned goes with it
}

const swapMagic = "FBSW"

func (m manifest) encode() []byte {
	b := []byte{0}
	if m.txns {
		b[0] = 1
	}
	for _, base := range m.bases {
		b = binary.BigEndian.AppendUint64(b, uint64(base))
	}
	return sealState(swapMagic, b)
}

func decodeManifest(b []byte) (m manifest, err error) {
	b, err = openState(swapMagic, b)
	if err != nil {
		return m, err
	}
	if len(b) < 9 || len(b)%8 != 1 {
		return m, fmt.Errorf("%w: manifest of %d bytes", errBadState, len(b))
	}
	m.txns = b[0] == 1
	for b = b[1:]; len(b) > 0; b = b[8:] {
		m.bases = append(m.bases, int64(binary.BigEndian.Uint64(b)))
	}
	return m, nil
}
