package commitlog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Repair is what an operator does about a log that refuses to open, or to serve a batch, when there is no other replica to copy: it takes
// bytes out, keeps them, and says which. The log must be closed.
//
// Its steps, each of which may be done again after a crash: the bytes are copied to Quarantine and synced; a guard is written, with which the log
// does not open; what is derived from the segments goes; the segments are changed, the last one first; the recovery point
// goes, so that the next start reads and checks everything, and then the guard.
type Repair struct {
	FS  vfs.FS
	Dir string // the partition's folder
	// Quarantine is a folder of its own for what is taken out; made if there is anything.
	Quarantine string
	// TruncateAt ends the log at the batch with this offset; -1: take out what is broken, and nothing else. The offsets that were there stay
	// used: an empty batch holds their place.
	TruncateAt int64
}

// Loss is one range of bytes that a repair has taken out, or found missing.
type Loss struct {
	File        string
	From, To    int64 // bytes
	First, Last int64 // offsets that lay there or may have; Last < First: none
	Records     int   // that could still be read; -1: nobody knows
	Kept        string
	Cause       string
}

func (l Loss) String() string {
	what := "of which nothing can be read"
	if l.Records >= 0 {
		what = fmt.Sprintf("%d whole records", l.Records)
	}
	offsets := "no offsets"
	if l.Last >= l.First {
		offsets = fmt.Sprintf("offsets %d to %d", l.First, l.Last)
	}
	s := fmt.Sprintf("%s: bytes %d to %d: %s, %s", l.File, l.From, l.To, offsets, what)
	if l.Kept != "" {
		s += "; kept in " + l.Kept
	}
	return s + " (" + l.Cause + ")"
}

// piece is a run of bytes of a segment: whole batches, or what lies between them.
type piece struct {
	from, to    int64
	first, last int64 // offsets
	records     int   // -1: broken
	epoch       int32 // leader epoch; of a broken piece that of what lies before
	cause       string
}

// repaired is one segment as the repair has found it.
type repaired struct {
	base   int64
	name   string
	size   int64
	pieces []piece
}

// repairGuard is the content of a manifest that is none.
const repairGuard = "a repair of this log is under way: run forebay log repair again\n"

// Run repairs. With nothing to do it changes nothing. dry only tells.
func (r Repair) Run(dry bool) ([]Loss, error) {
	files, ok, err := list(r.FS, r.Dir)
	if err != nil {
		return nil, err
	}
	if !ok || len(files.segs) == 0 {
		return nil, fmt.Errorf("%s: no segments of a log", r.Dir)
	}
	guarded := false
	var swaps []int64
	for _, base := range files.swaps {
		raw, err := vfs.ReadFile(r.FS, segmentName(r.Dir, base, swapSuffix), maxStateFile)
		if err != nil {
			return nil, err
		}
		if string(raw) == repairGuard || string(raw) == setBackGuard {
			guarded = true
		} else {
			swaps = append(swaps, base)
		}
	}
	if len(swaps) > 0 {
		if err := (&Log{fs: r.FS, dir: r.Dir}).finishSwaps(swaps); err != nil {
			return nil, err
		}
		if files, _, err = list(r.FS, r.Dir); err != nil {
			return nil, err
		}
	}
	b, err := (&Log{fs: r.FS, dir: r.Dir}).readBounds()
	if err != nil {
		return nil, err
	}
	point, _, err := readPoint(r.FS, r.Dir)
	if err != nil {
		return nil, err
	}
	had := point.synced
	if sameBoot(point.boot, bootID()) {
		had = point.written
	}
	epochs, err := savedEpochs(r.FS, r.Dir, point.synced.offset)
	if err != nil {
		return nil, err
	}
	segs, end, err := r.read(files.segs, b.cleaned, had, epochs)
	if err != nil {
		return nil, err
	}
	epoch := int32(0)
	for _, s := range segs {
		for i := range s.pieces {
			if p := &s.pieces[i]; p.records < 0 {
				p.epoch = epoch
			} else {
				epoch = p.epoch
			}
		}
	}
	var losses []Loss
	if r.TruncateAt >= 0 {
		losses, err = r.truncate(segs, end, b.start, dry)
	} else {
		losses, err = r.skip(segs, dry)
	}
	if err == nil && !dry && (guarded || len(losses) > 0) {
		err = r.end(files.segs[0])
	}
	return losses, err
}

