// Package kill is the promise of an acknowledgement, tried with SIGKILL: numbered
// records from several producers, plain and transactional, and a group that
// commits, while the node is killed again and again.
package kill

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/tests/node"
)

var (
	kills      = flag.Int("kills", 100, "how often the node is killed")
	durability = flag.String("durability", "power-safe", "power-safe or relaxed")
	seed       = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the kill times")
)

const (
	producers  = 3
	partitions = 3
	burst      = 100 // records of an idempotent producer at a time; a few bursts are in flight when the disk is slow
)

// ledger is what producers were told: per producer the numbers that were acknowledged.
type ledger struct {
	mu    sync.Mutex
	acked map[string]map[int64]place // producer -> number -> where
	max   map[string]int64           // producer -> highest number tried
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
}

func (l *ledger) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.acked {
		n += len(m)
	}
	return n
}

// TestNothingAckedIsLost is gate 1 of the log: after every kill what was acknowledged is there, once, where it was
// said to be, in order; what was read is as it was; a group's committed offset never steps back; a transaction is seen whole or
// not at all. Compaction and retention run all the time.
func TestNothingAckedIsLost(t *testing.T) {
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	n := node.New(t, "--data", t.TempDir(), "--durability", *durability, "--set", "log.retention.check.interval.ms=100", "--set", "log.segment.delete.delay.ms=100")
	n.Start()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	admin := kadm.NewClient(client(t, n.Kafka))
	create(t, admin, partitions, nil, "numbers", "txn")
	create(t, admin, 1, map[string]string{"cleanup.policy": "compact", "segment.ms": "200", "delete.retention.ms": "100"}, "table")
	create(t, admin, 1, map[string]string{"segment.bytes": "1048576", "retention.bytes": "2097152"}, "short")

	l := &ledger{acked: map[string]map[int64]place{}, max: map[string]int64{}}
	var wg sync.WaitGroup
	for i := range producers {
		wg.Add(2)
		go func() { defer wg.Done(); produce(ctx, t, n.Kafka, fmt.Sprintf("p%d", i), l) }()
		go func() { defer wg.Done(); transact(ctx, t, n.Kafka, fmt.Sprintf("t%d", i), l) }()
	}
	var steppedBack error
	wg.Go(func() { steppedBack = commitOffsets(ctx, t, n.Kafka) })
	keys, group, saw := &table{}, &readers{acked: map[int32]int64{}}, newWitness()
	wg.Go(func() { keys.write(ctx, client(t, n.Kafka), rand.New(rand.NewPCG(*seed, 2))) })
	wg.Go(func() { fill(ctx, client(t, n.Kafka)) })
	wg.Go(func() {
		saw.follow(ctx, client(t, n.Kafka, kgo.ConsumeTopics("numbers", "txn", "table", "short"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords()))
	})
	for range 2 {
		wg.Go(func() {
			group.member(ctx, client(t, n.Kafka, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("txn"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit()))
		})
	}

	slowest := time.Duration(0)
	for k := range *kills {
		before := l.count()
		wait := time.Duration(50+random.IntN(350)) * time.Millisecond
		pause(ctx, wait)
		deadline := time.Now().Add(30 * time.Second)
		for l.count() == before && time.Now().Before(deadline) { // each life must have acknowledged something
			pause(ctx, 20*time.Millisecond)
		}
		if l.count() == before {
			t.Fatalf("nothing was acknowledged for 30 s before kill %d", k)
		}
		n.Kill()
		n.Start()
		slowest = max(slowest, n.ReadyAfter)
		last := int64(500)
		if k%50 == 49 {
			last = 1 << 62 // all of it
		}
		if err := errors.Join(saw.reread(t, n.Kafka, last), group.check(ctx, admin)); err != nil {
			t.Fatalf("after kill %d: %v", k, err)
		}
	}
	pause(ctx, 2*time.Second)
	stop()
	wg.Wait()
	if steppedBack != nil {
		t.Fatal(steppedBack)
	}
	t.Logf("soak: %d kills, %d records acknowledged, slowest start %v", *kills, l.count(), slowest)
	verify(t, n.Kafka, l)
	keys.verify(t, n.Kafka)
	if err := errors.Join(saw.reread(t, n.Kafka, 1<<62), group.check(context.Background(), admin)); err != nil {
		t.Fatal(err)
	}
	if len(group.acked) != partitions || saw.start[spot{"short", 0}] == 0 {
		t.Errorf("the group committed %v, retention went to %v: too little happened", group.acked, saw.start)
	}
	t.Logf("soak: %d offsets read again with their first content; group offsets %v", saw.count(), group.acked)
}

func create(t *testing.T, admin *kadm.Client, partitions int32, configs map[string]string, topics ...string) {
	t.Helper()
	given := map[string]*string{}
	for k, v := range configs {
		given[k] = &v
	}
	all, err := admin.CreateTopics(context.Background(), partitions, 1, given, topics...)
	if err = errors.Join(err, all.Error()); err != nil {
		t.Fatal(err)
	}
}

// pause waits between random events; nothing depends on its length.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RetryTimeout(20 * time.Second), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func numbered(topic, producer string, n int64) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: int32(n % partitions), Key: []byte(producer), Value: strconv.AppendInt(nil, n, 10)}
}

// produce is an idempotent producer with many records in flight.
func produce(ctx context.Context, t *testing.T, addr, name string, l *ledger) {
	c := client(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(500))
	for n := int64(0); ctx.Err() == nil; n++ {
		l.mu.Lock()
		l.max[name] = n
		l.mu.Unlock()
		c.Produce(ctx, numbered("numbers", name, n), func(r *kgo.Record, err error) {
			if err == nil {
				l.ack(name, n, place{r.Partition, r.Offset})
			}
		})
		if n%burst == burst-1 {
			pause(ctx, 60*time.Millisecond)
		}
	}
	flush, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = c.Flush(flush) // what was not acknowledged is not in the ledger
}

// transact commits two of three transactions; records of the third must never be seen.
func transact(ctx context.Context, t *testing.T, addr, name string, l *ledger) {
	var n int64
	for ctx.Err() == nil { // a fenced or failed producer starts again, as an application would
		err := transactWith(ctx, t, addr, name, &n, l)
		if err != nil && ctx.Err() == nil {
			pause(ctx, 20*time.Millisecond)
		}
	}
}

func transactWith(ctx context.Context, t *testing.T, addr, name string, n *int64, l *ledger) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID(name), kgo.TransactionTimeout(10*time.Second), kgo.RetryTimeout(20*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		if err := c.BeginTransaction(); err != nil {
			return err
		}
		commit := kgo.TryCommit
		first := *n
		abort := first%3 == 2
		var records []*kgo.Record
		for range 5 {
			r := numbered("txn", name, *n)
			if abort {
				r.Value = append([]byte("aborted-"), r.Value...)
			}
			*n++
			records = append(records, r)
		}
		if abort {
			commit = kgo.TryAbort
		}
		step, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		produced := c.ProduceSync(step, records...)
		if produced.FirstErr() != nil {
			commit = kgo.TryAbort
		}
		err := c.EndTransaction(step, commit)
		cancel()
		if err != nil {
			return err // undecided: neither in the ledger nor forbidden
		}
		if commit == kgo.TryCommit {
			for _, r := range records { // produced is in the order of the acks
				number, _ := strconv.ParseInt(string(r.Value), 10, 64) // as numbered wrote it
				l.ack(name, number, place{r.Partition, r.Offset})
			}
		}
		l.mu.Lock()
		l.max[name] = *n
		l.mu.Unlock()
	}
	return nil
}

