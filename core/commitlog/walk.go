package commitlog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/forebayhub/forebay/core/record"
)

// walker steps over the batches of a segment file.
type walker struct {
	f    io.ReaderAt
	name string
	pos  int64 // of the next batch
	end  int64 // of the file, or of what may be read of it
	buf  []byte
	at   int64 // file position of buf[0]
	step int   // bytes per read
}

const (
	headerStep = 64 << 10  // steps over headers
	bodyStep   = 256 << 10 // reads everything; what was read is still in a core's cache when its CRC is taken
)

var walkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, headerStep); return &b }}

// newWalker walks [pos, end). Call done.
func newWalker(f io.ReaderAt, name string, pos, end int64, step int) *walker {
	b, _ := walkBuffers.Get().(*[]byte)
	return &walker{f: f, name: name, pos: pos, end: end, at: pos, buf: (*b)[:0], step: step}
}

func (w *walker) done() {
	if b := w.buf[:0]; cap(b) <= 2<<20 {
		walkBuffers.Put(&b)
	}
	w.buf = nil
}

// need makes n bytes from pos lie in the buffer; fewer at the end of the file.
func (w *walker) need(n int64) ([]byte, error) {
	n = min(n, w.end-w.pos)
	var rest []byte // what the buffer has from pos on
	if from := w.pos - w.at; from >= 0 && from < int64(len(w.buf)) {
		rest = w.buf[from:]
	}
	if n <= int64(len(rest)) {
		return rest[:n], nil
	}
	want := int(min(max(n, int64(w.step)), w.end-w.pos))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.at = w.buf[:want], w.pos
	kept := copy(w.buf, rest)
	got, err := w.f.ReadAt(w.buf[kept:], w.pos+int64(kept))
	if got += kept; got < int(n) {
		w.buf = w.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s: read %d bytes at %d: %w", w.name, n, w.pos, err)
	}
	w.buf = w.buf[:got]
	return w.buf[:n], nil
}

// header parses the batch at pos. io.EOF is the end; a CorruptError a batch that is none, or is cut by the end.
func (w *walker) header() (record.Header, error) {
	if w.pos >= w.end {
		return record.Header{}, io.EOF
	}
	b, err := w.need(record.HeaderSize)
	if err != nil {
		return record.Header{}, err
	}
	h, err := record.Parse(b)
	if err == nil && int64(h.Size()) > w.end-w.pos {
		err = record.ErrShort
	}
	if err != nil {
		return h, &CorruptError{File: w.name, Pos: w.pos, Err: err}
	}
	return h, nil
}

// before is where the batch behind the one at pos begins, in offsets: those of that one come before it. The largest offset when there is none, or none to be read.
func (w *walker) before(h *record.Header) int64 {
	at := w.pos
	defer func() { w.pos = at }()
	w.skip(h)
	if next, err := w.header(); err == nil {
		return next.BaseOffset
	}
	return math.MaxInt64
}

// batch reads the whole batch that header has parsed; it is good until the next step.
func (w *walker) batch(h *record.Header) (record.Batch, error) {
	b, err := w.need(int64(h.Size()))
	return record.Batch(b), err
}

// checked is batch with its CRC compared.
func (w *walker) checked(h *record.Header) (record.Batch, error) {
	b, err := w.batch(h)
	if err == nil {
		if err = b.Check(); err != nil {
			err = &CorruptError{File: w.name, Pos: w.pos, Err: err}
		}
	}
	return b, err
}

// place is what is known of the batches in a segment besides their bytes.
type place struct {
	before int64        // offset where the next segment begins, or the log ends
	epochs []epochEntry // of the records that were there
	had    position     // what lies before it in the segment had lower offsets once; zero: not known
}

// anywhere is where nothing is known.
var anywhere = place{before: math.MaxInt64}

// follows is header of a batch at offset next or behind it, in its place: no CRC covers its base offset and leader epoch.
func (w *walker) follows(next int64, at place) (record.Header, error) {
	h, err := w.header()
	if err != nil {
		return h, err
	}
	if w.pos < at.had.pos {
		at.before = min(at.before, at.had.offset)
	}
	e := epochAt(at.epochs, h.LastOffset())
	switch {
	case h.BaseOffset < next:
		return h, w.corrupt("offset %d where %d or later belongs", h.BaseOffset, next)
	case h.LastOffset() >= at.before:
		return h, w.corrupt("offset %d where an offset below %d belongs", h.LastOffset(), at.before)
	case e >= 0 && h.LeaderEpoch != -1 && e != h.LeaderEpoch:
		return h, w.corrupt("leader epoch %d of offset %d, which epoch %d has written", h.LeaderEpoch, h.LastOffset(), e)
	}
	return h, nil
}

func (w *walker) corrupt(format string, args ...any) error {
	return &CorruptError{File: w.name, Pos: w.pos, Err: fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))}
}

func (w *walker) skip(h *record.Header) { w.pos += int64(h.Size()) }
