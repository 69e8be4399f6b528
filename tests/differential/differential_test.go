package differential

import (
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	update    = flag.Bool("update", false, "write docs/differences.md")
	only      = flag.String("only", "", "play only scenarios whose name has this in it; nothing is said of the list then")
	seed      = flag.Uint64("seed", 0, "seed of the random sequences; 0 draws one")
	random    = flag.Int("random", 6, "how many random sequences")
	kafkaAt   = flag.String("kafka", "", "host:port of an Apache Kafka with the settings below that runs already; for work on Forebay")
	forebayAt = flag.String("forebay", "", "host:port of a Forebay node with the settings below that runs already")
	tell      = flag.Bool("tell", false, "log every response")
	covered   = flag.Bool("covered", false, "log what each entry of the list stands for")
)

// scenario is a sequence of requests that is played on both sides.
type scenario struct {
	name string
	play func(*side)
}

// settings are what both servers are told.
var settings = []string{
	"auto.create.topics.enable=true", "num.partitions=1", "default.replication.factor=1", "group.initial.rebalance.delay.ms=0",
	"offsets.topic.num.partitions=5", "offsets.topic.replication.factor=1", "transaction.state.log.num.partitions=5",
	"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
	"log.segment.delete.delay.ms=1000", "log.cleaner.dedupe.buffer.size=16777216",
	"transaction.abort.timed.out.transaction.cleanup.interval.ms=500",
}

func TestLikeKafka(t *testing.T) {
	kafkaAddr, forebayAddr := servers(t)
	common := both(t, kafkaAddr, forebayAddr)
	for _, addr := range []string{kafkaAddr, forebayAddr} {
		warm(addr)
	}

	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("random sequences: -random=%d -seed=%d", *random, *seed)
	run := rand.IntN(1 << 16) // names are new when the servers are not
	all := scenarios()
	for i := range *random {
		all = append(all, scenario{fmt.Sprintf("random %d", i), sequence(*seed + uint64(i))})
	}
	var found []difference
	played, answers := 0, 0
	for i, sc := range all {
		if !strings.Contains(sc.name, *only) {
			continue
		}
		var sides [2]*side
		var playing sync.WaitGroup
		began := time.Now()
		for j, addr := range []string{kafkaAddr, forebayAddr} {
			s := &side{name: []string{"kafka", "forebay"}[j], addr: addr, versions: &common, prefix: fmt.Sprintf("%04x.%03d.", run, i),
				ids: map[string][16]byte{}, symbols: map[string]map[string]string{}}
			sides[j] = s
			playing.Go(func() { s.run(sc.play) })
		}
		playing.Wait()
		if took := time.Since(began); took > 2*time.Second {
			t.Logf("%s took %v", sc.name, took.Round(time.Millisecond))
		}
		if sides[0].fault != "" {
			t.Errorf("%s on kafka: %s", sc.name, sides[0].fault)
		}
		if *tell {
			dump(t, sides[0])
			dump(t, sides[1])
		}
		played, answers = played+1, answers+len(sides[0].steps)
		found = append(found, tellUnlisted(t, compare(sc.name, sides[0], sides[1]))...)
	}
	t.Logf("%d scenarios, %d answers of each side compared", played, answers)
	if *covered {
		tellCovered(t, found)
	}
	if *only == "" {
		tellGone(t, found)
		checkDocument(t, *update)
	}
}

// warm waits for what a new Kafka makes when it is asked first: the topics of both coordinators and a block of producer ids.
func warm(addr string) {
	s := &side{addr: addr}
	s.main = s.dial()
	defer s.main.close()
	s.coordinate(0, "warm")
	s.coordinate(1, "warm")
	s.await(kmsg.InitProducerID, 4, M{"ProducerID": -1, "ProducerEpoch": -1}, func(r kmsg.Response) bool {
		return r.(*kmsg.InitProducerIDResponse).ErrorCode == 0
	})
}

// servers are an Apache Kafka and a node, which nobody else uses.
func servers(t *testing.T) (kafka, forebay string) {
	t.Helper()
	if kafka = *kafkaAt; kafka == "" {
		kafka = testenv.NewKafka(t, settings...).Bootstrap
	}
	if *forebayAt != "" {
		return kafka, *forebayAt
	}
	args := []string{"--data", t.TempDir(), "--durability", "relaxed"}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	n := node.New(t, args...)
	n.Start()
	return kafka, n.Kafka
}

// tellUnlisted fails what is not listed. It returns all of it.
func tellUnlisted(t *testing.T, found []difference) []difference {
	t.Helper()
	var unlisted []difference
	for _, d := range found {
		if !slices.ContainsFunc(differences, func(k known) bool { return k.matches(d) }) {
			unlisted = append(unlisted, d)
		}
	}
	for _, g := range grouped(unlisted) {
		t.Errorf("%s: %s: kafka %s, forebay %s; in %d: %s", g.scenario, g.shape, g.kafka, g.forebay, len(g.steps), strings.Join(g.steps, "; "))
	}
	return found
}

// tellCovered logs what each entry of the list was needed for.
func tellCovered(t *testing.T, found []difference) {
	t.Helper()
	for _, k := range differences {
		var of []difference
		for _, d := range found {
			if k.matches(d) {
				of = append(of, d)
			}
		}
		t.Logf("%s: %s: %d", k.api, k.what, len(of))
		for _, g := range grouped(of) {
			t.Logf("    %s: %s: kafka %s, forebay %s; %s", g.scenario, g.shape, g.kafka, g.forebay, strings.Join(g.steps, "; "))
		}
	}
}

// tellGone fails what is listed and does not occur any more.
func tellGone(t *testing.T, found []difference) {
	t.Helper()
	for _, k := range differences {
		if !slices.ContainsFunc(found, k.matches) {
			t.Errorf("listed but gone: %s: %s", k.api, k.what)
		}
	}
}

// both are the versions that both servers and kmsg have.
func both(t *testing.T, kafka, forebay string) versions {
	t.Helper()
	var lists [2]versions
	for i, addr := range []string{kafka, forebay} {
		lists[i] = versions{}
		s := &side{addr: addr}
		c := s.dial()
		for _, k := range c.ask(kmsg.ApiVersions, 3, M{"ClientSoftwareName": "differ", "ClientSoftwareVersion": "1"}).(*kmsg.ApiVersionsResponse).ApiKeys {
			lists[i][k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
		}
		c.close()
	}
	out := versions{}
	for k, a := range lists[0] {
		if b, ok := lists[1][k]; ok && kmsg.RequestForKey(k) != nil {
			out[k] = [2]int16{max(a[0], b[0]), min(a[1], b[1], kmsg.RequestForKey(k).MaxVersion())}
		}
	}
	return out
}

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetOutput(io.Discard)
	os.Exit(m.Run())
}