// commitOffsets raises a group's offset by one, again and again, and reads it back.
func commitOffsets(ctx context.Context, t *testing.T, addr string) error {
	admin := kadm.NewClient(client(t, addr))
	var acked int64 = -1
	for at := int64(0); ctx.Err() == nil; at++ {
		var o kadm.Offsets
		o.AddOffset("numbers", 0, at, -1)
		if resp, err := admin.CommitOffsets(ctx, "clerk", o); err == nil && resp.Error() == nil {
			acked = at
		}
		got, err := admin.FetchOffsets(ctx, "clerk")
		if err != nil {
			continue
		}
		if o, ok := got.Lookup("numbers", 0); acked >= 0 && (!ok || o.At < acked) {
			return fmt.Errorf("group clerk: offset %d was acknowledged and %+v was read back", acked, o)
		}
		pause(ctx, 5*time.Millisecond)
	}
	return nil
}

// verify reads everything twice, in both isolation levels, and holds it against the ledger.
func verify(t *testing.T, addr string, l *ledger) {
	t.Helper()
	committed := readAll(t, addr, kgo.ReadCommitted())
	again := readAll(t, addr, kgo.ReadCommitted())
	found := map[string]map[int64]place{}
	last := map[string]map[int32]int64{} // producer -> partition -> last number
	for i, r := range committed {
		if i >= len(again) || r.Offset != again[i].Offset || string(r.Value) != string(again[i].Value) {
			t.Fatalf("%s-%d@%d changed between two reads", r.Topic, r.Partition, r.Offset)
		}
		name := string(r.Key)
		number, err := strconv.ParseInt(string(r.Value), 10, 64)
		if err != nil {
			t.Fatalf("read_committed saw %q at %s-%d@%d: it was aborted", r.Value, r.Topic, r.Partition, r.Offset)
		}
		if found[name] == nil {
			found[name], last[name] = map[int64]place{}, map[int32]int64{0: -1, 1: -1, 2: -1}
		}
		if at, twice := found[name][number]; twice {
			t.Fatalf("%s's record %d is there twice: %v and %d@%d", name, number, at, r.Partition, r.Offset)
		}
		found[name][number] = place{r.Partition, r.Offset}
		if number <= last[name][r.Partition] {
			t.Fatalf("%s's record %d comes after %d in %s-%d", name, number, last[name][r.Partition], r.Topic, r.Partition)
		}
		last[name][r.Partition] = number
	}
	whole := map[string]map[int64]int{} // transactional producer -> transaction -> records of it
	for name, numbers := range found {
		for number := range numbers {
			if whole[name] == nil {
				whole[name] = map[int64]int{}
			}
			whole[name][number/5]++
		}
	}
	for name, txns := range whole {
		for txn, records := range txns {
			if name[0] == 't' && records != 5 {
				t.Errorf("%s's transaction %d is torn: %d of its 5 records are there", name, txn, records)
			}
		}
	}
	lost := 0
	for name, numbers := range l.acked {
		for number, at := range numbers {
			got, ok := found[name][number]
			switch {
			case !ok:
				if lost++; lost <= 5 {
					t.Errorf("%s's record %d was acknowledged at %v and is lost", name, number, at)
				}
			case at.offset >= 0 && got != at:
				t.Errorf("%s's record %d was acknowledged at %v and lies at %v", name, number, at, got)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged records are lost", lost)
	}
	t.Logf("soak: %d records read back", len(committed))
}

func readAll(t *testing.T, addr string, level kgo.IsolationLevel) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	offsets := map[string]map[int32]kgo.Offset{}
	admin := kadm.NewClient(client(t, addr))
	ends, err := admin.ListEndOffsets(ctx, "numbers", "txn")
	if err != nil {
		t.Fatal(err)
	}
	// The last records may belong to transactions that were left open: wait until their timeout has decided them.
	for {
		stable, err := admin.ListCommittedOffsets(ctx, "numbers", "txn")
		if err != nil {
			t.Fatal(err)
		}
		open := false
		ends.Each(func(e kadm.ListedOffset) {
			s, _ := stable.Lookup(e.Topic, e.Partition)
			open = open || s.Offset < e.Offset
		})
		if !open {
			ends = stable
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the last stable offset did not reach the end within 3 minutes: a transaction hangs")
		}
		pause(ctx, 100*time.Millisecond)
	}
	left := map[string]map[int32]int64{}
	ends.Each(func(e kadm.ListedOffset) {
		if offsets[e.Topic] == nil {
			offsets[e.Topic], left[e.Topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		}
		offsets[e.Topic][e.Partition] = kgo.NewOffset().At(0)
		left[e.Topic][e.Partition] = e.Offset
	})
	c := client(t, addr, kgo.ConsumePartitions(offsets), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())
	byPartition := map[place][]*kgo.Record{}
	open := 0
	for _, ps := range left {
		for p, end := range ps {
			if end > 0 {
				open++
			} else {
				delete(ps, p)
			}
		}
	}
	for open > 0 {
		fetches := c.PollFetches(ctx)
		if errors.Is(fetches.Err0(), context.DeadlineExceeded) {
			t.Fatalf("not everything could be read: %v left", left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				key := place{partition: r.Partition, offset: int64(len(r.Topic))}
				byPartition[key] = append(byPartition[key], r)
			}
			if end, ok := left[r.Topic][r.Partition]; ok && r.Offset >= end-1 {
				delete(left[r.Topic], r.Partition)
				open--
			}
		})
	}
	var all []*kgo.Record
	for _, topic := range []string{"numbers", "txn"} {
		for p := range int32(partitions) {
			all = append(all, byPartition[place{partition: p, offset: int64(len(topic))}]...)
		}
	}
	return all
}
