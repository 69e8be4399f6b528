package main

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
)

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.MaxMessageBytes = 10 << 20
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return c
}

func saramaMessage(topic string, partition int32, value []byte) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.ByteEncoder(value)}
}

func saramaEverything(addrs []string) {
	topic, big, out := "sarama-"+run, "sarama-big-"+run, "sarama-out-"+run
	admin := must(sarama.NewClusterAdmin(addrs, saramaConfig()))
	hour, two, nine := "3600000", "7200000", "9000000"
	create := func(name string, partitions int32, config map[string]*string) {
		redone(sarama.ErrTopicAlreadyExists, func() error {
			return admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: -1, ConfigEntries: config}, false)
		})
	}
	create(topic, 3, map[string]*string{"retention.ms": &hour})
	create(big, 1, map[string]*string{"max.message.bytes": &nine})
	create(out, 2, nil)
	redo(func() error {
		err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: -1}, false)
		if passing(err) {
			return err
		}
		check(errors.Is(err, sarama.ErrTopicAlreadyExists), "created twice: %v", err)
		return nil
	})
	redone(sarama.ErrInvalidPartitions, func() error { return admin.CreatePartitions(topic, 4, nil, false) })
	eventually("four partitions", func() bool {
		return len(again(func() ([]*sarama.TopicMetadata, error) { return admin.DescribeTopics([]string{topic}) })[0].Partitions) == 4
	})
	redo(func() error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &two}}, false)
	})
	eventually("the config that was set", func() bool {
		entries := again(func() ([]sarama.ConfigEntry, error) {
			return admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
		})
		return len(entries) == 1 && entries[0].Value == two
	})

	sent := saramaCodecs(addrs, topic, big)
	saramaRead(addrs, topic, big, sent)
	saramaSeeks(addrs, topic)
	saramaTransactions(addrs, topic, out)

	redo(func() error { return admin.DeleteRecords(topic, map[int32]int64{0: 5}) })
	client := must(sarama.NewClient(addrs, saramaConfig()))
	check(saramaOffset(client, topic, 0, sarama.OffsetOldest) == 5, "delete records")
	whole("the group is listed", func() bool { return again(admin.ListConsumerGroups)["g-"+run] == "consumer" })
	described := again(func() ([]*sarama.GroupDescription, error) { return admin.DescribeConsumerGroups([]string{"g-" + run}) })[0]
	check(described.State == "Empty", "the group is %s", described.State)
	offsets := again(func() (*sarama.OffsetFetchResponse, error) {
		return admin.ListConsumerGroupOffsets("g-"+run, map[string][]int32{topic: {0, 1, 2, 3}})
	})
	sum := int64(0)
	for _, b := range offsets.Blocks[topic] {
		sum += b.Offset
	}
	check(sum == 1005, "group offsets sum to %d", sum)
	dirs := again(func() (map[int32][]sarama.DescribeLogDirsResponseDirMetadata, error) {
		return admin.DescribeLogDirs([]int32{client.Brokers()[0].ID()})
	})
	check(len(dirs) == 1, "log dirs %v", dirs)
	redone(sarama.ErrGroupIDNotFound, func() error { return admin.DeleteConsumerGroup("g-" + run) })
	for _, name := range []string{topic, big, out} {
		redone(sarama.ErrUnknownTopicOrPartition, func() error { return admin.DeleteTopic(name) })
	}
	do(admin.Close())
	do(client.Close())
}

type codecAndNumber struct {
	codec string
	i     int
}

