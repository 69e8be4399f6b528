package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// MkdirAllSync makes dir and what is missing above it, and makes each new
// folder's entry durable. A folder that is not synced into its parent is lost in a power cut
// with all that was synced inside it.
func MkdirAllSync(f FS, dir string, perm os.FileMode) error {
	dir = path.Clean(dir)
	var parents []string
	for d := dir; ; {
		_, err := f.Stat(d)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		up := path.Dir(d)
		parents = append(parents, up)
		if up == d {
			break
		}
		d = up
	}
	if err := f.MkdirAll(dir, perm); err != nil {
		return err
	}
	for i := len(parents) - 1; i >= 0; i-- {
		if err := f.SyncDir(parents[i]); err != nil {
			return err
		}
	}
	return nil
}

// ReadFile reads a whole file of at most limit bytes; a longer one is an error,
// so that a damaged or foreign file cannot take the memory.
func ReadFile(f FS, name string, limit int64) ([]byte, error) {
	file, err := f.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read only
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("file is larger than expected")}
	}
	b := make([]byte, st.Size())
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// SyncDir makes a folder's names durable where a failure would be final: it waits for a descriptor, for 10 s at most.
func SyncDir(f FS, dir string) (err error) {
	for range 200 {
		if err = f.SyncDir(dir); !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// WriteFile replaces a file as a whole: it writes name.tmp and renames it. With
// sync the new content is durable when it returns; without, a power cut leaves the old content, the new one, or
// (on file systems that order a rename before the data) a damaged one, so the content must carry a checksum.
func WriteFile(f FS, name string, b []byte, sync bool) error {
	tmp := name + ".tmp"
	file, err := f.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(b, 0)
	if err == nil && sync {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = f.Rename(tmp, name)
	}
	if err != nil {
		_ = f.Remove(tmp) // the first error is the one to report
		return err
	}
	if sync {
		return f.SyncDir(path.Dir(name))
	}
	return nil
}