// read walks over all segments and finds what is broken. had is where the log ended once, for good: what is
// below was readable, and is not given to other records. epochs are those of its records.
func (r Repair) read(bases []int64, cleaned int64, had position, epochs []epochEntry) (segs []*repaired, end int64, err error) {
	end = bases[0]
	for i, base := range bases {
		s := &repaired{base: base, name: segmentName(r.Dir, base, logSuffix)}
		segs = append(segs, s)
		if base > end && base > cleaned && i > 0 { // compaction leaves such holes below cleaned only
			p := segs[i-1]
			p.pieces = append(p.pieces, piece{from: p.size, to: p.size, first: end, last: base - 1, records: -1, cause: "the next segment begins later"})
		}
		if end, err = r.readSegment(s, max(end, base), placeOf(bases, i, epochs, had)); err != nil {
			return nil, 0, err
		}
	}
	if last := segs[len(segs)-1]; end < had.offset {
		n := len(last.pieces)
		if n == 0 || last.pieces[n-1].records >= 0 {
			last.pieces = append(last.pieces, piece{from: last.size, to: last.size, first: end, records: -1, cause: "it was synced to a later offset"})
			n++
		}
		last.pieces[n-1].last, end = had.offset-1, had.offset
	}
	return segs, end, nil
}

// readSegment cuts a segment into pieces; next is the lowest offset that may come.
func (r Repair) readSegment(s *repaired, next int64, at place) (int64, error) {
	f, err := r.FS.OpenFile(s.name, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	s.size = st.Size()
	w := newWalker(f, s.name, 0, s.size, bodyStep)
	defer w.done()
	for {
		h, err := w.follows(next, at)
		if errors.Is(err, io.EOF) {
			return next, nil
		}
		claimed := next // the end that a whole header tells, though its batch is broken
		if err == nil {
			if h.BaseOffset == next {
				claimed = h.LastOffset() + 1
			}
			_, err = w.checked(&h)
		}
		if err == nil && h.BaseOffset > next && w.before(&h) < h.LastOffset()+1 {
			err = w.corrupt("offset %d, and the batch behind begins at %d", h.BaseOffset, w.before(&h)) // the gap is not one that compaction has left
		}
		if err == nil {
			s.pieces = append(s.pieces, piece{from: w.pos, to: w.pos + int64(h.Size()), first: h.BaseOffset, last: h.LastOffset(), records: int(h.Count), epoch: h.LeaderEpoch})
			w.skip(&h)
			next = h.LastOffset() + 1
			continue
		}
		if !errors.Is(err, ErrCorrupt) {
			return 0, err
		}
		var c *CorruptError
		errors.As(err, &c)
		p := piece{from: w.pos, to: s.size, first: next, last: next - 1, records: -1, cause: c.Err.Error()}
		pos, found, err := wholeBatchAfter(f, w.pos, s.size, next)
		if err != nil {
			return 0, err
		}
		if found {
			w.pos = pos
			h, err := w.header()
			if err != nil {
				return 0, err
			}
			p.to, p.last = pos, h.BaseOffset-1
			next = h.BaseOffset
		} else if at.before != math.MaxInt64 {
			p.last, next = at.before-1, at.before
		} else {
			p.last, next = claimed-1, claimed
		}
		s.pieces = append(s.pieces, p)
		if !found {
			return next, nil
		}
	}
}

// keep copies a range of a segment to the quarantine, durably.
func (r Repair) keep(s *repaired, from, to int64) (string, error) {
	if from == to {
		return "", nil
	}
	if err := r.FS.MkdirAll(r.Quarantine, 0o755); err != nil {
		return "", err
	}
	in, err := r.FS.OpenFile(s.name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer in.Close()
	name := path.Join(r.Quarantine, fmt.Sprintf("%s.%d-%d", path.Base(s.name), from, to))
	return name, writeWhole(r.FS, name, func(out vfs.File) error { return copyRange(out, 0, in, from, to) })
}

// writeWhole makes a file and syncs it.
func writeWhole(f vfs.FS, name string, fill func(vfs.File) error) error {
	out, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err = fill(out); err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

func copyRange(out io.WriterAt, at int64, in io.ReaderAt, from, to int64) error {
	_, err := io.Copy(io.NewOffsetWriter(out, at), io.NewSectionReader(in, from, to-from))
	return err
}

// begin makes the log one that does not open, and removes what a start rebuilds.
func (r Repair) begin(first int64) error {
	for _, dir := range []string{r.Quarantine, path.Dir(r.Quarantine)} {
		if err := r.FS.SyncDir(dir); err != nil && !notExist(err) {
			return err
		}
	}
	if err := vfs.WriteFile(r.FS, segmentName(r.Dir, first, swapSuffix), []byte(repairGuard), true); err != nil {
		return err
	}
	return removeDerived(r.FS, r.Dir)
}

// end lets the log open again.
func (r Repair) end(first int64) error {
	for _, name := range []string{path.Join(r.Dir, recoveryName), segmentName(r.Dir, first, swapSuffix), SetBack{Dir: r.Dir}.guard()} {
		if err := r.FS.SyncDir(r.Dir); err != nil {
			return err
		}
		if err := r.FS.Remove(name); err != nil && !notExist(err) {
			return err
		}
	}
	return r.FS.SyncDir(r.Dir)
}

func (r Repair) truncate(segs []*repaired, end, start int64, dry bool) (losses []Loss, err error) {
	at := r.TruncateAt
	if at < start || at > end {
		return nil, fmt.Errorf("offset %d is not in the log: it has %d to %d", at, start, end-1)
	}
	cut, pos := -1, int64(0)
	for i, s := range segs {
		for _, p := range s.pieces {
			if cut < 0 && (p.last >= at || p.records < 0 && p.first >= at) {
				cut, pos = i, p.from
			}
			if cut < 0 && p.records < 0 {
				return nil, fmt.Errorf("%s: byte %d is broken (%s), and lies before offset %d: truncate at %d, or use --skip", s.name, p.from, p.cause, at, p.first)
			}
		}
	}
	if cut < 0 {
		return nil, nil // the log ends there
	}
	for i, s := range segs[cut:] {
		from := int64(0)
		if i == 0 {
			from = pos
		}
		loss := Loss{File: s.name, From: from, To: s.size, First: math.MaxInt64, Last: -1, Cause: fmt.Sprintf("truncated at offset %d", at)}
		for _, p := range s.pieces {
			if p.from < from {
				continue
			}
			loss.First, loss.Last = min(loss.First, p.first), max(loss.Last, p.last)
			loss.Records += max(p.records, 0)
		}
		if !dry {
			if loss.Kept, err = r.keep(s, from, s.size); err != nil {
				return losses, err
			}
		}
		losses = append(losses, loss)
	}
	if dry {
		return losses, nil
	}
	if err := r.begin(segs[0].base); err != nil {
		return losses, err
	}
	for _, s := range slices.Backward(segs[cut+1:]) {
		if err := r.FS.Remove(s.name); err != nil {
			return losses, err
		}
	}
	if err := r.FS.SyncDir(r.Dir); err != nil {
		return losses, err
	}
	f, err := r.FS.OpenFile(segs[cut].name, os.O_RDWR, 0)
	if err != nil {
		return losses, err
	}
	if err = f.Truncate(pos); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return losses, err
}

func (r Repair) skip(segs []*repaired, dry bool) (losses []Loss, err error) {
	var broken []*repaired
	for _, s := range segs {
		before := len(losses)
		for _, p := range s.pieces {
			if p.records >= 0 {
				continue
			}
			loss := Loss{File: s.name, From: p.from, To: p.to, First: p.first, Last: p.last, Records: -1, Cause: p.cause}
			if !dry {
				if loss.Kept, err = r.keep(s, p.from, p.to); err != nil {
					return losses, err
				}
			}
			losses = append(losses, loss)
		}
		if len(losses) > before {
			broken = append(broken, s)
		}
	}
	if dry || len(broken) == 0 {
		return losses, nil
	}
	if err := r.begin(segs[0].base); err != nil {
		return losses, err
	}
	for _, s := range slices.Backward(broken) {
		if err := r.rewrite(s); err != nil {
			return losses, err
		}
	}
	return losses, r.FS.SyncDir(r.Dir)
}

// rewrite writes a segment without its broken pieces and puts it in the old one's place.
func (r Repair) rewrite(s *repaired) error {
	in, err := r.FS.OpenFile(s.name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	name := s.name + tmpSuffix
	err = writeWhole(r.FS, name, func(out vfs.File) error {
		at := int64(0)
		for _, p := range s.pieces {
			if p.records >= 0 {
				if err := copyRange(out, at, in, p.from, p.to); err != nil {
					return err
				}
				at += p.to - p.from
				continue
			}
			for first := p.first; first <= p.last; {
				b, err := placeholder(first, p.last, p.epoch)
				if err != nil {
					return err
				}
				if _, err := out.WriteAt(b, at); err != nil {
					return err
				}
				at += int64(len(b))
				h, err := record.Parse(b)
				if err != nil {
					return err
				}
				first = h.LastOffset() + 1
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.FS.Rename(name, s.name)
}

// placeholder is an empty batch for offsets whose records are lost, like those that compaction leaves; it takes as many as a batch can.
func placeholder(first, last int64, epoch int32) (record.Batch, error) {
	w := record.NewBuilder()
	w.BaseOffset, w.LeaderEpoch = first, epoch
	w.Span(int32(min(last-first, math.MaxInt32)))
	return w.Bytes()
}
