// Package hdfs is the sink that leaves files in HDFS, through colinmarc/hdfs: no JVM,
// no libhdfs.
//
// Target is the one place that knows what that library cannot do (DESIGN.md):
// nothing is stored before Close has returned nil; Close may have to be called
// again; a dead datanode costs the whole file, which the task then writes again
// from the log; a rename of files overwrites; nothing has a deadline.
package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/forebayhub/forebay/sinks/internal/files"
)

// Target is a folder in HDFS. It connects at the first use and again whenever
// it must. Its methods may be called concurrently; the namenode is asked one thing at a time.
type Target struct {
	opts   Options
	dialer *dialer

	mu struct {
		sync.Mutex
		client      *hdfs.Client
		replication int
		blockSize   int64
		closed      bool
	}
}

var _ files.Target = (*Target)(nil)

var errClosed = errors.New("hdfs: the target is closed")

// NewTarget makes a Target; nothing is dialled yet.
func NewTarget(o Options) *Target {
	o = o.WithDefaults()
	return &Target{opts: o, dialer: newDialer(o.ConnectTimeout, o.CallTimeout)}
}

// connected returns the client, made at the first use.
func (t *Target) connected() (*hdfs.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil, errClosed
	}
	if t.mu.client == nil {
		c, err := hdfs.NewClient(hdfs.ClientOptions{
			Addresses: t.opts.Namenodes, User: t.opts.User, UseDatanodeHostname: t.opts.UseDatanodeHostname,
			NamenodeDialFunc: t.dialer.namenode, DatanodeDialFunc: t.dialer.datanode,
		})
		if err != nil {
			return nil, err
		}
		t.mu.client = c
	}
	if t.mu.blockSize == 0 { // asked here, under the lock: the library's cache of it is not safe
		d, err := t.mu.client.ServerDefaults()
		if err != nil {
			return nil, err
		}
		t.mu.replication, t.mu.blockSize = t.opts.Replication, t.opts.blockSize(d.BlockSize)
		if t.mu.replication == 0 {
			t.mu.replication = d.Replication
		}
	}
	return t.mu.client, nil
}

// do runs an operation, and again while no namenode answers. unsure tells the
// operation that an earlier attempt may have been carried out without an answer.
func (t *Target) do(ctx context.Context, op, name string, f func(c *hdfs.Client, unsure bool) error) error {
	return t.doFor(ctx, t.opts.RetryFor, op, name, f)
}

func (t *Target) doFor(ctx context.Context, retryFor time.Duration, op, name string, f func(c *hdfs.Client, unsure bool) error) error {
	began, unsure := time.Now(), false
	var pause backoff
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := t.connected()
		if errors.Is(err, errClosed) {
			return err
		}
		if err == nil {
			if err = f(c, unsure); err == nil {
				return nil
			}
			unsure = unsure || !isAnswer(err)
		}
		if isAnswer(err) || !isNamenodeTrouble(err) || time.Since(began) >= retryFor {
			return t.explain(op, t.abs(name), err)
		}
		if werr := pause.wait(ctx); werr != nil {
			if errors.Is(werr, context.DeadlineExceeded) {
				return t.explain(op, t.abs(name), err) // what was waited for says more
			}
			return werr
		}
	}
}

func (t *Target) abs(name string) string { return path.Join(t.opts.Root, name) }

// MkdirAll makes a folder and those above it.
func (t *Target) MkdirAll(ctx context.Context, dir string) error {
	return t.do(ctx, "make", dir, func(c *hdfs.Client, _ bool) error { return c.MkdirAll(t.abs(dir), 0o755) })
}

// RenameDir moves a folder onto a free name. A namenode renames under its
// write lock and refuses a folder that is not empty, so this is a compare-and-set (invariant 7 rests on it).
//
// When the answer was lost, the folder that is gone from its old place was moved by this call or swept
// by somebody else: the error says so, and the caller must look at what stands there.
func (t *Target) RenameDir(ctx context.Context, from, to string) error {
	if err := t.MkdirAll(ctx, path.Dir(to)); err != nil {
		return err
	}
	return t.do(ctx, "rename", from, func(c *hdfs.Client, unsure bool) error {
		err := c.Rename(t.abs(from), t.abs(to))
		if err == nil || isNamenodeTrouble(err) {
			return err
		}
		if unsure && errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rename %s: whether it was carried out is not known: the connection broke, and now it is gone: %w", t.abs(from), err)
		}
		// The refusal is a bare java.io.IOException; what stands there tells why.
		there, rerr := c.ReadDir(t.abs(to))
		if rerr == nil && len(there) > 0 {
			return fmt.Errorf("rename %s to %s: %w", t.abs(from), t.abs(to), files.ErrExists)
		}
		if rerr != nil && isNamenodeTrouble(rerr) {
			return rerr
		}
		return err
	})
}

// RenameFile moves a file and replaces what was there.
func (t *Target) RenameFile(ctx context.Context, from, to string) error {
	return t.do(ctx, "rename", from, func(c *hdfs.Client, unsure bool) error {
		err := c.Rename(t.abs(from), t.abs(to))
		if err != nil && errors.Is(err, fs.ErrNotExist) {
			_, serr := c.Stat(t.abs(from))
			switch {
			case serr == nil: // the folder to move into is missing
				if merr := c.MkdirAll(path.Dir(t.abs(to)), 0o755); merr != nil {
					return merr
				}
				return c.Rename(t.abs(from), t.abs(to))
			case unsure && errors.Is(serr, fs.ErrNotExist): // moved, and the answer was lost?
				_, err = c.Stat(t.abs(to))
				return err
			case !errors.Is(serr, fs.ErrNotExist):
				return serr
			}
		}
		return err
	})
}

// ReadDir lists a folder, sorted by name.
func (t *Target) ReadDir(ctx context.Context, dir string) ([]files.Entry, error) {
	var list []files.Entry
	err := t.do(ctx, "list", dir, func(c *hdfs.Client, _ bool) error {
		infos, err := c.ReadDir(t.abs(dir))
		if err != nil {
			return err
		}
		list = make([]files.Entry, 0, len(infos))
		for _, i := range infos {
			list = append(list, files.Entry{Name: i.Name(), Dir: i.IsDir(), Size: i.Size()})
		}
		return nil
	})
	return list, err
}

// Stat describes a name. A file that is still being written has the size of its finished blocks.
func (t *Target) Stat(ctx context.Context, name string) (files.Entry, error) {
	var e files.Entry
	err := t.do(ctx, "stat", name, func(c *hdfs.Client, _ bool) error {
		i, err := c.Stat(t.abs(name))
		if err == nil {
			e = files.Entry{Name: path.Base(name), Dir: i.IsDir(), Size: i.Size()}
		}
		return err
	})
	return e, err
}

// Remove removes a file, also one that a dead writer holds open, or a whole folder.
func (t *Target) Remove(ctx context.Context, name string) error {
	if strings.Trim(path.Clean(name), "/.") == "" {
		return fmt.Errorf("remove %q: that is the sink's own folder", name)
	}
	return t.do(ctx, "remove", name, func(c *hdfs.Client, _ bool) error { return c.RemoveAll(t.abs(name)) })
}

// Close ends the connection. Files that are still open lose their lease and are nobody's.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil
	}
	t.mu.closed = true
	if t.mu.client == nil {
		return nil
	}
	err := t.mu.client.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
