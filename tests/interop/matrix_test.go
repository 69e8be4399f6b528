package interop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// program is a client's program: PROGRAM BOOTSTRAP does all that the client can do and prints ok; PROGRAM BOOTSTRAP member TOPIC GROUP
// is a member of a group that prints "assigned 0 2" when that changes, and leaves when its stdin ends.
type program struct {
	argv []string
	env  []string
	last []string // arguments after all others
}

func (p program) command(ctx context.Context, args ...string) (*exec.Cmd, *strings.Builder) {
	cmd := exec.CommandContext(ctx, p.argv[0], slices.Concat(p.argv[1:], args, p.last)...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &strings.Builder{}
	cmd.Stderr = log
	return cmd, log
}

func (p program) everything(t *testing.T, bootstrap string) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	cmd, log := p.command(ctx, bootstrap)
	out, err := cmd.Output()
	if err != nil || string(out) != "ok\n" {
		t.Fatalf("%v\n%s%s", err, out, log.String())
	}
}

// programs are the clients with the whole list, by name; Java's with each of its group protocols.
func programs(t *testing.T) map[string]program {
	nodeJS, modules := testenv.Node(t)
	tools := testenv.KafkaTools(t).JavaProgram(t, "java")
	goClients := testenv.GoProgram(t, "goclients")
	python := testenv.Python(t)
	return map[string]program{
		"confluent":     {argv: []string{python, "confluent.py"}},
		"kafka-python":  {argv: []string{python, "kafka_python.py"}},
		"aiokafka":      {argv: []string{python, "aiokafka_matrix.py"}},
		"kafkajs":       {argv: []string{nodeJS, "kafkajs.js"}, env: []string{"NODE_PATH=" + modules}},
		"java":          javaProgram(tools, "Matrix"),
		"java-consumer": javaProgram(tools, "Matrix", "-Dgroup.protocol=consumer"),
		"franz-go":      {argv: []string{goClients, "franz-go"}},
		"sarama":        {argv: []string{goClients, "sarama"}},
		"kafka-go":      {argv: []string{goClients, "kafka-go"}},
	}
}

func javaProgram(tools testenv.Tools, class string, options ...string) program {
	argv := append([]string{tools.Java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}, options...)
	return program{argv: append(argv, "-cp", tools.ClassPath, class)}
}

// TestEverything has each client do all that it can, side by side, on one node and on three.
func TestEverything(t *testing.T) {
	t.Parallel()
	all := programs(t)
	onOneAndThree(t, func(t *testing.T, _ int, bootstrap string) {
		sideBySide(t, all, func(t *testing.T, _ string, p program) { p.everything(t, bootstrap) })
	})
}

// sideBySide has four programs at work at a time, whatever the number of cores: they wait more than they compute.
func sideBySide(t *testing.T, all map[string]program, try func(t *testing.T, name string, p program)) {
	var working sync.WaitGroup
	slots := make(chan struct{}, 4)
	for name, p := range all {
		working.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(name, func(t *testing.T) { try(t, name, p) })
		})
	}
	working.Wait()
}

// shortSessions are those of the consumer protocol, as short as the members of the classic protocol ask for.
var shortSessions = []string{"--set", "group.consumer.min.session.timeout.ms=6000", "--set", "group.consumer.session.timeout.ms=6000",
	"--set", "group.consumer.min.heartbeat.interval.ms=500", "--set", "group.consumer.heartbeat.interval.ms=500"}

// TestMembers lets members of a group come, leave and die; each time those that are left share all partitions, and what is written meanwhile
// they read and commit.
func TestMembers(t *testing.T) {
	t.Parallel()
	all := programs(t)
	if long {
		t.Run("one node", func(t *testing.T) {
			n := node.New(t, append(shortSessions, "--data", t.TempDir())...)
			n.Start()
			membersOf(t, n.Kafka, all)
		})
	}
	t.Run("three nodes", func(t *testing.T) {
		nodes := node.NewCluster(t, 3, shortSessions...)
		node.StartAll(t, nodes)
		membersOf(t, bootstrap(nodes), all)
	})
}

func membersOf(t *testing.T, bootstrap string, all map[string]program) {
	sideBySide(t, all, func(t *testing.T, name string, p program) { rebalances(t, bootstrap, "members-"+name, p, 1) })
}

const memberPartitions = 6

