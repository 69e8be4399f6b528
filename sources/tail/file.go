package tail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// fileID is what a file keeps when it is renamed.
type fileID struct{ dev, ino uint64 }

func idOf(info fs.FileInfo) (fileID, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{dev: uint64(st.Dev), ino: st.Ino}, true //nolint:unconvert // another type on other systems
}

// openFile opens a regular file to read it. What is none is not touched: a pipe would wait for its writer, and a writer would take us for its reader.
func openFile(path string) (*os.File, error) {
	if st, err := os.Stat(path); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: no regular file: %w", path, fs.ErrNotExist)
	}
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may have become one since
}

// file is one file that is followed.
type file struct {
	id     fileID
	origin string // the path under which it was found first
	path   string // the path under which it was seen last
	target string // what path led to when that was a link: rotation happens in that folder, under that name
	part   int32
	ident  string // of its content: the header file
	from   int64  // where its own records begin

	gen     int64
	offset  int64 // of the next record, or of what skip says
	skip    skip
	head    sum // of the first headLen bytes, all before offset
	headLen int
	tail    [tailMax]byte // the last tailLen bytes before offset
	tailLen int
	tailSum string // of a position that was not held against the file yet; "" afterwards

	size    int64 // as seen last
	seen    int64 // the largest size since the last reset
	tried   int64 // up to here no record ends; 0: not tried since the last one
	hole    int64 // up to here there are only NULs from offset on; 0: not looked yet
	holed   bool  // the log has it that the file has holes
	need    int   // bytes to read at once, when a record is larger than a chunk
	flushed int64 // multiline: the size at which the timeout has already given what it could

	glimpse glimpse   // of its beginning, while nothing was read
	putOff  time.Time // since when it waits for a scan to begin

	fd        *os.File
	used      uint64 // the task's clock at the last read, for closing the one used longest ago
	active    time.Time
	since     time.Time              // when it first waited for an older file's unfinished line
	matched   bool                   // the last scan found it under a path that matches
	deleted   bool                   // it has no name any more
	sight     sight                  // what the last scan knew of it when no list had it
	away      time.Time              // since when it is so
	unseen    int                    // and for how many scans
	copyOf    connectors.PositionKey // not read while that file still has the content
	warned    bool                   // that it cannot be read
	again     time.Time              // before that it is not tried; zero: it can be read
	moved     bool                   // offset or identity changed since the last mark
	replacing bool                   // its copy is being looked for
}

func (f *file) key() connectors.PositionKey { return fileKey(f.id) }

// position is f's place as the log keeps it.
func (f *file) position() connectors.Position {
	p := position{V: positionVersion, Path: f.origin, Dev: f.id.dev, Inode: f.id.ino, Gen: f.gen, Offset: f.offset, Skip: f.skip, Part: f.part, File: f.ident, From: f.from,
		HeadLen: f.headLen, Head: f.head.String(), TailLen: f.tailLen, Tail: f.tailSum, CopyOf: f.copyOf}
	if f.tailSum == "" {
		p.Tail = newSum.add(f.tail[:f.tailLen]).String()
	}
	if f.path != f.origin {
		p.At = f.path
	}
	p.Target = f.target
	data, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("tail: a position of plain fields: %v", err)) // cannot happen
	}
	return data
}

func fileOf(p position) *file {
	f := &file{id: fileID{p.Dev, p.Inode}, origin: p.Path, path: p.Path, target: p.Target, part: p.Part, ident: p.File, from: p.From, gen: p.Gen, offset: p.Offset, skip: p.Skip,
		head: parseSum(p.Head), headLen: p.HeadLen, tailLen: p.TailLen, tailSum: p.Tail, copyOf: p.CopyOf}
	if p.At != "" {
		f.path = p.At
	}
	return f
}

// named gives f the path under which it is seen.
func (f *file) named(path string) {
	target := ""
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if target, err = filepath.EvalSymlinks(path); err != nil {
			target = "" // it leads nowhere now
		}
	}
	f.path = path
	if target != "" || filepath.Dir(path) != filepath.Dir(f.target) { // renamed where it was rotated: that is still the name it was written under
		f.target = target
	}
}

