package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/forebayhub/forebay/internal/metrics"
	"github.com/forebayhub/forebay/internal/vfs"
)

// ErrCorrupt is the answer for a raft file with bytes that were never written so.
var ErrCorrupt = errors.New("corrupt raft file")

// ErrVersion is the answer for a raft file of a newer version.
var ErrVersion = errors.New("raft file of a newer version")

// A journal is one append-only file of frames. Each frame is one atomic change,
// written with one WriteAt and one Sync:
//
//	file   "FBRAFTJ" version(1)  frame…
//	frame  length(4) crc32c(4) sequence(8) payload(length)
//
// Big-endian; the CRC covers sequence and payload. Sequences count from 1 in each file. As each frame is synced before
// the next is begun, only the last one can be torn by a crash: an invalid frame with nothing valid
// after it is cut off; with a valid one after it, it is corruption and the journal refuses to open.
//
// Zeros lie behind the last frame: room that the disk has given already, so that a node can vote, start
// and delete topics on a full disk (invariant 11). Commands have minReserve of it, and leave as much to the rest: without its votes a node cannot go on.
const (
	journalMagic   = "FBRAFTJ"
	journalVersion = 1
	journalHeader  = int64(len(journalMagic) + 1)
	frameHeader    = 16
	maxFrame       = 256 << 20
	minReserve     = 32 << 10
	growReserve    = 128 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type journal struct {
	fs   vfs.FS
	file vfs.File
	dir  string
	end  int64 // of the last frame
	size int64 // of the file: zeros from end on
	seq  uint64
	err  error // of the disk, or of what raft believes to be here; final

	syncs *metrics.Latency
}

const journalName = "journal"

// openJournal opens or creates dir/journal and hands every payload to replay, in order.
func openJournal(fsys vfs.FS, dir string, replay func(payload []byte) error) (*journal, error) {
	name := path.Join(dir, journalName)
	// What a compaction left half-way was never the journal.
	if err := fsys.Remove(name + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := fsys.Stat(name); errors.Is(err, fs.ErrNotExist) {
		j, _, err := createJournal(fsys, dir, nil)
		return j, err
	}
	f, err := fsys.OpenFile(name, os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	j := &journal{fs: fsys, file: f, dir: dir, syncs: &metrics.Latency{}}
	if err := j.load(replay); err != nil {
		_ = f.Close() // the first error tells more
		return nil, err
	}
	return j, nil
}

// createJournal writes a journal that holds payload as its only frame beside the
// journal, then renames it onto it: atomic, old or new.
func createJournal(fsys vfs.FS, dir string, payload []byte) (j *journal, placed bool, err error) {
	name := path.Join(dir, journalName)
	f, err := fsys.OpenFile(name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, false, err
	}
	j = &journal{fs: fsys, file: f, dir: dir, end: journalHeader, syncs: &metrics.Latency{}}
	b := append([]byte(journalMagic), journalVersion)
	if payload != nil {
		b = appendFrame(b, 1, payload)
		j.seq, j.end = 1, int64(len(b))
	}
	j.size = j.end
	if _, err = f.WriteAt(b, 0); err == nil {
		_ = j.grow(0)
		err = f.Sync()
	}
	if err == nil {
		err = fsys.Rename(name+".new", name)
	}
	if placed = err == nil; placed {
		err = vfs.SyncDir(fsys, dir)
	} else {
		_ = fsys.Remove(name + ".new") // written anew at the next try
	}
	if err != nil {
		_ = f.Close() // the first error tells more
		return nil, placed, fmt.Errorf("create %s: %w", name, err)
	}
	return j, placed, nil
}

func appendFrame(b []byte, seq uint64, payload []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli))
	return b
}

// parseFrame finds the frame at the start of b; ok is false when there is none.
func parseFrame(b []byte) (seq uint64, payload []byte, ok bool) {
	if len(b) < frameHeader {
		return 0, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > maxFrame || int(n) > len(b)-frameHeader {
		return 0, nil, false
	}
	end := frameHeader + int(n)
	if crc32.Checksum(b[8:end], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return 0, nil, false
	}
	return binary.BigEndian.Uint64(b[8:]), b[frameHeader:end], true
}

func (j *journal) load(replay func([]byte) error) error {
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, info.Size())
	if _, err := j.file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if int64(len(b)) < journalHeader || string(b[:len(journalMagic)]) != journalMagic {
		return fmt.Errorf("%w: %s: no journal header", ErrCorrupt, j.file.Name())
	}
	if v := b[len(journalMagic)]; v != journalVersion {
		return fmt.Errorf("%w: %s: version %d, this program knows %d", ErrVersion, j.file.Name(), v, journalVersion)
	}
	pos, last := journalHeader, journalHeader
	for pos < int64(len(b)) {
		seq, payload, ok := parseFrame(b[pos:])
		if !ok || seq != j.seq+1 {
			if later := laterFrame(b[pos:], j.seq); later >= 0 {
				return fmt.Errorf("%w: %s: invalid frame at byte %d, followed by a valid one at %d", ErrCorrupt, j.file.Name(), pos, pos+int64(later))
			}
			break // torn by a crash: never acknowledged
		}
		if err := replay(payload); err != nil {
			return fmt.Errorf("%s: frame at byte %d: %w", j.file.Name(), pos, err)
		}
		j.seq, last = seq, pos
		pos += int64(frameHeader + len(payload))
	}
	j.end, j.size = pos, int64(len(b))
	if len(bytes.TrimLeft(b[pos:], "\x00")) > 0 {
		if err := j.file.Truncate(pos); err != nil {
			return err
		}
		j.size = pos
	}
	_ = j.grow(0)
	return j.vouch(b[last:pos], last)
}

// vouch makes what load has found durable, for raft counts it as that: the process before this one may have ended between writing its last frame
// and the sync, or after a sync that failed, which leaves pages that look clean; and between a rename and the sync of the folder.
func (j *journal) vouch(frame []byte, at int64) error {
	if _, err := j.file.WriteAt(frame, at); err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) { // where it lies already it needs no room on most
		return fmt.Errorf("write %s at %d: %w", j.file.Name(), at, err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", j.file.Name(), err)
	}
	return vfs.SyncDir(j.fs, j.dir)
}

// grow keeps twice minReserve behind n more bytes. That it cannot is an error where less than minReserve would be left: the disk is full, and that room is for then.
func (j *journal) grow(n int) error {
	least := j.end + int64(n) + minReserve
	want := least + minReserve
	if j.size >= want {
		return nil
	}
	wrote, err := j.file.WriteAt(make([]byte, max(growReserve, want-j.size)), j.size)
	if wrote > 0 || err == nil {
		j.size += int64(wrote)
	}
	if j.size >= least {
		return nil
	}
	return err
}

// laterFrame finds a valid frame of a sequence above seq+1: its predecessor was synced before it was written.
func laterFrame(b []byte, seq uint64) int {
	for at := 1; at+frameHeader <= len(b); at++ {
		// The sequence is the cheap test; nearly nothing passes it by chance.
		s := binary.BigEndian.Uint64(b[at+8:])
		if s <= seq+1 || s > seq+1<<20 {
			continue
		}
		if _, _, ok := parseFrame(b[at:]); ok {
			return at
		}
	}
	return -1
}

// append makes payload durable; vital: also with the room that is left for what a node cannot go on without. An error is final unless it is want of room.
func (j *journal) append(payload []byte, vital bool) error {
	if j.err != nil {
		return j.err
	}
	if len(payload) > maxFrame {
		return fmt.Errorf("raft entry of %d bytes: at most %d", len(payload), maxFrame)
	}
	b := appendFrame(nil, j.seq+1, payload)
	err := j.grow(len(b))
	if err == nil || vital {
		_, err = j.file.WriteAt(b, j.end)
	}
	if err != nil {
		err = fmt.Errorf("write %s at %d: %w", j.file.Name(), j.end, err)
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			j.err = err
		}
		return err // nothing was promised for these bytes yet: where there is room again the next frame overwrites them
	}
	began := time.Now()
	err = j.file.Sync()
	j.syncs.Observe(time.Since(began))
	if err != nil {
		j.err = fmt.Errorf("sync %s: %w", j.file.Name(), err)
		return j.err
	}
	j.seq++
	j.end += int64(len(b))
	j.size = max(j.size, j.end)
	return nil
}

// replace makes payload the only frame. Where that finds no room or no descriptor the journal stays as it is: it is whole, and only longer than it need be.
func (j *journal) replace(payload []byte) error {
	if j.err != nil {
		return j.err
	}
	n, placed, err := createJournal(j.fs, j.dir, payload)
	if err != nil && !placed {
		return nil
	}
	if err != nil {
		j.err = err // which of the two a start finds nobody knows
		return err
	}
	_ = j.file.Close() // everything in it is in the new one, synced
	n.syncs = j.syncs
	*j = *n
	return nil
}

func (j *journal) close() error { return j.file.Close() }