func rebalances(t *testing.T, bootstrap, topic string, p program, rounds int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), memberPartitions, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	group := &members{t: t, client: client, bootstrap: bootstrap, topic: topic, has: map[*member]string{}, feed: make(chan func(), 100)}
	t.Cleanup(func() {
		if t.Failed() {
			for m := range group.has {
				t.Logf("stderr of %d: %s", m.number, m.log.String())
			}
		}
	})
	for range rounds {
		a := group.join(p)
		group.await(time.Minute, "the first is alone", a)
		group.work()
		b := group.join(p)
		group.await(time.Minute, "the second has come", a, b)
		c := group.join(p)
		group.await(time.Minute, "the third has come", a, b, c)
		group.work()
		group.end(b, true)
		group.await(time.Minute, "the second was killed", a, c) // its session is 6 s
		group.work()
		group.end(a, false)
		group.await(time.Minute, "the first has left", c)
		group.work()
		group.end(c, false)
	}
}

// members is what each member of a group last said. Only the test's own goroutine touches it. The group has the topic's name.
type members struct {
	t                *testing.T
	client           *kgo.Client
	bootstrap, topic string
	has              map[*member]string
	feed             chan func() // what the members say, to be done by the test's goroutine
}

type member struct {
	number int
	cmd    *exec.Cmd
	stdin  io.Closer
	log    *strings.Builder
	exited chan error
}

func (g *members) join(p program) *member {
	g.t.Helper()
	cmd, log := p.command(g.t.Context(), g.bootstrap, "member", g.topic, g.topic)
	m := &member{number: len(g.has) + 1, cmd: cmd, log: log, exited: make(chan error, 1)}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	m.stdin = stdin
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.has[m] = ""
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			line := lines.Text()
			g.feed <- func() { g.has[m] = strings.TrimSpace(strings.TrimPrefix(line, "assigned")) }
		}
		m.exited <- cmd.Wait()
	}()
	return m
}

// await waits until the given members, and they alone, have every partition once, each at least one.
func (g *members) await(d time.Duration, what string, live ...*member) {
	g.t.Helper()
	began := time.Now()
	deadline := time.After(d)
	for !g.shared(live) {
		select {
		case news := <-g.feed:
			news()
		case <-deadline:
			g.t.Fatalf("%s: after %v the members have %s", what, d, g.say())
		}
	}
	g.t.Logf("%s: settled after %v: %s", what, time.Since(began).Round(time.Millisecond), g.say())
}

// work writes into every partition, and waits until the group has committed all of it.
func (g *members) work() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for i := range 10 * memberPartitions {
		records = append(records, &kgo.Record{Topic: g.topic, Partition: int32(i % memberPartitions), Value: []byte("v")})
	}
	want := map[int32]int64{}
	for _, r := range g.client.ProduceSync(ctx, records...) {
		if r.Err != nil {
			g.t.Fatal(r.Err)
		}
		want[r.Record.Partition] = r.Record.Offset + 1
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		got := map[int32]int64{}
		offsets, err := kadm.NewClient(g.client).FetchOffsets(ctx, g.topic)
		offsets.Each(func(o kadm.OffsetResponse) { got[o.Partition] = o.At })
		if err == nil && maps.Equal(got, want) {
			return
		}
		select {
		case <-tick.C:
		case news := <-g.feed:
			news()
		case <-ctx.Done():
			g.t.Fatalf("the group has committed %v of %v, the members have %s; %v", got, want, g.say(), err)
		}
	}
}

func (g *members) shared(live []*member) bool {
	var all []string
	for _, m := range live {
		own := strings.Fields(g.has[m])
		if len(own) == 0 {
			return false
		}
		all = append(all, own...)
	}
	slices.Sort(all)
	return strings.Join(all, " ") == "0 1 2 3 4 5"
}

func (g *members) say() string {
	var all []string
	for m, has := range g.has {
		all = append(all, fmt.Sprintf("%d: [%s]", m.number, has))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// end has a member leave, or kills it.
func (g *members) end(m *member, kill bool) {
	g.t.Helper()
	if kill {
		if err := m.cmd.Process.Kill(); err != nil {
			g.t.Error(err)
		}
	} else if err := m.stdin.Close(); err != nil {
		g.t.Error(err)
	}
	deadline := time.After(30 * time.Second)
	for {
		select {
		case news := <-g.feed:
			news()
		case err := <-m.exited:
			if err != nil && !kill {
				g.t.Errorf("member %d left with %v\n%s", m.number, err, m.log.String())
			}
			delete(g.has, m)
			return
		case <-deadline:
			g.t.Fatalf("member %d does not end", m.number)
		}
	}
}
