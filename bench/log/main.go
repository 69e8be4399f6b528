// Command log measures Forebay's log beside Apache Kafka 4.4: the same client,
// the same machine, the same minute, one after the other in turns. Both leave
// an acknowledged record to the page cache (Forebay: --durability relaxed).
//
//	go run ./bench/log -forebay bin/forebay -rounds 5
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/internal/testenv"
)

var (
	binary  = flag.String("forebay", "bin/forebay", "the binary")
	rounds  = flag.Int("rounds", 5, "rounds; every figure is the median over them")
	seconds = flag.Duration("d", 5*time.Second, "length of a produce run")
)

// step is one kind of load.
type step struct {
	name       string
	partitions int
	size       int
}

var steps = []step{{"6 partitions, 1 KiB", 6, 1024}, {"1 partition, 1 KiB", 1, 1024}, {"6 partitions, 100 B", 6, 100}}

// broker is one side of the comparison.
type broker struct {
	name string
	addr string
	pid  int
}

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "forebay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	forebay, stop, err := startForebay(dir)
	if err != nil {
		return err
	}
	defer stop()
	kafka, err := startKafka(ctx)
	if err != nil {
		return err
	}
	results := map[string]figures.Series{}
	for _, b := range []broker{forebay, kafka} { // a JVM needs warm-up; both get it
		if _, err := produce(ctx, b, step{"", 6, 1024}, fmt.Sprintf("warm-%d", time.Now().UnixNano()), 2**seconds); err != nil {
			return err
		}
	}
	for round := range *rounds {
		for _, s := range steps {
			for _, b := range []broker{forebay, kafka} {
				topic := fmt.Sprintf("bench-%d-%d", time.Now().UnixNano(), round)
				p, err := produce(ctx, b, s, topic, *seconds)
				if err != nil {
					return fmt.Errorf("%s, produce %s: %w", b.name, s.name, err)
				}
				c, err := consume(ctx, b, s, topic)
				if err != nil {
					return fmt.Errorf("%s, consume %s: %w", b.name, s.name, err)
				}
				for what, m := range map[string]measure{"produce " + s.name: p, "consume " + s.name: c} {
					key := b.name + "|" + what
					results[key+"|rate"] = append(results[key+"|rate"], m.mbs)
					results[key+"|cpu"] = append(results[key+"|cpu"], m.cpu)
				}
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round+1, *rounds)
	}
	fmt.Printf("| load | Forebay MB/s | Kafka MB/s | ratio | Forebay CPU-s/GB | Kafka CPU-s/GB | ratio |\n|---|---|---|---|---|---|---|\n")
	for _, kind := range []string{"produce ", "consume "} {
		for _, s := range steps {
			at := func(b broker, f string) figures.Series { return results[b.name+"|"+kind+s.name+"|"+f] }
			fr, kr, fc, kc := at(forebay, "rate"), at(kafka, "rate"), at(forebay, "cpu"), at(kafka, "cpu")
			fmt.Printf("| %s%s | %v | %v | %.2f | %v | %v | %.2f |\n", kind, s.name, fr, kr, fr.Median()/kr.Median(), fc, kc, fc.Median()/kc.Median())
		}
	}
	for _, b := range []broker{forebay, kafka} {
		now, peak := figures.RSS(b.pid)
		fmt.Printf("\n%s: resident %.0f MiB at the end, %.0f MiB at its peak\n", b.name, now, peak)
	}
	return nil
}

func startForebay(dir string) (broker, func(), error) {
	cmd := exec.Command(*binary, "up", "--data", dir, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--durability", "relaxed")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return broker{}, nil, err
	}
	if err := cmd.Start(); err != nil {
		return broker{}, nil, err
	}
	b := broker{name: "Forebay", pid: cmd.Process.Pid}
	var http string
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(line, "ready kafka=%s http=%s", &b.addr, &http)
	}
	if err != nil {
		return broker{}, nil, fmt.Errorf("forebay was not ready: %w", err)
	}
	go io.Copy(io.Discard, out) //nolint:errcheck // until it ends
	return b, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // its data is thrown away
	}, nil
}

func startKafka(ctx context.Context) (broker, error) {
	env, err := testenv.Default(func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err != nil {
		return broker{}, err
	}
	if err := env.Up(ctx, "kafka"); err != nil {
		return broker{}, err
	}
	list, err := env.Status()
	if err != nil {
		return broker{}, err
	}
	for _, s := range list {
		if s.Name == "kafka" && len(s.PIDs) > 0 {
			return broker{name: "Apache Kafka 4.4", addr: s.Addresses["bootstrap"], pid: s.PIDs[0]}, nil
		}
	}
	return broker{}, fmt.Errorf("kafka is up and not in the list of services")
}

type measure struct{ mbs, cpu float64 }

func produce(ctx context.Context, b broker, s step, topic string, d time.Duration) (measure, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytes(64<<10), kgo.MaxBufferedRecords(1<<20), kgo.MaxBufferedBytes(32<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return measure{}, err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, int32(s.partitions), 1, nil, topic); err != nil {
		return measure{}, err
	}
	values := make([][]byte, 1024)
	for i := range values {
		values[i] = make([]byte, s.size)
		for j := range values[i] {
			values[i][j] = byte('A' + rand.IntN(26))
		}
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Value: values[0]}).FirstErr(); err != nil {
		return measure{}, err
	}
	var acked, failed atomic.Int64
	w := figures.Begin(b.pid)
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
	w := figures.Begin(b.pid)
	for got < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return measure{}, err
		}
		fetches.EachRecord(func(r *kgo.Record) { got++; bytes += int64(len(r.Value)) })
	}
	wall, cpu := w.End()
	_, err = admin.DeleteTopics(ctx, topic)
	return measure{float64(bytes) / 1e6 / wall, cpu / (float64(bytes) / 1e9)}, err
}
