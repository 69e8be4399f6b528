package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func franzClient(addrs []string, opts ...kgo.Opt) *kgo.Client {
	if restarts {
		opts = append(opts, kgo.AlwaysRetryEOF()) // else it takes a node that ends before the first answer for one that wants TLS
	}
	return must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(10 << 20), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...))
}

func franzRead(ctx context.Context, cl *kgo.Client, n int, take func(*kgo.Record)) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for n > 0 {
		fetches := cl.PollFetches(ctx)
		do(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			take(r)
			n--
		})
	}
	check(n == 0, "%d records too many", -n)
}

func franzEverything(addrs []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	topic, big, out := "franz-"+run, "franz-big-"+run, "franz-out-"+run
	cl := franzClient(addrs)
	admin := kadm.NewClient(cl)
	create := func(name string, partitions int32, config map[string]*string) {
		redone(kerr.TopicAlreadyExists, func() error {
			created, err := admin.CreateTopics(ctx, partitions, -1, config, name)
			if err == nil {
				err = created[name].Err
			}
			return err
		})
	}
	hour, nine := "3600000", "9000000"
	create(topic, 3, map[string]*string{"retention.ms": &hour})
	create(big, 1, map[string]*string{"max.message.bytes": &nine})
	create(out, 2, nil)
	twice := again(func() (kadm.CreateTopicResponses, error) { return admin.CreateTopics(ctx, 3, -1, nil, topic) })
	check(errors.Is(twice[topic].Err, kerr.TopicAlreadyExists), "created twice")
	redone(kerr.InvalidPartitions, func() error {
		grown, err := admin.UpdatePartitions(ctx, 4, topic)
		return errors.Join(err, grown.Error())
	})
	eventually("four partitions", func() bool {
		return len(again(func() (kadm.TopicDetails, error) { return admin.ListTopics(ctx, topic) })[topic].Partitions) == 4
	})
	two := "7200000"
	redo(func() error {
		altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &two}}, topic)
		if err == nil {
			_, err = altered.On(topic, nil)
		}
		return err
	})
	eventually("the config that was set", func() bool {
		r := must(again(func() (kadm.ResourceConfigs, error) { return admin.DescribeTopicConfigs(ctx, topic) }).On(topic, nil))
		for _, c := range r.Configs {
			if c.Key == "retention.ms" {
				return c.MaybeValue() == two
			}
		}
		return false
	})
	whole("all brokers", func() bool {
		return len(again(func() (kadm.BrokerDetails, error) { return admin.ListBrokers(ctx) })) == len(addrs)
	})

	franzCodecs(ctx, addrs, topic, big)
	franzSeeks(ctx, addrs, admin, topic)
	franzTransactions(ctx, addrs, admin, topic, out)

	redo(func() error {
		deleted, err := admin.DeleteRecords(ctx, kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 5}}})
		return errors.Join(err, deleted.Error())
	})
	start, _ := franzListed(func() (kadm.ListedOffsets, error) { return admin.ListStartOffsets(ctx, topic) }).Lookup(topic, 0)
	check(start.Offset == 5, "after delete-records the start is %d", start.Offset)
	group := "g-" + run
	whole("the group is listed as empty", func() bool {
		return again(func() (kadm.ListedGroups, error) { return admin.ListGroups(ctx) })[group].State == "Empty"
	})
	check(again(func() (kadm.DescribedGroups, error) { return admin.DescribeGroups(ctx, group) })[group].State == "Empty", "the group is not described as empty")
	sum := int64(0)
	again(func() (kadm.OffsetResponses, error) { return admin.FetchOffsets(ctx, group) }).Each(func(o kadm.OffsetResponse) { sum += o.At })
	check(sum == 1005, "group offsets sum to %d", sum)
	redo(func() error {
		deleted, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {0: {}}})
		return errors.Join(err, deleted.Error())
	})
	redone(kerr.GroupIDNotFound, func() error {
		deleted, err := admin.DeleteGroups(ctx, group)
		return errors.Join(err, deleted.Error())
	})
	whole("log dirs", func() bool {
		return len(again(func() (kadm.DescribedAllLogDirs, error) { return admin.DescribeAllLogDirs(ctx, nil) })) == len(addrs)
	})
	redone(kerr.UnknownTopicOrPartition, func() error {
		deleted, err := admin.DeleteTopics(ctx, topic, big, out)
		return errors.Join(err, deleted.Error())
	})
	cl.Close()
}

