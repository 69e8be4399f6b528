package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
)

// ReadRequest asks for records.
type ReadRequest struct {
	Offset    int64
	Epoch     int32 // current leader epoch as the client knows it; AnyEpoch
	LastEpoch int32 // KIP-595 last fetched epoch; -1: no check
	MaxBytes  int
	MinOne    bool            // at least one batch even when larger than MaxBytes
	Committed bool            // read_committed
	Replica   metadata.NodeID // -1: a consumer
	NodeEpoch int64           // the replica's registration (KIP-903); -1: not told
	LogStart  int64           // of the replica's log
	// Follower lets a replica that does not lead answer a consumer, up to the watermark that it knows (KIP-392).
	Follower bool
	// Near says which nodes a consumer would rather read from. Nil: it does not matter.
	Near func(metadata.NodeID) bool
}

// ReadResult is a Slice with the bounds that go into a Fetch response.
type ReadResult struct {
	Slice         commitlog.Slice
	HighWatermark int64
	LastStable    int64
	LogStart      int64
	Aborted       []commitlog.AbortedTxn // set when Committed
	Diverging     *Diverging             // set instead of a Slice: cut back to here
	Elsewhere     bool                   // set instead of a Slice: read from Preferred
	Preferred     metadata.NodeID

	term *term // what Read saw beside the bounds
	end  int64
}

// Outdated says whether a Read would see more or another leadership than the one that r came from, and brings the bounds of r up to date.
// tail is a follower's view: records count as soon as they are appended.
func (p *Partition) Outdated(r *ReadResult, tail bool) bool {
	hw, stable := r.HighWatermark, r.LastStable
	r.LogStart, r.HighWatermark = p.log.StartOffset(), p.hw.Load()
	r.LastStable = p.log.LastStable(r.HighWatermark)
	if p.term.Load() != r.term {
		return true
	}
	if tail {
		return p.log.EndOffset() != r.end
	}
	return r.HighWatermark != hw || r.LastStable != stable
}

// Diverging tells a reader where its log and ours part.
type Diverging struct {
	Epoch     int32
	EndOffset int64
}

// Read reads as the leader, or as a follower that may answer. Release the Slice. Beside the errors of this package it gives
// commitlog.ErrOffsetOutOfRange, with the bounds set.
func (p *Partition) Read(r ReadRequest) (ReadResult, error) {
	t, err := p.check(r.Epoch)
	if err != nil && (!errors.Is(err, ErrNotLeader) || !r.Follower || r.Replica >= 0 || t.closed) {
		return ReadResult{HighWatermark: -1, LastStable: -1, LogStart: -1}, err
	}
	if r.Replica >= 0 && !p.replicates(r.Replica) {
		err := ErrNotLeader
		if r.Epoch != AnyEpoch {
			err = ErrUnknownEpoch // a newer Image may have it as a replica: it tries again
		}
		return ReadResult{HighWatermark: -1, LastStable: -1, LogStart: -1}, err
	}
	again := false
	if r.Replica >= 0 && r.LastEpoch < 0 {
		again = p.fetched(&r, t)
	}
	// The leadership and the end before the records: what changes from here on is seen by Outdated.
	out := ReadResult{term: t, end: p.log.EndOffset(), LogStart: p.log.StartOffset(), HighWatermark: p.hw.Load()}
	out.LastStable = p.log.LastStable(out.HighWatermark)

	if r.Near != nil && r.Replica < 0 {
		if out.Preferred, out.Elsewhere = p.preferred(r.Offset, r.Near); out.Elsewhere {
			return out, nil
		}
	}
	if r.LastEpoch >= 0 {
		// KIP-595: the reader's last record must lie in our history, else it cuts back.
		epoch, end := p.log.EpochEnd(r.LastEpoch)
		out.LogStart = p.log.StartOffset() // not older than end, which may be where the log begins
		// Of an epoch that lies below the log's start nothing is known: a follower that ends there may have what never was in it.
		unknown := r.Replica >= 0 && end == r.Offset && end <= out.LogStart && r.LastEpoch < p.log.EarliestEpoch()
		if latest := p.log.LatestEpoch(); latest >= 0 && (epoch < r.LastEpoch || end < r.Offset || unknown) {
			if epoch < 0 || end < 0 {
				return out, fmt.Errorf("%w: nothing is known of epoch %d", commitlog.ErrOffsetOutOfRange, r.LastEpoch)
			}
			out.Diverging = &Diverging{Epoch: epoch, EndOffset: end}
			return out, nil
		}
		if r.Replica >= 0 {
			again = p.fetched(&r, t)
			out.HighWatermark = p.hw.Load()
			out.LastStable = p.log.LastStable(out.HighWatermark)
		}
	}

	limit := out.HighWatermark
	switch {
	case r.Replica >= 0:
		limit = p.log.EndOffset()
	case r.Committed:
		limit = out.LastStable
	}
	if r.Offset >= limit && r.Offset <= p.log.EndOffset() && r.Offset >= out.LogStart {
		if r.Committed {
			out.Aborted = []commitlog.AbortedTxn{}
		}
		return out, nil // nothing to see yet
	}
	if again {
		// What was sent may have rotted since it was last read with its CRCs, which the follower has compared.
		if err := p.log.Doubt(r.Offset); err != nil {
			return out, err
		}
	}
	s, err := p.log.Read(r.Offset, limit, r.MaxBytes, r.MinOne)
	if err != nil {
		return out, err
	}
	if r.Replica >= 0 && s.Len > 0 {
		p.gave(&r)
	}
	out.Slice = s
	if r.Committed {
		out.Aborted = p.aborted(&out.Slice, r.Offset, limit)
	}
	return out, nil
}

