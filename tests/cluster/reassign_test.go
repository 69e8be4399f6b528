package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/tests/node"
)

// follow reads a topic while it is written and moved: every offset is there, once, in order.
func follow(t *testing.T, nodes []*node.Node, topic string) (read func() int64, wrong func() error) {
	ctx := t.Context() // which ends before the wait for the reader does
	c := client(t, nodes, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var mu sync.Mutex
	var total int64
	var err error
	next := map[int32]int64{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			fetches := c.PollFetches(ctx)
			mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) {
				if r.Offset != next[r.Partition] && err == nil {
					err = fmt.Errorf("%s-%d: offset %d came where %d was to come", topic, r.Partition, r.Offset, next[r.Partition])
				}
				next[r.Partition] = r.Offset + 1
				total++
			})
			mu.Unlock()
		}
	})
	t.Cleanup(wg.Wait)
	return func() int64 { mu.Lock(); defer mu.Unlock(); return total }, func() error { mu.Lock(); defer mu.Unlock(); return err }
}

// plan is where the partitions of some topics are to go.
type plan = kadm.AlterPartitionAssignmentsReq

// places are the replicas of topics as they are now.
func places(t *testing.T, admin *kadm.Client, topics ...string) plan {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	details, err := admin.ListTopics(ctx, topics...)
	if err != nil || details.Error() != nil {
		t.Fatal(err, details.Error())
	}
	var p plan
	details.EachPartition(func(d kadm.PartitionDetail) { p.Assign(d.Topic, d.Partition, d.Replicas) })
	return p
}

func reassign(t *testing.T, admin *kadm.Client, p plan) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for { // the quorum may be without a leader
		r, err := admin.AlterPartitionAssignments(ctx, p)
		if err == nil {
			err = r.Error()
		}
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		_ = pause.For(ctx, 50*time.Millisecond)
	}
}

func parts(p plan) kadm.TopicsSet {
	s := kadm.TopicsSet{}
	for topic, numbers := range p {
		s.Add(topic, slices.Collect(maps.Keys(numbers))...)
	}
	return s
}

// arrived says whether every partition is where it is to be, in sync, and nothing is under way.
func arrived(admin *kadm.Client, p plan) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	under, err := admin.ListPartitionReassignments(ctx, parts(p))
	if err != nil || len(under) > 0 {
		return false
	}
	details, err := admin.ListTopics(ctx, slices.Collect(maps.Keys(p))...)
	if err != nil {
		return false
	}
	for topic, parts := range p {
		for n, replicas := range parts {
			d := details[topic].Partitions[n]
			if !slices.Equal(d.Replicas, replicas) || len(d.ISR) != len(replicas) || !slices.Contains(replicas, d.Leader) {
				return false
			}
		}
	}
	return true
}

// foldersMatch waits until each node has the folders of the partitions that it has replicas of, and no others.
func foldersMatch(t *testing.T, nodes []*node.Node, p plan) {
	t.Helper()
	for i, n := range nodes {
		var left []string
		within(t, 20*time.Second, fmt.Sprintf("node %d has only what is its own", i+1), func() bool {
			entries, err := os.ReadDir(filepath.Join(n.Data, "log"))
			if err != nil {
				t.Fatal(err)
			}
			left = left[:0]
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), "-delete") {
					continue
				}
				at := strings.LastIndex(e.Name(), "-")
				var number int32
				if _, err := fmt.Sscan(e.Name()[at+1:], &number); err != nil {
					t.Fatal(e.Name(), err)
				}
				if replicas, ok := p[e.Name()[:at]][number]; ok && !slices.Contains(replicas, int32(i+1)) {
					left = append(left, e.Name())
				}
			}
			return len(left) == 0
		})
		if aside, err := os.ReadDir(filepath.Join(n.Data, "quarantine")); err == nil && len(aside) > 0 {
			t.Errorf("node %d has set %v aside", i+1, aside)
		}
	}
}

// turned moves every partition round the nodes by one, with count replicas.
func turned(p plan, count int) plan {
	var out plan
	for topic, parts := range p {
		for n, replicas := range parts {
			var to []int32
			for k := range int32(count) {
				to = append(to, (replicas[0]+k)%3+1)
			}
			out.Assign(topic, n, to)
		}
	}
	return out
}

var internalTopics = []string{"__consumer_offsets", "__transaction_state"}

