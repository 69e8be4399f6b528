package files

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/forebayhub/forebay/connectors"
)

// lineFormat is a format whose file is the concatenation of what an appendRecord
// gives for each record, each ending in a newline.
type lineFormat struct {
	extension string
	codec     codec
	decoded   bool
	newAppend func() appendRecord
}

// appendRecord belongs to one file and may remember what it knows of the records before.
type appendRecord func(dst []byte, r *connectors.Record) ([]byte, error)

func (f *lineFormat) Extension() string                     { return f.extension + f.codec.suffix }
func (f *lineFormat) Fits(Encoder, *connectors.Record) bool { return true }
func (f *lineFormat) Decoded() bool                         { return f.decoded }

func (f *lineFormat) NewEncoder(w io.Writer, _ *connectors.Record) (Encoder, error) {
	e := &lineEncoder{appendRecord: f.newAppend(), out: counter{w: w}}
	e.w = &e.out
	if f.codec.writer != nil {
		c, err := f.codec.writer(&e.out)
		if err != nil {
			return nil, err
		}
		e.w, e.stream = c, c
	}
	return e, nil
}

// lineBuffer is how many bytes are gathered before they go to the compressor or the file.
const lineBuffer = 64 << 10

type lineEncoder struct {
	appendRecord appendRecord
	out          counter
	w            io.Writer
	stream       io.Closer // the compressor; nil without one
	buf          []byte
	fed          int64 // bytes given to the compressor
	outAt        int64 // out.n and fed when it last gave something
	fedAt        int64
}

func (e *lineEncoder) Write(r *connectors.Record) error {
	n := len(e.buf)
	b, err := e.appendRecord(e.buf, r)
	if err != nil {
		e.buf = b[:n]
		return &RecordError{err}
	}
	e.buf = b
	if len(e.buf) < lineBuffer {
		return nil
	}
	return e.flush()
}

func (e *lineEncoder) flush() error {
	if len(e.buf) == 0 {
		return nil
	}
	_, err := e.w.Write(e.buf)
	e.fed += int64(len(e.buf))
	if e.buf = e.buf[:0]; cap(e.buf) > 4*lineBuffer {
		e.buf = nil // one very long record shall not stay in memory for each open file
	}
	if e.out.n != e.outAt {
		e.outAt, e.fedAt = e.out.n, e.fed
	}
	return err
}

// Size guesses that what the compressor holds back shrinks to a quarter.
func (e *lineEncoder) Size() int64 {
	if e.stream == nil {
		return e.out.n + int64(len(e.buf))
	}
	return e.out.n + (e.fed-e.fedAt+int64(len(e.buf)))/4
}

func (e *lineEncoder) Close() error {
	if err := e.flush(); err != nil {
		return err
	}
	if e.stream != nil {
		return e.stream.Close()
	}
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Compare encodes each wanted record again and holds it against the file. A
// record's text may span lines (format: text), so it is read by its own count of
// newlines: a changed line does not shift those after it.
func (f *lineFormat) Compare(r Reader, want func() (*connectors.Record, error), differ func(row int, what string)) error {
	var in io.Reader = r
	if f.codec.reader != nil {
		d, err := f.codec.reader(r)
		if err != nil {
			differ(0, "the file cannot be decompressed: "+err.Error())
			return nil
		}
		defer func() { _ = d.Close() }() // it only frees memory
		in = d
	}
	lines := bufio.NewReaderSize(in, lineBuffer)
	var expect, got []byte
	row, appendTo := 0, f.newAppend()
	for ; ; row++ {
		rec, err := want()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if expect, err = appendTo(expect[:0], rec); err != nil {
			differ(-1, Refused(rec, err))
			row--
			continue
		}
		var over bool
		got, over, err = readLines(lines, got[:0], bytes.Count(expect, newline), len(expect))
		switch {
		case errors.Is(err, io.EOF) && len(got) == 0:
			differ(-1, fmt.Sprintf("the file ends before offset %d", rec.Place().Offset))
		case err != nil && !errors.Is(err, io.EOF):
			differ(row, fmt.Sprintf("unreadable from offset %d on: %v", rec.Place().Offset, err))
			return nil
		case over || !bytes.Equal(got, expect):
			differ(row, fmt.Sprintf("offset %d: the file has %s, the log has %s", rec.Place().Offset, short(got), short(expect)))
		}
	}
	for ; ; row++ {
		var err error
		got, _, err = readLines(lines, got[:0], 1, 4096)
		if len(got) > 0 {
			differ(row, "a row that the log does not have: "+short(got))
		}
		if err != nil {
			return nil
		}
	}
}

var newline = []byte{'\n'}

// readLines reads n lines and keeps at most limit bytes of them; over says that there was more.
func readLines(r *bufio.Reader, dst []byte, n, limit int) (_ []byte, over bool, err error) {
	for n > 0 {
		part, err := r.ReadSlice('\n')
		if room := limit - len(dst); len(part) > room {
			dst, over = append(dst, part[:room]...), true
		} else {
			dst = append(dst, part...)
		}
		switch {
		case err == nil:
			n--
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return dst, over, err
		}
	}
	return dst, over, nil
}

func short(p []byte) string {
	if len(p) > 80 {
		return fmt.Sprintf("%q… (%d bytes)", p[:80], len(p))
	}
	return fmt.Sprintf("%q", p)
}
