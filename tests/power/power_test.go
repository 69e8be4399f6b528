// Package power is the promise of each durability, tried with power cuts: a whole broker over a disk in memory that
// knows what was synced, and keeps of the rest nothing, a part, or torn sectors.
package power

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/internal/vfs"
	"github.com/forebayhub/forebay/tests/ledger"
)

var (
	cuts = flag.Int("cuts", 15, "power cuts in each durability")
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the moments and of what the disk keeps")
)

// untilEnd bounds how many records are acknowledged between two power cuts; how many it is to be is drawn from the seed. They take up to some 300 ms.
const untilEnd = 500

// cutsPerDisk bounds what a disk in memory grows to.
const cutsPerDisk = 25

// machine is one broker after the other over what the power cut before has left.
type machine struct {
	t          *testing.T
	durability commitlog.Durability

	mu    sync.Mutex
	disk  *vfs.Memory
	life  int
	now   *broker.Broker
	conns []net.Conn
	stop  context.CancelFunc
	ended chan error
}

func boot(t *testing.T, d commitlog.Durability) *machine {
	m := &machine{t: t, durability: d, disk: vfs.NewCrash()}
	m.start()
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.end()
	})
	return m
}

func (m *machine) start() {
	m.t.Helper()
	m.life++
	b, err := broker.Open(context.Background(), broker.Options{
		DataDir: "/data", FS: m.disk, KafkaAddr: "127.0.0.1:0", Durability: m.durability, BootID: fmt.Sprintf("boot %d", m.life),
		// A group must come together in a life of a few hundred milliseconds.
		Set: map[string]string{"log.retention.check.interval.ms": "50", "log.cleaner.backoff.ms": "50", "log.segment.delete.delay.ms": "50", "group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3"},
	})
	if err != nil {
		m.t.Fatalf("life %d does not start: %v", m.life, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m.now, m.stop, m.ended = b, stop, make(chan error, 1)
	go func() { m.ended <- b.Run(ctx) }()
	<-b.Ready()
}

func (m *machine) end() {
	for _, c := range m.conns {
		_ = c.Close() // whatever it was doing
	}
	m.conns = nil
	m.stop()
	select {
	case err := <-m.ended:
		if err != nil {
			m.t.Errorf("life %d: %v", m.life, err)
		}
	case <-time.After(time.Minute):
		m.t.Errorf("life %d does not end", m.life)
	}
}

// cut takes the power away. Connections go first: nobody is told anything that the disk did not have at that moment.
func (m *machine) cut(torn *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.conns = nil
	left := m.disk.Crashed(torn)
	m.end() // of the life whose disk nobody sees any more
	m.disk = left
	m.start()
}

func (m *machine) connect(opts ...kgo.Opt) (*kgo.Client, error) {
	m.mu.Lock()
	addr := m.now.KafkaAddr()
	m.mu.Unlock()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		c, err := m.now.Dial(ctx)
		if err == nil {
			m.conns = append(m.conns, c)
		}
		return c, err
	}
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.Dialer(dial), kgo.RetryTimeout(20 * time.Second), kgo.RequestRetries(1000), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })}, opts...)...)
}

// kept is the strict disk half of the time, and one that dies untidily the other half.
func kept(random *rand.Rand) *rand.Rand {
	if random.IntN(2) == 0 {
		return nil
	}
	return random
}

// TestPowerSafe: what tests/kill holds against SIGKILL, power-safe holds against the loss of power.
func TestPowerSafe(t *testing.T) {
	t.Logf("seed %d", *seed)
	for done := 0; done < *cuts; done += cutsPerDisk {
		random := rand.New(rand.NewPCG(*seed, uint64(done)))
		m := boot(t, commitlog.PowerSafe)
		l := ledger.Start(t, m.connect, ledger.Options{Seed: *seed, Burst: 20, FillBytes: 50 << 10, Roll: 30 * time.Millisecond})
		for k := range min(cutsPerDisk, *cuts-done) {
			if err := l.Advances(1+random.IntN(untilEnd), 30*time.Second); err != nil {
				t.Fatal(err)
			}
			m.cut(kept(random))
			last := int64(500)
			if k%10 == 9 {
				last = ledger.Everything
			}
			if err := l.Check(last); err != nil {
				t.Fatalf("after power cut %d of the disk that began with %d: %v", k, done, err)
			}
		}
		l.Serves(30 * time.Second)
		t.Logf("soak: power cuts %d to %d", done+1, min(done+cutsPerDisk, *cuts))
		l.Finish()
	}
}

