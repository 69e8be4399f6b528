package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Memory is a file system in memory. As a Crash it also remembers what has been
// synced, and can say what a power cut would leave.
type Memory struct {
	mu       sync.Mutex
	root     *node
	track    bool // remember what is not synced
	capacity int64
	used     int64
	locks    map[string]bool
}

// node is a file or a folder. The fields after "durable" are kept by a tracking Memory only.
type node struct {
	dir     bool
	mode    fs.FileMode
	mod     time.Time
	data    []byte           // a file's content
	entries map[string]*node // a folder's content

	synced  []byte           // durable: a file's content at its last Sync
	pending []fileOp         // what happened since
	durable map[string]*node // durable: a folder's entries at its last SyncDir
	dirOps  []dirOp          // what happened since
}

// NewMemory makes an empty file system that forgets nothing.
func NewMemory() *Memory {
	return &Memory{root: newDir(), locks: map[string]bool{}}
}

// SetCapacity makes the disk n bytes large: writes beyond it fail with ENOSPC after
// what fits was written, like a real one. Zero is unlimited.
func (m *Memory) SetCapacity(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = n
}

// Used is the bytes that are written.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func newDir() *node {
	return &node{dir: true, mode: fs.ModeDir | 0o755, mod: time.Now(), entries: map[string]*node{}, durable: map[string]*node{}}
}

func split(name string) []string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// find walks to a node; mu is held.
func (m *Memory) find(name string) (*node, error) {
	n := m.root
	for _, part := range split(name) {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		next := n.entries[part]
		if next == nil {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

// parent finds the folder of name and its last part; mu is held.
func (m *Memory) parent(name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	d, err := m.find(strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !d.dir {
		return nil, "", syscall.ENOTDIR
	}
	return d, parts[len(parts)-1], nil
}

// set changes an entry and remembers that it is not synced; a nil child removes. mu is held.
func (m *Memory) set(d *node, name string, child *node) {
	m.setAll(d, map[string]*node{name: child})
}

func (m *Memory) setAll(d *node, change map[string]*node) {
	for name, child := range change {
		if child == nil {
			delete(d.entries, name)
		} else {
			d.entries[name] = child
		}
	}
	if m.track {
		d.dirOps = append(d.dirOps, dirOp{change})
	}
}

// OpenFile opens or creates a file.
func (m *Memory) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parent(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	n := d.entries[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n == nil:
		n = &node{mode: perm, mod: time.Now()}
		m.set(d, base, n)
	case n.dir:
		return nil, pathError("open", name, syscall.EISDIR)
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, pathError("open", name, fs.ErrExist)
	}
	if flag&os.O_TRUNC != 0 {
		m.truncate(n, 0)
	}
	return &memFile{m: m, n: n, name: name, write: flag&(os.O_RDWR|os.O_WRONLY) != 0}, nil
}

// MkdirAll makes a folder and those above it.
func (m *Memory) MkdirAll(dir string, _ os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range split(dir) {
		next := n.entries[part]
		if next == nil {
			next = newDir()
			m.set(n, part, next)
		}
		if !next.dir {
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
		n = next
	}
	return nil
}

// Remove removes a file or an empty folder.
func (m *Memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	n := d.entries[base]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if n.dir && len(n.entries) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.used -= int64(len(n.data))
	m.set(d, base, nil)
	return nil
}

// RemoveAll removes a folder with all that is in it.
func (m *Memory) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.parent(name)
	if err != nil {
		return nil // what is not there is removed
	}
	if n := d.entries[base]; n != nil {
		m.used -= n.size()
		m.set(d, base, nil)
	}
	return nil
}

func (n *node) size() int64 {
	total := int64(len(n.data))
	for _, e := range n.entries {
		total += e.size()
	}
	return total
}

// Rename replaces newname.
func (m *Memory) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	od, ob, err := m.parent(oldname)
	if err != nil {
		return pathError("rename", oldname, err)
	}
	nd, nb, err := m.parent(newname)
	if err != nil {
		return pathError("rename", newname, err)
	}
	n := od.entries[ob]
	if n == nil {
		return pathError("rename", oldname, fs.ErrNotExist)
	}
	if old := nd.entries[nb]; old != nil && old != n {
		if old.dir && (!n.dir || len(old.entries) > 0) {
			return pathError("rename", newname, syscall.ENOTEMPTY)
		}
		m.used -= int64(len(old.data))
	}
	switch {
	case od == nd && ob == nb:
	case od == nd: // one step, also for a power cut
		m.setAll(od, map[string]*node{ob: nil, nb: n})
	default:
		m.set(nd, nb, n)
		m.set(od, ob, nil)
	}
	return nil
}

// ReadDir lists a folder by name.
func (m *Memory) ReadDir(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.find(dir)
	if err == nil && !d.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", dir, err)
	}
	list := make([]fs.DirEntry, 0, len(d.entries))
	for name, n := range d.entries {
		list = append(list, fs.FileInfoToDirEntry(n.info(name)))
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name() < list[j].Name() })
	return list, nil
}

// Stat describes a file.
func (m *Memory) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(path.Base(name)), nil
}

// SyncDir makes the folder's entries durable.
func (m *Memory) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.find(dir)
	if err != nil {
		return pathError("sync", dir, err)
	}
	d.applyDirOps(len(d.dirOps))
	return nil
}

// Lock takes a lock that this Memory knows; a clone after a crash has none.
func (m *Memory) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, lockedError(name, "")
	}
	m.locks[name] = true
	return &memLock{m: m, name: name}, nil
}

type memLock struct {
	m    *Memory
	name string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// Usage is the capacity and what of it is left; without a capacity, a terabyte.
func (m *Memory) Usage(string) (free, total uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.capacity == 0 {
		return 1 << 40, 1 << 40, nil
	}
	return uint64(max(m.capacity-m.used, 0)), uint64(m.capacity), nil
}

// memInfo is a FileInfo.
type memInfo struct {
	name string
	size int64
	mode fs.FileMode
	mod  time.Time
}

func (n *node) info(name string) memInfo {
	return memInfo{name: name, size: int64(len(n.data)), mode: n.mode, mod: n.mod}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return i.mod }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) String() string     { return fmt.Sprintf("%s %d", i.name, i.size) }