// TestPartitionsMove moves every partition of every topic, the coordinators' too, from node to node, to more and fewer replicas, under
// load: no acknowledged record is lost, doubled or moved, and a reader sees each offset once.
func TestPartitionsMove(t *testing.T) {
	nodes, admin, l, stop := loadOn(t, 2, "--set", "leader.imbalance.check.interval.seconds=1")
	read, wrong := follow(t, nodes, "numbers")
	topics := append([]string{"numbers", "txn"}, internalTopics...)
	var at plan
	for _, count := range []int{2, 1, 2, 3, 1, 2} {
		at = turned(places(t, admin, topics...), count)
		reassign(t, admin, at)
		took := within(t, 60*time.Second, fmt.Sprintf("%d replicas elsewhere", count), func() bool { return arrived(admin, at) })
		before := l.count()
		within(t, 20*time.Second, "acknowledgements after a move", func() bool { return l.count() > before+500 })
		t.Logf("to %d replicas: %v", count, took)
	}
	foldersMatch(t, nodes, at)
	// The leaders are where they are to be in the end.
	within(t, 20*time.Second, "preferred leaders", func() bool {
		listed, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		details, err := admin.ListTopics(listed, "numbers")
		if err != nil {
			return false
		}
		for n, d := range details["numbers"].Partitions {
			if d.Leader != at["numbers"][n][0] {
				return false
			}
		}
		return true
	})
	stop()
	verify(t, nodes, l)
	caughtUp(t, admin, read)
	if err := wrong(); err != nil {
		t.Error(err)
	}
	l.mu.Lock()
	t.Logf("the producers' longest gap was %v", l.gap)
	l.mu.Unlock()
}

// caughtUp waits until the reader of numbers has all.
func caughtUp(t *testing.T, admin *kadm.Client, read func() int64) {
	t.Helper()
	ends, err := admin.ListEndOffsets(t.Context(), "numbers")
	if err != nil || ends.Error() != nil {
		t.Fatal(err, ends.Error())
	}
	var all int64
	ends.Each(func(e kadm.ListedOffset) { all += e.Offset })
	within(t, 30*time.Second, "the reader has everything", func() bool { return read() == all })
}

// controllerOf is the node that leads the metadata quorum.
func controllerOf(t *testing.T, c *kgo.Client) int32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req := kmsg.NewPtrDescribeQuorumRequest()
	topic := kmsg.NewDescribeQuorumRequestTopic()
	topic.Topic = "__cluster_metadata"
	topic.Partitions = append(topic.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, c)
	if err != nil || len(resp.Topics) == 0 {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0].LeaderID
}

// throttle holds copying of a topic's replicas to a rate, or lets it go (0).
func throttle(t *testing.T, admin *kadm.Client, topic string, rate int) {
	t.Helper()
	op, value := kadm.SetConfig, func(v string) *string { return &v }
	if rate == 0 {
		op, value = kadm.DeleteConfig, func(string) *string { return nil }
	}
	var nodes, replicas []kadm.AlterConfig
	for _, side := range []string{"leader", "follower"} {
		nodes = append(nodes, kadm.AlterConfig{Op: op, Name: side + ".replication.throttled.rate", Value: value(strconv.Itoa(rate))})
		replicas = append(replicas, kadm.AlterConfig{Op: op, Name: side + ".replication.throttled.replicas", Value: value("*")})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		b, err := admin.AlterBrokerConfigs(ctx, nodes, 1, 2, 3)
		for _, r := range b {
			err = errors.Join(err, r.Err)
		}
		if err == nil {
			var r kadm.AlterConfigsResponses
			if r, err = admin.AlterTopicConfigs(ctx, replicas, topic); err == nil {
				err = r[0].Err
			}
		}
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		_ = pause.For(ctx, 50*time.Millisecond)
	}
}

