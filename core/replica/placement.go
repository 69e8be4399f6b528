package replica

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Placement is the file that says in which log directory each partition lies that ever had a record. A line for each: topic id, number,
// directory id, and the CRC-32C of these; "-" for a directory takes the partition out. The last line of a partition counts. Lines are appended, and
// synced before the partition's first record is; Begin writes the file anew.
//
// All methods may be called concurrently.
type Placement struct {
	fs     vfs.FS
	name   string
	failed func(error)

	syncing sync.Mutex // one sync at a time; before mu
	synced  int64

	mu      sync.Mutex
	at      map[metadata.PartitionID]string
	file    vfs.File
	end     int64
	err     error // of a sync: final
	size    int64 // of the file that was read
	whole   bool  // it has no line that cannot be read
	damaged bool
}

const (
	placementHead = "forebay log placement 1\n"
	nowhere       = "-"
	// maxPlacement bounds the file that is read: about 500,000 partitions.
	maxPlacement = 64 << 20
)

// ErrPlacement is a file that another version has written, or that is none of ours.
var ErrPlacement = errors.New("not a file of partition placements that this version knows")

// OpenPlacement reads the file. None is an empty one, or, when there was one before (had), one that has lost all its lines. failed is called
// when a sync fails, which is final.
func OpenPlacement(fsys vfs.FS, name string, had bool, failed func(error)) (*Placement, error) {
	p := &Placement{fs: fsys, name: name, failed: failed, at: map[metadata.PartitionID]string{}}
	b, err := vfs.ReadFile(fsys, name, maxPlacement)
	if errors.Is(err, fs.ErrNotExist) {
		p.damaged = had
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if p.at, p.whole, p.damaged, err = decodePlacement(b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.size = int64(len(b))
	return p, nil
}

// decodePlacement reads all lines that are whole. damaged says that one was not, with a whole one after it: a power cut leaves that, of lines
// that nobody waited for any more, and so does a flipped bit.
func decodePlacement(b []byte) (at map[metadata.PartitionID]string, whole, damaged bool, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(placementHead))
	if !ok {
		return nil, false, false, ErrPlacement
	}
	at = map[metadata.PartitionID]string{}
	whole = true
	for line := range bytes.Lines(rest) {
		key, dir, ok := parsePlacement(string(line))
		if !ok {
			whole = false
			continue
		}
		damaged = damaged || !whole
		if dir == nowhere {
			delete(at, key)
		} else {
			at[key] = dir
		}
	}
	return at, whole, damaged, nil
}

func placementLine(key metadata.PartitionID, dir string) string {
	s := fmt.Sprintf("%s %d %s", key.Topic, key.Number, dir)
	return fmt.Sprintf("%s %08x\n", s, crc32.Checksum([]byte(s), castagnoli))
}

func parsePlacement(line string) (key metadata.PartitionID, dir string, ok bool) {
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(f) != 4 || f[2] == "" {
		return key, "", false
	}
	id, err := uuid.Parse(f[0])
	n, nerr := strconv.ParseInt(f[1], 10, 32)
	key = metadata.PartitionID{Topic: id, Number: int32(n)}
	if errors.Join(err, nerr) != nil || n < 0 || placementLine(key, f[2]) != line {
		return key, "", false
	}
	return key, f[2], true
}

// Home is the id of a partition's directory; "": it never had a record.
func (p *Placement) Home(key metadata.PartitionID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[key]
}

// In are the partitions in directory id.
func (p *Placement) In(id string) (list []metadata.PartitionID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, dir := range p.at {
		if dir == id {
			list = append(list, key)
		}
	}
	return list
}

// Damaged says that lines were lost: a partition without one may lie in a directory that is not there.
func (p *Placement) Damaged() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.damaged
}

// Begin takes what a look at the directories has shown, and keeps the file open for Put. sure says that every directory was seen; until
// one was, a damaged file stays as it is.
func (p *Placement) Begin(at map[metadata.PartitionID]string, sure bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.damaged = p.damaged && !sure
	if p.size == 0 || !p.damaged && (!p.whole || !maps.Equal(p.at, at)) {
		if err := p.rewriteLocked(at); err != nil {
			return err
		}
	}
	f, err := p.fs.OpenFile(p.name, os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if !p.whole { // what comes is not to become a part of a line that is torn
		if _, err := f.WriteAt([]byte("\n"), p.size); err != nil {
			return errors.Join(err, f.Close())
		}
		p.size++
	}
	p.file, p.end, p.synced, p.at = f, p.size, p.size, map[metadata.PartitionID]string{}
	maps.Copy(p.at, at)
	return nil
}

func (p *Placement) rewriteLocked(at map[metadata.PartitionID]string) error {
	lines := make([]string, 0, len(at))
	for key, dir := range at {
		lines = append(lines, placementLine(key, dir))
	}
	slices.Sort(lines)
	head := placementHead
	if p.damaged { // the next start is to know it, too
		head += "\n" + placementLine(metadata.PartitionID{}, nowhere)
	}
	b := []byte(head + strings.Join(lines, ""))
	if err := vfs.WriteFile(p.fs, p.name, b, true); err != nil {
		return err
	}
	p.size, p.whole = int64(len(b)), true
	return nil
}

// Put says, durably, that a partition lies in directory id. It shares syncs with others.
func (p *Placement) Put(key metadata.PartitionID, id string) error {
	end, err := p.write(key, id)
	if err != nil || end == 0 {
		return err
	}
	if err := p.sync(end); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[key] = id
	return nil
}

// Drop takes a partition out that is here no more. It is not synced: a topic's id comes only once.
func (p *Placement) Drop(key metadata.PartitionID) {
	p.mu.Lock()
	_, known := p.at[key]
	delete(p.at, key)
	p.mu.Unlock()
	if known {
		_, _ = p.write(key, nowhere) // a line too many does no harm
	}
}

// write appends a line; end 0: it is there already.
func (p *Placement) write(key metadata.PartitionID, id string) (end int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return 0, p.err
	case p.at[key] == id:
		return 0, nil
	case p.file == nil:
		return 0, fmt.Errorf("%s is not open", p.name)
	}
	line := placementLine(key, id)
	if _, err := p.file.WriteAt([]byte(line), p.end); err != nil {
		return 0, err // the next line takes its place
	}
	p.end += int64(len(line))
	return p.end, nil
}

func (p *Placement) sync(end int64) error {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	p.mu.Lock()
	now, file, err := p.end, p.file, p.err
	p.mu.Unlock()
	if err != nil || p.synced >= end {
		return err
	}
	if err := file.Sync(); err != nil {
		p.mu.Lock()
		p.err = fmt.Errorf("sync %s: %w", p.name, err)
		err = p.err
		p.mu.Unlock()
		if p.failed != nil {
			p.failed(err)
		}
		return err
	}
	p.synced = now
	return nil
}

// Close closes the file.
func (p *Placement) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	f := p.file
	p.file = nil
	return f.Close()
}
