package vfs

import (
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"sync"
)

// Op names an operation for a Rule.
type Op string

// Operations that a Rule can meet.
const (
	OpOpen     Op = "open"
	OpMkdir    Op = "mkdir"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpReadDir  Op = "readdir"
	OpStat     Op = "stat"
	OpSyncDir  Op = "syncdir"
	OpUsage    Op = "usage"
	OpLock     Op = "lock"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpClose    Op = "close"
)

// Rule makes operations fail.
type Rule struct {
	Op    Op     // empty: every operation
	Path  string // a path.Match pattern for the last part of the name, or a part of the whole name; empty: every path
	After int    // let this many matches pass first
	Count int    // then fail this many; 0: all that follow
	Err   error
	Keep  int // bytes that a failing write writes before it fails
}

// Fault is a file system that fails on demand.
type Fault struct {
	FS
	mu    sync.Mutex
	rules []*rule
	hook  func(op Op, name string)
}

type rule struct {
	Rule
	met int
}

// NewFault wraps a file system; it fails nothing until Inject is called.
func NewFault(f FS) *Fault { return &Fault{FS: f} }

// Inject adds a rule; remove takes it away again.
func (f *Fault) Inject(r Rule) (remove func()) {
	own := &rule{Rule: r}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, own)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, other := range f.rules {
			if other == own {
				f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
				return
			}
		}
	}
}

// Hook calls fn before every operation, with no lock held. Set it before the file system is used.
func (f *Fault) Hook(fn func(op Op, name string)) { f.hook = fn }

func (f *Fault) check(op Op, name string) (keep int, err error) {
	if f.hook != nil {
		f.hook(op, name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.Op != "" && r.Op != op || !r.matches(name) {
			continue
		}
		r.met++
		if r.met <= r.After || r.Count > 0 && r.met > r.After+r.Count {
			continue
		}
		return r.Keep, &fs.PathError{Op: string(op), Path: name, Err: r.Err}
	}
	return 0, nil
}

func (r *rule) matches(name string) bool {
	if r.Path == "" || strings.Contains(name, r.Path) {
		return true
	}
	ok, err := path.Match(r.Path, path.Base(name))
	return ok && err == nil
}

func (f *Fault) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	if _, err := f.check(OpOpen, name); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, f: f}, nil
}

func (f *Fault) MkdirAll(dir string, perm os.FileMode) error {
	if _, err := f.check(OpMkdir, dir); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir, perm)
}

func (f *Fault) Remove(name string) error {
	if _, err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *Fault) RemoveAll(name string) error {
	if _, err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

func (f *Fault) Rename(oldname, newname string) error {
	if _, err := f.check(OpRename, newname); err != nil {
		return err
	}
	return f.FS.Rename(oldname, newname)
}

func (f *Fault) ReadDir(dir string) ([]fs.DirEntry, error) {
	if _, err := f.check(OpReadDir, dir); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(dir)
}

func (f *Fault) Stat(name string) (fs.FileInfo, error) {
	if _, err := f.check(OpStat, name); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

func (f *Fault) SyncDir(dir string) error {
	if _, err := f.check(OpSyncDir, dir); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

func (f *Fault) Lock(name string) (io.Closer, error) {
	if _, err := f.check(OpLock, name); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

func (f *Fault) Usage(name string) (free, total uint64, err error) {
	if _, err := f.check(OpUsage, name); err != nil {
		return 0, 0, err
	}
	return f.FS.Usage(name)
}

// faultFile is an open file of a Fault.
type faultFile struct {
	File
	f *Fault
}

// OSFile keeps sendfile away: its reads could not be made to fail.
func (f *faultFile) OSFile() *os.File { return nil }

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	if _, err := f.f.check(OpRead, f.Name()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	if keep, err := f.f.check(OpWrite, f.Name()); err != nil {
		n, werr := f.File.WriteAt(b[:min(keep, len(b))], off)
		if werr != nil {
			err = werr
		}
		return n, err
	}
	return f.File.WriteAt(b, off)
}

func (f *faultFile) Truncate(size int64) error {
	if _, err := f.f.check(OpTruncate, f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Sync() error {
	if _, err := f.f.check(OpSync, f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultFile) Close() error {
	if _, err := f.f.check(OpClose, f.Name()); err != nil {
		_ = f.File.Close() // the injected error is the one to report
		return err
	}
	return f.File.Close()
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
