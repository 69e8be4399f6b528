// Package upgrade opens data directories that earlier versions have written. Each archive in testdata was made by the binary of its time;
// none is ever made anew. For a new one:
//
//	go test ./tests/upgrade -run TestMake -binary PATH/TO/forebay -name NAME
package upgrade

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	binary = flag.String("binary", "", "the forebay that TestMake makes archives with")
	name   = flag.String("name", "", "of the archives that TestMake makes")
)

// facts are what a cluster was when it was put away.
type facts struct {
	Cluster string
	Topics  map[string]string // id by name
	Configs map[string]string // of all nodes; none in the archives of levels 0 and 1
}

const (
	records = 30 // of each part of fill
	users   = "alice"
)

func dial(t *testing.T, kafka string, o ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(kafka), kgo.RecordPartitioner(kgo.ManualPartitioner())}, o...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill does a little of everything that leaves something behind.
func fill(t *testing.T, kafka string, replication int16) (f facts) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := dial(t, kafka)
	admin := kadm.NewClient(client)
	str := func(s string) *string { return &s }
	for topic, configs := range map[string]map[string]*string{
		"orders": {"retention.ms": str("-1"), "min.insync.replicas": str("1")},
		"latest": {"cleanup.policy": str("compact"), "segment.bytes": str("1048576")},
		"ledger": {"retention.ms": str("-1")},
	} {
		r, err := admin.CreateTopic(ctx, 2, replication, configs, topic)
		must(t, err)
		must(t, r.Err)
	}
	must(t, client.ProduceSync(ctx, orders(0)...).FirstErr())
	for round := range 3 {
		must(t, client.ProduceSync(ctx, latest(round)...).FirstErr())
	}
	ledger := dial(t, kafka, kgo.TransactionalID("bank"))
	for round, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		must(t, ledger.BeginTransaction())
		must(t, ledger.ProduceSync(ctx, entries(round)...).FirstErr())
		must(t, ledger.EndTransaction(ctx, commit))
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset("orders", 0, 7, -1)
	offsets.AddOffset("orders", 1, 9, -1)
	must(t, admin.CommitAllOffsets(ctx, "readers", offsets))
	_, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: users, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"}})
	must(t, err)
	f.Configs = map[string]string{"log.retention.ms": "356400000"}
	for name, value := range f.Configs {
		altered, err := admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: str(value)}})
		must(t, err)
		for _, r := range altered {
			must(t, r.Err)
		}
	}
	f.Topics = map[string]string{}
	topics, err := admin.ListTopicsWithInternal(ctx)
	must(t, err)
	for n, d := range topics {
		f.Topics[n] = d.ID.String()
	}
	meta, err := admin.BrokerMetadata(ctx)
	must(t, err)
	f.Cluster = meta.Cluster
	return f
}

func orders(from int) (list []*kgo.Record) {
	for n := range records {
		list = append(list, &kgo.Record{Topic: "orders", Partition: int32(n % 2), Key: []byte("k" + strconv.Itoa(n)), Value: []byte("order " + strconv.Itoa(from+n))})
	}
	return list
}

func latest(round int) (list []*kgo.Record) {
	for n := range records {
		list = append(list, &kgo.Record{Topic: "latest", Key: []byte("k" + strconv.Itoa(n)), Value: []byte(fmt.Sprintf("round %d", round))})
	}
	return list
}

func entries(round int) (list []*kgo.Record) {
	for n := range records {
		list = append(list, &kgo.Record{Topic: "ledger", Value: []byte(fmt.Sprintf("round %d entry %d", round, n))})
	}
	return list
}

