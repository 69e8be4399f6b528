package cluster

import (
	"context"
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

func topicIDs(t *testing.T, admin *kadm.Client) map[string]kadm.TopicID {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]kadm.TopicID{}
	for name, d := range topics {
		ids[name] = d.ID
	}
	return ids
}

// epochs are the leader epochs of a topic's partitions.
func epochs(t *testing.T, admin *kadm.Client, topic string) map[int32]int32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	by := map[int32]int32{}
	for n, p := range topics[topic].Partitions {
		by[n] = p.LeaderEpoch
	}
	return by
}

// forebay runs a command that must do, or must refuse with words.
func forebay(t *testing.T, want int, words string, args ...string) string {
	t.Helper()
	out, code := node.Run(t, nil, args...)
	if code != want || !strings.Contains(out, words) {
		t.Fatalf("%v: exit code %d, not %d with %q:\n%s", args, code, want, words, out)
	}
	return out
}

// TestALostQuorumIsRestored: all nodes of a cluster are killed under load and the disk of one is gone. From a backup and what the other two have a
// new quorum is founded: every acknowledged record is there, in its place; topics keep their ids, epochs rise, users and groups' offsets are known. The
// node with metadata from before is not let in; with an empty directory it is.
func TestALostQuorumIsRestored(t *testing.T) {
	began := time.Now()
	lap := func(what string) { t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), what) }
	nodes := node.NewCluster(t, 3)
	start(t, nodes)
	admin := kadm.NewClient(client(t, nodes))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	two := map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}
	for _, topic := range []string{"numbers", "txn"} {
		if _, err := admin.CreateTopic(ctx, partitions, 3, two, topic); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.CreateTopic(ctx, 6, 1, nil, "single"); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "all replicas in sync", func() bool { return inSync(admin, "numbers", 3) && inSync(admin, "txn", 3) })
	files := t.TempDir()
	online := filepath.Join(files, "online")
	forebay(t, 0, "3 topics", "metadata", "backup", online, "--http", nodes[0].HTTP)
	if info, err := os.Stat(online); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v: others may read it", info, err)
	}
	if _, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "alice", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret-of-hers"}}); err != nil {
		t.Fatal(err)
	}
	forebay(t, 1, "--http-token", "metadata", "backup", filepath.Join(files, "refused"), "--http", nodes[0].HTTP)

	lap("prepared")
	l := &ledger{acked: map[string]map[int64]place{}}
	single := client(t, nodes, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for p := range int32(6) {
		if err := single.ProduceSync(ctx, &kgo.Record{Topic: "single", Partition: p, Value: fmt.Appendf(nil, "%d", p)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() { errs[i] = produce(ctx, t, nodes, fmt.Sprintf("p%d", i), l) })
	}
	within(t, 30*time.Second, "records", func() bool { return l.count() > 3000 })
	if err := admin.CommitAllOffsets(ctx, "readers", kadm.OffsetsFromRecords(kgo.Record{Topic: "numbers", Partition: 0, Offset: 7, LeaderEpoch: -1})); err != nil {
		t.Fatal(err)
	}
	lap("loaded")
	ids, was := topicIDs(t, admin), epochs(t, admin, "numbers")
	forebay(t, 3, "stop the node", "metadata", "backup", filepath.Join(files, "refused"), "--data", nodes[0].Data)
	for _, n := range nodes {
		n.Kill()
	}

	lap("killed")
	// What is left of the first is looked at again below.
	kept := filepath.Join(files, "kept")
	if err := os.CopyFS(kept, os.DirFS(nodes[0].Data)); err != nil {
		t.Fatal(err)
	}
	empty(t, nodes[0])
	have := []string{online}
	for i, n := range nodes[1:] {
		have = append(have, filepath.Join(files, fmt.Sprint("node", i+2)))
		forebay(t, 0, "has logs of", "metadata", "backup", have[i+1], "--data", n.Data)
	}
	restore := func(n *node.Node, more ...string) []string {
		return append(append([]string{"metadata", "restore", "--data", n.Data}, have...), more...)
	}
	forebay(t, 2, "restore everywhere with it too", append([]string{"metadata", "restore", "--data", nodes[2].Data}, have[:2]...)...)
	forebay(t, 2, "with its empty directory", restore(nodes[0])...)
	said := forebay(t, 2, "--accept-loss", restore(nodes[1])...)
	if strings.Contains(said, "numbers-") || strings.Contains(said, "txn-") || !strings.Contains(said, "single-") {
		t.Fatalf("with one of three missing and two in sync, no record of numbers can be lost:\n%s", said)
	}
	forebay(t, 0, "nothing was changed", restore(nodes[1], "--accept-loss", "--dry-run")...)
	forebay(t, 0, "founds the quorum", restore(nodes[1], "--accept-loss")...)
	forebay(t, 0, "joins node 2", restore(nodes[2], "--accept-loss")...)
	forebay(t, 0, "joins node 2", restore(nodes[2], "--accept-loss")...) // again: it is done

	lap("restored")
	start(t, nodes[1:])
	admin = kadm.NewClient(client(t, nodes[1:]))
	within(t, 30*time.Second, "two in sync", func() bool { return led(admin, "numbers", 2) })
	if now := topicIDs(t, admin); fmt.Sprint(now) != fmt.Sprint(ids) {
		t.Errorf("topics %v were %v", now, ids)
	}
	for n, e := range epochs(t, admin, "numbers") {
		if e <= was[n] {
			t.Errorf("numbers-%d is at leader epoch %d and was at %d", n, e, was[n])
		}
	}
	// The producers have lived through it, with what they had sent and not seen acknowledged.
	more := l.count()
	within(t, 30*time.Second, "the same producers go on", func() bool { return l.count() > more+100 })
	cancel()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	lap("two lead")
	// The old majority might come back. It is not let in.
	empty(t, nodes[0])
	if err := os.CopyFS(nodes[0].Data, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].Launch(); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the node from before is refused", func() bool { return strings.Contains(nodes[0].LogTail(200), "from before a restoration") })
	if s := list(t, nodes[1:])[1]; s.State == "alive" {
		t.Error("a node with metadata from before the restoration was let in")
	}
	lap("refused")
	nodes[0].Kill()
	empty(t, nodes[0])
	nodes[0].Start()
	within(t, 60*time.Second, "all three in sync", func() bool { return inSync(admin, "numbers", 3) && inSync(admin, "txn", 3) })
	within(t, 30*time.Second, "three vote", func() bool { return votes(list(t, nodes), 3) == "vvv" })

	lap("three again")
	verify(t, nodes, l)
	ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if o, err := admin.FetchOffsets(ctx, "readers"); err != nil || len(o) == 0 {
		t.Errorf("%v: the group's offsets are %v", err, o)
	}
	users, err := admin.DescribeUserSCRAMs(ctx, "alice")
	if err != nil || len(users["alice"].CredInfos) != 1 {
		t.Errorf("%v: alice has %v", err, users)
	}
}

// led says whether every partition has a leader and at least so many in sync.
func led(admin *kadm.Client, topic string, count int) bool {
	return every(admin, topic, func(p kadm.PartitionDetail) bool { return p.Leader >= 0 && len(p.ISR) >= count })
}

// TestAClusterBeginsFromABackup: with nothing but a backup a new cluster has the topics, by their ids, and their configs, and no records.
func TestAClusterBeginsFromABackup(t *testing.T) {
	old := node.NewCluster(t, 3)
	start(t, old)
	admin := kadm.NewClient(client(t, old))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := admin.CreateTopic(ctx, 2, 3, map[string]*string{"retention.ms": kadm.StringPtr("123456789")}, "numbers"); err != nil {
		t.Fatal(err)
	}
	if err := client(t, old).ProduceSync(ctx, &kgo.Record{Topic: "numbers", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	forebay(t, 0, "1 topics", "metadata", "backup", file, "--http", old[1].HTTP)
	ids := topicIDs(t, admin)
	for _, n := range old {
		n.Kill()
	}

	nodes := node.NewCluster(t, 3)
	forebay(t, 2, "--accept-loss", "metadata", "restore", file, "--data", nodes[0].Data, "--id", "1")
	forebay(t, 0, "founds the quorum", "metadata", "restore", file, "--data", nodes[0].Data, "--id", "1", "--accept-loss")
	start(t, nodes)
	admin = kadm.NewClient(client(t, nodes))
	within(t, 30*time.Second, "three in sync", func() bool { return inSync(admin, "numbers", 3) })
	if now := topicIDs(t, admin); fmt.Sprint(now) != fmt.Sprint(ids) {
		t.Errorf("topics %v were %v", now, ids)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, "numbers")
	if err != nil {
		t.Fatal(err)
	}
	kept := ""
	for _, c := range configs[0].Configs {
		if c.Key == "retention.ms" {
			kept = c.MaybeValue()
		}
	}
	if kept != "123456789" {
		t.Errorf("retention.ms is %q", kept)
	}
	ends, err := admin.ListEndOffsets(ctx, "numbers")
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset != 0 || o.Err != nil {
			t.Errorf("%+v", o)
		}
	})
	r, err := client(t, nodes).ProduceSync(ctx, &kgo.Record{Topic: "numbers", Value: []byte("y")}).First()
	if err != nil || r.Offset != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
