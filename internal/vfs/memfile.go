package vfs

import (
	"io"
	"io/fs"
	"syscall"
	"time"
)

// memFile is an open file of a Memory. It outlives its name, as on Unix.
type memFile struct {
	m      *Memory
	n      *node
	name   string
	write  bool
	closed bool
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) ready(op string, write bool) error {
	if f.closed {
		return pathError(op, f.name, fs.ErrClosed)
	}
	if write && !f.write {
		return pathError(op, f.name, syscall.EBADF)
	}
	return nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.ready("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.ready("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.name, fs.ErrInvalid)
	}
	var full error
	if grow := off + int64(len(b)) - int64(len(f.n.data)); f.m.capacity > 0 && grow > 0 {
		if room := max(f.m.capacity-f.m.used, 0); grow > room {
			full = pathError("write", f.name, syscall.ENOSPC)
			b = b[:max(int64(len(b))-(grow-room), 0)]
		}
	}
	if len(b) > 0 {
		before := len(f.n.data)
		f.n.data = writeAt(f.n.data, b, off)
		f.m.used += int64(len(f.n.data) - before)
		f.n.mod = time.Now()
		if f.m.track {
			f.n.pending = append(f.n.pending, fileOp{off: off, data: append([]byte(nil), b...)})
		}
	}
	return len(b), full
}

func writeAt(data, b []byte, off int64) []byte {
	end := off + int64(len(b))
	if grow := end - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[off:], b)
	return data
}

func truncateTo(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// truncate changes a file's size; mu is held.
func (m *Memory) truncate(n *node, size int64) {
	m.used += size - int64(len(n.data))
	n.data = truncateTo(n.data, size)
	n.mod = time.Now()
	if m.track {
		n.pending = append(n.pending, fileOp{off: size, truncate: true})
	}
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.ready("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, fs.ErrInvalid)
	}
	f.m.truncate(f.n, size)
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.ready("sync", false); err != nil {
		return err
	}
	for _, op := range f.n.pending {
		f.n.synced = op.apply(f.n.synced)
	}
	f.n.pending = nil
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.ready("stat", false); err != nil {
		return nil, err
	}
	return f.n.info(f.name), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.ready("close", false); err != nil {
		return err
	}
	f.closed = true
	return nil
}
