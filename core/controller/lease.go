package controller

import (
	"context"
	"sync"
	"time"
)

// ownLease is this node's lease as it knows it itself: until then no controller can have fenced it. It counts from before a heartbeat was sent, so it ends no later
// than in the controller's memory, and a controller that is new gives a whole one. It ends with the silence after which the controller may find that nobody listens here any more: a firewall
// that refuses connections looks like that, too. Clocks are taken to run alike for a second. The zero value has run out.
type ownLease struct {
	mu      sync.Mutex
	until   time.Time
	renewed chan struct{} // closed at the next renewal; nil: nobody waits
}

func (o *ownLease) renew(until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.until = until
	if o.renewed != nil {
		close(o.renewed)
		o.renewed = nil
	}
}

// lapse ends it at once.
func (o *ownLease) lapse() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.until = time.Time{}
}

// holds says whether it does; if not, renewed is closed at its next renewal.
func (o *ownLease) holds(now time.Time) (ok bool, renewed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Before(o.until) {
		return true, nil
	}
	if o.renewed == nil {
		o.renewed = make(chan struct{})
	}
	return false, o.renewed
}

// Registered begins this node's lease; since is a time before it asked to be registered.
func (a *Active) Registered(since time.Time) { a.own.renew(since.Add(silence)) }

// Leased says whether this node's registration holds for sure: nobody else leads what it leads, unless the controller has
// moved it and this node's Image is not there yet.
func (a *Active) Leased() bool {
	ok, _ := a.own.holds(a.now())
	return ok
}

// AwaitLease waits until Leased, or until ctx ends.
func (a *Active) AwaitLease(ctx context.Context) {
	for {
		ok, renewed := a.own.holds(a.now())
		if ok {
			return
		}
		select {
		case <-renewed:
		case <-ctx.Done():
			return
		}
	}
}
