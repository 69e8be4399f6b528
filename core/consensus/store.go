package consensus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/internal/metrics"
	"github.com/forebayhub/forebay/internal/vfs"
)

// store keeps raft's log, term and vote in one journal and, decoded, in memory:
// what lies behind the last snapshot's trailing entries is compacted away, so it stays small.
//
// It is a raft.LogStore, raft.MonotonicLogStore and raft.StableStore. It does not track commits: with
// RestoreCommittedLogs raft 1.8.0 skips the configuration entries that it restores, and never elects a leader again.
type store struct {
	mu      sync.Mutex
	j       *journal
	entries []*raft.Log // contiguous
	owed    bool        // all entries were to be removed, and there was no room for it
	stable  map[string][]byte
	halt    func(error)
	halting sync.Once
	running atomic.Bool // raft has taken over; before that, errors are returned
	syncs   *metrics.Latency
	stored  func() // after entries were added, before raft sends them to others; set before raft runs
}

// The operations in a journal's frames; part of the format.
const (
	opEntry byte = iota + 1
	opDelete
	opStable
)

// compactAbove is the journal size under which dead bytes are left alone.
const compactAbove = 4 << 20

func openStore(fsys vfs.FS, dir string, halt func(error)) (*store, error) {
	s := &store{stable: map[string][]byte{}, halt: halt}
	j, err := openJournal(fsys, dir, s.replay)
	if err != nil {
		return nil, err
	}
	s.j, s.syncs = j, j.syncs
	return s, nil
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendEntry(b []byte, l *raft.Log) []byte {
	b = append(b, opEntry)
	b = binary.AppendUvarint(b, l.Index)
	b = binary.AppendUvarint(b, l.Term)
	b = append(b, byte(l.Type))
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	b = binary.AppendVarint(b, at)
	b = appendBytes(b, l.Data)
	return appendBytes(b, l.Extensions)
}

func appendDelete(b []byte, lo, hi uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(append(b, opDelete), lo), hi)
}

func appendStable(b []byte, key string, val []byte) []byte {
	return appendBytes(appendBytes(append(b, opStable), []byte(key)), val)
}

// cursor reads a frame's payload; bad sticks.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// replay takes one frame of the journal; b stays ours.
func (s *store) replay(b []byte) error {
	c := &cursor{b: b}
	for len(c.b) > 0 && !c.bad {
		switch op := c.byte(); op {
		case opEntry:
			l := &raft.Log{Index: c.uvarint(), Term: c.uvarint(), Type: raft.LogType(c.byte())}
			if at := c.varint(); at != 0 {
				l.AppendedAt = time.Unix(0, at)
			}
			l.Data, l.Extensions = c.bytes(), c.bytes()
			if c.bad {
				break
			}
			if n := len(s.entries); n > 0 && l.Index != s.entries[n-1].Index+1 {
				return fmt.Errorf("%w: entry %d after %d", ErrCorrupt, l.Index, s.entries[n-1].Index)
			}
			s.entries = append(s.entries, l)
		case opDelete:
			lo, hi := c.uvarint(), c.uvarint()
			if !c.bad {
				s.cut(lo, hi)
			}
		case opStable:
			k, v := string(c.bytes()), c.bytes()
			if !c.bad {
				s.stable[k] = v
			}
		default:
			return fmt.Errorf("%w: operation %d", ErrCorrupt, op)
		}
	}
	if c.bad {
		return fmt.Errorf("%w: short operation", ErrCorrupt)
	}
	return nil
}

// cut drops the entries [lo, hi], at the front or at the end.
func (s *store) cut(lo, hi uint64) {
	if len(s.entries) == 0 {
		return
	}
	first, last := s.entries[0].Index, s.entries[len(s.entries)-1].Index
	switch {
	case hi < first || lo > last:
	case lo <= first && hi >= last:
		s.entries = nil
	case lo <= first:
		s.entries = slices.Clone(s.entries[hi-first+1:])
	default:
		s.entries = slices.Clone(s.entries[:lo-first])
	}
}

func (s *store) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) == 0 {
		return 0, nil
	}
	return s.entries[0].Index, nil
}

func (s *store) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) == 0 {
		return 0, nil
	}
	return s.entries[len(s.entries)-1].Index, nil
}

