package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/forebayhub/forebay/sinks/internal/files"
)

// maxWrite is how much is handed to the library at once: it copies what it is given before it sends it.
const maxWrite = 1 << 20

// placements is how often a file is begun anew while its first datanode cannot
// be reached: a namenode hands out a dead one for a while, and chooses at random.
const placements = 4

// writer writes one file. After any error the file is worth nothing: the
// library cannot repair a pipeline of datanodes, so the task writes it again from the log.
type writer struct {
	t       *Target
	name    string
	f       *hdfs.FileWriter
	written int64
	failed  error
	done    bool // Close returned nil, or Abort was called
	closing bool
}

// Create makes a file, and the folders above it. A name that is taken, also by a
// file that another writer holds open, is files.ErrExists.
func (t *Target) Create(ctx context.Context, name string) (files.Writer, error) {
	w := &writer{t: t, name: t.abs(name)}
	err := t.do(ctx, "write", name, func(c *hdfs.Client, unsure bool) error {
		err := w.create(c)
		if unsure && errors.Is(err, fs.ErrExist) {
			// An earlier attempt made it, without an answer. Temp names carry the task's id, so it is ours.
			if err := c.Remove(w.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			err = w.create(c)
		}
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create %s: %w", t.where(w.name), files.ErrExists)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (w *writer) create(c *hdfs.Client) error {
	t := w.t
	t.mu.Lock()
	replication, blockSize := t.mu.replication, t.mu.blockSize
	t.mu.Unlock()
	f, err := c.CreateFile(w.name, replication, blockSize, 0o644)
	if errors.Is(err, fs.ErrNotExist) { // HDFS makes no folders on the way
		if err := c.MkdirAll(path.Dir(w.name), 0o755); err != nil {
			return err
		}
		f, err = c.CreateFile(w.name, replication, blockSize, 0o644)
	}
	w.f = f
	return err
}

// Write hands bytes over. Most of what can go wrong shows only in Close.
func (w *writer) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	if w.done {
		return 0, fs.ErrClosed
	}
	total := 0
	for len(p) > 0 {
		chunk := p[:min(len(p), maxWrite)]
		n, err := w.f.Write(chunk)
		for try := 1; err != nil && n == 0 && w.written == 0 && try < placements; try++ {
			n, err = w.again(chunk, try, err)
		}
		total += n
		w.written += int64(n)
		if err != nil {
			return total, w.fail("write", err)
		}
		p = p[n:]
	}
	return total, nil
}

// again begins the file anew, for other datanodes, and writes its first bytes.
func (w *writer) again(chunk []byte, try int, cause error) (int, error) {
	if isNamenodeTrouble(cause) {
		return 0, cause
	}
	pause := backoff{next: time.Duration(try) * 100 * time.Millisecond}
	if err := pause.wait(context.Background()); err != nil {
		return 0, cause
	}
	w.stopStream()
	c, err := w.t.connected()
	if err == nil {
		err = c.Remove(w.name)
	}
	if err == nil {
		err = w.create(c)
	}
	if err != nil {
		return 0, cause
	}
	return w.f.Write(chunk)
}

func (w *writer) fail(op string, err error) error {
	if isNamenodeTrouble(err) || isAnswer(err) {
		w.failed = w.t.explain(op, w.name, err)
	} else {
		w.failed = fmt.Errorf("%s %s: a datanode failed, the file must be written again: %w", op, w.t.where(w.name), err)
	}
	return w.failed
}

// Close stores the file: nil says that the datanodes have acknowledged every byte and
// the namenode has completed the file. It is tried again while blocks are still
// being counted in and while no namenode answers, never after a datanode's failure: then the library's
// second Close would complete a file with less in it.
func (w *writer) Close() error {
	if w.failed != nil {
		return w.failed
	}
	if w.done {
		return fs.ErrClosed
	}
	w.closing = true
	began := time.Now()
	if err := w.f.SetDeadline(began.Add(w.t.opts.CallTimeout)); err != nil {
		return w.fail("close", err)
	}
	var (
		pause backoff
		lost  time.Time // when an answer was last lost
	)
	for {
		err := w.f.Close()
		switch {
		case err == nil:
			w.done = true
			return nil
		case hdfs.IsErrReplicating(err):
			// After a lost answer the library no longer names the last block, and
			// a namenode that had not heard of it counts for ever.
			if !lost.IsZero() && time.Since(lost) > 5*time.Second {
				return w.fail("close", fmt.Errorf("the namenode lost the file's last block: %w", err))
			}
		case isNamenodeTrouble(err):
			lost = time.Now()
		case !lost.IsZero() && isException(err, "LeaseExpiredException"):
			return w.closedBefore(err)
		default:
			return w.fail("close", err)
		}
		if time.Since(began) > w.t.opts.CallTimeout {
			return w.fail("close", err)
		}
		if werr := pause.wait(context.Background()); werr != nil {
			return w.fail("close", werr)
		}
	}
}

// closedBefore looks whether an earlier Close had been carried out although its answer was lost. A
// file that is complete has its full length; an open one lacks its last block's.
func (w *writer) closedBefore(cause error) error {
	c, err := w.t.connected()
	if err != nil {
		return w.fail("close", err)
	}
	info, err := c.Stat(w.name)
	if err != nil || info.Size() != w.written {
		return w.fail("close", errors.Join(cause, err))
	}
	w.done = true
	return nil
}

// Abort gives the file up and removes it, if the namenode answers at once.
func (w *writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.stopStream()
	if c, err := w.t.connected(); err == nil {
		_ = c.Remove(w.name) // the next start sweeps what stays
	}
}

// stopStream ends the library's goroutines for the open block; they end only with a Close.
func (w *writer) stopStream() {
	if w.closing {
		return
	}
	_ = w.f.SetDeadline(time.Now().Add(2 * time.Second)) // datanodeConn keeps it
	_ = w.f.Close()                                      // whatever it did, the file is removed next
}
