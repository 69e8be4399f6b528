package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

// node is a running broker and how to end it.
type node struct {
	*Broker
	stop context.CancelFunc
	done chan error
}

func start(t testing.TB, o Options) *node {
	t.Helper()
	if o.KafkaAddr == "" {
		o.KafkaAddr = "127.0.0.1:0"
	}
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Broker: b, stop: cancel, done: make(chan error, 1)}
	go func() { n.done <- b.Run(ctx) }()
	<-b.Ready()
	t.Cleanup(func() { n.end(t) })
	return n
}

func (n *node) end(t testing.TB) {
	t.Helper()
	if n.stop == nil {
		return
	}
	n.stop()
	n.stop = nil
	select {
	case err := <-n.done:
		if err != nil {
			t.Error("Run:", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Run does not end")
	}
}

func (n *node) client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.KafkaAddr())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func produce(t testing.TB, cl *kgo.Client, topic string, from, to int) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%06d", i)})
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consume reads n values from the start of a topic.
func consume(t testing.TB, nd *node, topic string, n int, opts ...kgo.Opt) []string {
	t.Helper()
	cl := nd.client(t, append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...)
	ctx := within(t, 30*time.Second)
	var got []string
	for len(got) < n {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("%d of %d: %v", len(got), n, err)
		}
		f.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func createTopic(t testing.TB, n *node, topic string, partitions int32) {
	t.Helper()
	adm := kadm.NewClient(n.client(t))
	r, err := adm.CreateTopic(within(t, 30*time.Second), partitions, 1, nil, topic)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		t.Fatal(err)
	}
}

func inOrder(t testing.TB, got []string, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	for i, v := range got {
		if v != fmt.Sprintf("%06d", i) {
			t.Fatalf("record %d is %s", i, v)
		}
	}
}

func TestRecordsSurviveARestart(t *testing.T) {
	for _, d := range []commitlog.Durability{commitlog.PowerSafe, commitlog.Relaxed} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			o := Options{DataDir: t.TempDir(), Durability: d}
			n := start(t, o)
			createTopic(t, n, "orders", 1)
			produce(t, n.client(t), "orders", 0, 1000)
			cluster := n.ClusterID()
			inOrder(t, consume(t, n, "orders", 1000), 1000)
			n.end(t)

			n = start(t, o)
			if !n.dir.clean {
				t.Error("the end was not clean")
			}
			if n.ClusterID() != cluster || len(cluster) != 22 {
				t.Errorf("cluster %s, was %s", n.ClusterID(), cluster)
			}
			produce(t, n.client(t), "orders", 1000, 1100)
			inOrder(t, consume(t, n, "orders", 1100), 1100)
			p, err := n.replicas.Partition("orders", 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, epoch := p.Leader(); epoch != 1 {
				t.Errorf("leader epoch %d after one restart", epoch)
			}
			if h := n.Health(); !h.Ready || h.Partitions == 0 || len(h.Offline) > 0 {
				t.Errorf("%+v", h)
			}
		})
	}
}

// Acknowledged in power-safe, a record survives a power cut at any moment (invariant 1).
func TestAckedRecordsSurvivePowerCuts(t *testing.T) {
	disk := vfs.NewCrash()
	total := 0
	for range 4 {
		o := Options{DataDir: "/data", FS: disk}
		n := start(t, o)
		if total == 0 {
			createTopic(t, n, "orders", 1)
		} else {
			inOrder(t, consume(t, n, "orders", total), total)
		}
		produce(t, n.client(t), "orders", total, total+137)
		total += 137
		after := disk.Crashed(nil)
		n.end(t)
		disk = after
	}
}

func TestDialIsAConnectionWithoutASocket(t *testing.T) {
	n := start(t, Options{DataDir: "/data", FS: vfs.NewMemory()})
	createTopic(t, n, "orders", 1)
	dialer := kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return n.Dial(ctx) })
	cl := n.client(t, dialer)
	produce(t, cl, "orders", 0, 500)
	inOrder(t, consume(t, n, "orders", 500, dialer), 500)
}

func TestGroupsAndTransactions(t *testing.T) {
	o := Options{DataDir: "/data", FS: vfs.NewMemory()}
	n := start(t, o)
	createTopic(t, n, "in", 1)
	ctx := within(t, time.Minute)
	tx := n.client(t, kgo.TransactionalID("tx-1"), kgo.DefaultProduceTopic("in"))
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	got := consume(t, n, "in", 2, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if got[0] != "0" || got[1] != "2" {
		t.Errorf("read_committed sees %v", got)
	}
	g := n.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit())
	count := 0
	for count < 2 {
		f := g.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		count += f.NumRecords()
	}
	if err := g.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	g.LeaveGroup()
	n.end(t)
	n = start(t, o)
	offsets, err := kadm.NewClient(n.client(t)).FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := offsets.Lookup("in", 0); !ok || at.At < 5 {
		t.Errorf("after a restart the group is at %+v", at)
	}
}

