//go:build linux

// Package chaos drives real nodes through seeded storms: kills, pauses, partitions of the network both ways and one way, delay and loss, full disks,
// elections and reassignments, several at a time, with clients outside; then all is healed, and everything that was promised is held against what is
// there. The seed gives the same storm again; how it meets the nodes is the machine's.
package chaos

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/tests/ledger"
	"github.com/forebayhub/forebay/tests/network"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	seed       = flag.Uint64("seed", 0, "seed of one run; 0: the short ones of CI")
	count      = flag.Int("nodes", 3, "how many nodes, with -seed")
	durability = flag.String("durability", "power-safe", "power-safe or relaxed, with -seed")
	period     = flag.Duration("for", 10*time.Second, "how long there are storms")
	keep       = flag.String("keep", "", "where data directories and logs of a failed run go; default bin/chaos in the repository")
)

const (
	stormLength = 20 * time.Second
	// answersWithin and healthyWithin are bounds after a storm: until a thousand records more are acknowledged, and until every replica is in sync. A busy
	// machine is slower than the nodes' own times: a lease of 1 s, an election, the fetchers' backoff.
	answersWithin = 15 * time.Second
	healthyWithin = 45 * time.Second
)

func TestMain(m *testing.M) {
	network.Enter()
	os.Exit(m.Run())
}

func TestChaos(t *testing.T) {
	if *seed != 0 {
		run(t, *seed, *count, *durability)
		return
	}
	t.Run("power-safe", func(t *testing.T) { run(t, 1, 3, "power-safe") })
	t.Run("relaxed", func(t *testing.T) { run(t, 2, 3, "relaxed") })
}

// TestOneSeedOneStorm is what makes a failed run one that can be run again.
func TestOneSeedOneStorm(t *testing.T) {
	draw := func(seed uint64) []string {
		var lines []string
		for _, f := range plan(rand.New(rand.NewPCG(seed, 1)), 5, time.Minute) {
			lines = append(lines, f.String())
		}
		return lines
	}
	one, again, other := draw(7), draw(7), draw(8)
	if len(one) < 30 || !slices.Equal(one, again) || slices.Equal(one, other) {
		t.Errorf("%d, %d and %d faults:\n%s", len(one), len(again), len(other), strings.Join(one, "\n"))
	}
}

func run(t *testing.T, seed uint64, count int, durability string) {
	t.Logf("seed %d; again: go test ./tests/chaos -run TestChaos -count=1 -v -args -seed=%d -nodes=%d -durability=%s -for=%v", seed, seed, count, durability, *period)
	c := newCluster(t, seed, count, durability)
	options := c.clientOptions()
	l := ledger.Start(t, func(opts ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append(slices.Clone(options), opts...)...)
	}, ledger.Options{
		Seed: seed, Burst: 20, FillBytes: 30 << 10, Roll: 500 * time.Millisecond,
		Session: func(opts ...kgo.Opt) (*kgo.GroupTransactSession, error) {
			return kgo.NewGroupTransactSession(append(slices.Clone(options), opts...)...)
		},
	})
	if err := l.Advances(1000, healthyWithin); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	var answered, healthy time.Duration
	for left := *period; left > 0; left -= stormLength {
		if err := c.weather(plan(random, count, min(left, stormLength))); err != nil {
			t.Fatal(err)
		}
		healed := time.Now()
		c.net.Heal()
		if err := l.Advances(1000, answersWithin); err != nil {
			t.Fatalf("after the storm: %v\n%s", err, c.behind(t.Context()))
		}
		answered = max(answered, time.Since(healed))
		if err := c.calm(healthyWithin); err != nil {
			t.Fatalf("after the storm: %v", err)
		}
		healthy = max(healthy, time.Since(healed))
		c.t.Logf("%v all is well again", time.Since(c.began).Round(time.Millisecond))
		err := l.Check(2000)
		for tries := 0; tries < 5 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)); tries++ {
			err = l.Check(2000) // a connection that the storm has cut was met first; what is wrong is remembered, and told again
		}
		if err != nil {
			t.Fatalf("after the storm: %v", err)
		}
		if err := c.confessed(); err != nil {
			t.Fatal(err)
		}
	}
	l.Finish()
	if err := c.calm(healthyWithin); err != nil {
		t.Fatal(err)
	}
	same, err := c.compare()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("soak: %s; answered again within %v, healthy within %v; %s", c.figures(), answered.Round(10*time.Millisecond), healthy.Round(10*time.Millisecond), same)
}

func newCluster(t *testing.T, seed uint64, count int, durability string) *cluster {
	t.Helper()
	c := &cluster{t: t, net: network.New(t, count, seed), nodes: make([]*member, 1), began: time.Now(), counts: map[kind]int{}}
	base := t.TempDir()
	var gossip []string
	for i := 1; i <= count; i++ {
		gossip = append(gossip, c.net.Host(i).Addr.String()+":7946")
	}
	var plain []*node.Node
	for i := 1; i <= count; i++ {
		data, addr := filepath.Join(base, fmt.Sprintf("node-%d", i)), c.net.Host(i).Addr.String()
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", data, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
			t.Fatalf("a disk of its own for each node: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(data, unix.MNT_DETACH) })
		n := node.NewAt(t, node.Place{Data: data, Log: filepath.Join(base, fmt.Sprintf("node-%d.log", i)), Do: c.net.Host(i).Do},
			"server", "--id", fmt.Sprint(i), "--data", data, "--kafka", addr+":9092", "--peer", addr+":9093", "--gossip", addr+":7946", "--http", "127.0.0.1:8080",
			"--join", strings.Join(gossip, ","), "--expect", fmt.Sprint(count), "--insecure", "--durability", durability,
			"--set", "min.insync.replicas=2", "--set", "offsets.topic.num.partitions=3", "--set", "transaction.state.log.num.partitions=3",
			"--set", "log.retention.check.interval.ms=200", "--set", "log.cleaner.backoff.ms=200", "--set", "log.segment.delete.delay.ms=200")
		plain = append(plain, n)
		c.nodes = append(c.nodes, &member{Node: n})
	}
	t.Cleanup(func() { c.keep(base, seed, durability) }) // before the disks go
	node.StartAll(t, plain)
	admin, err := kgo.NewClient(c.clientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	c.admin = kadm.NewClient(admin)
	return c
}

// clientOptions are for clients that find out soon that a node does not answer.
func (c *cluster) clientOptions() []kgo.Opt {
	var seeds []string
	for i := range c.nodes[1:] {
		seeds = append(seeds, c.net.Host(i+1).Addr.String()+":9092")
	}
	return []kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.RetryTimeout(30 * time.Second), kgo.RequestRetries(1000), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.DialTimeout(time.Second),
		kgo.ProduceRequestTimeout(2 * time.Second), kgo.RequestTimeoutOverhead(2 * time.Second),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
	}
}

// keep saves what a failed run leaves.
func (c *cluster) keep(base string, seed uint64, durability string) {
	if !c.t.Failed() {
		return
	}
	for _, m := range c.nodes[1:] {
		m.Kill()
	}
	at := *keep
	if at == "" {
		at = filepath.Join("..", "..", "bin", "chaos")
	}
	at = filepath.Join(at, fmt.Sprintf("seed-%d-%s-%d", seed, durability, len(c.nodes)-1))
	if err := os.RemoveAll(at); err != nil {
		c.t.Log(err)
	}
	if err := os.CopyFS(at, os.DirFS(base)); err != nil {
		c.t.Log(err)
	}
	c.t.Logf("data directories and logs are kept in %s", at)
}