// check finds everything that fill has left, and goes on where it has stopped.
func check(t *testing.T, kafka string, f facts) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := dial(t, kafka)
	admin := kadm.NewClient(client)
	meta, err := admin.BrokerMetadata(ctx)
	must(t, err)
	if meta.Cluster != f.Cluster {
		t.Errorf("the cluster is %s and was %s", meta.Cluster, f.Cluster)
	}
	topics, err := admin.ListTopicsWithInternal(ctx)
	must(t, err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !led(topics) { // three nodes that have just started elect their leaders
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("not every partition has a leader")
		}
		topics, err = admin.ListTopicsWithInternal(ctx)
		must(t, err)
	}
	for n, id := range f.Topics {
		if topics[n].ID.String() != id {
			t.Errorf("topic %s has id %s and had %s", n, topics[n].ID, id)
		}
	}
	if got, want := read(t, kafka, "orders"), values(orders(0)); !slices.Equal(got, want) {
		t.Errorf("orders: %q", got)
	}
	rounds := map[string]int{}
	for _, v := range read(t, kafka, "latest") {
		rounds[v]++
	}
	if rounds["round 2"] != records { // of each key the last; whether older ones are there is compaction's
		t.Errorf("latest: %v", rounds)
	}
	if got, want := read(t, kafka, "ledger"), values(append(entries(0), entries(2)...)); !slices.Equal(got, want) {
		t.Errorf("ledger, committed: %q", got)
	}
	offsets, err := admin.FetchOffsets(ctx, "readers")
	must(t, err)
	for p, want := range map[int32]int64{0: 7, 1: 9} {
		if o, ok := offsets.Lookup("orders", p); !ok || o.At != want {
			t.Errorf("readers at orders %d: %+v", p, o)
		}
	}
	scram, err := admin.DescribeUserSCRAMs(ctx, users)
	must(t, err)
	if len(scram[users].CredInfos) != 1 {
		t.Errorf("%s: %+v", users, scram[users])
	}
	topicConfigs, err := admin.DescribeTopicConfigs(ctx, "orders", "latest")
	must(t, err)
	brokerConfigs, err := admin.DescribeBrokerConfigs(ctx, 1)
	must(t, err)
	type config struct{ of, key, value string }
	wanted := []config{{"orders", "retention.ms", "-1"}, {"latest", "cleanup.policy", "compact"}, {"latest", "segment.bytes", "1048576"}}
	for key, value := range f.Configs {
		wanted = append(wanted, config{"1", key, value})
	}
	for _, want := range wanted {
		on, err := append(topicConfigs, brokerConfigs...).On(want.of, nil)
		must(t, errors.Join(err, on.Err))
		at := slices.IndexFunc(on.Configs, func(c kadm.Config) bool { return c.Key == want.key })
		if at < 0 || on.Configs[at].MaybeValue() != want.value {
			t.Errorf("%s of %s is not %s", want.key, want.of, want.value)
		}
	}
	// The transactional id is known: its next transaction is of a later epoch, and everything can be appended to.
	bank := dial(t, kafka, kgo.TransactionalID("bank"))
	must(t, bank.BeginTransaction())
	must(t, bank.ProduceSync(ctx, entries(3)...).FirstErr())
	must(t, bank.EndTransaction(ctx, kgo.TryCommit))
	must(t, client.ProduceSync(ctx, orders(records)...).FirstErr())
	if got := read(t, kafka, "ledger"); len(got) != 3*records {
		t.Errorf("%d entries after one more transaction", len(got))
	}
	if got := read(t, kafka, "orders"); len(got) != 2*records {
		t.Errorf("%d orders after %d more", len(got), records)
	}
}

func values(list []*kgo.Record) (out []string) {
	for _, r := range list {
		out = append(out, string(r.Value))
	}
	slices.Sort(out)
	return out
}

// read gives all values of a topic that are committed, sorted.
func read(t *testing.T, kafka, topic string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := dial(t, kafka, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(c).ListCommittedOffsets(ctx, topic)
	must(t, err)
	var got []*kgo.Record
	open := map[int32]bool{}
	ends.Each(func(o kadm.ListedOffset) {
		must(t, o.Err)
		if o.Offset > 0 {
			open[o.Partition] = true
		}
	})
	for len(open) > 0 {
		f := c.PollFetches(ctx)
		must(t, f.Err())
		f.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				got = append(got, r)
			}
			if o, _ := ends.Lookup(topic, r.Partition); r.Offset >= o.Offset-1 {
				delete(open, r.Partition)
			}
		})
	}
	return values(got)
}

func led(topics kadm.TopicDetails) bool {
	for _, d := range topics {
		for _, p := range d.Partitions {
			if p.Leader < 0 {
				return false
			}
		}
	}
	return true
}

