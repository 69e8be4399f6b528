package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/forebayhub/forebay/internal/vfs"
)

// The small files of a log's folder (docs/formats/). Each begins with four letters
// and a version, and ends with the CRC-32C of what is before.
const (
	epochsName   = "leader-epochs"
	boundsName   = "bounds"
	recoveryName = "recovery-point"

	epochsMagic   = "FBLE"
	boundsMagic   = "FBBD"
	recoveryMagic = "FBRP"
	snapMagic     = "FBPS"
	stateVersion  = 1

	slotSize     = 512 // a sector: a slot is torn as a whole or not at all
	maxStateFile = 256 << 20
)

// errBadState is a state file that cannot be used.
var errBadState = errors.New("state file is damaged")

// sealState frames a state file's body.
func sealState(magic string, body []byte) []byte {
	b := make([]byte, 0, 8+len(body)+4)
	b = append(b, magic...)
	b = append(b, stateVersion, 0, 0, 0)
	b = append(b, body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// openState checks a state file and gives its body.
func openState(magic string, b []byte) ([]byte, error) {
	if len(b) < 12 || string(b[:4]) != magic {
		return nil, fmt.Errorf("%w: no %s file", errBadState, magic)
	}
	if b[4] != stateVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", errBadState, b[4], stateVersion)
	}
	end := len(b) - 4
	if crc := crc32.Checksum(b[:end], castagnoli); crc != binary.BigEndian.Uint32(b[end:]) {
		return nil, fmt.Errorf("%w: CRC is %08x", errBadState, crc)
	}
	return b[8:end], nil
}

// epochEntry says that a leader epoch's first record has that offset.
type epochEntry struct {
	epoch int32
	start int64
}

func encodeEpochs(list []epochEntry) []byte {
	b := make([]byte, 0, 4+12*len(list))
	b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
	for _, e := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(e.epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.start))
	}
	return sealState(epochsMagic, b)
}

func decodeEpochs(b []byte) ([]epochEntry, error) {
	b, err := openState(epochsMagic, b)
	if err != nil {
		return nil, err
	}
	if len(b) < 4 || int64(len(b)-4) != 12*int64(binary.BigEndian.Uint32(b)) {
		return nil, fmt.Errorf("%w: leader epochs of %d bytes", errBadState, len(b))
	}
	var list []epochEntry
	for b = b[4:]; len(b) > 0; b = b[12:] {
		e := epochEntry{epoch: int32(binary.BigEndian.Uint32(b)), start: int64(binary.BigEndian.Uint64(b[4:]))}
		if n := len(list); n > 0 && (e.epoch <= list[n-1].epoch || e.start < list[n-1].start) {
			return nil, fmt.Errorf("%w: leader epoch %d at %d after %d at %d", errBadState, e.epoch, e.start, list[n-1].epoch, list[n-1].start)
		}
		list = append(list, e)
	}
	return list, nil
}

// readEpochs reads the epochs of a log's folder; none if there is no file.
func readEpochs(f vfs.FS, dir string) ([]epochEntry, error) {
	b, err := vfs.ReadFile(f, path.Join(dir, epochsName), maxStateFile)
	if notExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeEpochs(b)
}

// savedEpochs are those that a closed log's file vouches for: of the records below synced. Behind it others may have come.
func savedEpochs(f vfs.FS, dir string, synced int64) ([]epochEntry, error) {
	list, err := readEpochs(f, dir)
	if err != nil && !errors.Is(err, errBadState) {
		return nil, err
	}
	return append(cutEpochs(list, synced), epochEntry{epoch: -1, start: synced}), nil
}

// bounds are what retention, DeleteBefore and compaction have done.
type bounds struct {
	start   int64 // log start offset
	cleaned int64 // compaction has seen everything below
}

func encodeBounds(v bounds) []byte {
	var b []byte
	b = binary.BigEndian.AppendUint64(b, uint64(v.start))
	b = binary.BigEndian.AppendUint64(b, uint64(v.cleaned))
	return sealState(boundsMagic, b)
}

