package statelog

import (
	"container/heap"
	"sync"
	"time"
)

// timers is one heap for all timers of a coordinator: a member's heartbeat costs a move in it, not a goroutine.
// Lock order: Shard.Mu, then mu.
type timers struct {
	mu   sync.Mutex
	heap timerHeap
	wake chan struct{} // the Keeper's: the first time has changed
}

func (ts *timers) set(t *Timer, at time.Time) {
	ts.mu.Lock()
	t.at = at
	if t.index >= 0 {
		heap.Fix(&ts.heap, t.index)
	} else {
		heap.Push(&ts.heap, t)
	}
	first := ts.heap[0] == t
	ts.mu.Unlock()
	if first {
		select {
		case ts.wake <- struct{}{}:
		default:
		}
	}
}

func (ts *timers) drop(t *Timer) {
	ts.mu.Lock()
	if t.index >= 0 {
		heap.Remove(&ts.heap, t.index)
	}
	ts.mu.Unlock()
}

// due takes one timer whose time has come, or says how long until the next; ok is false when there is none.
func (ts *timers) due(now time.Time) (t *Timer, wait time.Duration, ok bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.heap) == 0 {
		return nil, 0, false
	}
	first := ts.heap[0]
	if d := first.at.Sub(now); d > 0 {
		return nil, d, true
	}
	heap.Pop(&ts.heap)
	return first, 0, true
}

// fire runs a timer that due has taken, unless it was disarmed or moved in between.
func (t *Timer) run(now time.Time) {
	t.shard.Mu.Lock()
	defer t.shard.Mu.Unlock()
	if !t.armed || t.at.After(now) || t.shard.dead {
		return
	}
	t.armed = false
	t.fire()
}

type timerHeap []*Timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
