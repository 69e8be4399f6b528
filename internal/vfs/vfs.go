// Package vfs is the file system under everything in Forebay that writes: the
// disk, memory for tests, a disk that forgets what was not synced when it
// crashes, and one that fails on demand.
//
// Names are slash-separated paths. Errors satisfy errors.Is with fs.ErrNotExist
// and fs.ErrExist. All methods may be called concurrently.
package vfs

import (
	"io"
	"io/fs"
	"os"
)

// FS is a file system.
type FS interface {
	// OpenFile takes the flags of package os (O_RDONLY, O_RDWR, O_CREATE, O_EXCL, O_TRUNC; not O_APPEND).
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	MkdirAll(dir string, perm os.FileMode) error
	Remove(name string) error
	RemoveAll(path string) error
	// Rename replaces newname; durable only after SyncDir of both folders.
	Rename(oldname, newname string) error
	ReadDir(dir string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// Lock takes the exclusive lock file name, which the process's end frees; a
	// lock that is held elsewhere is an error that says so.
	Lock(name string) (io.Closer, error)
	// Usage is the file system that holds path, in bytes.
	Usage(path string) (free, total uint64, err error)
}

// File is an open file. WriteAt and Truncate are durable only after Sync.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync is fdatasync. An error is final: what it was to make durable may be lost
	// even if a later Sync succeeds.
	Sync() error
	Stat() (fs.FileInfo, error)
	Name() string
}

// OSFile gives the file behind f for sendfile; nil when there is none (memory, crash).
func OSFile(f File) *os.File {
	if o, ok := f.(interface{ OSFile() *os.File }); ok {
		return o.OSFile()
	}
	return nil
}

// DropCache lets go of what the page cache has of n bytes of f, 0: all behind from; not of what is still to be written. The next read of them is the disk's. It is a
// wish: where the system does not know it, nothing happens.
func DropCache(f File, from, n int64) {
	if o := OSFile(f); o != nil {
		dropCache(o, from, n)
	}
}