// TestRelaxed: relaxed may lose what the disk had not written back, but only from the end of a partition: what is left is what
// was sent, in order, without a hole and without a torn batch; topics are there; the node serves by itself.
func TestRelaxed(t *testing.T) {
	t.Logf("seed %d", *seed)
	const partitions = 3
	lost, sent := 0, 0
	for done := 0; done < *cuts; done += cutsPerDisk {
		random := rand.New(rand.NewPCG(*seed, uint64(done)))
		m := boot(t, commitlog.Relaxed)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
		admin, err := m.connect()
		if err != nil {
			t.Fatal(err)
		}
		r, err := kadm.NewClient(admin).CreateTopic(ctx, partitions, 1, map[string]*string{"segment.bytes": new("1048576")}, "orders")
		if err = errors.Join(err, r.Err); err != nil {
			t.Fatal(err)
		}
		var log [partitions][]string // what each partition must begin with
		for k := range min(cutsPerDisk, *cuts-done) {
			c, err := m.connect(kgo.RecordPartitioner(kgo.ManualPartitioner())) // a new producer: the old one's batches may be gone
			if err != nil {
				t.Fatal(err)
			}
			for range 1 + random.IntN(8) {
				var records []*kgo.Record
				for range 1 + random.IntN(40) {
					records = append(records, &kgo.Record{Topic: "orders", Partition: int32(random.IntN(partitions)), Value: fmt.Appendf(nil, "%d %0*d", sent, random.IntN(5000), 0)})
					sent++
				}
				if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
					t.Fatalf("after power cut %d: %v", k, err)
				}
				for _, r := range records {
					if r.Offset != int64(len(log[r.Partition])) {
						t.Fatalf("orders-%d: offset %d, want %d", r.Partition, r.Offset, len(log[r.Partition]))
					}
					log[r.Partition] = append(log[r.Partition], string(r.Value))
				}
			}
			c.Close()
			m.cut(kept(random))
			ends, err := kadm.NewClient(admin).ListEndOffsets(ctx, "orders")
			if err = errors.Join(err, ends.Error()); err != nil {
				t.Fatalf("after power cut %d: %v", k, err)
			}
			for p := range partitions {
				end, _ := ends.Lookup("orders", int32(p))
				if int(end.Offset) > len(log[p]) {
					t.Fatalf("orders-%d ends at %d, and %d were sent", p, end.Offset, len(log[p]))
				}
				lost += len(log[p]) - int(end.Offset)
				log[p] = log[p][:end.Offset]
			}
			compare(ctx, t, m, log[:])
		}
		admin.Close()
		cancel()
	}
	t.Logf("soak: %d power cuts: %d records acknowledged, %d of them lost from the ends of partitions, the rest as it was sent", *cuts, sent, lost)
	if lost == 0 {
		t.Error("nothing was lost: the cuts cut nothing")
	}
}

// compare reads everything and holds it against what was sent.
func compare(ctx context.Context, t *testing.T, m *machine, log [][]string) {
	t.Helper()
	from := map[int32]kgo.Offset{}
	left := 0
	for p := range log {
		if left += len(log[p]); len(log[p]) > 0 {
			from[int32(p)] = kgo.NewOffset().At(0)
		}
	}
	c, err := m.connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"orders": from}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for left > 0 {
		f := c.PollFetches(within)
		if within.Err() != nil {
			t.Fatalf("%d records cannot be read", left)
		}
		f.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != log[r.Partition][r.Offset] {
				t.Fatalf("orders-%d@%d is %.30q and was sent as %.30q", r.Partition, r.Offset, r.Value, log[r.Partition][r.Offset])
			}
			left--
		})
	}
}
