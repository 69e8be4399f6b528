package replica

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/wire"
)

// Following says how this node replicates; the zero value follows nobody.
type Following struct {
	// Dial connects to another node's Kafka listener.
	Dial func(ctx context.Context, node metadata.NodeID) (net.Conn, error)
	// ISR has ISR changes agreed on. Nil: the ISR stays as it is.
	ISR ISRAlterer
	// NewEpoch has a new leader epoch of a partition agreed on, all else as it is, if nothing has changed since p: metadata.ErrStale. With it, and
	// if Unavailable is told to the cluster, damaged replicas are repaired from their leaders. Nil: they stay as they are.
	NewEpoch func(ctx context.Context, p *metadata.Partition) error
	// NodeEpoch is this node's registration, told with every Fetch (KIP-903).
	NodeEpoch func() int64
	// Lag is how long a replica may be behind before it leaves the ISR (replica.lag.time.max.ms). 0: 30 s.
	Lag time.Duration
	// Wait is how long a Fetch waits for records (replica.fetch.wait.max.ms). 0: 500 ms.
	Wait time.Duration
	// PartBytes and MaxBytes bound a Fetch (replica.fetch.max.bytes, replica.fetch.response.max.bytes). 0: 1 MiB, 10 MiB. A batch
	// that is larger comes alone.
	PartBytes, MaxBytes int32
}

func (f Following) withDefaults() Following {
	if f.Lag == 0 {
		f.Lag = 30 * time.Second
	}
	if f.Wait == 0 {
		f.Wait = 500 * time.Millisecond
	}
	if f.PartBytes == 0 {
		f.PartBytes = 1 << 20
	}
	if f.MaxBytes == 0 {
		f.MaxBytes = 10 << 20
	}
	if f.NodeEpoch == nil {
		f.NodeEpoch = func() int64 { return -1 }
	}
	return f
}

// followers are what this node follows: one fetcher for each leader. The goroutines are Run's.
type followers struct {
	set *Set
	f   Following

	mu       sync.Mutex
	by       map[*slot]follow // what is followed
	fetchers map[metadata.NodeID]*fetcher
	work     chan struct{} // room for one: leaders came or went

	call Call // one question apart from the fetches
}

// Call asks another node one thing.
type Call func(ctx context.Context, node metadata.NodeID, req kmsg.Request) (kmsg.Response, error)

// follow is whom a slot follows, and in which epoch.
type follow struct {
	leader metadata.NodeID
	epoch  int32
}

func newFollowers(s *Set, f Following) *followers {
	fs := &followers{set: s, f: f.withDefaults(), by: map[*slot]follow{}, fetchers: map[metadata.NodeID]*fetcher{}, work: make(chan struct{}, 1)}
	fs.call = fs.dialAndAsk
	return fs
}

// dialAndAsk is a Call over a connection of its own.
func (f *followers) dialAndAsk(ctx context.Context, node metadata.NodeID, req kmsg.Request) (kmsg.Response, error) {
	nc, err := f.f.Dial(ctx, node)
	if err != nil {
		return nil, err
	}
	client := wire.NewClient(nc, fmt.Sprintf("forebay-replica-%d", f.set.o.NodeID), 1<<20)
	defer func() { _ = client.Close() }() // it has said all it has to
	return client.Do(ctx, req)
}

// assign tells whom a slot follows from now on; p nil: nobody. It does not block.
func (f *followers) assign(sl *slot, p *metadata.Partition) {
	if f.f.Dial == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, was := f.by[sl]
	now := follow{leader: -1}
	if p != nil && p.Leader >= 0 && p.Leader != f.set.o.NodeID {
		now = follow{p.Leader, int32(p.LeaderEpoch)}
	}
	if was && old == now {
		return
	}
	if was && old.leader != now.leader {
		f.fetchers[old.leader].take(sl, nil)
	}
	if now.leader < 0 {
		delete(f.by, sl)
		return
	}
	f.by[sl] = now
	x := f.fetchers[now.leader]
	if x == nil {
		x = newFetcher(f, now.leader)
		f.fetchers[now.leader] = x
		poke(f.work)
	}
	x.take(sl, &fetched{slot: sl, topic: p.TopicID, number: p.Number, epoch: now.epoch})
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run keeps a goroutine for each fetcher until ctx ends. A leader that is followed no more costs a sleeping one.
func (f *followers) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[metadata.NodeID]bool{}
	for {
		f.mu.Lock()
		for _, node := range slices.Sorted(maps.Keys(f.fetchers)) {
			if x := f.fetchers[node]; !running[node] {
				running[node] = true
				wg.Go(func() { x.run(ctx) })
			}
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-f.work:
		}
	}
}

// Pauses of a fetcher whose leader cannot be reached, and of a partition that the leader refuses.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
	refused    = 30 * time.Millisecond
	broken     = time.Second
)

// jitter keeps the followers of a leader that is gone from coming all at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