// fewAborted is how many aborted transactions may be listed without looking at
// where the read ends: readers ignore those that begin later.
const fewAborted = 16

// aborted lists the aborted transactions that a read of s from an offset needs.
func (p *Partition) aborted(s *commitlog.Slice, from, limit int64) []commitlog.AbortedTxn {
	list := p.log.Aborted(from, limit)
	if len(list) > fewAborted {
		if end := sliceEnd(s); end > from && end < limit {
			list = p.log.Aborted(from, end)
		}
	}
	if list == nil {
		list = []commitlog.AbortedTxn{}
	}
	return list
}

// sliceEnd is the offset after the last record of s, by its batch headers; -1
// when it cannot be read.
func sliceEnd(s *commitlog.Slice) int64 {
	end := int64(-1)
	var h [27]byte // base offset(8) length(4) leader epoch(4) magic(1) crc(4) attributes(2) last offset delta(4)
	for at := 0; at+len(h) <= s.Len; {
		if _, err := s.File.ReadAt(h[:], s.Pos+int64(at)); err != nil {
			return -1
		}
		n := int(binary.BigEndian.Uint32(h[8:]))
		if n < len(h)-12 {
			return -1
		}
		end = int64(binary.BigEndian.Uint64(h[:])) + int64(binary.BigEndian.Uint32(h[23:])) + 1
		at += 12 + n
	}
	return end
}

// Kafka's special timestamps of ListOffsets.
const (
	Latest        int64 = -1
	Earliest      int64 = -2
	MaxTimestamp  int64 = -3 // KIP-734
	EarliestLocal int64 = -4 // KIP-405
	LatestTiered  int64 = -5 // KIP-1005
)

// Bound is how far into a log somebody sees.
type Bound int8

// What bounds consumers, by their isolation level, and what bounds others.
const (
	ToWatermark Bound = iota
	ToStable
	ToEnd
)

