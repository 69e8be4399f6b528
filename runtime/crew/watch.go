package crew

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// absence is how long a worker may be away and keep its connectors, like scheduled.rebalance.max.delay.ms (KIP-415), where Kafka
	// Connect has five minutes: a node is restarted in less, and what it ran goes on elsewhere within 5 s of its death.
	absence = 2500 * time.Millisecond
	// askEvery is how often a watched worker is asked whether it is there, askWorker how long it may take to answer.
	askEvery  = 250 * time.Millisecond
	askWorker = 500 * time.Millisecond
	// askAtLeast is how often it must have failed to answer: of who watches, too, one may have hung.
	askAtLeast = 4
)

// absent is what is known of a watched worker.
type absent struct {
	seen   bool // it has answered: its address is one that this worker can reach. One that never did is left to its session.
	since  time.Time
	failed int
}

// missed takes note of an answer that failed to come to a question of a moment ago, and says whether its time is over.
func (a *absent) missed(asked, now time.Time) bool {
	if a.failed++; a.failed == 1 {
		a.since = asked
	}
	return a.seen && a.failed >= askAtLeast && now.Sub(a.since) >= absence
}

// watch asks the workers that this one was told to watch whether they are there, and takes out of the group who is away for too long. Whose connections
// merely cannot be made from here joins again: that moves its connectors, and harms nothing (invariant 7).
func (c *Crew) watch(ctx context.Context) {
	if c.o.Ask == nil {
		return
	}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	all := map[string]*absent{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		names := c.mu.watched
		c.mu.Unlock()
		for n := range all {
			if !slices.Contains(names, n) {
				delete(all, n)
			}
		}
		var asking sync.WaitGroup
		for _, n := range names {
			if all[n] == nil {
				all[n] = &absent{}
			}
			a := all[n]
			asking.Go(func() { c.look(ctx, n, a) })
		}
		asking.Wait()
	}
}

// look asks one worker.
func (c *Crew) look(ctx context.Context, name string, a *absent) {
	asked := time.Now()
	if err := c.there(ctx, name); err == nil {
		*a = absent{seen: true}
		return
	} else if !a.missed(asked, time.Now()) || ctx.Err() != nil {
		return
	}
	c.o.Worker.Logger.Warn("a worker does not answer: its connectors go to others", "worker", name, "for", time.Since(a.since).Round(time.Millisecond))
	rctx, cancel := context.WithTimeout(ctx, askGroup)
	defer cancel()
	if err := c.log.Remove(rctx, c.group(), name); err != nil {
		c.o.Worker.Logger.Warn("cannot take a worker out of the group that does not answer", "error", err) // it is tried again
		return
	}
	*a = absent{}
}

var errAnother = errors.New("another worker answers")

func (c *Crew) there(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, askWorker)
	defer cancel()
	_, http := split(name)
	who, err := c.o.Ask(ctx, http)
	if err == nil && who != name {
		err = errAnother
	}
	return err
}
