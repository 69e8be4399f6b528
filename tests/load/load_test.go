// Package load is a node in its working life: everything that clients do, at the same time, for as long as it is told,
// and nothing may fail or grow.
package load

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/tests/node"
)

var (
	length = flag.Duration("for", 10*time.Second, "how long the load lasts")
	rate   = flag.Int("rate", 2000, "records per second of the plain producers together")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of what clients do")
)

// beat is how often a producer sends.
const beat = 200 * time.Millisecond

// life is what the clients share.
type life struct {
	t    *testing.T
	addr string
	// ctx ends when nothing new is begun; what is under way may end in its own time.
	ctx      context.Context
	produced atomic.Int64 // records acknowledged outside of transactions
	consumed atomic.Int64 // by the group
	txns     atomic.Int64 // decided as wanted
	topics   atomic.Int64 // created, used and deleted
	members  atomic.Int64 // of groups, that came and went
	conns    atomic.Int64 // bare ones
}

// fail says what failed, unless the end of the test is the cause.
func (l *life) fail(what string, err error) {
	if err != nil && l.ctx.Err() == nil {
		l.t.Errorf("%s after %d records: %v", what, l.produced.Load(), err)
	}
}

// each calls fn at an interval until the end.
func (l *life) each(interval time.Duration, fn func(n int)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			fn(n)
		case <-l.ctx.Done():
			return
		}
	}
}

func (l *life) client(opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.addr), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		l.t.Error(err) // of the options
		panic(err)
	}
	return c
}

// TestMixedLoad runs everything at once. With -for of 12 minutes or more it also says that resident memory and descriptors
// do not grow; shorter runs see only that nothing fails and that nothing is left when the clients are gone.
func TestMixedLoad(t *testing.T) {
	t.Logf("soak: seed %d", *seed)
	n := node.New(t, "--data", t.TempDir(), "--set", "log.retention.check.interval.ms=1000", "--set", "log.cleaner.backoff.ms=1000", "--set", "log.segment.delete.delay.ms=1000",
		"--set", "producer.id.expiration.ms=120000", "--set", "transactional.id.expiration.ms=120000", "--set", "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000",
		"--set", "offsets.topic.segment.bytes=4194304", "--set", "transaction.state.log.segment.bytes=4194304")
	n.Start()
	ctx, stop := context.WithTimeout(context.Background(), *length)
	defer stop()
	l := &life{t: t, addr: n.Kafka, ctx: ctx}
	l.create("mixed", 6, map[string]string{"segment.bytes": "4194304", "retention.bytes": "16777216"})
	l.create("txn", 3, map[string]string{"segment.bytes": "4194304", "retention.bytes": "16777216"})
	l.create("table", 3, map[string]string{"cleanup.policy": "compact", "segment.ms": "2000", "delete.retention.ms": "1000", "segment.bytes": "4194304"})

	var clients sync.WaitGroup
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for i, codec := range codecs {
		clients.Go(func() { l.produce(rand.New(rand.NewPCG(*seed, uint64(i))), codec, *rate/len(codecs)) })
	}
	for i := range 2 {
		clients.Go(func() { l.transact(fmt.Sprintf("txn-%d", i), rand.New(rand.NewPCG(*seed, 100+uint64(i)))) })
	}
	for i := range 3 {
		clients.Go(func() { l.member(rand.New(rand.NewPCG(*seed, 200+uint64(i)))) })
	}
	clients.Go(func() { l.table(rand.New(rand.NewPCG(*seed, 300))) })
	clients.Go(l.shortLivedTopics)
	clients.Go(l.shortLivedGroups)
	clients.Go(func() { l.connections(rand.New(rand.NewPCG(*seed, 400))) })
	var seen samples
	clients.Go(func() { l.each(min(5*time.Second, *length/8), func(int) { seen.take(n.PID()) }) })
	clients.Wait()

	t.Logf("soak: %v: %d records produced, %d consumed by a group, %d transactions, %d topics created and deleted, %d members came and went, %d bare connections",
		*length, l.produced.Load(), l.consumed.Load(), l.txns.Load(), l.topics.Load(), l.members.Load(), l.conns.Load())
	for what, n := range map[string]int64{
		"produced": l.produced.Load(), "consumed": l.consumed.Load(), "transactions": l.txns.Load(),
		"topics": l.topics.Load(), "members": l.members.Load(), "connections": l.conns.Load(),
	} {
		if n == 0 {
			t.Errorf("%s: none", what)
		}
	}
	seen.judge(t)
	noGoroutinesLeft(t, n)
}

// noGoroutinesLeft counts them in the stacks that SIGQUIT prints, once every client is gone.
func noGoroutinesLeft(t *testing.T, n *node.Node) {
	t.Helper()
	eventually(t, 30*time.Second, "connections of clients that are gone are closed", func() bool { return connections(n.PID()) <= 1 })
	n.Quit()
	dump := n.LogTail(1 << 20)
	count := strings.Count(dump, "\ngoroutine ")
	t.Logf("soak: %d goroutines when all clients were gone", count)
	// A node without a client has raft, timers, maintenance and the listeners: some dozens. One leaked per transaction, group or
	// connection would be more than a hundred within seconds.
	if count == 0 || count > 100 {
		t.Errorf("%d goroutines without a client", count)
	}
}

func (l *life) create(topic string, partitions int32, configs map[string]string) {
	c := l.client()
	defer c.Close()
	given := map[string]*string{}
	for k, v := range configs {
		given[k] = &v
	}
	r, err := kadm.NewClient(c).CreateTopic(context.Background(), partitions, 1, given, topic)
	if err = errors.Join(err, r.Err); err != nil {
		l.t.Fatal(topic, err)
	}
}

