package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"sync"
	"syscall"

	"github.com/forebayhub/forebay/internal/vfs"
)

// Local is a Target in a directory. It is power-safe: a file counts once it and
// its folder are synced, and a rename once both folders are.
type Local struct {
	fs   vfs.FS
	root string

	mu     sync.Mutex
	synced map[string]bool // folders whose way down from the root is durable
}

// maxSyncedDirs bounds the memory of folders; beyond it they are synced once more.
const maxSyncedDirs = 4096

// NewLocal makes a target in the directory root of fsys; Create makes root when it is missing.
func NewLocal(fsys vfs.FS, root string) *Local {
	return &Local{fs: fsys, root: path.Clean(root), synced: map[string]bool{}}
}

func (l *Local) abs(name string) string { return path.Join(l.root, name) }

// MkdirAll makes a folder and the entries that lead to it durable. It syncs
// folders that were there already too: who made them may have died before it could.
func (l *Local) MkdirAll(_ context.Context, dir string) error {
	dir = path.Clean("/" + dir)[1:]
	l.mu.Lock()
	known := l.synced[dir]
	l.mu.Unlock()
	if known {
		_, err := l.fs.Stat(l.abs(dir))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := vfs.MkdirAllSync(l.fs, l.root, 0o755); err != nil {
		return err
	}
	if err := l.fs.MkdirAll(l.abs(dir), 0o755); err != nil {
		return err
	}
	for d := dir; d != "" && d != "."; {
		d = path.Dir(d)
		if err := l.fs.SyncDir(l.abs(d)); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.synced) >= maxSyncedDirs {
		clear(l.synced)
	}
	l.synced[dir] = true
	return nil
}

// Create makes a file that is not there yet.
func (l *Local) Create(ctx context.Context, name string) (Writer, error) {
	if err := l.MkdirAll(ctx, path.Dir(name)); err != nil {
		return nil, err
	}
	f, err := l.fs.OpenFile(l.abs(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create %s: %w", l.abs(name), ErrExists)
	}
	if err != nil {
		return nil, err
	}
	return &localWriter{l: l, f: f, name: l.abs(name)}, nil
}

type localWriter struct {
	l      *Local
	f      vfs.File
	name   string
	off    int64
	closed bool
}

func (w *localWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.off)
	w.off += int64(n)
	return n, err
}

// Close makes the content and the name durable.
func (w *localWriter) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	err := w.f.Sync()
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return w.l.fs.SyncDir(path.Dir(w.name))
}

func (w *localWriter) Abort() {
	if !w.closed {
		w.closed = true
		_ = w.f.Close() // the content is given up
	}
	_ = w.l.fs.Remove(w.name) // a leftover is swept by the next task
}

type localReader struct {
	vfs.File
	size, off int64
}

func (r *localReader) Size() int64 { return r.size }

func (r *localReader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Open opens a file for reading.
func (l *Local) Open(_ context.Context, name string) (Reader, error) {
	f, err := l.fs.OpenFile(l.abs(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close() // the first error is the one to report
		return nil, err
	}
	return &localReader{File: f, size: st.Size()}, nil
}

// RenameDir relies on rename(2), which refuses a target folder that is not empty.
func (l *Local) RenameDir(_ context.Context, from, to string) error {
	switch err := l.fs.Rename(l.abs(from), l.abs(to)); {
	case errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("rename %s to %s: %w", l.abs(from), l.abs(to), ErrExists)
	case err != nil:
		return err
	}
	return l.syncParents(from, to)
}

// RenameFile moves a file.
func (l *Local) RenameFile(_ context.Context, from, to string) error {
	if err := l.fs.Rename(l.abs(from), l.abs(to)); err != nil {
		return err
	}
	return l.syncParents(from, to)
}

// syncParents makes a rename durable: the new name first, so that no moment has neither.
func (l *Local) syncParents(from, to string) error {
	f, t := path.Dir(l.abs(from)), path.Dir(l.abs(to))
	if err := l.fs.SyncDir(t); err != nil || f == t {
		return err
	}
	return l.fs.SyncDir(f)
}

// ReadDir lists a folder, sorted by name.
func (l *Local) ReadDir(_ context.Context, dir string) ([]Entry, error) {
	des, err := l.fs.ReadDir(l.abs(dir))
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(des))
	for _, d := range des {
		e := Entry{Name: d.Name(), Dir: d.IsDir()}
		if !e.Dir {
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			e.Size = info.Size()
		}
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Stat describes one name.
func (l *Local) Stat(_ context.Context, name string) (Entry, error) {
	st, err := l.fs.Stat(l.abs(name))
	if err != nil {
		return Entry{}, err
	}
	return Entry{Name: st.Name(), Dir: st.IsDir(), Size: st.Size()}, nil
}

// Remove removes a file or a folder with all that is in it.
func (l *Local) Remove(_ context.Context, name string) error {
	if err := l.fs.RemoveAll(l.abs(name)); err != nil {
		return err
	}
	err := l.fs.SyncDir(path.Dir(l.abs(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close does nothing: a Local holds no file open between calls.
func (l *Local) Close() error { return nil }
