package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sort"
	"sync"

	"github.com/forebayhub/forebay/internal/vfs"
)

// An index file (docs/formats/index.md) is a header and entries in rising order:
//
//	0 "FBIX"  4 version 1  5 kind  6 sealed  8 base offset  16 count  20 CRC-32C  24 log size  32 entries
//
// kind 'o' (.index):     uint32 offset - base, uint32 position of the batch with that base offset
// kind 't' (.timeindex): int64 timestamp, uint32 offset - base: no record up to the place where the entry was
// made is later, and the batch with that base offset has a record of that time; where that is too far away, the largest number, which is before it
//
// Count, CRC and log size are good when sealed. What is not sealed is rebuilt after a crash.
const (
	indexHeader  = 32
	indexVersion = 1
	offsetKind   = 'o'
	timeKind     = 't'
	offsetWidth  = 8
	timeWidth    = 12
	indexBlock   = 4096 / 24 * 24 // bytes of entries that are read or written at once; whole entries of both kinds
	maxIndexFile = 256 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBadIndex asks for a rebuild.
var errBadIndex = errors.New("index is damaged")

// sparse is an index: entries in a file and a tail of entries that are in memory only. The
// tail is written block by block, so an append rarely touches the file.
type sparse struct {
	fs   vfs.FS
	name string
	kind byte
	base int64

	mu     sync.Mutex
	file   vfs.File // opened on demand, and kept only by who reads
	onDisk int      // entries in the file
	tail   []byte
	block  []byte // the last block read, from entry blockAt
	at     int
	sealed bool // the file's header says so
	hold   bool // keep the tail in memory; only while nobody else has the index
}

func newSparse(f vfs.FS, name string, kind byte, base int64) *sparse {
	return &sparse{fs: f, name: name, kind: kind, base: base}
}

func (x *sparse) width() int {
	if x.kind == offsetKind {
		return offsetWidth
	}
	return timeWidth
}

func (x *sparse) countLocked() int { return x.onDisk + len(x.tail)/x.width() }

// count is the number of entries.
func (x *sparse) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.countLocked()
}

func (x *sparse) bytes() int { return x.count() * x.width() }

// add appends an entry. A full disk costs nothing but memory: the tail stays until the next try.
func (x *sparse) add(a int64, b uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kind == offsetKind {
		x.tail = binary.BigEndian.AppendUint32(x.tail, uint32(a))
	} else {
		x.tail = binary.BigEndian.AppendUint64(x.tail, uint64(a))
	}
	x.tail = binary.BigEndian.AppendUint32(x.tail, b)
	if len(x.tail)%indexBlock == 0 && !x.hold {
		_ = x.writeLocked() // kept in memory when it fails
		x.shutLocked()
	}
}

// writeLocked moves the tail to the file.
func (x *sparse) writeLocked() error {
	if err := x.openLocked(true); err != nil {
		return err
	}
	if x.onDisk == 0 || x.sealed {
		if err := x.headerLocked(false, 0, 0); err != nil {
			return err
		}
	}
	if len(x.tail) == 0 {
		return nil
	}
	if _, err := x.file.WriteAt(x.tail, int64(indexHeader+x.onDisk*x.width())); err != nil {
		return err
	}
	x.onDisk += len(x.tail) / x.width()
	x.tail = x.tail[:0]
	x.block = nil
	return nil
}

func (x *sparse) headerLocked(sealed bool, crc uint32, logSize int64) error {
	var h [indexHeader]byte
	copy(h[:], "FBIX")
	h[4], h[5] = indexVersion, x.kind
	if sealed {
		h[6] = 1
	}
	binary.BigEndian.PutUint64(h[8:], uint64(x.base))
	if sealed {
		binary.BigEndian.PutUint32(h[16:], uint32(x.onDisk))
		binary.BigEndian.PutUint32(h[20:], crc)
		binary.BigEndian.PutUint64(h[24:], uint64(logSize))
	}
	_, err := x.file.WriteAt(h[:], 0)
	if err == nil {
		x.sealed = sealed
	}
	return err
}

func (x *sparse) openLocked(create bool) error {
	if x.file != nil {
		return nil
	}
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
	}
	f, err := x.fs.OpenFile(x.name, flag, 0o644)
	if err == nil {
		x.file = f
	}
	return err
}

// seal writes everything and a header that vouches for it as the index of a log file of that size.
func (x *sparse) seal(logSize int64, sync bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.shutLocked()
	if err := x.writeLocked(); err != nil {
		return err
	}
	if err := x.file.Truncate(int64(indexHeader + x.onDisk*x.width())); err != nil {
		return err
	}
	crc, err := x.crcLocked(x.onDisk)
	if err != nil {
		return err
	}
	if err := x.headerLocked(true, crc, logSize); err != nil {
		return err
	}
	if sync {
		return x.file.Sync()
	}
	return nil
}

