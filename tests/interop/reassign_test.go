package interop

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// TestKafkaReassignPartitions moves a topic with Kafka's tool, held back by a throttle, cancels that, and moves it again, while it is
// written with acks=all and read: every record is there once, in order.
func TestKafkaReassignPartitions(t *testing.T) {
	nodes := node.NewCluster(t, 3, "--set", "replication.quota.window.num=2", "--set", "replica.lag.time.max.ms=2000")
	node.StartAll(t, nodes)
	bootstrap := nodes[0].Kafka + "," + nodes[1].Kafka + "," + nodes[2].Kafka
	tools := testenv.KafkaTools(t)
	dir := t.TempDir()
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	admin := kadm.NewClient(c)
	all := plan(1, 1, 1, 1)
	created, err := admin.CreateTopic(t.Context(), 4, 1, nil, "moved")
	if err != nil || created.Err != nil {
		t.Fatal(err, created.Err)
	}
	reassign := func(args ...string) string {
		t.Helper()
		return tools.Run(t, "", "kafka-reassign-partitions", append([]string{"--bootstrap-server", bootstrap}, args...)...)
	}
	has := func(what, text string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !regexp.MustCompile(w).MatchString(text) {
				t.Errorf("%s: no %q in\n%s", what, w, text[:min(3000, len(text))])
			}
		}
	}
	done := func() bool {
		under, err := admin.ListPartitionReassignments(t.Context(), kadm.TopicsSet{"moved": {0: {}, 1: {}, 2: {}, 3: {}}})
		return err == nil && len(under) == 0
	}
	if _, err := admin.AlterPartitionAssignments(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	soon(t, "everything on node 1", done)

	// 24 MB, and on top of that a record each millisecond.
	value := []byte(strings.Repeat("forebay ", 1000))
	var batch []*kgo.Record
	for range 3000 {
		batch = append(batch, &kgo.Record{Topic: "moved", Value: value})
	}
	if err := c.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			c.Produce(context.Background(), &kgo.Record{Topic: "moved", Value: []byte("a small one")}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("a record was not acknowledged: %v", err)
				}
			})
			<-tick.C
		}
		if err := c.Flush(context.Background()); err != nil {
			t.Error(err)
		}
	})

	topics := node.WriteFile(t, dir, "topics.json", `{"version": 1, "topics": [{"topic": "moved"}]}`)
	out := reassign("--generate", "--topics-to-move-json-file", topics, "--broker-list", "2,3")
	has("--generate", out, "Current partition replica assignment", "Proposed partition reassignment configuration")
	plan := node.WriteFile(t, dir, "plan.json", out[strings.LastIndex(out, `{"version"`):])

	began := time.Now()
	has("--execute", reassign("--execute", "--reassignment-json-file", plan, "--throttle", "100000"),
		"Successfully started partition reassignments for moved-0,moved-1,moved-2,moved-3", `throttle limit was set to 100000 B/s`)
	has("--list", reassign("--list"), `moved-0: replicas: [23],1\. adding: [23]\. removing: 1\.`, `moved-3: replicas: `)
	has("throttles", configs(t, admin), `moved leader\.replication\.throttled\.replicas=0:1,1:1,2:1,3:1`, `moved follower\.replication\.throttled\.replicas=0:[23],1:[23],2:[23],3:[23]`,
		`1 leader\.replication\.throttled\.rate=100000`, `2 follower\.replication\.throttled\.rate=100000`)
	has("--verify", reassign("--verify", "--reassignment-json-file", plan), "Reassignment of partition moved-0 is still in progress")
	// A window's worth, and the response that goes beyond it to each of two nodes, come at once.
	if copied, most := sizes(t, admin, 2, 3), 100_000*(time.Since(began).Seconds()+2)+2*2<<20; copied > int64(most) || copied == 0 {
		t.Errorf("%d bytes were copied at 100000 B/s within %v", copied, time.Since(began))
	} else {
		t.Logf("%d bytes were copied at 100000 B/s within %v", copied, time.Since(began))
	}
	has("--cancel", reassign("--cancel", "--reassignment-json-file", plan), "Successfully cancelled partition reassignments for: moved-0,moved-1,moved-2,moved-3")
	if !done() {
		t.Error("cancelled, and still under way")
	}
	soon(t, "no throttle after --cancel", func() bool { return !strings.Contains(configs(t, admin), "throttled") })

	has("--execute", reassign("--execute", "--reassignment-json-file", plan, "--throttle", "20000000"), "Successfully started")
	soon(t, "the move is done", done)
	has("--verify", reassign("--verify", "--reassignment-json-file", plan), "Reassignment of partition moved-0 is completed", "Reassignment of partition moved-3 is completed", "Clearing broker-level throttles")
	soon(t, "no throttle after the move", func() bool { return !strings.Contains(configs(t, admin), "throttled") })
	stop()
	readBack(t, bootstrap, admin)
}

// plan has each partition of moved on one node.
func plan(nodes ...int32) (p kadm.AlterPartitionAssignmentsReq) {
	for n, id := range nodes {
		p.Assign("moved", int32(n), []int32{id})
	}
	return p
}

// sizes is what nodes have of the topic on their disks.
func sizes(t *testing.T, admin *kadm.Client, nodes ...int32) (sum int64) {
	t.Helper()
	all, err := admin.DescribeAllLogDirs(t.Context(), kadm.TopicsSet{"moved": {0: {}, 1: {}, 2: {}, 3: {}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		sum += all[n].Size()
	}
	return sum
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > time.Minute {
			t.Fatalf("not within a minute: %s", what)
		}
		<-tick.C
	}
}

// configs are those of the topic and of the nodes that somebody has set, as the node that is asked knows them: who did not lead the change hears of it
// a moment later, as in Kafka.
func configs(t *testing.T, admin *kadm.Client) string {
	t.Helper()
	var text strings.Builder
	topic, err := admin.DescribeTopicConfigs(t.Context(), "moved")
	if err != nil {
		t.Fatal(err)
	}
	brokers, err := admin.DescribeBrokerConfigs(t.Context(), 1, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(topic, brokers...) {
		for _, k := range r.Configs {
			if strings.HasPrefix(k.Source.String(), "DYNAMIC") {
				fmt.Fprintf(&text, "%s %s=%s\n", r.Name, k.Key, k.MaybeValue())
			}
		}
	}
	return text.String()
}

// readBack reads the topic from its start to its end: no offset is missing, and none comes twice.
func readBack(t *testing.T, bootstrap string, admin *kadm.Client) {
	t.Helper()
	ends, err := admin.ListEndOffsets(t.Context(), "moved")
	if err != nil || ends.Error() != nil {
		t.Fatal(err, ends.Error())
	}
	left, next := int64(0), map[int32]int64{}
	ends.Each(func(e kadm.ListedOffset) { left += e.Offset })
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ConsumeTopics("moved"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for left > 0 && ctx.Err() == nil {
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset != next[r.Partition] {
				t.Fatalf("moved-%d: offset %d came where %d was to come", r.Partition, r.Offset, next[r.Partition])
			}
			next[r.Partition]++
			left--
		})
	}
	if left > 0 {
		t.Errorf("%d records could not be read", left)
	}
}
