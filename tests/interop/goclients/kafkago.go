package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

func segmentWriter(addrs []string, topic string, codec kafka.Compression) *kafka.Writer {
	attempts := 3
	if restarts {
		attempts = 10 // its default
	}
	return &kafka.Writer{Addr: kafka.TCP(addrs...), Topic: topic, Compression: codec, RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond,
		BatchBytes: 10 << 20, MaxAttempts: attempts, Balancer: kafka.BalancerFunc(func(m kafka.Message, of ...int) int {
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
		created, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: partitions, ReplicationFactor: -1, ConfigEntries: entries}}})
		if err == nil {
			err = created.Errors[name]
		}
		return err
	}
	redone(kafka.TopicAlreadyExists, func() error {
		return create(topic, 3, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "3600000"})
	})
	redone(kafka.TopicAlreadyExists, func() error {
		return create(big, 1, kafka.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "9000000"})
	})
	redo(func() error {
		err := create(topic, 3)
		if passing(err) {
			return err
		}
		check(errors.Is(err, kafka.TopicAlreadyExists), "created twice: %v", err)
		return nil
	})
	redone(kafka.InvalidPartitionNumber, func() error {
		grown, err := client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 4}}})
		if err == nil {
			err = grown.Errors[topic]
		}
		return err
	})
	for name, partitions := range map[string]int{topic: 4, big: 1} { // it answers from what it has seen last
		eventually("metadata of "+name, func() bool {
			meta := again(func() (*kafka.MetadataResponse, error) {
				return client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{name}})
			})
			return len(meta.Topics) == 1 && len(meta.Topics[0].Partitions) == partitions
		})
	}
	redo(func() error {
		altered, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{
			{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "retention.ms", Value: "7200000", ConfigOperation: kafka.ConfigOperationSet}}}}})
		if err == nil {
			err = altered.Resources[0].Error
		}
		return err
	})
	eventually("the config that was set", func() bool {
		configs := again(func() (*kafka.DescribeConfigsResponse, error) {
			return client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}}}})
		})
		return len(configs.Resources[0].ConfigEntries) == 1 && configs.Resources[0].ConfigEntries[0].ConfigValue == "7200000"
	})

	sent := segmentCodecs(ctx, addrs, topic, big)
	segmentRead(ctx, addrs, topic, big, sent)
	segmentSeeks(ctx, addrs, client, topic)

	whole("the group is listed", func() bool {
		groups := again(func() (*kafka.ListGroupsResponse, error) { return client.ListGroups(ctx, &kafka.ListGroupsRequest{}) })
		return slices.ContainsFunc(groups.Groups, func(g kafka.ListGroupsResponseGroup) bool { return g.GroupID == "g-"+run })
	})
	described := again(func() (*kafka.DescribeGroupsResponse, error) {
		described, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{"g-" + run}})
		if err == nil {
			err = described.Groups[0].Error
		}
		return described, err
	})
	check(described.Groups[0].GroupState == "Empty", "the group is %+v", described.Groups[0])
	offsets := again(func() (*kafka.OffsetFetchResponse, error) {
		offsets, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: "g-" + run, Topics: map[string][]int{topic: {0, 1, 2, 3}}})
		if err == nil {
			err = offsets.Error
		}
		return offsets, err
	})
	sum := int64(0)
	for _, p := range offsets.Topics[topic] {
		sum += p.CommittedOffset
	}
	check(sum == 1005 || restarts && sum > 1005, "group offsets sum to %d", sum)
	redo(func() error {
		deleted, err := client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{GroupID: "g-" + run, Topics: map[string][]int{topic: {0}}})
		if err == nil {
			err = errors.Join(deleted.Error, deleted.Topics[topic][0].Error)
		}
		return err
	})
	redone(kafka.GroupIdNotFound, func() error {
		deleted, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{"g-" + run}})
		if err == nil {
			err = deleted.Errors["g-"+run]
		}
		return err
	})
	redone(kafka.UnknownTopicOrPartition, func() error {
		gone, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic, big}})
		if err == nil {
			err = errors.Join(gone.Errors[topic], gone.Errors[big])
		}
		return err
	})
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
		redo(segmentWrite(ctx, w, all...))
		redo(segmentWrite(ctx, w, kafka.Message{Value: noise(1_000_000)}))
		redo(func() error {
			err := segmentWrite(ctx, w, kafka.Message{Value: noise(1_100_000)})()
			if restarts && passing(err) && !errors.Is(err, kafka.MessageSizeTooLarge) {
				return err
			}
			check(errors.Is(err, kafka.MessageSizeTooLarge), "a record over the limit: %v", err)
			return nil
		})
		do(w.Close())
		w = segmentWriter(addrs, big, codec)
		redo(segmentWrite(ctx, w, kafka.Message{Value: noise(8 << 20)}))
		do(w.Close())
	}
	return sent
}

