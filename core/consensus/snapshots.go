package consensus

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/internal/vfs"
)

// snapshots keeps the newest snapshots of the Image, each in one file:
//
//	"FBRAFTS" version(1) length(4) meta as JSON(length) data… crc32c(4)
//
// Big-endian; the CRC covers everything before it. A file is written beside its name and renamed
// when it is whole and synced, so a file of that name is whole unless a disk has changed it; then it is refused, never
// skipped: an older state would undo what was agreed (invariant 8's lesson).
type snapshots struct {
	fs  vfs.FS
	dir string
}

const (
	snapshotMagic   = "FBRAFTS"
	snapshotVersion = 1
	snapshotPrefix  = "snapshot-"
	keepSnapshots   = 2
)

func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	m := raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%s%020d-%020d", snapshotPrefix, term, index),
		Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}
	return &sink{s: s, meta: m}, nil
}

func (s *snapshots) names() ([]string, error) {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), snapshotPrefix) && !strings.HasSuffix(e.Name(), ".new") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

// List gives the newest first.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var metas []*raft.SnapshotMeta
	for _, n := range names {
		m, _, err := s.read(n)
		if err != nil {
			return nil, err
		}
		metas = append(metas, m)
	}
	return metas, nil
}

func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, data, err := s.read(id)
	if err != nil {
		return nil, nil, err
	}
	return m, io.NopCloser(bytes.NewReader(data)), nil
}

func (s *snapshots) read(name string) (*raft.SnapshotMeta, []byte, error) {
	f, err := s.fs.OpenFile(path.Join(s.dir, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	m, data, err := decodeSnapshot(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return m, data, nil
}

func decodeSnapshot(b []byte) (*raft.SnapshotMeta, []byte, error) {
	head := len(snapshotMagic) + 1
	if len(b) < head+8 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, nil, fmt.Errorf("%w: no snapshot header", ErrCorrupt)
	}
	if v := b[len(snapshotMagic)]; v != snapshotVersion {
		return nil, nil, fmt.Errorf("%w: snapshot version %d, this program knows %d", ErrVersion, v, snapshotVersion)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, nil, fmt.Errorf("%w: snapshot CRC differs", ErrCorrupt)
	}
	n := binary.BigEndian.Uint32(body[head:])
	rest := body[head+4:]
	if uint64(n) > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("%w: snapshot header length", ErrCorrupt)
	}
	m := &raft.SnapshotMeta{}
	if err := json.Unmarshal(rest[:n], m); err != nil {
		return nil, nil, fmt.Errorf("%w: snapshot header: %w", ErrCorrupt, err)
	}
	data := rest[n:]
	m.Size = int64(len(data))
	return m, data, nil
}

// sink collects a snapshot in memory and writes it at Close: an Image is small.
type sink struct {
	s    *snapshots
	meta raft.SnapshotMeta
	buf  bytes.Buffer
	done bool
}

func (k *sink) ID() string                  { return k.meta.ID }
func (k *sink) Write(b []byte) (int, error) { return k.buf.Write(b) }
func (k *sink) Cancel() error               { k.done = true; return nil }

func (k *sink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	meta, err := json.Marshal(k.meta)
	if err != nil {
		return err
	}
	b := append([]byte(snapshotMagic), snapshotVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(meta)))
	b = append(append(b, meta...), k.buf.Bytes()...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if err := writeFile(k.s.fs, k.s.dir, k.meta.ID, b); err != nil {
		return err
	}
	return k.s.prune()
}

// sweep removes what was being written when a process before this one ended.
func (s *snapshots) sweep() error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), snapshotPrefix) && strings.HasSuffix(e.Name(), ".new") {
			if err := s.fs.Remove(path.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// prune removes all but the newest snapshots.
func (s *snapshots) prune() error {
	names, err := s.names()
	if err != nil {
		return err
	}
	for i, n := range names {
		if i >= keepSnapshots {
			if err := s.fs.Remove(path.Join(s.dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeFile writes dir/name whole or not at all.
func writeFile(fsys vfs.FS, dir, name string, b []byte) error {
	full := path.Join(dir, name)
	f, err := fsys.OpenFile(full+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(full+".new", full)
	}
	if err != nil {
		_ = fsys.Remove(full + ".new") // the first error tells more
		return err
	}
	return fsys.SyncDir(dir)
}