func franzCodecs(ctx context.Context, addrs []string, topic, big string) {
	sent := map[codecAndNumber]bool{}
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for name, codec := range codecs {
		cl := franzClient(addrs, kgo.ProducerBatchCompression(codec))
		var all []*kgo.Record
		for i := range 200 {
			r := &kgo.Record{Topic: topic, Partition: int32(i % 4), Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte(name)}, {Key: "i", Value: []byte{byte(i)}}, {Key: "bytes", Value: []byte{0, 255}}, {Key: "null"}}}
			r.Key, r.Value = content(name, i)
			all = append(all, r)
			sent[codecAndNumber{name, i}] = true
		}
		do(cl.ProduceSync(ctx, all...).FirstErr())
		do(cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: noise(1_000_000)}).FirstErr())
		err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: noise(1_100_000)}).FirstErr()
		check(errors.Is(err, kerr.MessageTooLarge), "a record over the limit: %v", err)
		do(cl.ProduceSync(ctx, &kgo.Record{Topic: big, Value: noise(8 << 20)}).FirstErr())
		cl.Close()
	}
	cl := franzClient(addrs, kgo.ConsumerGroup("g-"+run), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
	franzRead(ctx, cl, 1005, func(r *kgo.Record) {
		if len(r.Headers) == 0 {
			check(len(r.Value) == 1_000_000, "a record near the limit came back with %d bytes", len(r.Value))
			return
		}
		codec, i := string(r.Headers[0].Value), int(r.Headers[1].Value[0])
		key, value := content(codec, i)
		check(same(r.Key, key) && same(r.Value, value), "%s %d came back different", codec, i)
		check(string(r.Headers[2].Value) == "\x00\xff" && r.Headers[3].Value == nil, "headers %v", r.Headers)
		delete(sent, codecAndNumber{codec, i})
	})
	check(len(sent) == 0, "%d records are missing", len(sent))
	do(cl.CommitUncommittedOffsets(ctx))
	do(cl.LeaveGroupContext(ctx))
	cl.Close()
	cl = franzClient(addrs, kgo.ConsumeTopics(big))
	franzRead(ctx, cl, 5, func(r *kgo.Record) { check(len(r.Value) == 8<<20, "8 MB came back different") })
	cl.Close()
}

// franzListed has no partition's offset missing.
func franzListed(list func() (kadm.ListedOffsets, error)) kadm.ListedOffsets {
	return again(func() (kadm.ListedOffsets, error) {
		listed, err := list()
		return listed, errors.Join(err, listed.Error())
	})
}

func franzSeeks(ctx context.Context, addrs []string, admin *kadm.Client, topic string) {
	listed, _ := franzListed(func() (kadm.ListedOffsets, error) { return admin.ListEndOffsets(ctx, topic) }).Lookup(topic, 1)
	end := listed.Offset
	one := func(at kgo.Offset) (first *kgo.Record) {
		cl := franzClient(addrs, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {1: at}}))
		defer cl.Close()
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		fetches := cl.PollRecords(ctx, 1)
		do(fetches.Err())
		return fetches.Records()[0]
	}
	last := one(kgo.NewOffset().At(end - 1))
	check(last.Offset == end-1, "after a seek to %d came %d", end-1, last.Offset)
	check(one(kgo.NewOffset().AtStart()).Offset == 0, "after a seek to the start came something else")
	at, _ := franzListed(func() (kadm.ListedOffsets, error) {
		return admin.ListOffsetsAfterMilli(ctx, last.Timestamp.UnixMilli(), topic)
	}).Lookup(topic, 1)
	check(at.Offset < end, "the offset of a time is %d", at.Offset)
	future, _ := franzListed(func() (kadm.ListedOffsets, error) {
		return admin.ListOffsetsAfterMilli(ctx, last.Timestamp.Add(time.Hour).UnixMilli(), topic)
	}).Lookup(topic, 1)
	check(future.Offset == end, "the offset of the future is %d", future.Offset) // kadm then asks for the end itself
	cl := franzClient(addrs, kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {1: kgo.NewOffset().At(end + 100)}}))
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := cl.PollFetches(ctx).Err()
	if err == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, e error) { err = e })
	}
	check(errors.Is(err, kerr.OffsetOutOfRange), "beyond the end: %v", err)
	cl.Close()
}