func (x *sparse) crcLocked(count int) (uint32, error) {
	var crc uint32
	buf := make([]byte, min(count*x.width(), 256<<10))
	for at := 0; at < count*x.width(); {
		n := min(len(buf), count*x.width()-at)
		if _, err := x.file.ReadAt(buf[:n], int64(indexHeader+at)); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, buf[:n])
		at += n
	}
	return crc, nil
}

// load checks a sealed file against the size of its log; errBadIndex asks for a rebuild.
func (x *sparse) load(logSize int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.openLocked(false); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errBadIndex
		}
		return err
	}
	h, err := readIndexHeader(x.file)
	if err != nil || h.kind != x.kind || h.base != x.base || !h.sealed || h.logSize != logSize || int64(h.count)*int64(x.width()) > maxIndexFile {
		return errBadIndex
	}
	if crc, err := x.crcLocked(int(h.count)); err != nil || crc != h.crc {
		return errBadIndex
	}
	x.onDisk, x.tail, x.block, x.sealed = int(h.count), nil, nil, true
	return nil
}

// indexHead is what an index file says of itself.
type indexHead struct {
	kind    byte
	sealed  bool
	base    int64
	count   uint32
	crc     uint32
	logSize int64
}

func readIndexHeader(f io.ReaderAt) (h indexHead, err error) {
	var b [indexHeader]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return h, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	if string(b[:4]) != "FBIX" || b[4] != indexVersion {
		return h, fmt.Errorf("%w: no index of version %d", errBadIndex, indexVersion)
	}
	be := binary.BigEndian
	return indexHead{
		kind: b[5], sealed: b[6] == 1, base: int64(be.Uint64(b[8:])),
		count: be.Uint32(b[16:]), crc: be.Uint32(b[20:]), logSize: int64(be.Uint64(b[24:])),
	}, nil
}

// entryLocked reads entry i.
func (x *sparse) entryLocked(i int) (a int64, b uint32, err error) {
	w := x.width()
	var e []byte
	if i >= x.onDisk {
		e = x.tail[(i-x.onDisk)*w:]
	} else {
		per := indexBlock / w
		first := i / per * per
		if x.block == nil || x.at != first {
			if err := x.openLocked(false); err != nil {
				return 0, 0, err
			}
			if cap(x.block) < indexBlock {
				x.block = make([]byte, indexBlock)
			}
			n := min(per, x.onDisk-first) * w
			x.block = x.block[:n]
			if _, err := x.file.ReadAt(x.block, int64(indexHeader+first*w)); err != nil {
				x.block = nil
				return 0, 0, fmt.Errorf("%w: %w", errBadIndex, err)
			}
			x.at = first
		}
		e = x.block[(i-first)*w:]
	}
	if x.kind == offsetKind {
		return int64(binary.BigEndian.Uint32(e)), binary.BigEndian.Uint32(e[4:]), nil
	}
	return int64(binary.BigEndian.Uint64(e)), binary.BigEndian.Uint32(e[8:]), nil
}

// floor finds the last entry whose a is at most want; ok is false when there is none.
func (x *sparse) floor(want int64) (a int64, b uint32, ok bool, err error) {
	return x.lastWhere(func(a int64, _ uint32) bool { return a <= want })
}

// lastWhere finds the last entry for which in holds; in must hold for a prefix of the entries.
func (x *sparse) lastWhere(in func(a int64, b uint32) bool) (a int64, b uint32, ok bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.searchLocked(in, &err)
	if err != nil || i == 0 {
		return 0, 0, false, err
	}
	a, b, err = x.entryLocked(i - 1)
	return a, b, err == nil, err
}

// searchLocked is the number of entries for which in holds. A search over all entries reads a block per step; but
// who reads on asks next to where it asked before: in the tail, or in the block that was read last.
func (x *sparse) searchLocked(in func(a int64, b uint32) bool, err *error) int {
	out := func(i int) bool {
		a, b, e := x.entryLocked(i)
		if e != nil {
			*err = e
			return true
		}
		return !in(a, b)
	}
	from, to := 0, x.countLocked()
	switch {
	case x.onDisk < to && !out(x.onDisk):
		from = x.onDisk
	case x.block != nil:
		if end := x.at + len(x.block)/x.width(); !out(x.at) && out(end-1) {
			from, to = x.at, end
		}
	}
	return from + sort.Search(to-from, func(i int) bool { return out(from + i) })
}

// last is the last entry.
func (x *sparse) last() (a int64, b uint32, ok bool, err error) {
	return x.lastWhere(func(int64, uint32) bool { return true })
}

// reset empties the index for a rebuild.
func (x *sparse) reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.onDisk, x.tail, x.block, x.sealed = 0, x.tail[:0], nil, false
}

// close lets go of the file; the index can still be used.
func (x *sparse) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.shutLocked()
	x.block = nil
}

// shutLocked closes the file until it is needed again: a segment in use is written to its index once in a megabyte or more,
// and a descriptor for each index of each of them would never come back.
func (x *sparse) shutLocked() {
	if x.file != nil {
		_ = x.file.Close() // rebuilt when it is damaged
		x.file = nil
	}
}
