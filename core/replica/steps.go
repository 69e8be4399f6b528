package replica

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
)

// Steps does what the goroutines of Run do, one step at a call and without waiting: for a caller that has a clock, a network and
// an order of events of its own (tests/sim). A Set is run or stepped, never both. A Steps is for one goroutine.
type Steps struct {
	set   *Set
	asked map[metadata.NodeID]map[fetchKey]*fetched
}

// Steps makes a Set stepped. call asks another node one thing, at once.
func (s *Set) Steps(call Call) *Steps {
	s.followers.call = call
	return &Steps{set: s, asked: map[metadata.NodeID]map[fetchKey]*fetched{}}
}

// Leaders are the nodes that are fetched from, or were once.
func (t *Steps) Leaders() []metadata.NodeID {
	f := t.set.followers
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.fetchers))
}

func (t *Steps) fetcher(leader metadata.NodeID) *fetcher {
	f := t.set.followers
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetchers[leader]
}

// noWait is a context for what would wait: it fails instead.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Fetch is the next question to a leader. nil: there is nothing to ask for now, or something is not durable yet.
func (t *Steps) Fetch(leader metadata.NodeID) *kmsg.FetchRequest {
	x := t.fetcher(leader)
	if x == nil {
		return nil
	}
	x.refresh()
	asked, wait := x.due()
	if x.settle(noWait, asked) != nil || len(asked) == 0 {
		return nil
	}
	t.asked[leader] = asked
	return x.request(asked, wait)
}

// Fetched takes the answer to the last Fetch. An error ends the connection: see Lost.
func (t *Steps) Fetched(leader metadata.NodeID, r *kmsg.FetchResponse) error {
	asked := t.asked[leader]
	delete(t.asked, leader)
	return t.fetcher(leader).absorb(context.Background(), asked, r)
}

// Lost tells that the connection to a leader is gone, and with it the answer to the last Fetch.
func (t *Steps) Lost(leader metadata.NodeID) {
	delete(t.asked, leader)
	if x := t.fetcher(leader); x != nil {
		x.session.reset()
	}
}

// Wishes are ISR changes that partitions call for; answered takes what became of them, once, as ISRAlterer gives it. lagging
// says that those are looked for that have fallen behind. None: answered is nil.
func (t *Steps) Wishes(lagging bool) (changes []metadata.ISRChange, answered func([]error)) {
	k := t.set.isr
	if lagging {
		k.look()
	}
	var parts []*partition.Partition
	if changes, parts = k.wishes(); len(changes) == 0 {
		return nil, nil
	}
	return changes, func(errs []error) { k.answered(changes, parts, errs) }
}

// Repair does for each damaged replica what can be done for it now: see repair.go. What Unavailable gives is to be told to the cluster meanwhile.
func (t *Steps) Repair(ctx context.Context) { t.set.repairs.stepAll(ctx) }

// Removals puts away the folders of replicas that are here no more, and removes those whose time has come.
func (t *Steps) Removals() {
	t.set.finishRemovals()
	t.set.removeDue()
}

// Checkpoint writes the high watermarks down.
func (t *Steps) Checkpoint() { t.set.saveWatermarks() }
