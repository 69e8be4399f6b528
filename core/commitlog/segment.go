package commitlog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Suffixes of a segment's files. A name is the base offset in 20 digits, as Kafka has it.
const (
	logSuffix     = ".log"
	indexSuffix   = ".index"
	timeSuffix    = ".timeindex"
	txnSuffix     = ".txnindex"
	snapSuffix    = ".snapshot"
	cleanedSuffix = ".cleaned" // of compaction, before its manifest stands
	swapSuffix    = ".swap"    // the manifest
	tmpSuffix     = ".tmp"
)

func segmentName(dir string, base int64, suffix string) string {
	return path.Join(dir, fmt.Sprintf("%020d%s", base, suffix))
}

// parseName gives the base offset of a file's name.
func parseName(name, suffix string) (base int64, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

// handle is an open file with a count of its users: the segment is one, each Slice another. The last
// one closes it, so a deleted segment's bytes last as long as someone sends them.
type handle struct {
	file vfs.File
	refs atomic.Int32
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		_ = h.file.Close() // what was written has been synced, or its log has failed
	}
}

// span is a range of positions.
type span struct{ from, to int64 }

// segment is one .log file with its indexes. size, and for the active segment everything else, changes
// under Log.mu; a segment that is not active does not change until it is replaced.
type segment struct {
	fs    vfs.FS
	files *Files
	dir   string
	base  int64
	size  int64

	index   *sparse
	times   *sparse
	since   int64 // bytes since the last index entry
	txns    int   // entries in the .txnindex file; Log.saving guards it
	created time.Time
	jitter  time.Duration // taken off segment.ms (segment.jitter.ms)
	first   atomic.Int64  // latest timestamp of the first batch, plus one; 0: not known yet

	maxTime   int64 // -1: none
	maxOffset int64 // base offset of the batch that has it
	lastTime  int64 // of the last time index entry

	told   atomic.Bool // the node's log has heard that it is damaged
	recent atomic.Bool // used since the files' clock has passed
	slot   int         // in files, from 1; 0: not there. files.mu guards it

	// io guards what follows.
	io      sync.Mutex
	h       *handle
	used    time.Time // when h was last taken
	gone    bool
	checked []span // CRCs compared in this process, sorted; see verify
	sound   bool   // indexes have been loaded or rebuilt
}

func newSegment(f vfs.FS, files *Files, dir string, base int64, now time.Time) *segment {
	return &segment{
		fs: f, files: files, dir: dir, base: base, created: now, maxTime: -1, maxOffset: -1, lastTime: -1,
		index: newSparse(f, segmentName(dir, base, indexSuffix), offsetKind, base),
		times: newSparse(f, segmentName(dir, base, timeSuffix), timeKind, base),
	}
}

func (s *segment) path() string { return segmentName(s.dir, s.base, logSuffix) }

// errGone is a segment that retention or compaction has removed meanwhile.
var errGone = errors.New("segment is gone")

// open gives the file with one more user; create makes it.
func (s *segment) open(create bool, now time.Time) (*handle, error) {
	h, opened, err := s.take(create, now)
	if NoDescriptors(err) {
		s.files.spare()
		h, opened, err = s.take(create, now)
	}
	if opened {
		s.files.took(s)
	}
	return h, err
}

