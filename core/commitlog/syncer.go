package commitlog

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/internal/metrics"
	"github.com/forebayhub/forebay/internal/vfs"
)

// defaultParallel is the fdatasyncs that may run at once. docs/adr/0001-fsync.md has the figures.
const defaultParallel = 16

// Syncer makes logs durable by group commit: a bounded pool of fdatasyncs that
// takes every dirty log at once. One per data directory. A log is in the queue at most once, so the queue is bounded
// by the number of logs; appends that arrive while a log's sync runs share the next one. Its goroutines exist only
// while there is something to do.
type Syncer struct {
	parallel int
	stepped  bool // Step works, and no goroutine
	failed   func(error)

	mu      sync.Mutex
	queue   []syncable
	states  map[syncable]syncState
	workers int
	idle    *sync.Cond // signalled when a sync or a goroutine ends
	err     error      // the first failed sync: final
	late    []func()   // see after
	tidying bool       // a goroutine does it

	syncs metrics.Latency // of whole logs: their segments, and the folder where it is new

	most     int64        // mostUnsynced, less in tests
	unsynced atomic.Int64 // bytes that its logs have written since their last syncs

	space space
}

// mostUnsynced is how much the logs of a directory in Relaxed leave to the kernel: a thirteenth of the memory. From a tenth on, by its defaults,
// the kernel writes all the time, and soon it makes writers wait.
var mostUnsynced = sync.OnceValue(func() int64 {
	text, _ := os.ReadFile("/proc/meminfo") // elsewhere than on Linux: 16 GiB
	_, rest, _ := strings.Cut(string(text), "MemTotal:")
	kib := int64(16 << 20)
	_, _ = fmt.Sscan(rest, &kib)
	return kib << 10 / 13
})

// syncable is what the Syncer syncs: a Log.
type syncable interface {
	// flush makes what is there at its call durable. An error is final.
	flush() error
	// abandon tells that the directory has failed.
	abandon(err error)
}

type syncState uint8

const (
	queued syncState = iota + 1
	running
	runningDirty // dirtied again while its sync runs
)

// NewSyncer makes a Syncer; failed is called once if a sync fails, which is final. parallel 0 means 16.
func NewSyncer(parallel int, failed func(error)) *Syncer {
	if parallel <= 0 {
		parallel = defaultParallel
	}
	s := &Syncer{parallel: parallel, failed: failed, most: mostUnsynced(), states: map[syncable]syncState{}}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// NewSteppedSyncer makes a Syncer without goroutines: what is queued waits for Step (tests/sim).
func NewSteppedSyncer(failed func(error)) *Syncer {
	s := NewSyncer(1, failed)
	s.stepped = true
	return s
}

// Step syncs what is queued, in a Syncer that is stepped.
func (s *Syncer) Step() { s.work() }

// Queued says whether a log waits for its sync.
func (s *Syncer) Queued() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) > 0
}

// Syncs tells how long syncs took.
func (s *Syncer) Syncs() *metrics.Latency { return &s.syncs }

// mark queues a dirty log. It never blocks for long.
func (s *Syncer) mark(l syncable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		err := s.err
		s.mu.Unlock()
		l.abandon(err)
		s.mu.Lock()
		return
	}
	switch s.states[l] {
	case 0:
		s.states[l] = queued
		s.queue = append(s.queue, l)
	case running:
		s.states[l] = runningDirty
	}
	if s.workers < s.parallel && len(s.queue) > 0 && !s.stepped {
		s.workers++
		go s.work()
	}
}

// work syncs logs until none is queued.
func (s *Syncer) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		l := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		if s.err != nil {
			err := s.err
			s.mu.Unlock()
			l.abandon(err)
			s.mu.Lock()
			delete(s.states, l)
			s.idle.Broadcast()
			continue
		}
		s.states[l] = running
		s.mu.Unlock()
		began := time.Now()
		err := l.flush()
		s.syncs.Observe(time.Since(began))
		s.mu.Lock()
		again := s.states[l] == runningDirty
		delete(s.states, l)
		switch {
		case err != nil && s.err == nil:
			s.err = err
			if s.failed != nil {
				s.mu.Unlock()
				s.failed(err)
				s.mu.Lock()
			}
		case err == nil && again:
			s.states[l] = queued
			s.queue = append(s.queue, l)
		}
		s.idle.Broadcast()
	}
	s.queue = nil // let go of what it has grown to
	if !s.stepped {
		s.workers--
	}
	s.idle.Broadcast()
}

// forget waits until no sync of l is queued or running.
func (s *Syncer) forget(l syncable) {
	if s.stepped {
		s.work()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.states[l] != 0 {
		s.idle.Wait()
	}
}

// Close waits for what is under way and stops the pool.
func (s *Syncer) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.workers > 0 || s.tidying {
		s.idle.Wait()
	}
}

// space remembers how much room the file system has, so that an append costs no system call.
type space struct {
	mu     sync.Mutex
	asked  time.Time
	free   uint64
	total  uint64
	credit int64 // bytes that may be written before it asks again
}

// spaceAge is how long an answer holds.
const spaceAge = time.Second

// reserve is kept free for what must go on when the disk is full: deletes, metadata,
// committed offsets (invariant 11). It is 5 % of the file system, at most 128 MiB.
func reserve(total uint64) uint64 { return min(total/20, 128<<20) }

// room says whether n bytes may be written; ours halves the reserve for the node's own records.
func (s *space) room(f vfs.FS, dir string, n int64, ours bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := now.Sub(s.asked)
	keep := reserve(s.total)
	if ours {
		keep /= 2
	}
	if age < 0 || age > spaceAge || s.credit < n || s.free < keep+uint64(n) {
		free, total, err := f.Usage(dir)
		if err != nil {
			return true // the write itself will tell
		}
		s.asked, s.free, s.total = now, free, total
		s.credit = int64(min(free/16, 1<<30)) + n
		keep = reserve(total)
		if ours {
			keep /= 2
		}
	}
	if s.free < keep+uint64(n) {
		return false
	}
	s.free -= uint64(n)
	s.credit -= n
	return true
}

// full forgets the answer after a write has failed for want of space.
func (s *space) full() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Time{}
}
