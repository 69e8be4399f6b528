package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/tests/node"
)

// member consumes as one of a group until ctx ends, and counts.
func member(ctx context.Context, t *testing.T, nodes []*node.Node) (count func() int64, wrong func() error, wait func()) {
	c := client(t, nodes, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("numbers"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(200*time.Millisecond))
	var mu sync.Mutex
	var total int64
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			f := c.PollFetches(ctx)
			mu.Lock()
			f.EachRecord(func(*kgo.Record) { total++ })
			f.EachError(func(topic string, p int32, err error) {
				if ctx.Err() == nil && failed == nil {
					failed = fmt.Errorf("read %s-%d: %w", topic, p, err)
				}
			})
			mu.Unlock()
		}
	})
	return func() int64 { mu.Lock(); defer mu.Unlock(); return total }, func() error { mu.Lock(); defer mu.Unlock(); return failed }, wg.Wait
}

type shown struct {
	ID       int32  `json:"id"`
	State    string `json:"state"`
	Vote     string `json:"vote"`
	Since    string `json:"since"`
	Draining string `json:"draining_since"`
	Replicas int    `json:"replicas"`
}

// list is `forebay nodes list`, asked of the first node.
func list(t *testing.T, nodes []*node.Node) map[int32]shown {
	t.Helper()
	out, code := node.Run(t, nil, "nodes", "list", "--json", "--bootstrap", nodes[0].Kafka)
	var answer struct {
		Data []shown `json:"data"`
	}
	if err := json.Unmarshal([]byte(out), &answer); code != 0 || err != nil {
		t.Fatalf("%d, %v: %s", code, err, out)
	}
	by := map[int32]shown{}
	for _, s := range answer.Data {
		by[s.ID] = s
	}
	return by
}

// votes says who votes, in the order of ids: "v" or "-" for each.
func votes(by map[int32]shown, nodes int32) string {
	var b strings.Builder
	for id := int32(1); id <= nodes; id++ {
		if v := by[id].Vote; v == "voter" || v == "leader" {
			b.WriteByte('v')
		} else {
			b.WriteByte('-')
		}
	}
	return b.String()
}

