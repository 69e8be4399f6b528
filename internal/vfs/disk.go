package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk is the operating system's file system.
type Disk struct{}

// diskFile is a file of the Disk.
type diskFile struct{ *os.File }

// OSFile is for sendfile; see OSFile.
func (f diskFile) OSFile() *os.File { return f.File }

// OpenFile opens or creates a file. os.OpenFile would first try whether the poller takes the descriptor, which are five
// system calls for a regular file that it never takes.
func (Disk) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	for {
		fd, err := unix.Open(name, flag|unix.O_CLOEXEC, uint32(perm.Perm()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return diskFile{os.NewFile(uintptr(fd), name)}, nil
	}
}

// MkdirAll makes a folder and those above it.
func (Disk) MkdirAll(dir string, perm os.FileMode) error { return os.MkdirAll(dir, perm) }

// Remove removes a file or an empty folder.
func (Disk) Remove(name string) error { return os.Remove(name) }

// RemoveAll removes a folder with all that is in it.
func (Disk) RemoveAll(path string) error { return os.RemoveAll(path) }

// Rename replaces newname.
func (Disk) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// ReadDir lists a folder by name.
func (Disk) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

// Stat describes a file.
func (Disk) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// SyncDir fsyncs the folder itself.
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// lockFile is a held lock; closing frees it.
type lockFile struct{ *os.File }

// Lock takes flock(2) on name. The lock belongs to the open file, so a killed process
// frees it. The file is left in place: removing it would let two holders lock two inodes.
func (Disk) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0) // only words for the message
		_ = f.Close()               // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, lockedError(name, strings.TrimSpace(string(holder[:n])))
		}
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	// The pid is for people; the lock is the flock.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid()) // a full disk must not keep us from starting
	}
	return lockFile{f}, nil
}

// ErrLocked is what Lock's error is when another process holds the lock.
var ErrLocked = errors.New("locked by another process")

func lockedError(name, holder string) error {
	if holder != "" {
		return fmt.Errorf("%s: %w (pid %s)", name, ErrLocked, holder)
	}
	return fmt.Errorf("%s: %w", name, ErrLocked)
}

// Usage asks the nearest folder that exists at or above path.
func (Disk) Usage(path string) (free, total uint64, err error) {
	for {
		var st unix.Statfs_t
		err = unix.Statfs(path, &st)
		if err == nil {
			size := uint64(st.Bsize)
			return uint64(st.Bavail) * size, st.Blocks * size, nil //nolint:unconvert // signed on other systems
		}
		up := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || up == path {
			return 0, 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
		}
		path = up
	}
}
