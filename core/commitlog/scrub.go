package commitlog

import (
	"errors"
	"os"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// Pace is told of each read of Scrub: its bytes, and how long it took. It is called with no lock held and may block. Its error ends the Scrub.
type Pace func(n int, took time.Duration) error

// scrubOpening is what it counts, in bytes, that a file is opened: on a turning disk that takes as long as to read so many.
const scrubOpening = 64 << 10

// Scrubbed is what a Scrub has done.
type Scrubbed struct {
	Bytes   int64 // that were read
	Damaged int   // segments in which damage was found; each was told (Options.Damaged)
	Failed  int   // segments that could not be read
}

// Scrub reads what nobody may read for long and compares CRCs, offsets and epochs as a read does, also of bytes that were vouched for when they were
// written or read: what has rotted on disk since then is found before somebody needs it. A read confirms it, with all that follows from one. Known damage is not
// looked for again. The active segment is left out while it is in use.
//
// One file is open at a time, beside Options.Files. A segment that nobody has used for idleFiles is read from the disk, and is not in the page cache after that; one that
// is in use is compared as its readers see it, and what they have in the cache stays there.
func (l *Log) Scrub(pace Pace) (sum Scrubbed, err error) {
	for base := int64(-1); ; {
		c := l.scrubBehind(base)
		if c == nil {
			return sum, nil
		}
		base = c.s.base
		if c.s.told.Load() || c.size == 0 || c.active && !c.cold {
			continue
		}
		if err := pace(scrubOpening, 0); err != nil {
			return sum, err
		}
		c.pace = pace
		next, err := c.run()
		sum.Bytes += c.bytes
		switch {
		case c.ended != nil:
			return sum, c.ended
		case err == nil, c.gone():
		case errors.Is(err, ErrCorrupt):
			if c.confirm(next, err) {
				sum.Damaged++
			}
		default:
			sum.Failed++
			l.log.Error("a segment could not be read to its end", "log", l.o.Name, "offset", next, "error", err)
		}
	}
}

// scrub compares one segment.
type scrub struct {
	l            *Log
	s            *segment
	size         int64 // of it that was published
	at           place
	cuts         int64
	active, cold bool

	file  vfs.File
	pace  Pace
	bytes int64
	ended error // of pace
}

// scrubBehind takes the first segment whose base offset is above base. Nil: there is none.
func (l *Log) scrubBehind(base int64) *scrub {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := l.segmentAt(base) + 1
	if l.closed || i == len(l.segs) {
		return nil
	}
	c := &scrub{l: l, s: l.segs[i], size: l.segs[i].size, at: place{before: l.leo, epochs: l.epochs}, cuts: l.cuts, active: i == len(l.segs)-1}
	if !c.active {
		c.at.before = l.segs[i+1].base
	}
	c.cold = c.s.unused(l.now().Add(-idleFiles))
	return c
}

// unused says that nobody has used a segment since before.
func (s *segment) unused(before time.Time) bool {
	s.io.Lock()
	defer s.io.Unlock()
	return s.used.Before(before)
}

func (c *scrub) run() (next int64, err error) {
	if c.file, err = c.l.fs.OpenFile(c.s.path(), os.O_RDONLY, 0); err != nil {
		return c.s.base, err
	}
	defer func() { _ = c.file.Close() }() // read only
	if c.cold {
		vfs.DropCache(c.file, 0, 0)
		defer vfs.DropCache(c.file, 0, 0)
	}
	return c.s.compare(c, 0, c.size, c.size, c.at)
}

// ReadAt reads at the pace that is asked for.
func (c *scrub) ReadAt(b []byte, at int64) (int, error) {
	began := time.Now()
	n, err := c.file.ReadAt(b, at)
	took := time.Since(began)
	if c.cold {
		vfs.DropCache(c.file, at, int64(n))
	}
	c.bytes += int64(n)
	if c.ended = c.pace(n, took); c.ended != nil {
		return 0, c.ended
	}
	return n, err
}

// gone says that the file is not the segment's any more: it was replaced, removed or cut, or the log was closed.
func (c *scrub) gone() bool {
	if c.l.cutSince(c.cuts) { // waits for who is at it
		return true
	}
	c.l.mu.RLock()
	closed := c.l.closed
	c.l.mu.RUnlock()
	c.s.io.Lock()
	defer c.s.io.Unlock()
	return closed || c.s.gone
}

// confirm reads what was found to be damaged as a consumer of offset next would.
func (c *scrub) confirm(next int64, cause error) bool {
	l, found := c.l, (*CorruptError)(nil)
	if !errors.As(cause, &found) {
		return false
	}
	c.s.doubt(found.Pos)
	from, end := max(next, l.StartOffset()), l.EndOffset()
	slice, err := l.Read(from, end, 1, true)
	slice.Release()
	if errors.Is(err, ErrCorrupt) {
		l.log.Error("damage was found on disk that nobody had read", "log", l.o.Name, "segment", c.s.path(), "offset", from, "error", err)
		return true
	}
	if from > next {
		return false // it lies below the log's start, where nobody reads
	}
	l.log.Warn("what was read for a check was damaged, and is not when it is read again", "log", l.o.Name, "offset", from, "error", cause)
	return false
}