func (s *store) GetLog(index uint64, l *raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) == 0 || index < s.entries[0].Index || index > s.entries[len(s.entries)-1].Index {
		return raft.ErrLogNotFound
	}
	*l = *s.entries[index-s.entries[0].Index]
	return nil
}

// parted says that the entries, of which there are some, end before a snapshot or have another history up to it.
func (s *store) parted(m *raft.SnapshotMeta) bool {
	var l raft.Log
	last, _ := s.LastIndex() // cannot fail
	return last < m.Index || s.GetLog(m.Index, &l) == nil && l.Term != m.Term
}

func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// stop ends the node when its journal has failed for good. Raft on a follower only logs the error and goes on to answer heartbeats, with metadata that
// stand still for ever. Lock s.mu must not be held.
func (s *store) stop() {
	s.mu.Lock()
	err := s.j.err
	s.mu.Unlock()
	if err != nil {
		s.halting.Do(func() { s.halt(fmt.Errorf("raft's journal: %w", err)) })
	}
}

// StoreLogs is durable when it returns; all of logs or none survive a crash.
func (s *store) StoreLogs(logs []*raft.Log) error {
	err := s.storeLogs(logs)
	if err != nil {
		s.stop()
	}
	return err
}

func (s *store) storeLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := logs[0].Index
	if n := len(s.entries); n > 0 {
		next = s.entries[n-1].Index + 1
	}
	var b []byte
	behind := s.owed && logs[0].Index > next // a snapshot from the leader: raft has only logged that its entries are still there
	if behind {
		b = appendDelete(b, s.entries[0].Index, next-1)
		next = logs[0].Index
	}
	vital := true
	for _, l := range logs {
		vital = vital && l.Type != raft.LogCommand
		if l.Index != next {
			s.j.err = fmt.Errorf("raft entry %d, want %d", l.Index, next) // raft would try for ever
			return s.j.err
		}
		next++
		b = appendEntry(b, l)
	}
	if err := s.j.append(b, vital); err != nil {
		return err
	}
	if behind {
		s.entries = nil
	}
	s.owed = false
	for _, l := range logs {
		c := *l
		s.entries = append(s.entries, &c)
	}
	if s.stored != nil {
		s.stored()
	}
	return nil
}

// DeleteRange drops a prefix (compaction) or a suffix (conflict) of the log.
func (s *store) DeleteRange(lo, hi uint64) error {
	err := s.deleteRange(lo, hi)
	if err != nil {
		s.stop()
	}
	return err
}

func (s *store) deleteRange(lo, hi uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.j.append(appendDelete(nil, lo, hi), true)
	n := len(s.entries)
	s.owed = err != nil && n > 0 && lo <= s.entries[0].Index && hi >= s.entries[n-1].Index
	if err != nil {
		return err
	}
	s.cut(lo, hi)
	return s.compactLocked()
}

// compactLocked writes the journal anew when most of it is dead.
func (s *store) compactLocked() error {
	if s.j.end < compactAbove {
		return nil
	}
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(s.stable)) {
		b = appendStable(b, k, s.stable[k])
	}
	for _, l := range s.entries {
		b = appendEntry(b, l)
	}
	if int64(len(b)) > s.j.end/2 || len(b) == 0 {
		return nil
	}
	return s.j.replace(b)
}

// IsMonotonic: the entries have no gaps.
func (s *store) IsMonotonic() bool { return true }

// Set keeps a term or a vote. Raft panics when it cannot: instead the node is
// told to stop, and raft's goroutine, which calls this, ends here without having voted.
func (s *store) Set(key, val []byte) error {
	s.mu.Lock()
	if old, ok := s.stable[string(key)]; ok && bytes.Equal(old, val) {
		s.mu.Unlock()
		return nil
	}
	err := s.j.append(appendStable(nil, string(key), val), true)
	if err == nil {
		s.stable[string(key)] = slices.Clone(val)
	}
	s.mu.Unlock()
	if err != nil {
		s.halting.Do(func() { s.halt(fmt.Errorf("raft's term and vote: %w", err)) })
		if s.running.Load() {
			runtime.Goexit()
		}
	}
	return err
}

func (s *store) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stable[string(key)]), nil
}

func (s *store) SetUint64(key []byte, val uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

func (s *store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: stable value %s", ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(b), nil
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.j.close()
}