func TestDeletedTopicsLeaveNothingButTheirGrave(t *testing.T) {
	disk := vfs.NewMemory()
	o := Options{DataDir: "/data", FS: disk}
	n := start(t, o)
	createTopic(t, n, "orders", 2)
	cl := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	produce(t, cl, "orders", 0, 10)
	adm := kadm.NewClient(cl)
	ctx := within(t, 30*time.Second)
	if r, err := adm.DeleteTopic(ctx, "orders"); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	cl.PurgeTopicsFromClient("orders")
	createTopic(t, n, "orders", 1)
	fresh := n.client(t)
	produce(t, fresh, "orders", 0, 3)
	inOrder(t, consume(t, n, "orders", 3), 3)
	n.end(t)
	entries, err := disk.ReadDir("/data/log")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 2 || names[0] != "orders-0" || !strings.HasPrefix(names[1], "orders-0.") || !strings.HasSuffix(names[1], "-delete") {
		t.Errorf("data/log has %v", names)
	}
	if _, err := disk.Stat("/data/quarantine"); err == nil {
		t.Error("something was set aside")
	}
}

func TestWhatTheUserCanMend(t *testing.T) {
	dir := t.TempDir()
	n := start(t, Options{DataDir: dir})
	taken := n.KafkaAddr()
	foreign := vfs.NewMemory()
	if err := foreign.MkdirAll("/data/holiday-pictures", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		o     Options
		code  string
		class problem.Class
	}{
		"locked":        {Options{DataDir: dir}, "data-directory-in-use", problem.Environment},
		"port in use":   {Options{DataDir: t.TempDir(), KafkaAddr: taken}, "port-in-use", problem.Environment},
		"foreign":       {Options{DataDir: "/data", FS: foreign}, "foreign-data-directory", problem.Environment},
		"no directory":  {Options{}, "no-data-directory", problem.Input},
		"property":      {Options{DataDir: t.TempDir(), Set: map[string]string{"num.partition": "1"}}, "unknown-property", problem.Input},
		"value":         {Options{DataDir: t.TempDir(), Set: map[string]string{"num.partitions": "x"}}, "bad-property", problem.Input},
		"contradiction": {Options{DataDir: t.TempDir(), NodeID: 2, Set: map[string]string{"node.id": "3"}}, "contradiction", problem.Input},
		"listeners":     {Options{DataDir: t.TempDir(), Set: map[string]string{"listeners": "ELSEWHERE://:1"}}, "address", problem.Input},
		"certificate":   {Options{DataDir: t.TempDir(), Set: map[string]string{"listeners": "SSL://:1"}}, "listener-security", problem.Input},
		"mechanisms":    {Options{DataDir: t.TempDir(), Set: map[string]string{"listeners": "SASL_PLAINTEXT://:1"}}, "listener-security", problem.Input},
		"passwords":     {Options{DataDir: t.TempDir(), Set: map[string]string{"listeners": "SASL_PLAINTEXT://:1", "sasl.enabled.mechanisms": "PLAIN"}}, "listener-security", problem.Input},
		"mechanism":     {Options{DataDir: t.TempDir(), Set: map[string]string{"sasl.enabled.mechanisms": "GSSAPI"}}, "bad-property", problem.Input},
		"two ports":     {Options{DataDir: t.TempDir(), Set: map[string]string{"listeners": "PLAINTEXT://:1,SSL://:1"}}, "address", problem.Input},
		"address":       {Options{DataDir: t.TempDir(), KafkaAddr: "localhost"}, "address", problem.Input},
	} {
		if tc.o.KafkaAddr == "" && tc.o.Set["listeners"] == "" {
			tc.o.KafkaAddr = "127.0.0.1:0"
		}
		b, err := Open(t.Context(), tc.o)
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != tc.code || p.Class != tc.class {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = b.Close()
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	n.end(t)
	if _, err := Open(t.Context(), Options{DataDir: dir, NodeID: 7, KafkaAddr: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "belongs to node 1") {
		t.Error(err)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		"0.0.0.0:1": false, ":1": false, "10.0.0.1:1": false, "example.org:1": false, "x": false,
	} {
		if Loopback(addr) != want {
			t.Errorf("%s: %v", addr, !want)
		}
	}
}
