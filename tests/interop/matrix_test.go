package interop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// program is a client's program: PROGRAM BOOTSTRAP does all that the client can do and prints ok; PROGRAM BOOTSTRAP member TOPIC GROUP
// is a member of a group that prints "assigned 0 2" when that changes, and leaves when its stdin ends.
type program struct {
	argv []string
	env  []string
}

func (p program) command(ctx context.Context, args ...string) (*exec.Cmd, *strings.Builder) {
	cmd := exec.CommandContext(ctx, p.argv[0], append(slices.Clone(p.argv[1:]), args...)...)
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

// programs are the clients with the whole list, by name.
var programs = map[string]func(t *testing.T) program{
	"aiokafka": func(t *testing.T) program { return program{argv: []string{testenv.Python(t), "aiokafka_matrix.py"}} },
	"kafkajs": func(t *testing.T) program {
		bin, modules := testenv.Node(t)
		return program{argv: []string{bin, "kafkajs.js"}, env: []string{"NODE_PATH=" + modules}}
	},
	"java": func(t *testing.T) program {
		tools := testenv.KafkaTools(t).JavaProgram(t, "java")
		return program{argv: []string{tools.Java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", tools.ClassPath, "Matrix"}}
	},
	"sarama": func(t *testing.T) program {
		return program{argv: []string{testenv.GoProgram(t, "goclients"), "sarama"}}
	},
	"kafka-go": func(t *testing.T) program {
		return program{argv: []string{testenv.GoProgram(t, "goclients"), "kafka-go"}}
	},
}

// TestEverything has each client do all that it can, each on a node of its own.
func TestEverything(t *testing.T) {
	for name, prepare := range programs {
		t.Run(name, func(t *testing.T) {
			p, n := prepare(t), node.New(t, "--data", t.TempDir())
			n.Start()
			p.everything(t, n.Kafka)
		})
	}
}

// TestMembers lets members of a group come, leave and die; each time those that are left share all partitions.
func TestMembers(t *testing.T) {
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	for name, prepare := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rebalances(t, n, "members-"+name, prepare(t))
		})
	}
}

const memberPartitions = 6

func rebalances(t *testing.T, n *node.Node, topic string, p program) {
	if out, code := node.Run(t, nil, "topics", "create", topic, "--partitions", fmt.Sprint(memberPartitions), "--bootstrap", n.Kafka); code != 0 {
		t.Fatal(out)
	}
	group := &members{t: t, has: map[*member]string{}, feed: make(chan func(), 100)}
	t.Cleanup(func() {
		if t.Failed() {
			for m := range group.has {
				t.Logf("stderr of %d: %s", m.number, m.log.String())
			}
		}
	})
	a := group.join(p, n.Kafka, topic)
	group.await(30*time.Second, "the first is alone", a)
	b := group.join(p, n.Kafka, topic)
	group.await(30*time.Second, "the second has come", a, b)
	c := group.join(p, n.Kafka, topic)
	group.await(30*time.Second, "the third has come", a, b, c)
	group.end(b, true)
	group.await(40*time.Second, "the second was killed", a, c) // its session is 6 s
	group.end(a, false)
	group.await(30*time.Second, "the first has left", c)
	group.end(c, false)
}

// members is what each member of a group last said. Only the test's own goroutine touches it.
type members struct {
	t    *testing.T
	has  map[*member]string
	feed chan func() // what the members say, to be done by the test's goroutine
}

type member struct {
	number int
	cmd    *exec.Cmd
	stdin  io.Closer
	log    *strings.Builder
	exited chan error
}

func (g *members) join(p program, bootstrap, topic string) *member {
	g.t.Helper()
	cmd, log := p.command(g.t.Context(), bootstrap, "member", topic, topic)
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
