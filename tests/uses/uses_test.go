// Package uses is what a commit log is for, each use as one test: docs/uses.md tells them.
package uses

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of what is written")
	logSize = flag.Int64("log", 100_000_000, "bytes of the log from which a key is replayed")
	rate    = flag.Int("rate", 5000, "records per second of all activity topics together")
	length  = flag.Duration("for", 3*time.Second, "how long activity goes on")
	sustain = flag.Bool("sustain", false, "fail if the rate was not reached")
)

func up(t *testing.T, args ...string) (*node.Node, *kadm.Client) {
	t.Helper()
	n := node.New(t, append([]string{"--data", t.TempDir()}, args...)...)
	n.Start()
	return n, kadm.NewClient(client(t, n))
}

func client(t *testing.T, n *node.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.Kafka)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
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

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// checksum of a store does not depend on the order in which it was filled.
func checksum(store map[string]string) string {
	h := sha256.New()
	keys := make([]string, 0, len(store))
	for k := range store {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(h, "%q=%q\n", k, store[k])
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// rebuild reads a compacted topic from its start to its present end.
func rebuild(t *testing.T, n *node.Node, admin *kadm.Client, topic string) (store map[string]string, read int64) {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	store = map[string]string{}
	c := client(t, n, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer c.Close()
	for next := int64(0); next < end.Offset; {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read to %d of %d", next, end.Offset)
		}
		f.EachRecord(func(r *kgo.Record) {
			read++
			next = r.Offset + 1
			if r.Value == nil {
				delete(store, string(r.Key))
			} else {
				store[string(r.Key)] = string(r.Value)
			}
		})
	}
	return store, read
}

// A store that is lost is rebuilt from its compacted topic, while compaction is at work: what comes out is what went in.
func TestRebuildStore(t *testing.T) {
	n, admin := up(t, "--set", "log.cleaner.backoff.ms=100", "--set", "log.retention.check.interval.ms=100")
	create(t, admin, 1, map[string]string{"cleanup.policy": "compact", "segment.ms": "100", "delete.retention.ms": "60000"}, "store")
	random := rand.New(rand.NewPCG(*seed, 1))
	t.Logf("seed %d", *seed)
	c := client(t, n, kgo.DefaultProduceTopic("store"))
	store, updates := map[string]string{}, int64(0)
	ctx := within(t, 2*time.Minute)
	for round := range 60 {
		var records []*kgo.Record
		for range 500 {
			key := fmt.Sprintf("key-%d", random.IntN(2000))
			r := &kgo.Record{Key: []byte(key)}
			if random.IntN(6) == 0 {
				delete(store, key)
			} else {
				store[key] = fmt.Sprintf("value of round %d, %d", round, random.Int64())
				r.Value = []byte(store[key])
			}
			records = append(records, r)
			updates++
		}
		if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if round%20 == 19 { // in the middle of it, too
			if got, _ := rebuild(t, n, admin, "store"); checksum(got) != checksum(store) {
				t.Fatalf("after round %d the store has checksum %s, and rebuilt %s", round, checksum(store), checksum(got))
			}
		}
	}
	for { // until compaction has been at it
		got, read := rebuild(t, n, admin, "store")
		if checksum(got) != checksum(store) {
			t.Fatalf("the store has checksum %s, and rebuilt %s", checksum(store), checksum(got))
		}
		if read < updates/2 {
			t.Logf("soak: %d updates, %d keys; %d records read; checksum %s both times", updates, len(store), read, checksum(got))
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d updates are still %d records", updates, read)
		}
	}
}

// read bytes of the process, by whatever system call.
func readBytes(t *testing.T, pid int) (n int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// One key of one hour is replayed out of a day: the log finds the hour by its time index and is read there only.
func TestReplayKeyByTime(t *testing.T) {
	const keys, size = 1000, 1000
	n, admin := up(t, "--durability", "relaxed")
	create(t, admin, 1, map[string]string{"segment.bytes": "67108864", "retention.ms": "-1"}, "day")
	c := client(t, n, kgo.DefaultProduceTopic("day"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	count := *logSize / size
	day := time.Now().Add(-24 * time.Hour).Truncate(time.Hour)
	at := func(i int64) time.Time {
		return day.Add(time.Duration(float64(24*time.Hour) * float64(i) / float64(count))).Truncate(time.Millisecond)
	}
	var failed atomic.Pointer[error]
	value := []byte(strings.Repeat("x", size-40))
	for i := range count {
		c.Produce(context.Background(), &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i%keys), Value: value, Timestamp: at(i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := c.Flush(within(t, 30*time.Minute)); err != nil || failed.Load() != nil {
		t.Fatal(err, failed.Load())
	}

	ctx := within(t, 5*time.Minute)
	from, to := day.Add(13*time.Hour), day.Add(14*time.Hour)
	before, began := readBytes(t, n.PID()), time.Now()
	var bounds [2]int64
	for i, moment := range []time.Time{from, to} {
		got, err := admin.ListOffsetsAfterMilli(ctx, moment.UnixMilli(), "day")
		if err != nil {
			t.Fatal(err)
		}
		o, _ := got.Lookup("day", 0)
		bounds[i] = o.Offset
	}
	found, looked := time.Since(began), readBytes(t, n.PID())-before
	// An index entry stands for some KiB of records, and a batch has up to a MiB.
	if looked > 8<<20 {
		t.Errorf("two look-ups by time read %d bytes of %d", looked, *logSize)
	}
	reader := client(t, n, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"day": {0: kgo.NewOffset().At(bounds[0])}}), kgo.FetchMaxBytes(8<<20), kgo.FetchMaxPartitionBytes(4<<20))
	var replayed []int64
	for next := bounds[0]; next < bounds[1]; {
		f := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read to %d of %d", next, bounds[1])
		}
		f.EachRecord(func(r *kgo.Record) {
			if next = r.Offset + 1; r.Offset < bounds[1] && string(r.Key) == "key-7" {
				replayed = append(replayed, r.Offset)
			}
		})
	}
	took, read := time.Since(began), readBytes(t, n.PID())-before
	var want []int64
	for i := int64(7); i < count; i += keys {
		if !at(i).Before(from) && at(i).Before(to) {
			want = append(want, i)
		}
	}
	if !slices.Equal(replayed, want) || len(want) == 0 {
		t.Errorf("%d records of the key were replayed, %d are in the hour", len(replayed), len(want))
	}
	t.Logf("soak: log of %d MB: both ends of an hour found in %v reading %d KB; its %d records of one key among %d replayed in %v reading %d MB",
		count*size/1e6, found.Round(time.Microsecond), looked/1000, len(replayed), bounds[1]-bounds[0], took.Round(time.Millisecond), read/1e6)
}

// Activity: a topic for each type of event, one producer, one consumer of all types.
func TestActivityTopics(t *testing.T) {
	const types = 50
	n, admin := up(t, "--durability", "relaxed")
	var topics []string
	for i := range types {
		topics = append(topics, fmt.Sprintf("activity-%d", i))
	}
	create(t, admin, 1, nil, topics...)
	ctx := within(t, *length+2*time.Minute)
	reader := client(t, n, kgo.ConsumerGroup("dashboard"), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	writer := client(t, n, kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(200_000))
	total := int64(float64(*rate) * length.Seconds())
	var failed atomic.Int64
	began, cpu := time.Now(), figures.CPU(n.PID())
	sent := make(chan time.Duration, 1)
	go func() {
		padding := strings.Repeat("x", 60)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := int64(0); i < total; <-tick.C {
			for due := min(total, int64(time.Since(began).Seconds()*float64(*rate))); i < due; i++ {
				writer.Produce(ctx, &kgo.Record{Topic: topics[i%types], Value: fmt.Appendf(nil, "%d %d %s", i/types, time.Now().UnixNano(), padding)}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.Add(1)
					}
				})
			}
		}
		_ = writer.Flush(ctx) // what fails is counted
		sent <- time.Since(began)
	}()
	next := map[string]int64{}
	var latencies []time.Duration
	for got := int64(0); got < total; {
		f := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came", got, total)
		}
		now := time.Now().UnixNano()
		f.EachRecord(func(r *kgo.Record) {
			var number, at int64
			if _, err := fmt.Sscan(string(r.Value), &number, &at); err != nil {
				t.Fatal(err)
			}
			if number != next[r.Topic] {
				t.Fatalf("%s: event %d comes after %d", r.Topic, number, next[r.Topic]-1)
			}
			next[r.Topic]++
			latencies = append(latencies, time.Duration(now-at))
			got++
		})
	}
	took := <-sent
	if failed.Load() > 0 {
		t.Errorf("%d records failed", failed.Load())
	}
	slices.Sort(latencies)
	reached := float64(total) / took.Seconds()
	used := figures.CPU(n.PID()) - cpu
	t.Logf("soak: %d records in %d topics, %.0f/s of %d/s asked; latency p50 %v, p99 %v; the node used %.2f cores, %.2f CPU-s per million records", total, types, reached, *rate,
		latencies[len(latencies)/2].Round(100*time.Microsecond), latencies[len(latencies)*99/100].Round(100*time.Microsecond), used/took.Seconds(), used/float64(total)*1e6)
	if *sustain && reached < 0.95*float64(*rate) {
		t.Errorf("%.0f records/s were sustained, %d were asked for", reached, *rate)
	}
}
