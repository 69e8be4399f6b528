// Command log measures Forebay's log beside Apache Kafka 4.4, NATS JetStream, RabbitMQ and the machine's floor: the same kind of
// client, the same machine, the same minute, one after the other in turns. It prints medians with their ranges, and for each promise whether it is met.
//
//	go run ./bench/log -forebay bin/forebay            # everything, 5 rounds: about 30 minutes
//	go run ./bench/log -rounds 1 -d 2s                 # the short form: about 4 minutes
//	go run ./bench/log -parts floor,latency -peers kafka,nats -json
//
// Both leave an acknowledged record to the page cache (Forebay: --durability relaxed), but for the part "durable": there
// Forebay is power-safe and Kafka's topic has flush.messages=1.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/internal/figures"
)

var (
	program = flag.String("forebay", "bin/forebay", "the binary")
	rounds  = flag.Int("rounds", 5, "rounds; every figure is the median over them")
	seconds = flag.Duration("d", 5*time.Second, "length of a run")
	only    = flag.String("parts", "floor,throughput,latency,durable", "what to measure")
	load    = flag.String("load", "", "of the part throughput only loads whose name contains this")
	peers   = flag.String("peers", "kafka,nats,rabbitmq", "who is measured beside Forebay")
	asJSON  = flag.Bool("json", false, "print JSON with every round's figures")
	scratch = flag.String("dir", "", "where the data goes: the disk that is measured; empty: the system's temporary folder")
)

// step is one kind of load.
type step struct {
	name       string
	partitions int
	size       int
	pump       bool // produced by the pump; otherwise by franz-go, as consumed
}

var steps = []step{
	{"6 partitions, 1 KiB", 6, 1024, true}, {"1 partition, 1 KiB", 1, 1024, true}, {"6 partitions, 100 B", 6, 100, true}, {"1 partition, 100 B", 1, 100, true},
	{"6 partitions, 1 KiB, franz-go", 6, 1024, false}, {"6 partitions, 100 B, franz-go", 6, 100, false},
}

// replicatedSteps are those of three nodes; the pump knows one leader only.
var replicatedSteps = []step{
	{"6 partitions, 1 KiB", 6, 1024, false}, {"1 partition, 1 KiB", 1, 1024, false}, {"6 partitions, 100 B", 6, 100, false},
}

func main() {
	if beOtherEnd() {
		return
	}
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var chosen []string
	for _, name := range strings.Split(*only, ",") {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("no part %q; there are floor, throughput, latency, durable, replicated", name)
		}
		chosen = append(chosen, name)
	}
	dir, err := os.MkdirTemp(*scratch, "forebay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h := &house{dir: dir, r: newResults()}
	defer h.end()
	if err := h.start(ctx, chosen, strings.Split(*peers, ",")); err != nil {
		return err
	}
	// A JVM needs warm-up by what it is going to do; both get it.
	if err := throughput(ctx, []broker{h.relaxed, h.kafka}, steps, newResults(), 0); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	if err := throughput(ctx, []broker{h.three, h.kafkaThree}, replicatedSteps, newResults(), 0); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	for round := range *rounds {
		for _, p := range parts {
			if !slices.Contains(chosen, p.name) {
				continue
			}
			if err := p.run(ctx, h, round); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round+1, *rounds)
	}
	for _, b := range turns(0, h.relaxed, h.safe, h.kafka, h.three, h.kafkaThree) {
		now, peak := figures.RSS(b.pids...)
		h.r.put(b.name+" | resident MiB at the end", now)
		h.r.put(b.name+" | resident MiB, peak", peak)
	}
	return h.r.print(os.Stdout, *asJSON)
}

// part is a part of the benchmark; one round of it after the other.
type part struct {
	name string
	run  func(ctx context.Context, h *house, round int) error
}

var parts = []part{
	{"floor", func(_ context.Context, h *house, _ int) error { return floor(h.dir, h.r) }},
	{"throughput", func(ctx context.Context, h *house, round int) error {
		return throughput(ctx, []broker{h.relaxed, h.kafka}, steps, h.r, round)
	}},
	{"latency", latency},
	{"durable", durable},
	{"replicated", replicated},
}

func throughput(ctx context.Context, brokers []broker, steps []step, r *results, round int) error {
	for _, s := range steps {
		if !strings.Contains(s.name, *load) {
			continue
		}
		for _, b := range turns(round, brokers...) {
			topic := fmt.Sprintf("bench-%d-%d", time.Now().UnixNano(), round)
			unix.Sync() // what the run before has left to the page cache is not this one's
			p, err := produce(ctx, b, s, topic, *seconds)
			if err != nil {
				return fmt.Errorf("%s, produce %s: %w", b.name, s.name, err)
			}
			unix.Sync()
			c, err := consume(ctx, b, s, topic)
			if err != nil {
				return fmt.Errorf("%s, consume %s: %w", b.name, s.name, err)
			}
			r.add(b.name+", produce "+s.name, p)
			r.add(b.name+", consume "+s.name, c)
		}
	}
	return nil
}

