// Package files is what every sink that leaves files behind shares: partition
// directories, rotation, encoders, and the commit that makes files appear exactly once.
package files

import (
	"context"
	"errors"
	"io"
)

// ErrExists says that a rename found a non-empty folder, or a create a file, in its place.
var ErrExists = errors.New("exists already")

// Target is the file system that files land in: a local directory, HDFS. Names
// are slash-separated and relative to the sink's url. A missing name satisfies errors.Is(err, fs.ErrNotExist).
// All methods may be called concurrently.
type Target interface {
	// Create makes a file and its folders; what was written counts once Close has returned nil.
	Create(ctx context.Context, name string) (Writer, error)
	Open(ctx context.Context, name string) (Reader, error)
	MkdirAll(ctx context.Context, dir string) error
	// RenameDir moves a folder onto a free name, atomically: of two that race for
	// one name exactly one wins, and the other gets ErrExists. It is the commit.
	RenameDir(ctx context.Context, from, to string) error
	// RenameFile moves a file and replaces what was there.
	RenameFile(ctx context.Context, from, to string) error
	ReadDir(ctx context.Context, dir string) ([]Entry, error) // sorted by name
	Stat(ctx context.Context, name string) (Entry, error)
	// Remove removes a file or a whole folder; a missing one is no error.
	Remove(ctx context.Context, name string) error
	Close() error
}

// Entry is one name in a folder.
type Entry struct {
	Name string // without the folder
	Dir  bool
	Size int64
}

// Writer writes one file from front to back. Abort gives it up; it may be called after Close.
type Writer interface {
	io.Writer
	Close() error
	Abort()
}

// Reader reads a committed file.
type Reader interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64
}