// TestOlderDirectories: what an earlier version has written is opened by this one, with everything in it.
func TestOlderDirectories(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.tar.gz")
	must(t, err)
	if len(archives) < 2 {
		t.Fatalf("%d archives", len(archives))
	}
	for _, a := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(a), ".tar.gz"), func(t *testing.T) {
			dir := t.TempDir()
			unpack(t, a, dir)
			var f facts
			b, err := os.ReadFile(filepath.Join(dir, "facts.json"))
			must(t, err)
			must(t, json.Unmarshal(b, &f))
			if _, err := os.Stat(filepath.Join(dir, "2")); errors.Is(err, fs.ErrNotExist) {
				n := node.New(t, "--data", filepath.Join(dir, "1"))
				n.Start()
				check(t, n.Kafka, f)
				must(t, n.Stop())
				return
			}
			nodes := node.NewCluster(t, 3)
			for i, n := range nodes {
				must(t, os.CopyFS(n.Data, os.DirFS(filepath.Join(dir, strconv.Itoa(i+1)))))
			}
			node.StartAll(t, nodes)
			check(t, nodes[1].Kafka, f)
			inSync(t, nodes[0].Kafka)
			for _, n := range nodes {
				must(t, n.Stop())
			}
		})
	}
}

// inSync waits until every replica is in sync.
func inSync(t *testing.T, kafka string) {
	t.Helper()
	admin := kadm.NewClient(dial(t, kafka))
	for deadline := time.Now().Add(30 * time.Second); ; {
		topics, err := admin.ListTopicsWithInternal(t.Context())
		must(t, err)
		behind := ""
		topics.EachPartition(func(p kadm.PartitionDetail) {
			if len(p.ISR) != 3 {
				behind = fmt.Sprintf("%s-%d: ISR %v", p.Topic, p.Partition, p.ISR)
			}
		})
		if behind == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(behind)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// TestMake makes archives with the binary that it is given, and nothing without one.
func TestMake(t *testing.T) {
	if *binary == "" {
		return // it is no test but the generator
	}
	for kind, count := range map[string]int{"one": 1, "three": 3} {
		dir := t.TempDir()
		kafka, stop := start(t, dir, count)
		f := fill(t, kafka, int16(count))
		stop()
		b, err := json.Marshal(f)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "facts.json"), b, 0o644))
		pack(t, dir, filepath.Join("testdata", *name+"-"+kind+".tar.gz"))
	}
}

// start runs nodes with the binary of TestMake.
func start(t *testing.T, dir string, count int) (kafka string, stop func()) {
	gossip := testenv.FreeAddr(t)
	var commands []*exec.Cmd
	ready := make(chan string, count)
	for i := 1; i <= count; i++ {
		args := []string{"up", "--data", filepath.Join(dir, "1"), "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"}
		if count > 1 {
			args = []string{"server", "--id", strconv.Itoa(i), "--data", filepath.Join(dir, strconv.Itoa(i)), "--kafka", testenv.FreeAddr(t), "--http", "127.0.0.1:0",
				"--peer", testenv.FreeAddr(t), "--gossip", testenv.FreeAddr(t), "--join", gossip, "--expect", strconv.Itoa(count)}
			if i == 1 {
				args = append(args, "--gossip", gossip)
			}
		}
		c := exec.Command(*binary, args...)
		out, err := c.StdoutPipe()
		must(t, err)
		c.Stderr = os.Stderr
		must(t, c.Start())
		commands = append(commands, c)
		go func() {
			line, _ := bufio.NewReader(out).ReadString('\n')
			ready <- line
		}()
	}
	for range commands {
		line := <-ready
		if _, err := fmt.Sscanf(line, "ready kafka=%s", &kafka); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return kafka, func() {
		for _, c := range commands {
			must(t, c.Process.Signal(syscall.SIGTERM))
		}
		for _, c := range commands {
			must(t, c.Wait())
		}
	}
}

func pack(t *testing.T, dir, file string) {
	out, err := os.Create(file)
	must(t, err)
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	must(t, err)
	w := tar.NewWriter(z)
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(dir, path)
		if err != nil || rerr != nil || e.IsDir() {
			return errors.Join(err, rerr)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return errors.Join(w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o644, Size: int64(len(b))}), writeAll(w, b))
	}))
	must(t, errors.Join(w.Close(), z.Close(), out.Close()))
}

func writeAll(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

func unpack(t *testing.T, file, dir string) {
	in, err := os.Open(file)
	must(t, err)
	defer in.Close()
	z, err := gzip.NewReader(in)
	must(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		b, err := io.ReadAll(r)
		must(t, err)
		must(t, os.WriteFile(path, b, 0o644))
	}
}
