// Package kill is the promise of an acknowledgement, tried with SIGKILL: producers, plain and transactional, groups that
// commit, compaction and retention, while the node is killed again and again.
package kill

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/tests/ledger"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	kills      = flag.Int("kills", 40, "how often the node is killed; make soak: 500")
	durability = flag.String("durability", "power-safe", "power-safe or relaxed")
	seed       = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of when the node is killed")
)

// untilEnd bounds how many records are acknowledged in a life; how many it is to be is drawn from the seed. They take up to some 400 ms.
const untilEnd = 4000

// TestNothingAckedIsLost is gate 1 of the log: after every kill what was acknowledged is there, once, where it was
// said to be, in order; what was read is as it was; a group's committed offset never steps back; a transaction is seen whole or
// not at all. Compaction and retention run all the time.
func TestNothingAckedIsLost(t *testing.T) {
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	n := node.New(t, "--data", t.TempDir(), "--durability", *durability, "--set", "log.retention.check.interval.ms=100", "--set", "log.cleaner.backoff.ms=100", "--set", "log.segment.delete.delay.ms=100")
	n.Start()
	addr := n.Kafka // the same in each life
	connect := func(opts ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RetryTimeout(20 * time.Second), kgo.RequestRetries(1000), kgo.MetadataMinAge(50 * time.Millisecond),
			kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })}, opts...)...)
	}
	l := ledger.Start(t, connect, ledger.Options{Seed: *seed, Burst: 100, FillBytes: 20 << 10, Roll: 200 * time.Millisecond})
	slowest := time.Duration(0)
	for k := range *kills {
		if err := l.Advances(1+random.IntN(untilEnd), 30*time.Second); err != nil {
			t.Fatal(err)
		}
		n.Kill()
		n.Start()
		slowest = max(slowest, n.ReadyAfter)
		last := int64(500)
		if k%50 == 49 {
			last = ledger.Everything
		}
		if err := l.Check(last); err != nil {
			t.Fatalf("after kill %d: %v", k, err)
		}
	}
	l.Serves(30 * time.Second)
	t.Logf("soak: %d kills, slowest start %v", *kills, slowest)
	l.Finish()
}
