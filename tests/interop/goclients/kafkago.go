package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

func segmentWriter(addrs []string, topic string, codec kafka.Compression) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(addrs...), Topic: topic, Compression: codec, RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond,
		BatchBytes: 10 << 20, MaxAttempts: 3, Balancer: kafka.BalancerFunc(func(m kafka.Message, of ...int) int {
			if len(m.Headers) > 0 {
				return int(m.Headers[1].Value[0]) % len(of)
			}
			return 0
		})}
}

func segmentEverything(addrs []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	topic, big := "kafkago-"+run, "kafkago-big-"+run
	client := &kafka.Client{Addr: kafka.TCP(addrs...), Timeout: 20 * time.Second, Transport: &kafka.Transport{MetadataTTL: 50 * time.Millisecond}}
	create := func(name string, partitions int, entries ...kafka.ConfigEntry) error {
		return must(client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: partitions, ReplicationFactor: -1, ConfigEntries: entries}}})).Errors[name]
	}
	do(create(topic, 3, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "3600000"}))
	do(create(big, 1, kafka.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "9000000"}))
	check(errors.Is(create(topic, 3), kafka.TopicAlreadyExists), "created twice")
	do(must(client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 4}}})).Errors[topic])
	for name, partitions := range map[string]int{topic: 4, big: 1} { // it answers from what it has seen last
		eventually("metadata of "+name, func() bool {
			meta := must(client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{name}}))
			return len(meta.Topics) == 1 && len(meta.Topics[0].Partitions) == partitions
		})
	}
	altered := must(client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "retention.ms", Value: "7200000", ConfigOperation: kafka.ConfigOperationSet}}}}}))
	do(altered.Resources[0].Error)
	eventually("the config that was set", func() bool {
		configs := must(client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}}}}))
		return len(configs.Resources[0].ConfigEntries) == 1 && configs.Resources[0].ConfigEntries[0].ConfigValue == "7200000"
	})

	sent := segmentCodecs(ctx, addrs, topic, big)
	segmentRead(ctx, addrs, topic, big, sent)
	segmentSeeks(ctx, addrs, client, topic)

	groups := must(client.ListGroups(ctx, &kafka.ListGroupsRequest{}))
	found := false
	for _, g := range groups.Groups {
		found = found || g.GroupID == "g-"+run
	}
	check(found, "groups %+v", groups.Groups)
	described := must(client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{"g-" + run}}))
	check(described.Groups[0].GroupState == "Empty", "the group is %+v", described.Groups[0])
	offsets := must(client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: "g-" + run, Topics: map[string][]int{topic: {0, 1, 2, 3}}}))
	sum := int64(0)
	for _, p := range offsets.Topics[topic] {
		sum += p.CommittedOffset
	}
	check(sum == 1005, "group offsets sum to %d", sum)
	deleted := must(client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{GroupID: "g-" + run, Topics: map[string][]int{topic: {0}}}))
	do(deleted.Topics[topic][0].Error)
	do(must(client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{"g-" + run}})).Errors["g-"+run])
	gone := must(client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic, big}}))
	do(errors.Join(gone.Errors[topic], gone.Errors[big]))
}

func segmentCodecs(ctx context.Context, addrs []string, topic, big string) map[codecAndNumber]bool {
	sent := map[codecAndNumber]bool{}
	for _, codec := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		name := codec.String()
		w := segmentWriter(addrs, topic, codec)
		var all []kafka.Message
		for i := range 200 {
			m := kafka.Message{Headers: []kafka.Header{{Key: "codec", Value: []byte(name)}, {Key: "i", Value: []byte{byte(i)}}, {Key: "bytes", Value: []byte{0, 255}}, {Key: "null"}}}
			m.Key, m.Value = content(name, i)
			all = append(all, m)
			sent[codecAndNumber{name, i}] = true
		}
		do(w.WriteMessages(ctx, all...))
		do(w.WriteMessages(ctx, kafka.Message{Value: noise(1_000_000)}))
		err := w.WriteMessages(ctx, kafka.Message{Value: noise(1_100_000)})
		var each kafka.WriteErrors
		check(errors.As(err, &each) && errors.Is(each[0], kafka.MessageSizeTooLarge), "a record over the limit: %v", err)
		do(w.Close())
		w = segmentWriter(addrs, big, codec)
		do(w.WriteMessages(ctx, kafka.Message{Value: noise(8 << 20)}))
		do(w.Close())
	}
	return sent
}