func latency(ctx context.Context, h *house, round int) error {
	for _, rate := range rates {
		if err := latencyOf(ctx, []broker{h.relaxed, h.kafka}, h.r, rate, round); err != nil {
			return err
		}
		if err := h.queue(ctx, h.nats, "nats", rate); err != nil {
			return err
		}
	}
	return nil
}

func latencyOf(ctx context.Context, brokers []broker, r *results, rate, round int) error {
	for _, b := range turns(round, brokers...) {
		ms, cores, err := endToEnd(ctx, b, rate, *seconds, nil)
		if err != nil {
			return fmt.Errorf("%s at %d/s: %w", b.name, rate, err)
		}
		name := fmt.Sprintf("%s, end to end %d/s", b.name, rate)
		r.quantiles(name, ms)
		r.put(name+" | cores", cores)
	}
	return nil
}

// replicated is what three nodes take with three replicas, of which two must have a record before it is acknowledged; all CPU is that of the three.
func replicated(ctx context.Context, h *house, round int) error {
	brokers := []broker{h.three, h.kafkaThree}
	if err := throughput(ctx, brokers, replicatedSteps, h.r, round); err != nil {
		return err
	}
	for _, rate := range rates {
		if err := latencyOf(ctx, brokers, h.r, rate, round); err != nil {
			return err
		}
	}
	return nil
}

// durable is what is acknowledged only when it is on the disk.
func durable(ctx context.Context, h *house, round int) error {
	for _, b := range turns(round, h.relaxed, h.safe) {
		m, err := manyProducers(ctx, b, *seconds)
		if err != nil {
			return fmt.Errorf("%s, 16 producers: %w", b.name, err)
		}
		name := b.name
		if b.name == h.relaxed.name {
			name += " relaxed"
		}
		h.r.add(name+", 16 producers", m)
	}
	each := "1"
	for _, rate := range rates {
		for _, b := range turns(round, h.safe, h.kafka) {
			name, configs := b.name, map[string]*string(nil)
			if b.name == h.kafka.name {
				name, configs = name+" flush.messages=1", map[string]*string{"flush.messages": &each}
			}
			ms, _, err := endToEnd(ctx, b, rate, *seconds, configs)
			if err != nil {
				return fmt.Errorf("%s at %d/s: %w", name, rate, err)
			}
			h.r.quantiles(fmt.Sprintf("%s, end to end %d/s", name, rate), ms)
		}
		if err := h.queue(ctx, h.rabbit, "rabbitmq", rate); err != nil {
			return err
		}
	}
	return nil
}

type measure struct{ mbs, cpu float64 }

func produce(ctx context.Context, b broker, s step, topic string, d time.Duration) (measure, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(64 << 10), kgo.MaxBufferedRecords(1 << 20), kgo.MaxBufferedBytes(32 << 20), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
	if s.pump {
		options = append(options, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return measure{}, err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, int32(s.partitions), b.replicas, b.configs(nil), topic); err != nil {
		return measure{}, err
	}
	values := make([][]byte, 1024)
	for i := range values {
		values[i] = make([]byte, s.size)
		for j := range values[i] {
			values[i][j] = byte('A' + rand.IntN(26))
		}
	}
	for range s.partitions { // each has a leader, and with the pump's partitioner a record
		if err := client.ProduceSync(ctx, &kgo.Record{Value: values[0]}).FirstErr(); err != nil {
			return measure{}, err
		}
	}
	if s.pump {
		return pumpInto(ctx, b, client, s, topic, values, d)
	}
	var acked, failed atomic.Int64
	w := figures.Begin(b.pids...)
	began := time.Now()
	for i := 0; i%256 != 0 || time.Since(began) < d; i++ {
		client.Produce(ctx, &kgo.Record{Value: values[i%len(values)]}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Add(1)
				return
			}
			acked.Add(1)
		})
	}
	if err := client.Flush(ctx); err != nil {
		return measure{}, err
	}
	wall, cpu := w.End()
	if n := failed.Load(); n > 0 {
		return measure{}, fmt.Errorf("%d records failed", n)
	}
	bytes := float64(acked.Load()) * float64(s.size)
	return measure{bytes / 1e6 / wall, cpu / (bytes / 1e9)}, nil
}

func consume(ctx context.Context, b broker, s step, topic string) (measure, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(1<<20))
	if err != nil {
		return measure{}, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return measure{}, err
	}
	var want, got, bytes int64
	ends.Each(func(o kadm.ListedOffset) { want += o.Offset })
	w := figures.Begin(b.pids...)
	for got < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return measure{}, err
		}
		fetches.EachRecord(func(r *kgo.Record) { got++; bytes += int64(len(r.Value)) })
	}
	wall, cpu := w.End()
	return measure{float64(bytes) / 1e6 / wall, cpu / (float64(bytes) / 1e9)}, b.deleteTopic(ctx, admin, topic)
}
