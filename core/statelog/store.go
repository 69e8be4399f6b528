package statelog

import (
	"fmt"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/partition"
)

// Store is one partition as a coordinator uses it. *partition.Partition is behind it; tests have one in memory.
type Store interface {
	// Append writes a batch as the leader of epoch and gives the offset of its last record. A transaction's batch is written under g only (commitlog.Guard).
	Append(batch []byte, epoch int32, g commitlog.Guard) (last int64, err error)
	// Verify and Unverified are commitlog.Log's.
	Verify(p Producer) (g commitlog.Guard, ask bool)
	Unverified(p Producer, g commitlog.Guard)
	// AppendMarker is Append for the marker of a transaction of p; in is the epoch that any epoch came to.
	AppendMarker(batch []byte, epoch int32, p Producer) (last int64, in int32, err error)
	// WhenAcked is partition.WhenAcked.
	WhenAcked(offset int64, epoch int32, done func(error)) (cancel func())
	// Bounds are the first offset and the next one to be assigned.
	Bounds() (start, end int64)
	// Read gives whole batches from offset up to limit: a copy.
	Read(from, limit int64) ([]byte, error)
}

// readBytes is how much of a partition is replayed at a time.
const readBytes = 1 << 20

// store is a hosted partition.
type store struct{ p *partition.Partition }

// StoreOf makes a Store of a hosted partition.
func StoreOf(p *partition.Partition) Store { return store{p} }

func (s store) Append(batch []byte, epoch int32, g commitlog.Guard) (int64, error) {
	a, err := s.p.AppendGuarded(batch, epoch, commitlog.FromCoordinator, g, true)
	return a.Last, err
}

func (s store) Verify(p Producer) (commitlog.Guard, bool) {
	return s.p.Log().Verify(p.ID, p.Epoch, -1)
}

func (s store) Unverified(p Producer, g commitlog.Guard) { s.p.Log().Unverified(p.ID, g) }

func (s store) AppendMarker(batch []byte, epoch int32, p Producer) (int64, int32, error) {
	origin := commitlog.FromCoordinator
	if p.Bumped {
		origin = commitlog.FromBump
	}
	a, err := s.p.Append(batch, epoch, origin, true)
	return a.Last, a.Epoch, err
}

func (s store) WhenAcked(offset int64, epoch int32, done func(error)) func() {
	return s.p.WhenAcked(offset, epoch, done)
}

func (s store) Bounds() (int64, int64) { return s.p.Log().StartOffset(), s.p.Log().EndOffset() }

func (s store) Read(from, limit int64) ([]byte, error) {
	sl, err := s.p.Log().Read(from, limit, readBytes, true)
	if err != nil {
		return nil, err
	}
	defer sl.Release()
	b := make([]byte, sl.Len)
	if sl.Len == 0 {
		return nil, nil
	}
	if n, err := sl.File.ReadAt(b, sl.Pos); n < len(b) {
		return nil, fmt.Errorf("read %s at %d: %w", sl.File.Name(), sl.Pos, err)
	}
	return b, nil
}
