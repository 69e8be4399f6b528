package tail

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"syscall"
)

// A writer that does not append (`app > app.log`) goes on at its own offset after
// copytruncate: what is before that in the file is a hole, and reads as NULs, as
// many as the log has ever had bytes. They are no line's. Nor are those that a
// machine's crash left at a file's end. So NULs from a record's beginning on are
// passed over without a record if there are holeMin of them, as soon as something is
// behind them: NULs at a file's end may be room that a writer has made for its next lines.

// holeMin is how many NULs are no record, in bytes. Fewer stay as they are: a page
// is the least that a file system leaves out.
const holeMin = 4096

// seekData is lseek(2)'s SEEK_DATA of Linux: the first byte from there on that is in no hole.
const seekData = 3

// noData is the sum of a file's beginning that is a hole: it tells nothing of the file.
var noData = newSum.add(make([]byte, headMax))

// hollow says whether data begins with a hole.
func hollow(data []byte) bool { return len(data) >= holeMin && zeros(data[:holeMin]) == holeMin }

// zeros is how many NULs data begins with.
func zeros(data []byte) int { return len(data) - len(bytes.TrimLeft(data, "\x00")) }

// behind looks for the first byte of fd that is no NUL, from at on, and reads at most one
// buf for it. Not found: all before next are NULs.
func behind(fd *os.File, buf []byte, at, size int64) (next int64, found bool, err error) {
	if runtime.GOOS == "linux" {
		switch data, err := fd.Seek(at, seekData); {
		case errors.Is(err, syscall.ENXIO):
			return size, false, nil
		case err == nil:
			at = min(data, size)
		}
	}
	buf = buf[:min(int64(len(buf)), size-at)]
	if err := readFull(fd, buf, at); err != nil {
		return at, false, err
	}
	n := zeros(buf)
	return at + int64(n), n < len(buf), nil
}

// pass goes over the hole at f's offset, a chunk at a time; m says whether the file has ended. It returns how
// many bytes it went on, at most a chunk.
func (t *task) pass(f *file, m more) (int, error) {
	from := max(f.offset, f.hole)
	next, found, err := behind(f.fd, t.buf[:chunkSize], from, f.size)
	switch {
	case err != nil:
		return 0, err
	case !found && next < f.size:
		f.hole = next
		return int(min(next-from, chunkSize)), nil
	case !found && m != moreNever:
		f.hole, f.tried = 0, f.size
		return 0, nil
	}
	// What was seen is of the content that was read before, unless that is gone by now.
	if err := f.verify(f.fd, f.size); err != nil {
		return 0, err
	}
	if !f.holed && found {
		f.holed = true
		t.log.Warn("a file has a hole, which is passed over: its writer does not append, so each truncation (copytruncate) leaves one; have it open the file to append (>>)",
			"path", f.path, "offset", f.offset, "bytes", next-f.offset)
	}
	n := next - f.offset
	f.advance(make([]byte, holeMin))
	f.offset += n - holeMin
	f.hole, f.tried, f.need, f.flushed, f.warned = 0, 0, 0, 0, false
	return int(min(n, chunkSize)), nil
}
