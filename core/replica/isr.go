package replica

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
)

// ISRAlterer has ISR changes agreed on by the cluster; the controller is behind it.
//
// AlterPartition gives one result for each change:
//   - nil: agreed; the new state comes with an Image.
//   - metadata.ErrStale: the partition, or its leader's registration, has changed since; the newer state comes with an Image.
//   - metadata.ErrIneligible: a member is fenced, or registered anew since it fetched. The change was not made, and will not be.
//   - metadata.ErrUnknownTopic: it is deleted.
//   - anything else: nobody knows. It may have been made, or be made later; it is asked for again.
//
// It may block until ctx ends.
type ISRAlterer interface {
	AlterPartition(ctx context.Context, changes []metadata.ISRChange) []error
}

// isrKeeper looks after the ISRs of the partitions that this node leads. Its goroutine is Run's.
type isrKeeper struct {
	set   *Set
	alter ISRAlterer
	lag   time.Duration

	mu    sync.Mutex
	dirty map[*partition.Partition]bool // may call for a change; bounded by the partitions there are
	work  chan struct{}                 // room for one
}

func newISRKeeper(s *Set, alter ISRAlterer, lag time.Duration) *isrKeeper {
	return &isrKeeper{set: s, alter: alter, lag: lag, dirty: map[*partition.Partition]bool{}, work: make(chan struct{}, 1)}
}

// wish notes that a partition may call for a change of its ISR.
func (k *isrKeeper) wish(p *partition.Partition) {
	k.mu.Lock()
	k.dirty[p] = true
	k.mu.Unlock()
	poke(k.work)
}

// alterTimeout is how long one question to the controller may take; what is not known then is asked again.
const alterTimeout = 5 * time.Second

// maxAlter bounds one question.
const maxAlter = 1000

func (k *isrKeeper) run(ctx context.Context) {
	tick := time.NewTicker(max(k.lag/2, time.Millisecond))
	defer tick.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.look()
		case <-k.work:
		case <-again:
		}
		again = nil
		if k.ask(ctx) {
			again = time.After(jitter(200 * time.Millisecond))
		}
	}
}

// look takes every partition that is led for one that may call for a change: who has fallen behind says nothing.
func (k *isrKeeper) look() {
	k.set.Hosted(func(p *partition.Partition) {
		if leading, _ := p.Leader(); leading {
			k.mu.Lock()
			k.dirty[p] = true
			k.mu.Unlock()
		}
	})
}

// ask has all wishes agreed on; true: some are to be asked for again.
func (k *isrKeeper) ask(ctx context.Context) (again bool) {
	changes, parts := k.wishes()
	if len(changes) == 0 {
		return false
	}
	asking, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	return k.answered(changes, parts, k.alter.AlterPartition(asking, changes))
}

// wishes takes the changes that are called for, in the order of partitions.
func (k *isrKeeper) wishes() (changes []metadata.ISRChange, parts []*partition.Partition) {
	k.mu.Lock()
	dirty := k.dirty
	k.dirty = map[*partition.Partition]bool{}
	k.mu.Unlock()
	order := slices.SortedFunc(maps.Keys(dirty), func(a, b *partition.Partition) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	})
	for _, p := range order {
		if len(changes) == maxAlter {
			k.wish(p)
			continue
		}
		if c, ok := p.Wish(k.lag, k.set.nodes); ok {
			changes, parts = append(changes, c), append(parts, p)
		}
	}
	return changes, parts
}

// answered tells the partitions what became of their wishes; true: some are to be asked for again.
func (k *isrKeeper) answered(changes []metadata.ISRChange, parts []*partition.Partition, errs []error) (again bool) {
	agreed := 0
	for i, p := range parts {
		err := errors.New("no answer")
		if i < len(errs) {
			err = errs[i]
		}
		p.Wished(changes[i], err)
		switch {
		case err == nil:
			agreed++
			k.set.o.Logger.Debug("in-sync replicas changed", "partition", p.Topic, "number", p.Number, "isr", changes[i].Nodes())
		case errors.Is(err, metadata.ErrStale), errors.Is(err, metadata.ErrUnknownTopic):
		default:
			k.set.o.Logger.Debug("in-sync replicas not changed", "partition", p.Topic, "number", p.Number, "isr", changes[i].Nodes(), "error", err)
			k.mu.Lock()
			k.dirty[p] = true
			k.mu.Unlock()
			again = true
		}
	}
	if agreed > 0 { // a node that dies or comes back changes those of a thousand partitions
		k.set.o.Logger.Info("in-sync replicas changed", "partitions", agreed)
	}
	return again
}

// nodes is partition.Nodes by the newest Image.
func (s *Set) nodes(id metadata.NodeID) (epoch int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mu.image == nil || s.mu.image.Nodes[id] == nil {
		return -1, false
	}
	n := s.mu.image.Nodes[id]
	return n.Epoch, !n.Fenced
}
