package wire

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Budget bounds the bytes of all requests that are being read or handled, like
// queued.max.request.bytes. Waiters are served in order, so a large frame is not starved by small ones.
//
// What is taken for a frame that is announced and does not come would make everybody wait: so while somebody has waited for pressure,
// frames that have been coming for longer than that, slower than leastRate or too slowly to be whole within wholeFrame, are cut.
type Budget struct {
	sem   *semaphore.Weighted
	total int64

	mu       sync.Mutex
	arriving map[*arrival]struct{}
}

const (
	pressure   = 2 * time.Second
	leastRate  = 256 << 10 // bytes per second
	wholeFrame = 20 * time.Second
)

// arrival is a frame that is being read.
type arrival struct {
	since time.Time
	size  int          // bytes
	got   atomic.Int64 // bytes
	cut   func()       // ends the read
	gone  bool         // cut was called
}

// NewBudget makes a Budget of so many bytes.
func NewBudget(total int64) *Budget {
	return &Budget{sem: semaphore.NewWeighted(total), total: total, arriving: map[*arrival]struct{}{}}
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
	done := make(chan struct{})
	defer close(done)
	defer time.AfterFunc(pressure, func() { b.press(done) }).Stop()
	if err := b.sem.Acquire(ctx, n); err != nil {
		return 0, err
	}
	return n, nil
}

// Give returns what Take took.
func (b *Budget) Give(n int64) { b.sem.Release(n) }

// press cuts what is too slow, until done.
func (b *Budget) press(done <-chan struct{}) {
	for {
		b.cut()
		select {
		case <-done:
			return
		case <-time.After(pressure):
		}
	}
}

func (b *Budget) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for a := range b.arriving {
		// What is noted is a piece behind what has come.
		rate := max(leastRate, float64(a.size)/wholeFrame.Seconds())
		if age := time.Since(a.since); age > pressure && float64(a.got.Load()+piece) < age.Seconds()*rate && !a.gone {
			a.gone = true
			a.cut()
		}
	}
}

// arrives says that a frame is being read.
func (b *Budget) arrives(a *arrival, size int, cut func()) {
	a.got.Store(0)
	b.mu.Lock()
	defer b.mu.Unlock()
	a.since, a.size, a.cut, a.gone = time.Now(), size, cut, false
	b.arriving[a] = struct{}{}
}

// arrived says that it is no longer, and whether it was cut.
func (b *Budget) arrived(a *arrival) (gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.arriving, a)
	return a.gone
}
