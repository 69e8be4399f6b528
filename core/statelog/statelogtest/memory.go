// Package statelogtest has a coordinator's partition in memory, for tests.
package statelogtest

import (
	"encoding/binary"
	"sync"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/statelog"
)

// Memory is a statelog.Store. Appends are acknowledged at once, unless Hold is called.
type Memory struct {
	mu      sync.Mutex
	batches [][]byte
	ends    []int64 // offset after each batch
	acked   int64
	held    bool
	fail    error
	waiters []waiter
}

type waiter struct {
	offset int64
	done   func(error)
}

var _ statelog.Store = (*Memory)(nil)

// Append writes a batch.
func (m *Memory) Append(batch []byte, _ int32, _ commitlog.Guard) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return -1, m.fail
	}
	b := append([]byte(nil), batch...)
	base := m.end()
	binary.BigEndian.PutUint64(b, uint64(base))
	last := base + int64(int32(binary.BigEndian.Uint32(b[23:])))
	m.batches = append(m.batches, b)
	m.ends = append(m.ends, last+1)
	if !m.held {
		m.acked = last + 1
	}
	return last, nil
}

// AppendMarker is Append: there are no transactions to look at.
func (m *Memory) AppendMarker(batch []byte, epoch int32, _ statelog.Producer) (int64, int32, error) {
	last, err := m.Append(batch, epoch, commitlog.Guard{})
	return last, epoch, err
}

func (m *Memory) end() int64 {
	if len(m.ends) == 0 {
		return 0
	}
	return m.ends[len(m.ends)-1]
}

// Verify asks always, and guards nothing.
func (m *Memory) Verify(statelog.Producer) (commitlog.Guard, bool) { return commitlog.Guard{}, true }

// Unverified has nothing to forget.
func (m *Memory) Unverified(statelog.Producer, commitlog.Guard) {}

// WhenAcked is partition.WhenAcked.
func (m *Memory) WhenAcked(offset int64, _ int32, done func(error)) func() {
	m.mu.Lock()
	if offset < m.acked {
		m.mu.Unlock()
		done(nil)
		return func() {}
	}
	m.waiters = append(m.waiters, waiter{offset, done})
	m.mu.Unlock()
	return func() {}
}

// Bounds are the first offset and the next one to be assigned.
func (m *Memory) Bounds() (int64, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 0, m.end()
}

// Read gives one batch.
func (m *Memory) Read(from, limit int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, end := range m.ends {
		if end > from && end <= limit {
			return append([]byte(nil), m.batches[i]...), nil
		}
	}
	return nil, nil
}

// Hold stops acknowledging; Release acknowledges all and goes on doing so.
func (m *Memory) Hold() {
	m.mu.Lock()
	m.held = true
	m.mu.Unlock()
}

// Release acknowledges everything, and from now on at once.
func (m *Memory) Release() {
	m.mu.Lock()
	m.held = false
	m.acked = m.end()
	ws := m.waiters
	m.waiters = nil
	m.mu.Unlock()
	for _, w := range ws {
		w.done(nil)
	}
}

// Fail makes every Append fail with err; nil ends that.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	m.fail = err
	m.mu.Unlock()
}

// Crash gives what survives: the acknowledged batches.
func (m *Memory) Crash() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &Memory{acked: m.acked}
	for i, end := range m.ends {
		if end <= m.acked {
			n.batches = append(n.batches, m.batches[i])
			n.ends = append(n.ends, end)
		}
	}
	return n
}

// Decode gives all batches.
func (m *Memory) Decode() []statelog.Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []statelog.Batch
	for _, b := range m.batches {
		d, _, err := statelog.DecodeBatch(b)
		if err != nil {
			panic(err)
		}
		out = append(out, d)
	}
	return out
}
