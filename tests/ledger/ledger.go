// Package ledger keeps a node busy with everything that carries a promise, remembers what the node said, and holds it against what is
// there after each of the node's deaths: tests/kill and tests/power end the node in their ways.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/pause"
)

const (
	producers  = 3
	partitions = 3
)

// Connect makes a client of the node, whichever life it is in.
type Connect func(...kgo.Opt) (*kgo.Client, error)

// Ledger is a load under way and what it was told.
type Ledger struct {
	t       testing.TB
	connect Connect
	admin   *kadm.Client
	idle    *kgo.Client

	acks  *acks
	keys  *table
	group *readers
	saw   *witness
	ends  *watermarks
	moves *movers

	stop        context.CancelFunc
	work        sync.WaitGroup
	steppedBack error
}

// Options of a load.
type Options struct {
	Seed uint64
	// Burst is how many records an idempotent producer sends at a time; a few bursts are in flight when the disk is slow.
	Burst int64
	// FillBytes is the size of the records of the topic that retention eats. The topic rolls at 1 MiB.
	FillBytes int
	// Roll is the compacted topic's segment.ms; short where lives are short.
	Roll time.Duration
	// Session makes a member of a group that reads, writes and commits its offsets in transactions. Nil: there are none.
	Session func(...kgo.Opt) (*kgo.GroupTransactSession, error)
}

// Start creates the topics and sets everybody to work: three idempotent and three transactional producers, a compacted topic's
// writer, a topic that retention eats, a group of two, a clerk that commits offsets, and a witness of all that is readable, in both isolation levels. Topics have as many replicas as the
// node's default says.
func Start(t testing.TB, connect Connect, o Options) *Ledger {
	t.Helper()
	var err error
	l := &Ledger{
		t: t, connect: connect, keys: &table{}, group: &readers{acked: map[int32]int64{}}, saw: newWitness(), ends: newWatermarks(), moves: &movers{acked: map[int32]int64{}},
		acks: &acks{acked: map[string]map[int64]place{}, aborted: map[string]map[int64]bool{}, max: map[string]int64{}},
	}
	if l.idle, err = connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.idle.Close)
	l.admin = kadm.NewClient(l.idle)
	l.create(partitions, nil, topics[:3]...)
	l.create(1, map[string]string{"cleanup.policy": "compact", "segment.ms": strconv.FormatInt(o.Roll.Milliseconds(), 10), "delete.retention.ms": "100"}, "table")
	l.create(1, map[string]string{"segment.bytes": "1048576", "retention.bytes": "2097152"}, "short")

	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	t.Cleanup(l.abandon)
	for i := range producers {
		l.work.Go(func() { l.note(l.acks.produce(ctx, connect, fmt.Sprintf("p%d", i), o.Burst)) })
		l.work.Go(func() { l.acks.transact(ctx, connect, fmt.Sprintf("t%d", i)) })
	}
	l.work.Go(func() { l.steppedBack = commitOffsets(ctx, l.admin) })
	l.with(func(c *kgo.Client) { l.keys.write(ctx, c, rand.New(rand.NewPCG(o.Seed, 2))) })
	l.with(func(c *kgo.Client) { fill(ctx, c, o.FillBytes) }, kgo.ProducerBatchCompression(kgo.NoCompression()))
	l.with(func(c *kgo.Client) { l.saw.follow(ctx, c) }, kgo.ConsumeTopics("numbers", "txn", "table", "short"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	l.with(func(c *kgo.Client) { l.saw.followCommitted(ctx, c) }, kgo.ConsumeTopics("txn", "moved"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	l.with(func(c *kgo.Client) { l.ends.watch(ctx, c) })
	if o.Session != nil {
		for i := range 2 {
			l.work.Go(func() { l.moves.run(ctx, o.Session, fmt.Sprintf("mover-%d", i)) })
		}
	}
	for range 2 {
		l.with(func(c *kgo.Client) { l.group.member(ctx, c) }, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("txn"),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit())
	}
	return l
}

// abandon ends the load of a test that failed before Finish. Who has something to say of it has said it within a minute; a client that waits for a node
// that is gone for good has nothing to say.
func (l *Ledger) abandon() {
	l.stop()
	ended := make(chan struct{})
	go func() {
		l.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
	}
}

func (l *Ledger) note(err error) {
	if err != nil {
		l.t.Error(err)
	}
}

// with runs fn with a client of its own.
func (l *Ledger) with(fn func(*kgo.Client), opts ...kgo.Opt) {
	c, err := l.connect(opts...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.work.Go(func() { defer c.Close(); fn(c) })
}

func (l *Ledger) create(partitions int32, configs map[string]string, topics ...string) {
	l.t.Helper()
	given := map[string]*string{}
	for k, v := range configs {
		given[k] = &v
	}
	all, err := l.admin.CreateTopics(context.Background(), partitions, -1, given, topics...)
	if err = errors.Join(err, all.Error()); err != nil {
		l.t.Fatal(err)
	}
}

// Serves waits until something has been acknowledged that was not before, as each life of a node must.
func (l *Ledger) Serves(within time.Duration) {
	l.t.Helper()
	if err := l.Advances(1, within); err != nil {
		l.t.Fatal(err)
	}
}

// Advances waits until so many more records have been acknowledged.
func (l *Ledger) Advances(records int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for before := l.acks.count(); l.acks.count() < before+records; {
		if ctx.Err() != nil {
			return fmt.Errorf("%d records were acknowledged within %v, and not %d", l.acks.count()-before, within, records)
		}
		_ = pause.For(ctx, 10*time.Millisecond)
	}
	return nil
}

// Topics of the load, and the groups' and transactions' own.
func Topics() []string {
	return append(slices.Clone(topics), "__consumer_offsets", "__transaction_state")
}

var topics = []string{"numbers", "txn", "moved", "table", "short"}

// Check reads again the last so many offsets of each partition, and the group's offsets.
func (l *Ledger) Check(last int64) error {
	return errors.Join(l.saw.reread(l.connect, last), l.group.check(context.Background(), l.admin), l.moves.check(context.Background(), l.admin), l.ends.check())
}

// Everything is what Check takes for all offsets.
const Everything = 1 << 62

// Finish ends the load and holds all that was said against all that is there.
func (l *Ledger) Finish() {
	l.t.Helper()
	l.stop()
	l.work.Wait()
	if l.steppedBack != nil {
		l.t.Fatal(l.steppedBack)
	}
	l.acks.verify(l.t, l.connect, l.admin)
	l.keys.verify(l.t, l.connect)
	if err := l.Check(Everything); err != nil {
		l.t.Fatal(err)
	}
	if err := l.moves.verify(l.connect, l.admin); err != nil {
		l.t.Fatal(err)
	}
	if len(l.group.acked) != partitions || l.saw.start[spot{"short", 0}] == 0 || l.acks.countAborted() == 0 || l.ends.seen == 0 {
		l.t.Errorf("the group committed %v, retention went to %v, %d records were aborted, %d high watermarks seen: too little happened",
			l.group.acked, l.saw.start, l.acks.countAborted(), l.ends.seen)
	}
	l.t.Logf("soak: %d records acknowledged; %d offsets have their first content; group offsets %v; %d high watermarks, none below an earlier one", l.acks.count(), l.saw.count(), l.group.acked, l.ends.seen)
}
