// Package cluster is what three nodes promise, tried with SIGKILL: they become one cluster by themselves, any one of
// them may die at any time, all of them at once too, and no acknowledged record is lost, doubled or moved.
package cluster

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	period = flag.Duration("for", 3*time.Minute, "how long nodes are killed one after the other")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the kill times")
)

const partitions = 6

// start runs all nodes at once and gives the time until the last was ready.
func start(t *testing.T, nodes []*node.Node) time.Duration {
	t.Helper()
	began := time.Now()
	node.StartAll(t, nodes)
	return time.Since(began)
}

func bootstrap(nodes []*node.Node) (addrs []string) {
	for _, n := range nodes {
		addrs = append(addrs, n.Kafka)
	}
	return addrs
}

func client(t *testing.T, nodes []*node.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap(nodes)...), kgo.RetryTimeout(30 * time.Second), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.DialTimeout(time.Second),
		// Who waits for a node that hangs finds out only by these.
		kgo.ProduceRequestTimeout(2 * time.Second), kgo.RequestTimeoutOverhead(time.Second),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within polls until ok, and fails the test when that takes longer than d.
func within(t *testing.T, d time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > d {
			t.Fatalf("not within %v: %s", d, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

// inSync says whether every partition of a topic has all its replicas in sync.
func inSync(admin *kadm.Client, topic string, replicas int) bool {
	return every(admin, topic, func(p kadm.PartitionDetail) bool {
		return len(p.Replicas) == replicas && len(p.ISR) == replicas && p.Leader >= 0
	})
}

// every says whether a topic is known, and ok of every partition of it.
func every(admin *kadm.Client, topic string, ok func(kadm.PartitionDetail) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil || len(topics[topic].Partitions) == 0 {
		return false
	}
	for _, p := range topics[topic].Partitions {
		if !ok(p) {
			return false
		}
	}
	return true
}

func TestThreeBecomeOne(t *testing.T) {
	nodes := node.NewCluster(t, 3)
	took := start(t, nodes)
	t.Logf("three nodes were one cluster after %v", took)
	admin := kadm.NewClient(client(t, nodes[1:2]))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	brokers, err := admin.BrokerMetadata(ctx)
	if err != nil || len(brokers.Brokers) != 3 {
		t.Fatalf("%v: %+v", err, brokers)
	}
	// Any node takes the wish, and the default is three replicas.
	if _, err := admin.CreateTopic(ctx, partitions, -1, nil, "numbers"); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "three replicas in sync", func() bool { return inSync(admin, "numbers", 3) })
	if took > 3*time.Second {
		t.Errorf("three nodes took %v to become one cluster, 3 s are promised", took)
	}
	// A tenth of what three nodes of Apache Kafka 4.4 have at the least (docs/benchmarks.md). A second after it is ready a node gives back the pages that only its
	// start needed.
	var resident float64
	began := time.Now()
	within(t, 10*time.Second, "three nodes have 120 MiB resident at most", func() bool {
		resident = 0
		for _, n := range nodes {
			now, _ := figures.RSS(n.PID())
			resident += now
		}
		return resident <= 120
	})
	t.Logf("%.0f MiB resident, all three, %v later", resident, time.Since(began).Round(time.Millisecond))
}

// ledger is what the producers were told.
type ledger struct {
	mu    sync.Mutex
	acked map[string]map[int64]place // producer -> number -> where
	last  time.Time                  // of the newest acknowledgement
	gap   time.Duration              // the longest time between two since the last reset
}

type place struct {
	partition int32
	offset    int64
}

func (l *ledger) ack(producer string, n int64, p place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[producer] == nil {
		l.acked[producer] = map[int64]place{}
	}
	l.acked[producer][n] = p
	now := time.Now()
	if !l.last.IsZero() {
		l.gap = max(l.gap, now.Sub(l.last))
	}
	l.last = now
}

func (l *ledger) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.acked {
		n += len(m)
	}
	return n
}

// produce sends numbered records until ctx ends, round the partitions, with acks=all and idempotence. The error is what the client did not get over by
// trying again; where nodes die that may be.
func produce(ctx context.Context, t *testing.T, nodes []*node.Node, name string, l *ledger) error {
	c := client(t, nodes, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(300),
		kgo.RequiredAcks(kgo.AllISRAcks()))
	var mu sync.Mutex
	var failed error
	for n := int64(0); ctx.Err() == nil; n++ {
		r := &kgo.Record{Topic: "numbers", Partition: int32(n % partitions), Key: []byte(name), Value: strconv.AppendInt(nil, n, 10)}
		c.Produce(t.Context(), r, func(r *kgo.Record, err error) {
			if err == nil {
				l.ack(name, n, place{r.Partition, r.Offset})
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if failed == nil {
				failed = fmt.Errorf("%s's record %d: %w", name, n, err)
			}
		})
		if n%20 == 0 {
			_ = pause.For(ctx, 2*time.Millisecond)
		}
	}
	flush, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.Flush(flush); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// load is a cluster with two plain producers, a transactional one and a committing group on it.
func load(t *testing.T) (nodes []*node.Node, admin *kadm.Client, l *ledger, stop func()) {
	t.Helper()
	return loadOn(t, 3)
}

// loadOn is load with so many replicas.
func loadOn(t *testing.T, replicas int16, args ...string) (nodes []*node.Node, admin *kadm.Client, l *ledger, stop func()) {
	t.Helper()
	t.Logf("seed %d", *seed)
	nodes = node.NewCluster(t, 3, args...)
	start(t, nodes)
	admin = kadm.NewClient(client(t, nodes))
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := admin.CreateTopics(ctx, partitions, replicas, nil, "numbers", "txn"); err != nil {
		t.Fatal(err)
	}
	l = &ledger{acked: map[string]map[int64]place{}}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { _ = produce(ctx, t, nodes, fmt.Sprintf("p%d", i), l) }) // what was not acknowledged is not in the ledger
	}
	wg.Go(func() { transact(ctx, t, nodes, "t0", l) })
	var steppedBack error
	wg.Go(func() { steppedBack = commitOffsets(ctx, t, nodes) })
	stop = func() {
		cancel()
		wg.Wait()
		if steppedBack != nil {
			t.Error(steppedBack)
		}
	}
	t.Cleanup(stop)
	within(t, 30*time.Second, "acknowledgements", func() bool { return l.count() > 200 })
	within(t, 30*time.Second, "all replicas in sync", func() bool { return inSync(admin, "numbers", int(replicas)) })
	return nodes, admin, l, stop
}

// TestAnyOneMayDie kills one node after the other under load. The rest goes on within 5 s, and everything acknowledged stays.
func TestAnyOneMayDie(t *testing.T) {
	nodes, admin, l, stop := load(t)
	random := rand.New(rand.NewPCG(*seed, 1))
	var worst time.Duration
	for k, began := 0, time.Now(); time.Since(began) < *period; k++ {
		victim := nodes[(k+int(*seed%3))%3]
		_ = pause.For(context.Background(), time.Duration(100+random.IntN(500))*time.Millisecond)
		l.mu.Lock()
		l.gap = 0
		l.mu.Unlock()
		before := l.count()
		victim.Kill()
		// All partitions take records again: every number up to now is followed by one on each partition.
		within(t, 20*time.Second, "acknowledgements after a kill", func() bool { return l.count() > before+500 })
		l.mu.Lock()
		gap := l.gap
		l.mu.Unlock()
		worst = max(worst, gap)
		t.Logf("kill %d: the producers' gap was %v", k+1, gap)
		victim.Start()
		within(t, 40*time.Second, "three replicas in sync again", func() bool { return inSync(admin, "numbers", 3) })
	}
	stop()
	t.Logf("%d records acknowledged, the longest gap was %v", l.count(), worst)
	verify(t, nodes, l)
	if worst > 5*time.Second {
		t.Errorf("the longest gap was %v, 5 s are promised", worst)
	}
}

// TestAllMayDie kills all nodes at once under load.
func TestAllMayDie(t *testing.T) {
	nodes, _, l, stop := load(t)
	for range 2 {
		var wg sync.WaitGroup
		for _, n := range nodes {
			wg.Go(n.Kill)
		}
		wg.Wait()
		before := l.count()
		began := time.Now()
		took := start(t, nodes)
		within(t, 30*time.Second, "acknowledgements after a kill of all", func() bool { return l.count() > before+500 })
		back := time.Since(began)
		t.Logf("ready after %v, back to work after %v", took, back)
		if back > 5*time.Second {
			t.Errorf("back to work after %v, 5 s are promised", back)
		}
	}
	stop()
	verify(t, nodes, l)
}

// TestAnEmptiedNode kills a node and takes its disk away. It comes back under its id, knows nothing, is in no ISR until it
// has caught up, and then may be relied upon: the others die.
func TestAnEmptiedNode(t *testing.T) {
	nodes, admin, l, stop := load(t)
	for _, at := range []int{1, 0} {
		nodes[at].Kill()
		empty(t, nodes[at])
		nodes[at].Start()
		within(t, 40*time.Second, "three replicas in sync again", func() bool { return inSync(admin, "numbers", 3) && inSync(admin, "txn", 3) })
		before := l.count()
		within(t, 20*time.Second, "acknowledgements", func() bool { return l.count() > before+500 })
	}
	stop()
	verify(t, nodes, l)
}

// TestAPausedNode stops a node for longer than its lease. It wakes up as a leader that is none any more: nothing that it does then counts.
func TestAPausedNode(t *testing.T) {
	nodes, admin, l, stop := load(t)
	for _, n := range nodes {
		if err := n.Pause(); err != nil {
			t.Fatal(err)
		}
		before := l.count()
		within(t, 20*time.Second, "acknowledgements beside a node that hangs", func() bool { return l.count() > before+500 })
		if err := n.Resume(); err != nil {
			t.Fatal(err)
		}
		within(t, 40*time.Second, "three replicas in sync again", func() bool { return inSync(admin, "numbers", 3) })
	}
	stop()
	l.mu.Lock()
	t.Logf("the producers' longest gap was %v", l.gap)
	l.mu.Unlock()
	verify(t, nodes, l)
}

// verify reads everything and holds it against the ledger.
func verify(t *testing.T, nodes []*node.Node, l *ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	admin := kadm.NewClient(client(t, nodes))
	left := decided(ctx, t, admin)
	c := client(t, nodes, kgo.ConsumeTopics("numbers", "txn"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	found := map[string]map[int64]place{}
	last := map[string]int64{}
	read := 0
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("not everything could be read: %v left", left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			where := r.Topic + "/" + strconv.Itoa(int(r.Partition))
			if end, ok := left[where]; ok && r.Offset >= end-1 {
				delete(left, where)
			}
			if r.Attrs.IsControl() {
				return
			}
			read++
			name := string(r.Key)
			number, err := strconv.ParseInt(string(r.Value), 10, 64)
			if err != nil {
				t.Fatalf("read_committed saw %q at %s@%d: it was aborted", r.Value, where, r.Offset)
			}
			if found[name] == nil {
				found[name] = map[int64]place{}
			}
			if at, twice := found[name][number]; twice {
				t.Errorf("%s's record %d is there twice: %v and %d@%d", name, number, at, r.Partition, r.Offset)
			}
			found[name][number] = place{r.Partition, r.Offset}
			key := name + "/" + strconv.Itoa(int(r.Partition))
			if before, ok := last[key]; ok && number <= before {
				t.Errorf("%s's record %d comes after %d in partition %d", name, number, before, r.Partition)
			}
			last[key] = number
		})
	}
	var lost []string
	for name, numbers := range l.acked {
		for number, at := range numbers {
			got, ok := found[name][number]
			switch {
			case !ok:
				lost = append(lost, fmt.Sprintf("%s/%d at %v", name, number, at))
			case got != at:
				t.Errorf("%s's record %d was acknowledged at %v and lies at %v", name, number, at, got)
			}
		}
	}
	if len(lost) > 0 {
		t.Errorf("%d acknowledged records are lost: %s …", len(lost), strings.Join(lost[:min(5, len(lost))], ", "))
	}
	t.Logf("%d records read back, %d were acknowledged", read, l.count())
}

// decided waits until the timeout of transactions that were left open has decided them, and gives the ends of the partitions.
func decided(ctx context.Context, t *testing.T, admin *kadm.Client) map[string]int64 {
	t.Helper()
	for {
		ends, err := admin.ListEndOffsets(ctx, "numbers", "txn")
		if err != nil || ends.Error() != nil {
			t.Fatal(err, ends.Error())
		}
		stable, err := admin.ListCommittedOffsets(ctx, "numbers", "txn")
		if err != nil || stable.Error() != nil {
			t.Fatal(err, stable.Error())
		}
		left, open := map[string]int64{}, ""
		ends.Each(func(e kadm.ListedOffset) {
			where := e.Topic + "/" + strconv.Itoa(int(e.Partition))
			if e.Offset > 0 {
				left[where] = e.Offset
			}
			if s, _ := stable.Lookup(e.Topic, e.Partition); s.Offset < e.Offset {
				open = fmt.Sprintf("%s: %d of %d", where, s.Offset, e.Offset)
			}
		})
		if open == "" {
			return left
		}
		_ = pause.For(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			t.Fatalf("a transaction hangs: %s", open)
		}
	}
}

// transact commits two of three transactions; records of the third must never be seen.
func transact(ctx context.Context, t *testing.T, nodes []*node.Node, name string, l *ledger) {
	var n int64
	for ctx.Err() == nil { // a fenced or failed producer starts again, as an application would
		if err := transactWith(ctx, nodes, name, &n, l); err != nil && ctx.Err() == nil {
			_ = pause.For(ctx, 20*time.Millisecond)
		}
	}
}

func transactWith(ctx context.Context, nodes []*node.Node, name string, n *int64, l *ledger) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(bootstrap(nodes)...), kgo.TransactionalID(name), kgo.TransactionTimeout(10*time.Second), kgo.RetryTimeout(20*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.ProduceRequestTimeout(2*time.Second), kgo.RequestTimeoutOverhead(time.Second))
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		if err := c.BeginTransaction(); err != nil {
			return err
		}
		commit, abort := kgo.TryCommit, *n/5%3 == 2
		var records []*kgo.Record
		for range 5 {
			r := &kgo.Record{Topic: "txn", Partition: int32(*n % partitions), Key: []byte(name), Value: strconv.AppendInt(nil, *n, 10)}
			if abort {
				r.Value = append([]byte("aborted-"), r.Value...)
			}
			*n++
			records = append(records, r)
		}
		step, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if c.ProduceSync(step, records...).FirstErr() != nil || abort {
			commit = kgo.TryAbort
		}
		err := c.EndTransaction(step, commit)
		cancel()
		if err != nil {
			return err // undecided: neither in the ledger nor forbidden
		}
		if commit == kgo.TryCommit {
			for _, r := range records {
				number, _ := strconv.ParseInt(string(r.Value), 10, 64) // as it was written above
				l.ack(name, number, place{r.Partition, r.Offset})
			}
		}
	}
	return nil
}

// commitOffsets raises a group's offset by one, again and again, and reads it back.
func commitOffsets(ctx context.Context, t *testing.T, nodes []*node.Node) error {
	admin := kadm.NewClient(client(t, nodes))
	var acked int64 = -1
	for at := int64(0); ctx.Err() == nil; at++ {
		var o kadm.Offsets
		o.AddOffset("numbers", 0, at, -1)
		if resp, err := admin.CommitOffsets(ctx, "clerk", o); err == nil && resp.Error() == nil {
			acked = at
		}
		got, err := admin.FetchOffsets(ctx, "clerk")
		if err != nil || got.Error() != nil {
			continue
		}
		if o, ok := got.Lookup("numbers", 0); acked >= 0 && (!ok || o.At < acked) {
			return fmt.Errorf("group clerk: offset %d was acknowledged and %+v was read back", acked, o)
		}
		_ = pause.For(ctx, 5*time.Millisecond)
	}
	t.Logf("group clerk: %d commits acknowledged at the end", acked)
	return nil
}