func franzTransactions(ctx context.Context, addrs []string, admin *kadm.Client, topic, out string) {
	id, group := "t-"+run, "tg-"+run
	opts := []kgo.Opt{kgo.SeedBrokers(addrs...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets()}
	if restarts {
		opts = append(opts, kgo.AlwaysRetryEOF())
	}
	s := must(kgo.NewGroupTransactSession(opts...))
	committed := 0
	for round := range 6 { // consume, transform, produce; an abort is followed by the same records again
		fetches := s.PollRecords(ctx, 10)
		do(fetches.Err())
		do(s.Begin())
		var all []*kgo.Record
		for i := range int32(10) {
			all = append(all, &kgo.Record{Topic: out, Partition: i % 2, Value: []byte{byte('0' + round)}})
		}
		do(s.ProduceSync(ctx, all...).FirstErr())
		ended := must(s.End(ctx, kgo.TransactionEndTry(round%2 == 0)))
		check(ended == (round%2 == 0), "transaction %d ended with %v", round, ended)
		if ended {
			committed += fetches.NumRecords()
		}
	}
	sum := int64(0)
	again(func() (kadm.OffsetResponses, error) { return admin.FetchOffsets(ctx, group) }).Each(func(o kadm.OffsetResponse) { sum += o.At })
	check(int(sum) == committed, "the transactions committed %d records and the offsets of %d", committed, sum)
	s.Close()

	zombie := franzClient(addrs, kgo.TransactionalID(id))
	do(zombie.BeginTransaction())
	do(zombie.ProduceSync(ctx, &kgo.Record{Topic: out, Value: []byte("lost")}).FirstErr())
	eventually("the open transaction is described", func() bool {
		return again(func() (kadm.DescribedTransactions, error) { return admin.DescribeTransactions(ctx, id) })[id].State == "Ongoing"
	})
	check(len(again(func() (kadm.ListedTransactions, error) { return admin.ListTransactions(ctx, nil, []string{"Ongoing"}) })) > 0, "list transactions")
	fencer := franzClient(addrs, kgo.TransactionalID(id))
	do(fencer.BeginTransaction())
	do(fencer.ProduceSync(ctx, &kgo.Record{Topic: out, Value: []byte("end")}, &kgo.Record{Topic: out, Partition: 1, Value: []byte("end")}).FirstErr())
	check(zombie.EndTransaction(ctx, kgo.TryCommit) != nil, "a fenced producer could commit")
	do(fencer.EndTransaction(ctx, kgo.TryCommit))
	fencer.Close()
	zombie.Close()
	for want, level := range map[int]kgo.IsolationLevel{32: kgo.ReadCommitted(), 63: kgo.ReadUncommitted()} {
		cl := franzClient(addrs, kgo.ConsumeTopics(out), kgo.FetchIsolationLevel(level))
		franzRead(ctx, cl, want, func(r *kgo.Record) {
			check(want == 63 || string(r.Value) == "end" || r.Value[0]%2 == 0, "read_committed saw %q", r.Value)
		})
		cl.Close()
	}
}

func franzMember(ctx context.Context, addrs []string, topic, group string) {
	own := map[int32]bool{}
	tell := func() {
		var all []int32
		for p := range own {
			all = append(all, p)
		}
		assigned(all)
	}
	cl := must(kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.AutoCommitInterval(200*time.Millisecond), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, come map[string][]int32) {
			for _, p := range come[topic] {
				own[p] = true
			}
			tell()
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, cl *kgo.Client, gone map[string][]int32) {
			_ = cl.CommitUncommittedOffsets(ctx) // who comes next reads again what was not committed
			for _, p := range gone[topic] {
				delete(own, p)
			}
			tell()
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			for _, p := range gone[topic] {
				delete(own, p)
			}
			tell()
		})))
	for ctx.Err() == nil {
		cl.PollFetches(ctx)
		cl.AllowRebalance()
	}
	cl.CloseAllowingRebalance()
}