// TestANodeComesAndGoes: under load a fourth node joins, gets partitions, is drained, removed, and stays away with its old data; as a new node it
// comes back. Then a voter dies for good and another node votes in its place. Clients see nothing that they do not get over by trying again, and
// nothing is lost, doubled or moved.
func TestANodeComesAndGoes(t *testing.T) {
	quick := []string{"--set", "controller.quorum.voter.dead.timeout.ms=3000"}
	nodes := node.NewCluster(t, 3, quick...)
	start(t, nodes)
	admin := kadm.NewClient(client(t, nodes))
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := admin.CreateTopics(ctx, partitions, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, "numbers", "txn"); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "all replicas in sync", func() bool { return inSync(admin, "numbers", 3) && inSync(admin, "txn", 3) })
	l := &ledger{acked: map[string]map[int64]place{}}
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range 2 {
		wg.Go(func() { errs[i] = produce(ctx, t, nodes, fmt.Sprintf("p%d", i), l) })
	}
	wg.Go(func() { errs[2] = commitOffsets(ctx, t, nodes) })
	read, wrong, wait := member(ctx, t, nodes)
	stop := sync.OnceFunc(func() { cancel(); wg.Wait(); wait() })
	t.Cleanup(stop)
	began := time.Now()
	more := func(what string) {
		t.Helper()
		t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), what)
		before, was := l.count(), read()
		within(t, 20*time.Second, "acknowledgements and reads "+what, func() bool { return l.count() > before+500 && read() > was+500 })
	}
	more("before anything happens")

	// A drain that cannot end is not begun, and nobody is removed who is in use.
	if out, code := node.Run(t, nil, "nodes", "drain", "3", "--bootstrap", nodes[0].Kafka); code == 0 || !strings.Contains(out, "Add a node") {
		t.Errorf("%d: %s", code, out)
	}
	if out, code := node.Run(t, nil, "nodes", "remove", "3", "--bootstrap", nodes[0].Kafka); code == 0 || !strings.Contains(out, "Drain it first") {
		t.Errorf("%d: %s", code, out)
	}

	fourth := node.Join(t, nodes, quick...)
	fourth.Start()
	all := append(nodes[:3:3], fourth)
	within(t, 20*time.Second, "the fourth is shown", func() bool { s := list(t, nodes)[4]; return s.State == "alive" && s.Vote == "non-voter" })
	var p plan
	for n := range int32(partitions) {
		p.Assign("numbers", n, []int32{(n+3)%4 + 1, n%4 + 1, (n+1)%4 + 1})
	}
	reassign(t, admin, p)
	within(t, 40*time.Second, "partitions on the fourth", func() bool { return arrived(admin, p) })
	if s := list(t, nodes)[4]; s.Replicas == 0 {
		t.Error("the fourth node has nothing")
	}
	more("with four nodes")

	out, code := node.Run(t, nil, "nodes", "drain", "4", "--bootstrap", nodes[0].Kafka)
	if code != 0 || !strings.Contains(out, "node 4 still has ") || !strings.Contains(out, "node 4 is drained") {
		t.Fatalf("%d: %s", code, out)
	}
	if s := list(t, nodes)[4]; s.State != "drained" || s.Replicas != 0 || !after(began, s.Since) || !after(began, s.Draining) || s.Draining < s.Since {
		t.Errorf("%+v", s)
	}
	if out, code := node.Run(t, nil, "nodes", "remove", "4", "--bootstrap", nodes[0].Kafka); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	if !fourth.EndsWithin(10 * time.Second) {
		t.Fatal("the removed node runs on")
	}
	if log := fourth.LogTail(20); !strings.Contains(log, "was removed from cluster") || !strings.Contains(log, "empty --data directory") {
		t.Errorf("the removed node does not say why it ends:\n%s", log)
	}
	within(t, 10*time.Second, "three nodes", func() bool { return len(list(t, nodes)) == 3 })
	more("with three nodes")

	if err := fourth.TryStart(); err == nil {
		t.Fatal("a removed node came back with its old data")
	}
	if log := fourth.LogTail(20); !strings.Contains(log, "was removed from cluster") {
		t.Errorf("it does not say why it does not start:\n%s", log)
	}
	empty(t, fourth)
	fourth.Start()
	within(t, 20*time.Second, "the fourth as a new node", func() bool { s := list(t, nodes)[4]; return s.State == "alive" && s.Vote == "non-voter" })

	// A voter dies for good; it is not the one that the tools ask.
	nodes[2].Kill()
	within(t, 30*time.Second, "the fourth votes in its place", func() bool { by := list(t, nodes); return by[3].State == "dead" && votes(by, 4) == "vv-v" })
	if s := list(t, nodes)[3]; s.Since < list(t, nodes)[4].Since {
		t.Errorf("node 3, that died last, has been dead since %s", s.Since)
	}
	more("with a voter lost")
	if out, code := node.Run(t, nil, "nodes", "drain", "3", "--bootstrap", nodes[0].Kafka); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	if out, code := node.Run(t, nil, "nodes", "remove", "3", "--bootstrap", nodes[0].Kafka); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	// With three voters that live one of the old ones may go.
	nodes[1].Kill()
	more("with another one down")
	nodes[1].Start()
	stop()
	for _, err := range append(errs, wrong()) {
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d records acknowledged, %d read by the group", l.count(), read())
	verify(t, []*node.Node{all[0], all[1], fourth}, l)
}

// after says that at, as `nodes list` tells it, is a time between began and now; both are of this machine's clock.
func after(began time.Time, at string) bool {
	told, err := time.Parse(time.RFC3339, at)
	return err == nil && !told.Before(began.Truncate(time.Second)) && !told.After(time.Now())
}

func empty(t *testing.T, n *node.Node) {
	t.Helper()
	entries, err := os.ReadDir(n.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(n.Data, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}
