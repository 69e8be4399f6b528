package consensus

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
)

// maxSnapshot bounds the image that is read from a snapshot.
const maxSnapshot = 1 << 30

// machine applies the raft log to the Image. Raft calls Apply, Snapshot and
// Restore from one goroutine.
type machine struct {
	image atomic.Pointer[metadata.Image]

	mu        sync.Mutex // held while followers are told; raft's goroutine and Follow take it
	followers []func(*metadata.Image)
	moved     chan struct{} // closed and replaced when the image is
	failed    error         // a command that this node cannot understand: it must not go on
	halt      func(error)
}

// outcome travels from Apply to Propose.
type outcome struct {
	result metadata.Result
	err    error
}

func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return outcome{err: m.failed}
	}
	c, err := metadata.Decode(l.Data)
	if err != nil {
		m.failed = fmt.Errorf("metadata command at index %d: %w", l.Index, err)
		m.halt(m.failed)
		return outcome{err: m.failed}
	}
	next, r := metadata.ApplyAt(m.image.Load(), l.Index, appended(l), c)
	m.publishLocked(next)
	return outcome{result: r}
}

// appended is when the leader appended an entry, in milliseconds since 1970; 0: it did not say.
func appended(l *raft.Log) int64 {
	if l.AppendedAt.IsZero() {
		return 0
	}
	return l.AppendedAt.UnixMilli()
}

// publishLocked tells the followers first: once Image shows a topic, its partitions are there.
func (m *machine) publishLocked(next *metadata.Image) {
	for _, fn := range m.followers {
		fn(next)
	}
	m.image.Store(next)
	close(m.moved)
	m.moved = make(chan struct{})
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return nil, m.failed
	}
	return frozen{m.image.Load()}, nil
}

func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxSnapshot+1))
	if err != nil {
		return err
	}
	if len(b) > maxSnapshot {
		return fmt.Errorf("%w: snapshot over %d bytes", ErrCorrupt, maxSnapshot)
	}
	image, err := metadata.DecodeImage(b)
	if err != nil {
		err = fmt.Errorf("metadata snapshot: %w", err)
		if errors.Is(err, metadata.ErrVersion) { // raft would be sent it again and again
			m.halt(err)
		}
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.publishLocked(image)
	return nil
}

// frozen is an Image on its way into a snapshot; an Image never changes.
type frozen struct{ image *metadata.Image }

func (f frozen) Persist(k raft.SnapshotSink) error {
	if _, err := k.Write(metadata.EncodeImage(f.image)); err != nil {
		_ = k.Cancel() // the first error tells more
		return err
	}
	return k.Close()
}

func (f frozen) Release() {}
