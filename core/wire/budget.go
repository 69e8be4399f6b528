package wire

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Budget bounds the bytes of all requests that are being read or handled, like
// queued.max.request.bytes. Waiters are served in order, so a large frame is not starved by small ones.
type Budget struct {
	sem   *semaphore.Weighted
	total int64
}

// NewBudget makes a Budget of so many bytes.
func NewBudget(total int64) *Budget {
	return &Budget{sem: semaphore.NewWeighted(total), total: total}
}

// Take waits until n bytes are free, at most until ctx ends. More than the
// whole budget counts as the whole budget: such a request runs alone. Nothing is had at once, whoever waits.
func (b *Budget) Take(ctx context.Context, n int64) (taken int64, err error) {
	if n = min(n, b.total); n == 0 {
		return 0, nil
	}
	if b.sem.TryAcquire(n) {
		return n, nil
	}
	if err := b.sem.Acquire(ctx, n); err != nil {
		return 0, err
	}
	return n, nil
}

// Give returns what Take took.
func (b *Budget) Give(n int64) { b.sem.Release(n) }
