package statelog

import (
	"context"
	"errors"
	"time"
)

// Turns has a coordinator's work done by one goroutine, a piece at a time: for a caller that has a clock and an order of events of its own
// (tests/sim). A nil Turns is goroutines, as everywhere else. Nothing waits with a lock held, so whoever has the turn gets every lock.
type Turns interface {
	// Go begins work beside that of the caller.
	Go(fn func())
	// Wait gives the turn away until ready says so, which takes what it waited for with it. ready must not block.
	Wait(ready func() bool)
	// After is time.After.
	After(d time.Duration) <-chan time.Time
}

// ErrLate is what Await gives when its limit comes first.
var ErrLate = errors.New("waited for too long")

// Await takes what comes from ch. It gives ErrLate when limit comes first, and ctx's error when that ends first. A nil channel never comes.
func Await[T any](ctx context.Context, t Turns, ch <-chan T, limit <-chan time.Time) (v T, err error) {
	if t == nil {
		select {
		case v = <-ch:
		case <-limit:
			err = ErrLate
		case <-ctx.Done():
			err = ctx.Err()
		}
		return v, err
	}
	ready := func() bool {
		select { // in this order, so that the same run takes the same way
		case v = <-ch:
			return true
		default:
		}
		select {
		case <-limit:
			err = ErrLate
			return true
		default:
		}
		err = ctx.Err()
		return err != nil
	}
	if !ready() {
		t.Wait(ready)
	}
	return v, err
}

// After is time.After in t's time.
func After(t Turns, d time.Duration) <-chan time.Time {
	if t == nil {
		return time.After(d)
	}
	return t.After(d)
}

// Pause waits for d; false when ctx ends first.
func Pause(ctx context.Context, t Turns, d time.Duration) bool {
	_, err := Await[struct{}](ctx, t, nil, After(t, d))
	return errors.Is(err, ErrLate)
}
