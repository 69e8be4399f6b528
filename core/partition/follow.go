package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/record"
)

// follow runs fn as a follower in a leader epoch: while it runs, this node's part does not change.
func (p *Partition) follow(epoch int32, fn func() error) error {
	p.appending.RLock()
	defer p.appending.RUnlock()
	t := p.term.Load()
	switch {
	case epoch != t.epoch, t.leading, p.isClosed():
		return ErrFencedEpoch
	}
	return fn()
}

func (p *Partition) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.closed
}

// Position is where a follower goes on: its log's end and the epoch of its last record, -1 when it has none, so that
// the leader can tell whether it is a part of its own history (KIP-595).
func (p *Partition) Position() (offset int64, lastEpoch int32) {
	end := p.log.EndOffset()
	if end == p.log.StartOffset() {
		return end, -1
	}
	// Not LatestEpoch: an epoch in which this node led without records says nothing of what it has.
	return end, p.log.EpochAt(end - 1)
}

// AppendFetched appends what was fetched from the leader of an epoch, up to the first batch of a newer one; ErrUnknownEpoch: there is nothing
// before that.
func (p *Partition) AppendFetched(b []byte, epoch int32) error {
	if !p.ready.Load() {
		if err := p.prepareOnce(); err != nil {
			return err
		}
	}
	return p.follow(epoch, func() error {
		_, err := p.log.Append(b, epoch, commitlog.FromLeader)
		if first, straddles := p.straddles(b); straddles && errors.Is(err, commitlog.ErrOffsetOutOfRange) {
			return p.appendAround(b, epoch, first)
		}
		if errors.Is(err, commitlog.ErrNewerEpoch) {
			return fmt.Errorf("%w: %w", ErrUnknownEpoch, err)
		}
		return err
	})
}

// straddles says that this log is empty, and begins within the first batch of b: records were deleted up to somewhere in a batch (DeleteRecords), and a leader
// gives whole batches.
func (p *Partition) straddles(b []byte) (first int64, ok bool) {
	h, _, _, err := record.Next(b)
	start := p.log.StartOffset()
	return h.BaseOffset, err == nil && start == p.log.EndOffset() && h.BaseOffset < start && h.LastOffset() >= start
}

// appendAround appends a batch around the start of an empty log, which stays where it is (KAFKA-6975). After a crash half way the log is empty, or begins with the batch until the
// leader's start is learned.
func (p *Partition) appendAround(b []byte, epoch int32, first int64) error {
	start := p.log.StartOffset()
	err := p.log.StartAt(first)
	if err == nil {
		_, err = p.log.Append(b, epoch, commitlog.FromLeader)
	}
	if below := p.lowered(start); err == nil {
		err = below
	}
	if err != nil {
		return err
	}
	return p.log.DeleteBefore(start)
}

// Learn takes over what a Fetch response says of the leader: its high watermark, as far as this log reaches, and its log start.
// The caller has cut off what diverges before (invariant 3).
func (p *Partition) Learn(epoch int32, watermark, start int64) error {
	return p.follow(epoch, func() error {
		hw, waiters := p.raise(watermark)
		p.tell(nil, waiters)
		if start = min(start, hw); start > p.log.StartOffset() {
			return p.log.DeleteBefore(start)
		}
		return nil
	})
}

// raise lifts a follower's watermark and gives who waits for that: consumers that read here (KIP-392).
func (p *Partition) raise(watermark int64) (hw int64, waiters []*Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.hw.Load()
	hw = max(before, min(watermark, p.log.EndOffset()))
	p.hw.Store(hw)
	if hw > before {
		waiters = p.waitersLocked()
	}
	return hw, waiters
}

// Truncated is a cut that has taken what was readable once: only a cluster that has lost acknowledged records asks for it.
type Truncated struct{ From, To, HighWatermark int64 }

func (t *Truncated) Error() string {
	return fmt.Sprintf("cut back from %d to %d, below the high watermark %d", t.From, t.To, t.HighWatermark)
}

// CutBack drops what is not in the leader's history, durably (KIP-101, KIP-279): the leader's log has d.Epoch up to
// d.EndOffset, and nothing newer that this log could share. start is where the leader's log begins: it does not know any more what
// it had below, so a log that parts from it there is dropped whole. A *Truncated error tells of a cut that was made all the same.
func (p *Partition) CutBack(epoch int32, d Diverging, start int64) error {
	if d.EndOffset <= start {
		return p.Restart(epoch, start)
	}
	return p.follow(epoch, func() error {
		to := min(d.EndOffset, p.log.EndOffset())
		if found, end := p.log.EpochEnd(d.Epoch); found >= 0 {
			// Where this log has no record of d.Epoch itself, the one before ends here, and the next Fetch asks about that.
			to = min(to, end)
		}
		return p.cut(func() error { return p.log.TruncateTo(to) })
	})
}

// Restart drops everything: the leader has nothing as old as this log's end. A *Truncated error is as CutBack's.
func (p *Partition) Restart(epoch int32, offset int64) error {
	if !p.ready.Load() {
		if err := p.prepareOnce(); err != nil {
			return err
		}
	}
	return p.follow(epoch, func() error {
		if err := p.cut(func() error { return p.log.StartAt(offset) }); err != nil {
			return err
		}
		_, waiters := p.raise(offset)
		p.tell(nil, waiters)
		return nil
	})
}

// cut runs what cuts the log back, and takes the watermark along: also where it failed half way, with a log that is empty. A watermark above the log's end
// would acknowledge what this node appends as a leader before anybody else has it.
func (p *Partition) cut(log func() error) error {
	from := p.log.EndOffset()
	err := log()
	if below := p.lowered(from); err == nil {
		err = below
	}
	return err
}

// lowered brings the watermark down to a log that was cut below it: only where acknowledged records are lost.
func (p *Partition) lowered(from int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	end, hw := p.log.EndOffset(), p.hw.Load()
	if end >= hw {
		return nil
	}
	p.hw.Store(end)
	return &Truncated{From: from, To: end, HighWatermark: hw}
}

// AwaitDurable waits until everything below offset is as durable as the topic promises: only then may a
// follower tell its leader that it has it (invariant 1).
func (p *Partition) AwaitDurable(ctx context.Context, offset int64) error {
	if p.log.DurableOffset() >= offset {
		return nil
	}
	w := NewWaiter()
	p.mu.Lock()
	p.mu.synced = append(p.mu.synced, w)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.mu.synced = without(p.mu.synced, w)
		p.mu.Unlock()
	}()
	for p.log.DurableOffset() < min(offset, p.log.EndOffset()) {
		if err := p.log.Failed(); err != nil {
			return err
		}
		if p.isClosed() {
			return ErrNotLeader
		}
		select {
		case <-w.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