// ListOffset finds an offset by time or by Kafka's special timestamps (-1 latest,
// -2 earliest, -3 max timestamp, -4 earliest local, -5 latest tiered), below bound.
// Offset -1 means that there is none.
func (p *Partition) ListOffset(ts int64, epoch int32, bound Bound) (offset, timestamp int64, leaderEpoch int32, err error) {
	t, err := p.check(epoch)
	if err != nil {
		return -1, -1, -1, err
	}
	limit := p.hw.Load()
	switch bound {
	case ToStable:
		limit = p.log.LastStable(limit)
	case ToEnd:
		limit = p.log.EndOffset()
	}
	switch {
	case ts == Latest && bound != ToEnd && p.hw.Load() < t.start:
		return -1, -1, -1, ErrNotYet // invariant 3: the leader before may have told more
	case ts == Latest:
		return limit, -1, t.epoch, nil
	case ts == Earliest || ts == EarliestLocal:
		start := p.log.StartOffset()
		e := p.log.EpochAt(start)
		if e < 0 {
			e = t.epoch
		}
		return start, -1, e, nil
	case ts == MaxTimestamp:
		offset, timestamp, leaderEpoch, err = p.log.MaxTimestamp()
	case ts >= 0:
		offset, timestamp, leaderEpoch, err = p.log.OffsetForTime(ts)
	default: // nothing is tiered
		return -1, -1, -1, nil
	}
	if err != nil {
		return -1, -1, -1, err
	}
	if offset >= limit && offset < t.start {
		return -1, -1, -1, ErrNotYet
	}
	if offset < 0 || offset >= limit {
		return -1, -1, -1, nil
	}
	return offset, timestamp, leaderEpoch, nil
}

// DeleteBefore is DeleteRecords: -1 means the high watermark. It returns the new start. ErrNotYet: whether it may be deleted is not known yet.
func (p *Partition) DeleteBefore(offset int64) (int64, error) {
	t, err := p.check(AnyEpoch)
	if err != nil {
		return -1, err
	}
	hw := p.hw.Load()
	if hw < t.start && (offset == -1 || offset > hw && offset <= t.start) {
		return -1, ErrNotYet // invariant 3: the leader before may have told more
	}
	if offset == -1 {
		offset = hw
	}
	if offset < 0 || offset > hw {
		return -1, fmt.Errorf("%w: delete before %d, high watermark %d", commitlog.ErrOffsetOutOfRange, offset, hw)
	}
	if offset > p.log.StartOffset() {
		if err := p.log.DeleteBefore(offset); err != nil {
			return -1, err
		}
		p.mu.Lock()
		tails := slices.Clone(p.mu.tails)
		p.mu.Unlock()
		p.tell(nil, tails) // followers that wait learn of it now
	}
	return p.log.StartOffset(), nil
}

// deletedEvery is how often AwaitDeleted asks anew who is alive.
const deletedEvery = 500 * time.Millisecond

// AwaitDeleted waits until no replica that is alive has records before an offset, and gives the lowest start of a log among them (KIP-107's low watermark): until then a new
// leader could still show them. Errors: those of leadership, and ctx's.
func (p *Partition) AwaitDeleted(ctx context.Context, offset int64, alive func(metadata.NodeID) bool) (low int64, err error) {
	w := NewWaiter()
	p.Watch(w)
	defer p.Unwatch(w)
	tick := time.NewTicker(deletedEvery)
	defer tick.Stop()
	for {
		if _, err := p.check(AnyEpoch); err != nil {
			return -1, err
		}
		if low := p.lowWatermark(alive); low >= offset {
			return low, nil
		}
		select {
		case <-w.C:
		case <-tick.C:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
}

// lowWatermark is the lowest start of a log among this leader and the replicas that are alive; -1: one of them has not told its own.
func (p *Partition) lowWatermark(alive func(metadata.NodeID) bool) int64 {
	low := p.log.StartOffset()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.mu.state.Replicas {
		if n == p.node || !alive(n) {
			continue
		}
		f := p.mu.followers[n]
		if f == nil || f.fetchedAt.IsZero() {
			return -1
		}
		low = min(low, f.start)
	}
	return low
}
