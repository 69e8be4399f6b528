package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/internal/figures"
)

// rates are the records per second of the latency part.
var rates = []int{1000, 10_000}

// warmUp at the beginning of a latency run is not counted.
const warmUp = time.Second

// endToEnd sends 1 KiB records at a rate, whatever the broker does, and times each from the moment when it was due to the
// moment when a consumer has it. One partition, no linger, acks=all.
func endToEnd(ctx context.Context, b broker, rate int, d time.Duration, configs map[string]*string) (ms []float64, cores float64, err error) {
	unix.Sync() // or the first fdatasyncs wait for what the runs before have left to the page cache
	topic := fmt.Sprintf("latency-%d", time.Now().UnixNano())
	producer, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, 0, err
	}
	defer producer.Close()
	admin := kadm.NewClient(producer)
	if _, err := admin.CreateTopic(ctx, 1, b.replicas, b.configs(configs), topic); err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, b.deleteTopic(ctx, admin, topic)) }()
	value := make([]byte, 1024)
	if err := producer.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); err != nil {
		return nil, 0, err
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, 0, err
	}
	defer consumer.Close()
	if f := consumer.PollFetches(ctx); f.Err() != nil { // the first record: the consumer is at the end
		return nil, 0, f.Err()
	}
	total := int(float64(rate) * (warmUp + d).Seconds())
	base := time.Now()
	var received sync.WaitGroup
	var rerr error
	received.Go(func() {
		limit, cancel := context.WithTimeout(ctx, warmUp+d+30*time.Second)
		defer cancel()
		for got := 0; got < total; {
			fetches := consumer.PollFetches(limit)
			if rerr = fetches.Err(); rerr != nil {
				return
			}
			now := time.Since(base)
			fetches.EachRecord(func(r *kgo.Record) {
				got++
				if sent := time.Duration(binary.LittleEndian.Uint64(r.Value)); sent > warmUp {
					ms = append(ms, millis(now-sent))
				}
			})
		}
	})
	w := figures.Begin(b.pids...)
	var failed atomic.Int64
	for i := range total {
		due := time.Duration(i) * time.Second / time.Duration(rate)
		if wait := due - time.Since(base); wait > 0 {
			time.Sleep(wait)
		}
		at := time.Since(base)
		if at-due > 2*time.Millisecond { // the client was held up: that is not to look like a fast broker
			at = due
		}
		v := append([]byte(nil), value...)
		binary.LittleEndian.PutUint64(v, uint64(at))
		producer.Produce(ctx, &kgo.Record{Value: v}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Add(1)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		return nil, 0, err
	}
	wall, cpu := w.End()
	received.Wait()
	if n := failed.Load(); n > 0 {
		return nil, 0, fmt.Errorf("%d records failed", n)
	}
	return ms, cpu / wall, rerr
}

// manyProducers is the throughput of 16 clients over 6 partitions together, with 1 KiB records.
func manyProducers(ctx context.Context, b broker, d time.Duration) (measure, error) {
	const clients = 16
	unix.Sync()
	topic := fmt.Sprintf("many-%d", time.Now().UnixNano())
	var group sync.WaitGroup
	var acked, failed atomic.Int64
	var list []*kgo.Client
	defer func() {
		for _, c := range list {
			c.Close()
		}
	}()
	for range clients {
		c, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5*time.Millisecond),
			kgo.ProducerBatchMaxBytes(64<<10), kgo.MaxBufferedRecords(8192), kgo.MaxBufferedBytes(4<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			return measure{}, err
		}
		list = append(list, c)
	}
	admin := kadm.NewClient(list[0])
	if _, err := admin.CreateTopic(ctx, 6, 1, nil, topic); err != nil {
		return measure{}, err
	}
	value := make([]byte, 1024)
	w := figures.Begin(b.pids...)
	began := time.Now()
	for _, c := range list {
		group.Go(func() {
			for i := 0; i%64 != 0 || time.Since(began) < d; i++ {
				c.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.Add(1)
						return
					}
					acked.Add(1)
				})
			}
			if err := c.Flush(ctx); err != nil {
				failed.Add(1)
			}
		})
	}
	group.Wait()
	wall, cpu := w.End()
	if n := failed.Load(); n > 0 {
		return measure{}, fmt.Errorf("%d records failed", n)
	}
	bytes := float64(acked.Load()) * 1024
	return measure{bytes / 1e6 / wall, cpu / (bytes / 1e9)}, b.deleteTopic(ctx, admin, topic)
}