func decodeBounds(b []byte) (v bounds, err error) {
	b, err = openState(boundsMagic, b)
	if err != nil {
		return v, err
	}
	if len(b) != 16 {
		return v, fmt.Errorf("%w: bounds of %d bytes", errBadState, len(b))
	}
	v = bounds{start: int64(binary.BigEndian.Uint64(b)), cleaned: int64(binary.BigEndian.Uint64(b[8:]))}
	if v.start < 0 || v.cleaned < 0 {
		return v, fmt.Errorf("%w: bounds %d, %d", errBadState, v.start, v.cleaned)
	}
	return v, nil
}

// position is a place between two batches.
type position struct {
	base   int64 // of the segment
	pos    int64 // in its file
	offset int64 // that the batch at pos has, or will have
}

// point is where recovery begins to check: at written while the machine has not been booted since, else at synced.
type point struct {
	seq     uint64 // of the slot
	boot    [16]byte
	synced  position // everything before was durable
	written position // everything before was in the page cache; not before synced
}

func encodePoint(p point) []byte {
	b := make([]byte, 0, pointSize)
	b = binary.BigEndian.AppendUint64(b, p.seq)
	b = append(b, p.boot[:]...)
	for _, at := range []position{p.synced, p.written} {
		b = binary.BigEndian.AppendUint64(b, uint64(at.base))
		b = binary.BigEndian.AppendUint64(b, uint64(at.pos))
		b = binary.BigEndian.AppendUint64(b, uint64(at.offset))
	}
	return sealState(recoveryMagic, b)
}

const (
	pointSize  = 8 + 24 + 2*positionSize + 4
	pointSize1 = pointSize - positionSize // of before there was written
)

const positionSize = 24

func decodePoint(b []byte) (p point, err error) {
	body, err := openState(recoveryMagic, b[:min(len(b), pointSize)])
	if err != nil {
		if body, err = openState(recoveryMagic, b[:min(len(b), pointSize1)]); err != nil {
			return p, err
		}
	}
	if len(body) < 24+positionSize {
		return p, fmt.Errorf("%w: recovery point of %d bytes", errBadState, len(body))
	}
	p.seq = binary.BigEndian.Uint64(body)
	copy(p.boot[:], body[8:])
	p.synced = decodePosition(body[24:])
	p.written = p.synced
	if len(body) == 24+2*positionSize {
		p.written = decodePosition(body[24+positionSize:])
	}
	if s, w := p.synced, p.written; s.base < 0 || s.pos < 0 || s.offset < s.base || w.pos < 0 || w.before(s) {
		return p, fmt.Errorf("%w: recovery point %d+%d at %d, written %d+%d at %d", errBadState, s.base, s.pos, s.offset, w.base, w.pos, w.offset)
	}
	return p, nil
}

// before tells whether p is before q in any way.
func (p position) before(q position) bool {
	return p.base < q.base || p.offset < max(p.base, q.offset) || p.base == q.base && p.pos < q.pos
}

func decodePosition(b []byte) position {
	be := binary.BigEndian
	return position{base: int64(be.Uint64(b)), pos: int64(be.Uint64(b[8:])), offset: int64(be.Uint64(b[16:]))}
}

// readPoint reads the newer good slot of the recovery-point file.
func readPoint(f vfs.FS, dir string) (p point, ok bool, err error) {
	b, err := vfs.ReadFile(f, path.Join(dir, recoveryName), 1<<20)
	if notExist(err) {
		return p, false, nil
	}
	if err != nil {
		return p, false, err
	}
	for at := 0; at < 2*slotSize && at < len(b); at += slotSize {
		if q, err := decodePoint(b[at:]); err == nil && (!ok || q.seq > p.seq) {
			p, ok = q, true
		}
	}
	return p, ok, nil
}

// writePoint writes the next slot in place. A crash that tears it leaves the other one, which is older and so
// costs only a longer scan. sync is for when the older one would be wrong.
func writePoint(f vfs.FS, dir string, p point, sync bool) error {
	file, err := f.OpenFile(path.Join(dir, recoveryName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(encodePoint(p), int64(p.seq%2)*slotSize)
	if err == nil && sync {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// bootID is the machine's boot: page cache that a process left survives exactly as long.
var bootID = sync.OnceValue(func() (id [16]byte) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id // zero: never equal, see sameBoot
	}
	copy(id[:], []byte(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")))
	return id
})

// sameBoot tells whether what was written before is still in the page cache or on disk.
func sameBoot(a, b [16]byte) bool { return a == b && a != [16]byte{} }
