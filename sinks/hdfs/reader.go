package hdfs

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/colinmarc/hdfs/v2"

	"github.com/forebayhub/forebay/sinks/internal/files"
)

// reader reads a finished file. The library keeps one connection and one place
// per file, so ReadAt calls take turns; one right behind the last costs no new connection.
type reader struct {
	t    *Target
	name string
	size int64

	mu   sync.Mutex
	f    *hdfs.FileReader
	next int64 // where Read goes on
	at   int64 // where f stands
}

// Open opens a file for reading.
func (t *Target) Open(ctx context.Context, name string) (files.Reader, error) {
	r := &reader{t: t, name: name}
	err := t.do(ctx, "read", name, func(c *hdfs.Client, _ bool) error {
		f, err := c.Open(t.abs(name))
		if err == nil {
			r.f, r.size = f, f.Stat().Size()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *reader) Size() int64 { return r.size }

func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.readAt(p, r.next)
	r.next += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readAt(p, off)
}

func (r *reader) readAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	n := 0
	err := r.t.do(context.Background(), "read", r.name, func(c *hdfs.Client, again bool) error {
		if r.f == nil { // the last attempt broke it
			f, err := c.Open(r.t.abs(r.name))
			if err != nil {
				return err
			}
			r.f, r.at = f, 0
		}
		if r.at != off {
			if _, err := r.f.Seek(off, io.SeekStart); err != nil {
				return err
			}
		}
		var err error
		n, err = io.ReadFull(r.f, p[:min(int64(len(p)), r.size-off)])
		r.at = off + int64(n)
		if err != nil {
			_ = r.f.Close() // a new one is opened for the next attempt
			r.f = nil
		}
		return err
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}