func saramaCodecs(addrs []string, topic, big string) map[codecAndNumber]bool {
	sent := map[codecAndNumber]bool{}
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD} {
		c := saramaConfig()
		c.Producer.Compression, c.Producer.Idempotent, c.Net.MaxOpenRequests = codec, true, 1
		p := must(sarama.NewSyncProducer(addrs, c))
		var all []*sarama.ProducerMessage
		for i := range 200 {
			m := &sarama.ProducerMessage{Topic: topic, Partition: int32(i % 4), Headers: []sarama.RecordHeader{
				{Key: []byte("codec"), Value: []byte(codec.String())}, {Key: []byte("i"), Value: []byte{byte(i)}}, {Key: []byte("bytes"), Value: []byte{0, 255}}, {Key: []byte("null")}}}
			key, value := content(codec.String(), i)
			if key != nil {
				m.Key = sarama.ByteEncoder(key)
			}
			if value != nil {
				m.Value = sarama.ByteEncoder(value)
			}
			sent[codecAndNumber{codec.String(), i}] = true
			all = append(all, m)
		}
		do(p.SendMessages(all))
		_, _, err := p.SendMessage(saramaMessage(topic, 0, noise(1_000_000)))
		do(err)
		_, _, err = p.SendMessage(saramaMessage(big, 0, noise(8<<20)))
		do(err)
		do(p.Close())
		p = must(sarama.NewSyncProducer(addrs, c)) // a refused record ends an idempotent producer of sarama's
		_, _, err = p.SendMessage(saramaMessage(topic, 0, noise(1_100_000)))
		check(errors.Is(err, sarama.ErrMessageSizeTooLarge), "a record over the limit: %v", err)
		_ = p.Close() // it says again what it was refused
	}
	return sent
}

// handler gives the records of a group's session to take, until it says false.
type handler struct {
	commits bool // each record
	setup   func(sarama.ConsumerGroupSession)
	take    func(*sarama.ConsumerMessage)
}

func (h handler) Setup(s sarama.ConsumerGroupSession) error {
	if h.setup != nil {
		h.setup(s)
	}
	return nil
}

