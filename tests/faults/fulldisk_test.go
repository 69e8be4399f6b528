package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/tests/node"
)

var full = flag.Duration("full", 2*time.Second, "how long the disk stays full")

// TestFullDiskUnderProducers is invariant 11 as applications see it: producers with Kafka's defaults wait while the disk is full,
// reads and administration go on, and the same clients go on by themselves when there is room; what was acknowledged is there once.
func TestFullDiskUnderProducers(t *testing.T) {
	dir := smallDisk(t)
	n := node.New(t, "--data", dir, "--set", "log.segment.delete.delay.ms=100", "--set", "log.retention.check.interval.ms=200")
	n.Start()
	produce(t, n.Kafka, "keep", 100)

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var producers sync.WaitGroup
	var clients []*kgo.Client
	var mu sync.Mutex
	acked := map[string]int64{} // value -> offset
	var latest atomic.Int64     // when something was last acknowledged, Unix milliseconds
	latest.Store(time.Now().UnixMilli())
	for p := range 3 {
		c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("steady"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(50))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
		producers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(p)))
			padding := make([]byte, 8<<10)
			for i := range padding {
				padding[i] = byte('a' + random.IntN(26))
			}
			for i := 0; ctx.Err() == nil; i++ {
				value := append(fmt.Appendf(nil, "%d-%d ", p, i), padding...)
				c.Produce(context.Background(), &kgo.Record{Value: value}, func(r *kgo.Record, err error) {
					if err != nil {
						t.Errorf("an idempotent producer without a limit gave up: %v", err)
						return
					}
					latest.Store(time.Now().UnixMilli())
					mu.Lock()
					defer mu.Unlock()
					acked[string(r.Value[:20])] = r.Offset
				})
				_ = pause.For(ctx, 5*time.Millisecond)
			}
		})
	}
	// A few big records take what is left, so that the producers meet a full disk.
	c := client(t, n.Kafka, kgo.RecordRetries(0), kgo.DefaultProduceTopic("ballast"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	var refused error
	for sent := 0; refused == nil; sent++ {
		refused = c.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 256<<10)}).FirstErr()
		if sent > 2000 {
			t.Fatal("128 MB went into 48")
		}
	}
	if !errors.Is(refused, kerr.KafkaStorageError) {
		t.Errorf("a write to a full disk is refused with %v", refused)
	}
	eventually(t, 30*time.Second, "the producers stand still", func() bool { return time.Now().UnixMilli()-latest.Load() > 1000 })

	admin := kadm.NewClient(client(t, n.Kafka))
	reads, since := 0, time.Now()
	for time.Since(since) < *full {
		if got := count(t, n.Kafka, "keep"); got != 100 {
			t.Fatalf("of 100 records %d can be read from a full disk", got)
		}
		if _, err := admin.Metadata(ctx); err != nil {
			t.Fatalf("metadata: %v", err)
		}
		if _, err := admin.DescribeTopicConfigs(ctx, "keep"); err != nil {
			t.Fatalf("configs: %v", err)
		}
		if err := c.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 64<<10)}).FirstErr(); !errors.Is(err, kerr.KafkaStorageError) {
			t.Fatalf("a write to a full disk: %v", err)
		}
		reads++
	}
	mu.Lock()
	before := len(acked)
	mu.Unlock()
	if d, err := admin.DeleteTopic(ctx, "ballast"); errors.Join(err, d.Err) != nil {
		t.Fatalf("a topic cannot be deleted on a full disk: %v", errors.Join(err, d.Err))
	}
	freed := time.Now()
	eventually(t, 60*time.Second, "the producers go on by themselves", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acked) > before+100
	})
	recovered := time.Since(freed)
	stop()
	producers.Wait()
	within, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, c := range clients {
		if err := c.Flush(within); err != nil {
			t.Fatalf("what was sent before the end is not answered: %v", err)
		}
	}

	found := map[string]int64{}
	want := end(t, n.Kafka, "steady")
	reader := client(t, n.Kafka, kgo.ConsumeTopics("steady"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for int64(len(found)) < want {
		f := reader.PollFetches(within)
		if within.Err() != nil {
			t.Fatalf("%d of %d records can be read", len(found), want)
		}
		f.EachRecord(func(r *kgo.Record) {
			key := string(r.Value[:20])
			if at, twice := found[key]; twice {
				t.Fatalf("%q is there twice, at %d and %d", key, at, r.Offset)
			}
			found[key] = r.Offset
		})
	}
	mu.Lock()
	defer mu.Unlock()
	if int64(len(acked)) != want {
		t.Errorf("%d records were acknowledged and %d lie in the log", len(acked), want)
	}
	for key, offset := range acked {
		if at, ok := found[key]; !ok || at != offset {
			t.Errorf("%q was acknowledged at %d and lies at %d (%v)", key, offset, at, ok)
		}
	}
	t.Logf("soak: disk full for %v: %d rounds of reads and administration, refused with %v; producers went on %v after a topic was deleted; %s records acknowledged, each there once",
		*full, reads, refused, recovered.Round(time.Millisecond), strconv.Itoa(len(acked)))
}

// smallDisk is a tmpfs of 48 MB.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Fatalf("this test mounts a small tmpfs, which needs root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