// openPatiently is open for a sync, whose failure would be final: it waits for descriptors, for 10 s at most.
func (s *segment) openPatiently(now time.Time) (h *handle, err error) {
	for range 200 {
		if h, err = s.open(false, now); !NoDescriptors(err) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return h, err
}

// take is open without the bound.
func (s *segment) take(create bool, now time.Time) (h *handle, opened bool, err error) {
	s.io.Lock()
	defer s.io.Unlock()
	if s.gone {
		return nil, false, errGone
	}
	if s.h == nil {
		flag := os.O_RDWR
		if create {
			flag |= os.O_CREATE
		}
		f, err := s.fs.OpenFile(s.path(), flag, 0o644)
		if err != nil {
			return nil, false, err
		}
		s.h, opened = &handle{file: f}, true
		s.h.refs.Store(1)
	}
	s.used = now
	if !s.recent.Load() { // a flag that all of many readers write would travel between cores
		s.recent.Store(true)
	}
	s.h.refs.Add(1)
	return s.h, opened, nil
}

// begun is the latest timestamp of the segment's first batch, from which Kafka counts its age; ok is false when it has none.
func (s *segment) begun(now time.Time) (ms int64, ok bool, err error) {
	if ms := s.first.Load(); ms != 0 {
		return ms - 1, ms > 0, nil
	}
	h, err := s.open(false, now)
	if err != nil {
		return 0, false, err
	}
	defer h.release()
	var b [record.HeaderSize]byte
	if n, err := h.file.ReadAt(b[:], 0); n < len(b) {
		if errors.Is(err, io.EOF) {
			return 0, false, nil
		}
		return 0, false, err
	}
	head, err := record.Parse(b[:])
	if err != nil {
		return 0, false, nil // who reads it is told
	}
	s.first.Store(head.MaxTimestamp + 1)
	return head.MaxTimestamp, head.MaxTimestamp >= 0, nil
}

// letGo closes the files; users of the handle keep it.
func (s *segment) letGo() {
	s.io.Lock()
	defer s.io.Unlock()
	s.closeLocked()
}

func (s *segment) closeLocked() {
	if s.h != nil {
		s.h.release()
		s.h = nil
	}
	s.index.close()
	s.times.close()
}

// idle closes what has not been used since before.
func (s *segment) idle(before time.Time) {
	s.io.Lock()
	old := s.h != nil && s.used.Before(before)
	if old {
		s.closeLocked()
	}
	s.io.Unlock()
	if old {
		s.files.gave(s)
	}
}

// drop lets go of the files for good; users of the handle keep it.
func (s *segment) drop() {
	s.io.Lock()
	s.gone = true
	s.closeLocked()
	s.io.Unlock()
	s.files.gave(s)
}

// note puts a batch that lies at pos into the indexes.
func (s *segment) note(h *record.Header, pos, every int64) {
	if h.MaxTimestamp > s.maxTime {
		s.maxTime, s.maxOffset = h.MaxTimestamp, h.BaseOffset
	}
	if s.since >= every {
		if rel := h.BaseOffset - s.base; rel <= math.MaxUint32 { // behind a wider gap, which only one append has reached over, who reads walks
			s.index.add(rel, uint32(pos))
		}
		s.noteTime()
		s.since = 0
	}
	s.since += int64(h.Size())
}

// noteInMemory is note for a segment that has no name yet: nothing reaches the index files. A
// rewritten segment's index is as small as it is.
func (s *segment) noteInMemory(h *record.Header, pos, every int64) {
	s.index.hold, s.times.hold = true, true
	s.note(h, pos, every)
	s.index.hold, s.times.hold = false, false
}

// noteTime puts the latest timestamp so far into the time index.
func (s *segment) noteTime() {
	if s.maxTime > s.lastTime {
		s.times.add(s.maxTime, uint32(min(s.maxOffset-s.base, math.MaxUint32))) // who searches begins before it
		s.lastTime = s.maxTime
	}
}

// seal finishes the indexes when the segment gets no more records.
func (s *segment) seal(sync bool) error {
	s.noteTime()
	if err := s.index.seal(s.size, sync); err != nil {
		return err
	}
	return s.times.seal(s.size, sync)
}

// ready makes the indexes of a segment that was there at the start usable: loaded if
// they are whole, rebuilt from the log if not.
func (s *segment) ready(every int64, now time.Time) error {
	s.io.Lock()
	sound := s.sound
	s.io.Unlock()
	if sound {
		return nil
	}
	if s.load() == nil {
		s.files.took(s)
		return nil
	}
	return s.rebuild(every, now)
}

// load takes the indexes from their files.
func (s *segment) load() error {
	s.io.Lock()
	defer s.io.Unlock()
	if s.sound {
		return nil
	}
	if err := s.index.load(s.size); err != nil {
		return err
	}
	if err := s.times.load(s.size); err != nil {
		return err
	}
	ts, rel, ok, err := s.times.last()
	if err != nil {
		return err
	}
	if ok {
		s.maxTime, s.maxOffset, s.lastTime = ts, s.base+int64(rel), ts
	}
	s.sound = true
	// Most are not looked at again soon: a start that loads those of every log is not to keep two descriptors for each.
	s.index.close()
	s.times.close()
	return nil
}

// rebuild makes the indexes anew from the batches' headers and saves them; only the segment that is not active. Damage is told once, and the indexes
// lead to what lies before it.
func (s *segment) rebuild(every int64, now time.Time) error {
	h, err := s.open(false, now)
	if err != nil {
		return err
	}
	defer h.release()
	s.io.Lock()
	defer s.io.Unlock()
	if s.sound {
		return nil
	}
	s.forget()
	w := newWalker(h.file, s.path(), 0, s.size, headerStep)
	defer w.done()
	for next := s.base; ; {
		head, err := w.follows(next, anywhere)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.sound = errors.Is(err, ErrCorrupt)
			return err
		}
		s.note(&head, w.pos, every)
		w.skip(&head)
		next = head.LastOffset() + 1
	}
	s.sound = true
	_ = s.seal(false) // in memory it is whole; a full disk may keep it from the file
	return nil
}