func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h handler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			s.MarkMessage(m, "")
			if h.commits {
				s.Commit()
			}
			if h.take != nil {
				h.take(m)
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func saramaRead(addrs []string, topic, big string, sent map[codecAndNumber]bool) {
	g := must(sarama.NewConsumerGroup(addrs, "g-"+run, saramaConfig()))
	ctx, cancel := context.WithCancel(context.Background())
	records := make(chan *sarama.ConsumerMessage, 2000)
	session := make(chan sarama.ConsumerGroupSession, 10)
	over := make(chan error, 1)
	h := handler{commits: restarts, setup: func(s sarama.ConsumerGroupSession) { session <- s }, take: func(m *sarama.ConsumerMessage) { records <- m }}
	go func() {
		err := g.Consume(ctx, []string{topic}, h)
		for restarts && ctx.Err() == nil { // a session has ended with its coordinator
			err = g.Consume(ctx, []string{topic}, h)
		}
		over <- err
	}()
	type place struct {
		partition int32
		offset    int64
	}
	for seen := map[place]bool{}; len(seen) < 1005; {
		var m *sarama.ConsumerMessage
		select {
		case m = <-records:
		case <-time.After(30 * time.Second):
			check(false, "%d records are missing", len(sent))
		}
		at := place{m.Partition, m.Offset}
		check(restarts || !seen[at], "%v came twice", at)
		if seen[at] {
			continue // the next session has it again
		}
		seen[at] = true
		if len(m.Headers) == 0 {
			check(len(m.Value) == 1_000_000, "a record near the limit came back with %d bytes", len(m.Value))
			continue
		}
		codec, i := string(m.Headers[0].Value), int(m.Headers[1].Value[0])
		key, value := content(codec, i)
		check(same(m.Key, key) && same(m.Value, value), "%s %d came back different", codec, i)
		check(string(m.Headers[2].Value) == "\x00\xff" && m.Headers[3].Value == nil, "headers %v", m.Headers)
		delete(sent, codecAndNumber{codec, i})
	}
	check(len(sent) == 0, "%d records are missing", len(sent))
	last := <-session
	for len(session) > 0 {
		last = <-session
	}
	last.Commit()
	cancel()
	if err := <-over; !restarts {
		do(err)
	}
	do(g.Close())

	c := saramaConfig()
	c.Consumer.Fetch.Default = 1 << 20
	consumer := must(sarama.NewConsumer(addrs, c))
	p := must(consumer.ConsumePartition(big, 0, sarama.OffsetOldest))
	for range 5 {
		check(len(saramaNext(p).Value) == 8<<20, "8 MB came back different")
	}
	do(consumer.Close())
}

func saramaOffset(client sarama.Client, topic string, partition int32, of int64) int64 {
	return again(func() (int64, error) { return client.GetOffset(topic, partition, of) })
}

func saramaNext(p sarama.PartitionConsumer) *sarama.ConsumerMessage {
	select {
	case m := <-p.Messages():
		return m
	case <-time.After(30 * time.Second):
		check(false, "no record within 30 s")
		return nil
	}
}

func saramaSeeks(addrs []string, topic string) {
	client := must(sarama.NewClient(addrs, saramaConfig()))
	consumer := must(sarama.NewConsumerFromClient(client))
	end := saramaOffset(client, topic, 1, sarama.OffsetNewest)
	p := must(consumer.ConsumePartition(topic, 1, end-1))
	last := saramaNext(p)
	check(last.Offset == end-1, "after a seek to %d came %d", end-1, last.Offset)
	do(p.Close())
	at := saramaOffset(client, topic, 1, last.Timestamp.UnixMilli())
	check(at >= 0 && at < end, "the offset of a time is %d", at)
	check(saramaOffset(client, topic, 1, last.Timestamp.Add(time.Hour).UnixMilli()) == -1, "the offset of the future")
	_, err := consumer.ConsumePartition(topic, 1, end+100)
	check(errors.Is(err, sarama.ErrOffsetOutOfRange), "beyond the end: %v", err)
	do(client.Close())
}

func saramaTransactional(addrs []string) sarama.SyncProducer {
	c := saramaConfig()
	c.Producer.Idempotent, c.Net.MaxOpenRequests, c.Producer.Transaction.ID = true, 1, "t-"+run
	return must(sarama.NewSyncProducer(addrs, c))
}

func saramaTransactions(addrs []string, topic, out string) {
	p := saramaTransactional(addrs)
	for n := range int64(6) {
		do(p.BeginTxn())
		for i := range int32(10) {
			_, _, err := p.SendMessage(saramaMessage(out, i%2, []byte{byte(n)}))
			do(err)
		}
		do(p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{topic: {{Partition: 0, Offset: n + 1}}}, "tg-"+run))
		if n%2 == 1 {
			do(p.AbortTxn())
		} else {
			do(p.CommitTxn())
		}
	}
	admin := must(sarama.NewClusterAdmin(addrs, saramaConfig()))
	at := again(func() (*sarama.OffsetFetchResponse, error) {
		return admin.ListConsumerGroupOffsets("tg-"+run, map[string][]int32{topic: {0}})
	}).GetBlock(topic, 0).Offset
	check(at == 5, "the transaction's offset is %d", at)
	do(admin.Close())

	do(p.BeginTxn())
	_, _, err := p.SendMessage(saramaMessage(out, 0, []byte("lost")))
	do(err)
	p2 := saramaTransactional(addrs) // fences the first
	check(p.CommitTxn() != nil, "a fenced producer could commit")
	do(p2.BeginTxn())
	for i := range int32(2) {
		_, _, err := p2.SendMessage(saramaMessage(out, i, []byte("end")))
		do(err)
	}
	do(p2.CommitTxn())
	do(p2.Close())
	_ = p.Close() // it was fenced

	for isolation, want := range map[sarama.IsolationLevel]int{sarama.ReadCommitted: 32, sarama.ReadUncommitted: 63} {
		c := saramaConfig()
		c.Consumer.IsolationLevel = isolation
		consumer := must(sarama.NewConsumer(addrs, c))
		got := 0
		for i := range int32(2) {
			p := must(consumer.ConsumePartition(out, i, sarama.OffsetOldest))
			for last := ""; last != "end"; got++ {
				last = string(saramaNext(p).Value)
				check(isolation == sarama.ReadUncommitted || last == "end" || last[0]%2 == 0, "read_committed saw %q", last)
			}
		}
		check(got == want, "isolation level %d sees %d records", isolation, got)
		do(consumer.Close())
	}
}

func saramaMember(ctx context.Context, addrs []string, topic, group string) {
	g := must(sarama.NewConsumerGroup(addrs, group, saramaConfig()))
	h := handler{commits: true, setup: func(s sarama.ConsumerGroupSession) { assigned(append([]int32{}, s.Claims()[topic]...)) }}
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{topic}, h); err != nil && ctx.Err() == nil {
			check(false, "%v", err)
		}
	}
	do(g.Close())
}