// bulk makes a topic of 3 MiB in each partition, with one replica on node 1. What fits into one response is copied at once, whatever the throttle is.
func bulk(t *testing.T, nodes []*node.Node, admin *kadm.Client) {
	t.Helper()
	if _, err := admin.CreateTopic(t.Context(), 2, 1, nil, "bulk"); err != nil {
		t.Fatal(err)
	}
	var at plan
	at.Assign("bulk", 0, []int32{1})
	at.Assign("bulk", 1, []int32{1})
	reassign(t, admin, at)
	within(t, 20*time.Second, "bulk is on node 1", func() bool { return arrived(admin, at) })
	c := client(t, nodes, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	var records []*kgo.Record
	for n := range 2 * 3 * 64 {
		records = append(records, &kgo.Record{Topic: "bulk", Partition: int32(n % 2), Value: bytes.Repeat([]byte{byte(n)}, 16<<10)})
	}
	if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// copied is what a node has of bulk on its disk.
func copied(n *node.Node) (sum int64) {
	files, _ := filepath.Glob(filepath.Join(n.Data, "log", "bulk-[01]", "*.log"))
	for _, f := range files {
		if i, err := os.Stat(f); err == nil {
			sum += i.Size()
		}
	}
	return sum
}

// TestAMoveOutlivesItsNodes kills the node that partitions move to and the controller half way, and then all nodes: what was wished for is under
// way still when they are back, and is done.
func TestAMoveOutlivesItsNodes(t *testing.T) {
	nodes, admin, l, stop := loadOn(t, 1)
	c := client(t, nodes)
	bulk(t, nodes, admin)
	for round, to := range [][]int32{{2}, {3, 1}} {
		throttle(t, admin, "bulk", 1)
		at := turned(places(t, admin, "numbers", "txn"), len(to))
		at.Assign("bulk", 0, to)
		at.Assign("bulk", 1, to)
		reassign(t, admin, at)
		var target *node.Node
		begun := within(t, 20*time.Second, "the copy has begun", func() bool { // on one of them: the leader's rate is used up then
			for _, id := range to {
				if n := nodes[id-1]; target == nil && copied(n) > 0 {
					target = n
				}
			}
			return target != nil
		})
		victims := []*node.Node{target}
		if round == 1 {
			victims = nodes
		} else if leader := nodes[controllerOf(t, c)-1]; leader != target {
			victims = append(victims, leader)
		}
		var wg sync.WaitGroup
		for _, v := range victims {
			wg.Go(v.Kill)
		}
		wg.Wait()
		half := copied(target)
		took := start(t, victims)
		under, err := admin.ListPartitionReassignments(t.Context(), parts(at))
		if err != nil || len(under["bulk"]) != 2 || half >= 6<<20 {
			t.Fatalf("round %d: %d bytes were copied before the kill, and under way is %v after it (%v)", round, half, under, err)
		}
		t.Logf("the copy had begun after %v; %d nodes were killed after %d bytes were copied, and ready after %v", begun, len(victims), half, took)
		throttle(t, admin, "bulk", 0)
		took = within(t, 60*time.Second, "the move is done", func() bool { return arrived(admin, at) })
		before := l.count()
		within(t, 20*time.Second, "acknowledgements after a move", func() bool { return l.count() > before+500 })
		foldersMatch(t, nodes, at)
		t.Logf("moved %v after the throttle was gone", took)
	}
	stop()
	verify(t, nodes, l)
	whole(t, nodes)
}

// whole reads all of bulk.
func whole(t *testing.T, nodes []*node.Node) {
	t.Helper()
	c := client(t, nodes, kgo.ConsumeTopics("bulk"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	next := map[int32]int64{}
	for next[0]+next[1] < 2*3*64 {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("only %v of bulk can be read", next)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if want := byte(2*r.Offset + int64(r.Partition)); r.Offset != next[r.Partition] || len(r.Value) != 16<<10 || r.Value[0] != want {
				t.Errorf("bulk-%d@%d begins with %d, %d bytes; expected was offset %d with %d", r.Partition, r.Offset, r.Value[0], len(r.Value), next[r.Partition], want)
			}
			next[r.Partition]++
		})
	}
}

// TestThrottleSparesWhoIsInSync: with next to no rate for any replica, records are acknowledged by all replicas as before, and nobody leaves an ISR. A
// topic that is deleted while it moves is gone everywhere.
func TestThrottleSparesWhoIsInSync(t *testing.T) {
	nodes, admin, l, stop := loadOn(t, 3, "--set", "replica.lag.time.max.ms=500")
	bulk(t, nodes, admin)
	throttle(t, admin, "bulk", 1)
	var at plan
	at.Assign("bulk", 0, []int32{2})
	at.Assign("bulk", 1, []int32{3})
	reassign(t, admin, at)
	within(t, 20*time.Second, "the copy has begun", func() bool { return copied(nodes[1])+copied(nodes[2]) > 0 })
	if r, err := admin.DeleteTopic(t.Context(), "bulk"); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	within(t, 20*time.Second, "bulk is gone", func() bool { return copied(nodes[0])+copied(nodes[1])+copied(nodes[2]) == 0 })
	if under, err := admin.ListPartitionReassignments(t.Context(), parts(at)); err != nil || len(under) > 0 {
		t.Errorf("under way is %v (%v)", under, err)
	}
	for _, topic := range []string{"numbers", "txn"} {
		throttle(t, admin, topic, 1)
	}
	for range 3 {
		before := l.count()
		within(t, 20*time.Second, "acknowledgements under a throttle", func() bool { return l.count() > before+500 })
		if !inSync(admin, "numbers", 3) {
			t.Error("a replica has left an ISR")
		}
	}
	stop()
	verify(t, nodes, l)
}