// forget empties the indexes.
func (s *segment) forget() {
	s.index.reset()
	s.times.reset()
	s.since, s.maxTime, s.maxOffset, s.lastTime = 0, -1, -1, -1
}

// maxSpans bounds what checked may hold.
const maxSpans = 64

// verify compares the CRCs of the whole batches in [from, to), unless this process has written or verified them already: nobody is served a
// byte that was damaged before the start (invariant 10). size is how much of the segment is published. No CRC covers a base offset and a leader epoch. They are held against the batches before and behind, and
// against the log's epochs; only an offset that was moved within a gap which compaction has left passes.
func (s *segment) verify(f io.ReaderAt, from, to, size int64, at place) error {
	s.io.Lock()
	done := covered(s.checked, from, to)
	s.io.Unlock()
	if done {
		return nil
	}
	if _, err := s.compare(f, from, to, size, at); err != nil {
		return err
	}
	s.vouch(from, to)
	return nil
}

// compare is verify of bytes that may have been verified already. next is where it has stopped: the lowest offset that the batch there may have.
func (s *segment) compare(f io.ReaderAt, from, to, size int64, at place) (next int64, err error) {
	w := newWalker(f, s.path(), from, to, bodyStep)
	defer w.done()
	next = s.base
	for w.pos < to {
		h, err := w.follows(next, at)
		if err == nil {
			_, err = w.checked(&h)
		}
		if err != nil {
			return next, err
		}
		w.skip(&h)
		next = h.LastOffset() + 1
	}
	// A batch that was moved up meets the one behind it.
	w.end = size
	if h, err := w.header(); err == nil && h.BaseOffset < next {
		return next, w.corrupt("offset %d where %d or later belongs", h.BaseOffset, next)
	}
	return next, nil
}

// vouch notes that the bytes are known to be good.
func (s *segment) vouch(from, to int64) {
	s.io.Lock()
	defer s.io.Unlock()
	s.checked = addSpan(s.checked, span{from, to})
}

// doubt takes back what was vouched for from a position on.
func (s *segment) doubt(from int64) {
	s.io.Lock()
	defer s.io.Unlock()
	kept := s.checked[:0]
	for _, v := range s.checked {
		if v.from < from {
			kept = append(kept, span{v.from, min(v.to, from)})
		}
	}
	s.checked = kept
}

func covered(list []span, from, to int64) bool {
	i := sort.Search(len(list), func(i int) bool { return list[i].to >= to })
	return from >= to || i < len(list) && list[i].from <= from
}

func addSpan(list []span, v span) []span {
	if n := len(list); n > 0 && list[n-1].from <= v.from && list[n-1].to >= v.from { // the usual: it grows
		list[n-1].to = max(list[n-1].to, v.to)
		return list
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].to >= v.from })
	j := i
	for ; j < len(list) && list[j].from <= v.to; j++ {
		v.from, v.to = min(v.from, list[j].from), max(v.to, list[j].to)
	}
	if i == j && len(list) >= maxSpans {
		return list // it will be verified again
	}
	return append(list[:i], append([]span{v}, list[j:]...)...)
}