// produce sends records of 100 bytes and of 1 KB, and takes a new connection and a new producer id every 20 seconds.
func (l *life) produce(random *rand.Rand, codec kgo.CompressionCodec, rate int) {
	open := func() *kgo.Client {
		return l.client(kgo.DefaultProduceTopic("mixed"), kgo.ProducerBatchCompression(codec))
	}
	c := open()
	defer func() { c.Close() }()
	value := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog ", 24)[:1000])
	due := 0.0
	l.each(beat, func(n int) {
		if n%100 == 99 {
			c.Close()
			c = open()
		}
		var records []*kgo.Record
		for due += float64(rate) * beat.Seconds(); due >= 1; due-- {
			v := value
			if random.IntN(2) == 0 {
				v = value[:100]
			}
			records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "%d", random.IntN(1000)), Value: v})
		}
		err := c.ProduceSync(context.Background(), records...).FirstErr()
		l.fail("produce", err)
		if err == nil {
			l.produced.Add(int64(len(records)))
		}
	})
}

// transact commits two of three transactions; every 20 seconds a new client takes the transactional id over.
func (l *life) transact(id string, random *rand.Rand) {
	open := func() *kgo.Client { return l.client(kgo.TransactionalID(id), kgo.DefaultProduceTopic("txn")) }
	c := open()
	defer func() { c.Close() }()
	l.each(2*beat, func(n int) {
		if n%50 == 49 {
			c.Close()
			c = open()
		}
		end := kgo.TransactionEndTry(random.IntN(3) > 0)
		if err := c.BeginTransaction(); err != nil {
			l.fail("begin", err)
			return
		}
		var records []*kgo.Record
		for range 10 {
			records = append(records, &kgo.Record{Value: fmt.Appendf(nil, "%s-%d", id, n)})
		}
		l.fail("produce in a transaction", c.ProduceSync(context.Background(), records...).FirstErr())
		err := c.EndTransaction(context.Background(), end)
		l.fail("end transaction", err)
		if err == nil {
			l.txns.Add(1)
		}
	})
}

// member joins the group, reads for a while, and leaves.
func (l *life) member(random *rand.Rand) {
	for l.ctx.Err() == nil {
		stay, leave := context.WithTimeout(l.ctx, time.Duration(3+random.IntN(12))*time.Second)
		c := l.client(kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("mixed", "txn"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.AutoCommitInterval(time.Second))
		for stay.Err() == nil {
			f := c.PollFetches(stay)
			for _, e := range f.Errors() {
				var behind *kgo.ErrDataLoss // retention passed a member that had not read yet
				if !errors.As(e.Err, &behind) && stay.Err() == nil {
					l.fail("fetch", e.Err)
				}
			}
			l.consumed.Add(int64(f.NumRecords()))
		}
		leave()
		c.Close() // leaves the group
		l.members.Add(1)
	}
}

// table updates and deletes keys of a compacted topic.
func (l *life) table(random *rand.Rand) {
	c := l.client(kgo.DefaultProduceTopic("table"))
	defer c.Close()
	l.each(beat, func(n int) {
		var records []*kgo.Record
		for range 50 {
			r := &kgo.Record{Key: fmt.Appendf(nil, "key-%d", random.IntN(5000))}
			if random.IntN(10) > 0 {
				r.Value = fmt.Appendf(nil, "value %d", n)
			}
			records = append(records, r)
		}
		l.fail("update", c.ProduceSync(context.Background(), records...).FirstErr())
	})
}

// shortLivedTopics are created, written, read and deleted.
func (l *life) shortLivedTopics() {
	l.each(time.Second, func(n int) {
		topic := fmt.Sprintf("short-%d", n)
		c := l.client(kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer c.Close()
		admin := kadm.NewClient(c)
		r, err := admin.CreateTopic(context.Background(), 3, 1, nil, topic)
		if err = errors.Join(err, r.Err); err != nil {
			l.fail("create "+topic, err)
			return
		}
		l.fail("produce to "+topic, c.ProduceSync(context.Background(), kgo.StringRecord("a"), kgo.StringRecord("b")).FirstErr())
		within, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for got := 0; got < 2; {
			f := c.PollFetches(within)
			got += f.NumRecords()
			if within.Err() != nil {
				l.fail("read "+topic, within.Err())
				return
			}
		}
		d, err := admin.DeleteTopic(context.Background(), topic)
		l.fail("delete "+topic, errors.Join(err, d.Err))
		l.topics.Add(1)
	})
}

// shortLivedGroups commit, are read back and deleted.
func (l *life) shortLivedGroups() {
	c := l.client()
	defer c.Close()
	admin := kadm.NewClient(c)
	l.each(time.Second, func(n int) {
		group := fmt.Sprintf("short-%d", n)
		var o kadm.Offsets
		o.AddOffset("mixed", 0, int64(n), -1)
		l.fail("commit", admin.CommitAllOffsets(context.Background(), group, o))
		got, err := admin.FetchOffsets(context.Background(), group)
		l.fail("fetch offsets", err)
		if at, _ := got.Lookup("mixed", 0); err == nil && at.At != int64(n) {
			l.fail("fetch offsets", fmt.Errorf("committed %d and read %d", n, at.At))
		}
		r, err := admin.DeleteGroup(context.Background(), group)
		l.fail("delete group", errors.Join(err, r.Err))
	})
}
