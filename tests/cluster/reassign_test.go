package cluster

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/tests/node"
)

// follow reads a topic while it is written and moved: every offset is there, once, in order.
func follow(ctx context.Context, t *testing.T, nodes []*node.Node, topic string) (read func() int64, wrong func() error) {
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
		pause(ctx, 50*time.Millisecond)
	}
}

// arrived says whether every partition is where it is to be, in sync, and nothing is under way.
func arrived(admin *kadm.Client, p plan) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	under, err := admin.ListPartitionReassignments(ctx, nil)
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
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	read, wrong := follow(ctx, t, nodes, "numbers")
	topics := append([]string{"numbers", "txn"}, internalTopics...)
	var at plan
	for _, count := range []int{2, 1, 2, 3, 1, 2} {
		before := l.count()
		at = turned(places(t, admin, topics...), count)
		reassign(t, admin, at)
		took := within(t, 60*time.Second, fmt.Sprintf("%d replicas elsewhere", count), func() bool { return arrived(admin, at) })
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
	cancel()
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

// TestAMoveOutlivesItsNodes kills the node that partitions move to and the controller, half way: what was wished for is done once they are back.
func TestAMoveOutlivesItsNodes(t *testing.T) {
	nodes, admin, l, stop := loadOn(t, 1)
	c := client(t, nodes)
	random := rand.New(rand.NewPCG(*seed, 2))
	interrupted := 0
	for round := range 3 {
		before := l.count()
		at := turned(places(t, admin, "numbers", "txn"), 1+round%2)
		leader := controllerOf(t, c)
		reassign(t, admin, at)
		pause(context.Background(), time.Duration(random.IntN(20))*time.Millisecond)
		victims := []*node.Node{nodes[leader-1], nodes[at["numbers"][int32(round)][0]-1]}
		if victims[0] == victims[1] {
			victims = victims[:1]
		}
		var wg sync.WaitGroup
		for _, v := range victims {
			wg.Go(v.Kill)
		}
		wg.Wait()
		start(t, victims)
		if !arrived(admin, at) {
			interrupted++
		}
		within(t, 60*time.Second, "the move is done", func() bool { return arrived(admin, at) })
		within(t, 20*time.Second, "acknowledgements after a move", func() bool { return l.count() > before+500 })
		foldersMatch(t, nodes, at)
	}
	t.Logf("%d of 3 moves were not done when their nodes were back", interrupted)
	stop()
	verify(t, nodes, l)
}