// segmentWrite writes records when it is called, and when it is called again those that had an error: they may be there twice then, kafka-go has no
// idempotent producer.
func segmentWrite(ctx context.Context, w *kafka.Writer, all ...kafka.Message) func() error {
	return func() error {
		err := w.WriteMessages(ctx, all...)
		var each kafka.WriteErrors
		if errors.As(err, &each) {
			var left []kafka.Message
			for i, e := range each {
				if e != nil {
					left, err = append(left, all[i]), e
				}
			}
			all = left
		}
		return err
	}
}

func segmentRead(ctx context.Context, addrs []string, topic, big string, sent map[codecAndNumber]bool) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, GroupID: "g-" + run, Topic: topic, StartOffset: kafka.FirstOffset, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond})
	for near := 0; len(sent) > 0 || near < 5; {
		m := must(r.FetchMessage(ctx))
		redo(func() error { return r.CommitMessages(ctx, m) })
		if len(m.Headers) == 0 {
			near++
			check(len(m.Value) == 1_000_000, "a record near the limit came back with %d bytes", len(m.Value))
			continue
		}
		codec, i := string(m.Headers[0].Value), int(m.Headers[1].Value[0])
		key, value := content(codec, i)
		check(same(m.Key, key) && same(m.Value, value), "%s %d came back different", codec, i)
		check(string(m.Headers[2].Value) == "\x00\xff" && len(m.Headers[3].Value) == 0, "headers %v", m.Headers)
		delete(sent, codecAndNumber{codec, i})
	}
	do(r.Close())
	r = kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, Topic: big, MaxBytes: 10 << 20})
	for range 5 {
		check(len(must(r.ReadMessage(ctx)).Value) == 8<<20, "8 MB came back different")
	}
	do(r.Close())
}

func segmentSeeks(ctx context.Context, addrs []string, client *kafka.Client, topic string) {
	listed := again(func() (*kafka.ListOffsetsResponse, error) {
		listed, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.FirstOffsetOf(1), kafka.LastOffsetOf(1)}}})
		if err == nil {
			err = listed.Topics[topic][0].Error
		}
		return listed, err
	}).Topics[topic][0]
	check(listed.FirstOffset == 0 && listed.LastOffset > 0, "offsets %+v", listed)
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: addrs, Topic: topic, Partition: 2, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond, IsolationLevel: kafka.ReadCommitted})
	third := must(r.ReadMessage(ctx))
	for range 2 {
		third = must(r.ReadMessage(ctx))
	}
	do(r.SetOffset(0))
	check(must(r.ReadMessage(ctx)).Offset == 0, "after a seek to 0 came something else")
	redo(func() error { return r.SetOffsetAt(ctx, third.Time) })
	m := must(r.ReadMessage(ctx))
	check(m.Offset <= third.Offset && !m.Time.Before(third.Time), "after a seek to %v came offset %d of %v", third.Time, m.Offset, m.Time)
	do(r.Close())
	redo(func() error {
		conn, err := kafka.DialLeader(ctx, "tcp", addrs[0], topic, 1)
		if err != nil {
			return err
		}
		_, err = conn.Seek(listed.LastOffset+100, kafka.SeekAbsolute|kafka.SeekDontCheck)
		do(err)
		_, err = conn.ReadMessage(1 << 20)
		_ = conn.Close() // it has answered
		if errors.Is(err, kafka.OffsetOutOfRange) || errors.Is(err, io.EOF) {
			return nil
		}
		check(restarts && passing(err), "beyond the end: %v", err)
		return err
	})
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
