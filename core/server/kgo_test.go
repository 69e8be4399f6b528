package server

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/metadata"
)

// newServing is a node whose address clients can use.
func newServing(t *testing.T) *node {
	t.Helper()
	return newServingWith(t, nodeOptions{})
}

func newServingWith(t *testing.T, o nodeOptions) *node {
	t.Helper()
	var n *node
	more := o.deps
	o.deps = func(d *Deps) {
		if more != nil {
			more(d)
		}
		d.Advertised = func(*metadata.Node, string) (string, int32) {
			host, port, err := net.SplitHostPort(n.addr)
			if err != nil {
				t.Error(err)
			}
			p, err := strconv.ParseInt(port, 10, 32)
			if err != nil {
				t.Error(err)
			}
			return host, int32(p)
		}
	}
	n = newNode(t, o)
	return n
}

func newKgo(t *testing.T, n *node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.addr), kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// franz-go produces idempotently, compresses, consumes by fetch sessions in a
// group and commits; a second member of the group goes on where the first stopped.
func TestFranzGoProducesAndConsumesInAGroup(t *testing.T) {
	n := newServing(t)
	n.topic("orders", 6)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cl := newKgo(t, n, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(16<<10))
	const total = 5000
	for i := range total {
		cl.Produce(ctx, &kgo.Record{Topic: "orders", Key: []byte(strconv.Itoa(i)), Value: fmt.Appendf(nil, "v%d", i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for part, upto := range []int{total / 2, total} {
		member := newKgo(t, n, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		for len(seen) < upto {
			fs := member.PollRecords(ctx, 500)
			if err := fs.Err(); err != nil {
				t.Fatalf("member %d, %d seen: %v", part, len(seen), err)
			}
			fs.EachRecord(func(r *kgo.Record) { seen[string(r.Key)]++ })
			if err := member.CommitUncommittedOffsets(ctx); err != nil {
				t.Fatal(err)
			}
		}
		member.Close()
	}
	for k, times := range seen {
		if times != 1 {
			t.Fatalf("record %s was seen %d times", k, times)
		}
	}
}

// Aborted records are unseen by read_committed, which stops at the last stable offset (KIP-98, KIP-890).
func TestFranzGoTransactions(t *testing.T) {
	n := newServing(t)
	n.topic("orders", 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tx := newKgo(t, n, kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("orders"))
	write := func(round int, end kgo.TransactionEndTry) {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			tx.Produce(ctx, &kgo.Record{Value: fmt.Appendf(nil, "%d-%d", round, i)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := tx.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 6 {
		write(round, kgo.TransactionEndTry(round%2 == 0))
	}
	for _, c := range []struct {
		level kgo.IsolationLevel
		want  int
	}{{kgo.ReadCommitted(), 90}, {kgo.ReadUncommitted(), 180}} {
		cl := newKgo(t, n, kgo.ConsumeTopics("orders"), kgo.FetchIsolationLevel(c.level), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		got := 0
		for got < c.want {
			fs := cl.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				t.Fatalf("%d of %d: %v", got, c.want, err)
			}
			fs.EachRecord(func(r *kgo.Record) {
				if aborted := r.Value[0]%2 == 1; aborted && c.want == 90 {
					t.Errorf("read_committed sees aborted %s", r.Value)
				}
				got++
			})
		}
		cl.Close()
	}
}

// What an admin client asks: topics, partitions, configs, offsets, log directories.
func TestFranzGoAdmin(t *testing.T) {
	n := newServing(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cl := newKgo(t, n)
	adm := kadm.NewClient(cl)
	retention := "123456"
	made, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": &retention}, "orders")
	if err != nil || made.NumPartitions != 3 || made.ReplicationFactor != 1 || made.ID == (kadm.TopicID{}) {
		t.Fatalf("%+v, %v", made, err)
	}
	if _, err := adm.CreateTopic(ctx, 3, 1, nil, "orders"); err == nil {
		t.Error("a topic is created twice")
	}
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "bad name"); err == nil {
		t.Error("a topic with a bad name is created")
	}
	if _, err := adm.UpdatePartitions(ctx, 5, "orders"); err != nil {
		t.Fatal(err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	found := ""
	for _, c := range configs[0].Configs {
		if c.Key == "retention.ms" {
			found = c.MaybeValue()
		}
	}
	if found != retention {
		t.Errorf("retention.ms is %q", found)
	}
	if _, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: kadm.StringPtr("compact,delete")}}, "orders"); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "orders", Key: []byte{byte(i)}, Value: []byte{byte(i)}, Timestamp: time.UnixMilli(int64(1000 + i))}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	ends, err := adm.ListEndOffsets(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	if len(ends["orders"]) != 5 || sum != 10 {
		t.Errorf("%d partitions, %d records", len(ends["orders"]), sum)
	}
	after, err := adm.ListOffsetsAfterMilli(ctx, 1005, "orders")
	if err != nil || after.Error() != nil {
		t.Fatal(err, after.Error())
	}
	var offsets kadm.Offsets
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			offsets.Add(kadm.Offset{Topic: "orders", Partition: o.Partition, At: o.Offset})
		}
	})
	deleted, err := adm.DeleteRecords(ctx, offsets)
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	starts, err := adm.ListStartOffsets(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	starts.Each(func(o kadm.ListedOffset) {
		if end, _ := ends.Lookup("orders", o.Partition); o.Offset != end.Offset {
			t.Errorf("partition %d starts at %d, want %d", o.Partition, o.Offset, end.Offset)
		}
	})
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil || len(dirs) != 1 {
		t.Fatal(dirs, err)
	}
	meta, err := adm.Metadata(ctx)
	if err != nil || meta.Cluster != n.quorum.Image().ClusterID || meta.Controller != 1 || len(meta.Topics["orders"].Partitions) != 5 {
		t.Fatalf("%+v, %v", meta, err)
	}
	if _, err := adm.DeleteTopic(ctx, "orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteTopic(ctx, "orders"); err == nil {
		t.Error("a topic is deleted twice")
	}
}