func segmentRead(ctx context.Context, addrs []string, topic, big string, sent map[codecAndNumber]bool) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, GroupID: "g-" + run, Topic: topic, StartOffset: kafka.FirstOffset, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond})
	for range 1005 {
		m := must(r.FetchMessage(ctx))
		do(r.CommitMessages(ctx, m))
		if len(m.Headers) == 0 {
			check(len(m.Value) == 1_000_000, "a record near the limit came back with %d bytes", len(m.Value))
			continue
		}
		codec, i := string(m.Headers[0].Value), int(m.Headers[1].Value[0])
		key, value := content(codec, i)
		check(same(m.Key, key) && same(m.Value, value), "%s %d came back different", codec, i)
		check(string(m.Headers[2].Value) == "\x00\xff" && len(m.Headers[3].Value) == 0, "headers %v", m.Headers)
		delete(sent, codecAndNumber{codec, i})
	}
	check(len(sent) == 0, "%d records are missing", len(sent))
	do(r.Close())
	r = kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, Topic: big, MaxBytes: 10 << 20})
	for range 5 {
		check(len(must(r.ReadMessage(ctx)).Value) == 8<<20, "8 MB came back different")
	}
	do(r.Close())
}

func segmentSeeks(ctx context.Context, addrs []string, client *kafka.Client, topic string) {
	listed := must(client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.FirstOffsetOf(1), kafka.LastOffsetOf(1)}}})).Topics[topic][0]
	check(listed.FirstOffset == 0 && listed.LastOffset > 0, "offsets %+v", listed)
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, Topic: topic, Partition: 2, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond, IsolationLevel: kafka.ReadCommitted})
	third := must(r.ReadMessage(ctx))
	for range 2 {
		third = must(r.ReadMessage(ctx))
	}
	do(r.SetOffset(0))
	check(must(r.ReadMessage(ctx)).Offset == 0, "after a seek to 0 came something else")
	do(r.SetOffsetAt(ctx, third.Time))
	m := must(r.ReadMessage(ctx))
	check(m.Offset <= third.Offset && !m.Time.Before(third.Time), "after a seek to %v came offset %d of %v", third.Time, m.Offset, m.Time)
	do(r.Close())
	conn := must(kafka.DialLeader(ctx, "tcp", addrs[0], topic, 1))
	_, err := conn.Seek(listed.LastOffset+100, kafka.SeekAbsolute|kafka.SeekDontCheck)
	do(err)
	_, err = conn.ReadMessage(1 << 20)
	check(errors.Is(err, kafka.OffsetOutOfRange) || errors.Is(err, io.EOF), "beyond the end: %v", err)
	do(conn.Close())
}

func segmentMember(ctx context.Context, addrs []string, topic, group string) {
	g := must(kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: group, Brokers: addrs, Topics: []string{topic}, SessionTimeout: 6 * time.Second,
		HeartbeatInterval: 500 * time.Millisecond, StartOffset: kafka.FirstOffset}))
	for {
		generation, err := g.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			continue // a rebalance came in between: it joins again
		}
		var partitions []int32
		for _, a := range generation.Assignments[topic] {
			partitions = append(partitions, int32(a.ID))
			generation.Start(func(ctx context.Context) { segmentFollow(ctx, addrs, topic, a, generation) })
		}
		assigned(partitions)
		generation.Start(func(ctx context.Context) { <-ctx.Done() })
	}
	do(g.Close())
}

// segmentFollow reads a partition of a member's, and commits each record.
func segmentFollow(ctx context.Context, addrs []string, topic string, a kafka.PartitionAssignment, generation *kafka.Generation) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, Topic: topic, Partition: a.ID, MaxWait: 100 * time.Millisecond})
	defer r.Close()
	do(r.SetOffset(a.Offset))
	for {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return // the generation is over
		}
		if generation.CommitOffsets(map[string]map[int]int64{topic: {a.ID: m.Offset + 1}}) != nil {
			return // as above: who comes next reads it again
		}
	}
}
