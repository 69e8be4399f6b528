// Package scale holds the promises about many partitions and many connections on one node: what they cost is what
// is done with them, not how many there are. The defaults are what CI runs; -partitions and -connections make it larger.
package scale

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/internal/vfs"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	partitions  = flag.Int("partitions", 10_000, "partitions of TestManyPartitions")
	written     = flag.Int("written", 4_000, "how many of them get a record")
	connections = flag.Int("connections", 5_000, "connections of TestManyConnections")
)

// openFiles is the number of a process's descriptors.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// idle is the share of a core that a node takes over a stretch of doing nothing.
func idle(t *testing.T, n *node.Node, d time.Duration) float64 {
	t.Helper()
	w := figures.Begin(n.PID())
	select {
	case <-time.After(d): // what is measured is time
	case err := <-n.Exited():
		t.Fatalf("the node ended: %v", err)
	}
	wall, cpu := w.End()
	return cpu / wall
}

func connect(t *testing.T, n *node.Node, opts ...kgo.Opt) (*kgo.Client, *kadm.Client) {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(n.Kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedBytes(64 << 20), kgo.MaxBufferedRecords(1 << 20), kgo.ProducerLinger(20 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, kadm.NewClient(client)
}

// fill gives each partition of a topic count records of size bytes.
func fill(ctx context.Context, t *testing.T, client *kgo.Client, topic string, partitions, count, size int) {
	t.Helper()
	value := make([]byte, size)
	for range count {
		for p := range partitions {
			client.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(p), Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestManyPartitions creates them, writes to many of them, lets them rest, and starts again.
func TestManyPartitions(t *testing.T) {
	n := node.New(t, "--data", t.TempDir(), "--durability", "relaxed")
	n.Start()
	client, admin := connect(t, n)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()

	var created []time.Duration
	for i := range 3 {
		topic := fmt.Sprintf("five-thousand-%d", i)
		began := time.Now()
		if _, err := admin.CreateTopic(ctx, 5000, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		created = append(created, time.Since(began))
		if _, err := admin.DeleteTopics(ctx, topic); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a topic of 5,000 partitions in %v", created)
	if best := slices.Min(created); best > 400*time.Millisecond {
		t.Errorf("a topic of 5,000 partitions took %v", best)
	}

	began := time.Now()
	if _, err := admin.CreateTopic(ctx, int32(*partitions), 1, nil, "many"); err != nil {
		t.Fatal(err)
	}
	t.Logf("a topic of %d partitions in %v", *partitions, time.Since(began))
	began = time.Now()
	fill(ctx, t, client, "many", min(*written, *partitions), 1, 100)
	now, peak := figures.RSS(n.PID())
	t.Logf("a record in %d of them after %v; %d descriptors; resident %.0f MiB, peak %.0f MiB", *written, time.Since(began), openFiles(t, n.PID()), now, peak)
	client.Close()
	rest(t, n, "after the first records")

	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n.Start()
	cpu := figures.CPU(n.PID())
	t.Logf("clean start after %v, CPU seconds %.2f", n.ReadyAfter, cpu)
	if n.ReadyAfter > time.Second && cpu > 0.5 {
		t.Errorf("a start with %d partitions took %v, CPU seconds %.2f", *partitions, n.ReadyAfter, cpu)
	}
	rest(t, n, "after a clean start")
	kills(t, n, 2*time.Second)
	rest(t, n, "after SIGKILL")
}

// kills kills the node and starts it again, which is to take at most limit at best: a third start has as much to recover as the
// first. On a machine that is busy with other work the clock tells of that work, so there half of it in CPU time counts as well.
func kills(t *testing.T, n *node.Node, limit time.Duration) {
	t.Helper()
	var took []time.Duration
	var cpu []float64
	for range 3 {
		n.Kill()
		n.Start()
		took, cpu = append(took, n.ReadyAfter), append(cpu, figures.CPU(n.PID()))
	}
	t.Logf("starts after SIGKILL: %v, CPU seconds %.2f", took, cpu)
	if slices.Min(took) > limit && slices.Min(cpu) > limit.Seconds()/2 {
		t.Errorf("starts after SIGKILL took %v, CPU seconds %.2f", took, cpu)
	}
}

// rest measures a node that does nothing.
func rest(t *testing.T, n *node.Node, when string) {
	t.Helper()
	share := idle(t, n, 4*time.Second)
	now, _ := figures.RSS(n.PID())
	files := openFiles(t, n.PID())
	t.Logf("%s: %.2f %% of a core, resident %.0f MiB, %d descriptors", when, 100*share, now, files)
	if share > 0.02 {
		t.Errorf("%s: %.2f %% of a core", when, 100*share)
	}
	if now > 150 {
		t.Errorf("%s: resident %.0f MiB", when, now)
	}
	if limit := int(min(vfs.OpenLimit()/8, 16<<10)) + 100; files > limit {
		t.Errorf("%s: %d descriptors, at most %d are for the logs and the rest", when, files, limit)
	}
}

// TestTwoGigabytesInManyPartitions: a SIGKILL under 5,000 partitions and 2 GB, and every record is there.
func TestTwoGigabytesInManyPartitions(t *testing.T) {
	n := node.New(t, "--data", t.TempDir(), "--durability", "relaxed")
	n.Start()
	client, admin := connect(t, n, kgo.ProducerBatchMaxBytes(256<<10))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const parts, count, size = 5000, 4, 100_000
	if _, err := admin.CreateTopic(ctx, parts, 1, nil, "big"); err != nil {
		t.Fatal(err)
	}
	fill(ctx, t, client, "big", parts, count, size)
	kills(t, n, 2*time.Second)
	now, _ := figures.RSS(n.PID())
	t.Logf("%d partitions with 2 GB: resident %.0f MiB, %d descriptors", parts, now, openFiles(t, n.PID()))
	ends, err := admin.ListEndOffsets(ctx, "big")
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	if total != parts*count {
		t.Errorf("%d of %d records are there", total, parts*count)
	}
}

// TestManyConnections: each asks once, and then they all rest.
func TestManyConnections(t *testing.T) {
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	idle(t, n, time.Second)
	before, _ := figures.RSS(n.PID())
	conns := make([]net.Conn, *connections)
	w := figures.Begin(n.PID())
	var group sync.WaitGroup
	next := make(chan int)
	for range 16 {
		group.Go(func() {
			for i := range next {
				c, err := net.Dial("tcp", n.Kafka)
				if err != nil {
					t.Error(err)
					continue
				}
				conns[i] = c
				if err := ask(c); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	for i := range conns {
		next <- i
	}
	close(next)
	group.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close() // only read from
			}
		}
	}()
	if t.Failed() {
		return
	}
	wall, cpu := w.End()
	share := idle(t, n, 3*time.Second)
	now, _ := figures.RSS(n.PID())
	each := (now - before) * 1024 / float64(len(conns))
	t.Logf("%d connections in %.2f s, %.2f CPU-s of the node; %.1f KiB each (%.0f → %.0f MiB), %.2f %% of a core at rest",
		len(conns), wall, cpu, each, before, now, 100*share)
	if each > 32 {
		t.Errorf("a resting connection takes %.1f KiB", each)
	}
	if share > 0.02 {
		t.Errorf("%d resting connections take %.2f %% of a core", len(conns), 100*share)
	}
	for _, i := range []int{0, len(conns) / 2, len(conns) - 1} {
		if err := ask(conns[i]); err != nil {
			t.Errorf("connection %d after its rest: %v", i, err)
		}
	}
}

// ask sends an ApiVersions request and reads its response.
func ask(c net.Conn) error {
	req := kmsg.NewPtrApiVersionsRequest()
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 7)
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	r := kbin.Reader{Src: head[:]}
	size, id := r.Int32(), r.Int32()
	if id != 7 || size < 4 || size > 1<<16 {
		return fmt.Errorf("a response of %d bytes to request %d", size, id)
	}
	_, err := io.ReadFull(c, make([]byte, size-4))
	return err
}