// folders are those in which f and what rotation made of it can be.
func (f *file) folders(path string) []string {
	out := []string{filepath.Dir(path)}
	if f.target != "" && filepath.Dir(f.target) != out[0] {
		out = append(out, filepath.Dir(f.target))
	}
	return out
}

// reset makes f a file of the same inode whose content is another one.
func (f *file) reset(origin, path string) {
	f.gen++
	f.origin, f.path, f.ident, f.from, f.since = origin, path, newIdent(f.id), 0, time.Time{}
	f.offset, f.skip, f.head, f.headLen, f.tailLen, f.tailSum = 0, skipNone, newSum, 0, 0, ""
	f.tried, f.hole, f.holed, f.need, f.flushed, f.seen, f.copyOf, f.moved = 0, 0, false, 0, 0, 0, "", true
	f.glimpse, f.putOff = glimpse{}, time.Time{}
}

// advance moves the offset over consumed bytes, which data begins with, and keeps the fingerprints.
func (f *file) advance(consumed []byte) {
	if f.headLen < headMax && f.offset == int64(f.headLen) {
		n := min(len(consumed), headMax-f.headLen)
		f.head, f.headLen = f.head.add(consumed[:n]), f.headLen+n
	}
	if n := len(consumed); n >= tailMax {
		f.tailLen = copy(f.tail[:], consumed[n-tailMax:])
	} else {
		keep := min(f.tailLen, tailMax-n)
		copy(f.tail[:], f.tail[f.tailLen-keep:f.tailLen])
		f.tailLen = keep + copy(f.tail[keep:], consumed)
	}
	f.offset += int64(len(consumed))
	f.moved = true
}

// errChanged says that a file's content is not the one that was read before.
var errChanged = errors.New("the file's content was replaced")

// verify holds the file behind fd against the fingerprints, and learns the tail's bytes.
func (f *file) verify(fd io.ReaderAt, size int64) error {
	if size < f.offset {
		return errChanged
	}
	buf := make([]byte, headMax)
	if err := readFull(fd, buf[:f.headLen], 0); err != nil {
		return err
	}
	if newSum.add(buf[:f.headLen]) != f.head {
		return errChanged
	}
	tail := buf[:f.tailLen]
	if err := readFull(fd, tail, f.offset-int64(f.tailLen)); err != nil {
		return err
	}
	switch {
	case f.tailSum == "" && !bytes.Equal(tail, f.tail[:f.tailLen]):
		return errChanged
	case f.tailSum != "" && newSum.add(tail) != parseSum(f.tailSum):
		return errChanged
	}
	copy(f.tail[:], tail)
	f.tailSum = ""
	return nil
}

// readFull reads all of p; a file that ends earlier has changed.
func readFull(fd io.ReaderAt, p []byte, at int64) error {
	n, err := fd.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return errChanged
	}
	return err
}

func (f *file) close() {
	if f.fd != nil {
		_ = f.fd.Close() // it was only read
		f.fd = nil
	}
}

// sized notes the size that was seen and when it changed.
func (f *file) sized(size int64, now time.Time) {
	if f.size != size {
		f.size, f.active = size, now
	}
	f.seen = max(f.seen, size)
}

// modified is when the file was written last.
func (f *file) modified() (time.Time, bool) {
	if f.fd != nil {
		st, err := f.fd.Stat()
		return timeOf(st, err)
	}
	st, err := os.Stat(f.path)
	return timeOf(st, err)
}

func timeOf(st fs.FileInfo, err error) (time.Time, bool) {
	if err != nil {
		return time.Time{}, false
	}
	return st.ModTime(), true
}

// idle says whether everything that can be taken now was taken.
func (f *file) idle() bool {
	return f.copyOf != "" || f.size == f.offset || f.size == f.tried
}

// gone says whether the file can only end: it has no name that matches.
func (f *file) gone() bool { return f.deleted || !f.matched }
