package faults

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/tests/node"
)

// three is a cluster whose topic t has two partitions, both led by node 3 if it can, and a producer on it.
type three struct {
	t     *testing.T
	nodes []*node.Node
	adm   *kadm.Client

	mu    sync.Mutex
	acked map[int64]string // by 2*offset+partition
	stop  func()
}

func newThree(t *testing.T, args ...string) *three {
	nodes := node.NewCluster(t, 3, append(args, "--rack", "r", "--set", "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector",
		"--set", "auto.leader.rebalance.enable=false")...)
	node.StartAll(t, nodes)
	c := &three{t: t, nodes: nodes, acked: map[int64]string{}}
	cl := client(t, nodes[0].Kafka, kgo.SeedBrokers(nodes[0].Kafka, nodes[1].Kafka, nodes[2].Kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(50*time.Millisecond), kgo.RetryTimeout(60*time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MaxBufferedRecords(20), kgo.ProducerBatchMaxBytes(64<<10))
	c.adm = kadm.NewClient(cl)
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "t", -1, -1
	for n := range int32(2) {
		topic.ReplicaAssignment = append(topic.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: n, Replicas: []int32{3, 1, 2}})
	}
	for k, v := range map[string]string{"segment.bytes": "1048576", "min.insync.replicas": "2"} {
		topic.Configs = append(topic.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: kmsg.StringPtr(v)})
	}
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { c.produce(ctx, cl) })
	c.stop = sync.OnceFunc(func() { cancel(); working.Wait() })
	t.Cleanup(c.stop)
	return c
}

// produce appends numbered records with acks=all until ctx ends.
func (c *three) produce(ctx context.Context, cl *kgo.Client) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Sprintf("%08d %s", n, strings.Repeat(string(rune('a'+n%26)), 8<<10))
		cl.Produce(context.Background(), &kgo.Record{Topic: "t", Partition: int32(n % 2), Value: []byte(value)}, func(r *kgo.Record, err error) {
			if err != nil {
				c.t.Errorf("record %d: %v", n, err)
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.acked[2*r.Offset+int64(r.Partition)] = value
		})
		<-tick.C
	}
	if err := cl.Flush(context.Background()); err != nil {
		c.t.Error(err)
	}
}

func (c *three) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// more waits until so many more records are acknowledged.
func (c *three) more(n int) {
	c.t.Helper()
	want := c.count() + n
	eventually(c.t, 30*time.Second, fmt.Sprint(n, " more records acknowledged"), func() bool { return c.count() >= want })
}

func (c *three) details() (list []kadm.PartitionDetail) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	topics, err := c.adm.ListTopics(ctx, "t")
	if err != nil {
		return nil
	}
	return topics["t"].Partitions.Sorted()
}

// inSync waits until all replicas are.
func (c *three) inSync() {
	c.t.Helper()
	eventually(c.t, 30*time.Second, "three replicas in sync", func() bool {
		list := c.details()
		return len(list) == 2 && !slices.ContainsFunc(list, func(p kadm.PartitionDetail) bool {
			return len(p.ISR) != 3 || p.Leader < 0 || len(p.OfflineReplicas) > 0
		})
	})
}

// leads gives both partitions to node 3.
func (c *three) leads() {
	c.t.Helper()
	if _, err := c.adm.ElectLeaders(c.t.Context(), kadm.ElectPreferredReplica, kadm.TopicsSet{"t": {0: {}, 1: {}}}); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, 10*time.Second, "node 3 leads", func() bool {
		list := c.details()
		return len(list) == 2 && list[0].Leader == 3 && list[1].Leader == 3
	})
}

// metric is a sample of node 3.
func (c *three) metric(name string) int {
	resp, err := http.Get("http://" + c.nodes[2].HTTP + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v)) // 0 is not what anybody waits for
			return n
		}
	}
	return -1
}

func (c *three) folder(node int, partition int32) string {
	return filepath.Join(c.nodes[node-1].Data, "log", fmt.Sprint("t-", partition))
}

// flip flips a byte in the middle of a segment of node 3, or so far before its end, and gives the file's name; -1 is the active one.
func (c *three) flip(partition int32, segment, before int) string {
	c.t.Helper()
	list, err := filepath.Glob(filepath.Join(c.folder(3, partition), "*.log"))
	if err != nil || len(list) < 3 {
		c.t.Fatal("segments:", list, err)
	}
	name := list[(segment+len(list))%len(list)]
	rot(c.t, name, before)
	return name
}

// rot flips a byte in the middle of a file, or so far before its end.
func rot(t *testing.T, name string, before int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at, b := st.Size()/2, []byte{0}
	if before > 0 {
		at = st.Size() - int64(before)
	}
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// active is the size of node 3's active segment.
func (c *three) active(partition int32) int64 {
	list, err := filepath.Glob(filepath.Join(c.folder(3, partition), "*.log"))
	if err != nil || len(list) == 0 {
		return -1
	}
	st, err := os.Stat(list[len(list)-1])
	if err != nil {
		return -1
	}
	return st.Size()
}

// readAt reads a partition of node 3 to its end as a consumer near to it does, until an error.
func (c *three) readAt(partition int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	topics, err := c.adm.ListTopics(ctx, "t")
	if err != nil {
		return err
	}
	cl := client(c.t, c.nodes[2].Kafka)
	defer cl.Close()
	for offset := int64(0); ; {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.MaxBytes, req.Rack = -1, 1<<20, "r"
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = "t", topics["t"].ID
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.CurrentLeaderEpoch, rp.PartitionMaxBytes = partition, offset, -1, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := cl.Broker(3).RetriableRequest(ctx, req)
		if err != nil {
			return err
		}
		got := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err != nil || len(got.RecordBatches) == 0 {
			return err
		}
		for b := got.RecordBatches; len(b) >= 27; {
			n := 12 + int(binary.BigEndian.Uint32(b[8:]))
			if n > len(b) {
				break
			}
			offset = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1
			b = b[n:]
		}
	}
}

// repaired waits until node 3 has been repaired so many times since its start, and has nothing damaged any more.
func (c *three) repaired(times int) {
	c.t.Helper()
	eventually(c.t, 30*time.Second, fmt.Sprint(times, " repairs"), func() bool {
		return c.metric("forebay_replica_repairs_total") >= times && c.metric("forebay_replicas_damaged") == 0
	})
	c.inSync()
}

// keeps wants a damaged file in quarantine, as it was but for what was appended since.
func (c *three) keeps(name string, was []byte) {
	c.t.Helper()
	list, err := filepath.Glob(filepath.Join(c.nodes[2].Data, "quarantine", "t-*.repair-*", filepath.Base(name)))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, kept := range list {
		if b, err := os.ReadFile(kept); err == nil && bytes.HasPrefix(b, was) {
			return
		}
	}
	c.t.Errorf("%s is not in quarantine as it was, only: %v", filepath.Base(name), list)
}

func (c *three) content(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// end stops the producer, reads everything back, stops the nodes and compares the replicas.
func (c *three) end() {
	c.t.Helper()
	c.stop()
	c.inSync()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cl := client(c.t, c.nodes[0].Kafka, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepRetryableFetchErrors())
	got := map[int64]string{}
	for len(got) < len(c.acked) {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatalf("after %d of %d records: %v", len(got), len(c.acked), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[2*r.Offset+int64(r.Partition)] = string(r.Value) })
	}
	for at, want := range c.acked {
		if got[at] != want {
			c.t.Fatalf("offset %d of partition %d is %.12q, acknowledged was %.12q", at/2, at%2, got[at], want)
		}
	}
	for _, n := range c.nodes {
		if err := n.Stop(); err != nil {
			c.t.Error(err)
		}
	}
	for p := range int32(2) {
		var first []byte
		for id := range 3 {
			list, err := filepath.Glob(filepath.Join(c.folder(id+1, p), "*.log"))
			if err != nil {
				c.t.Fatal(err)
			}
			var all []byte
			for _, name := range list {
				all = append(all, c.content(name)...)
			}
			if id == 0 {
				first = all
			}
			if !bytes.Equal(all, first) || len(all) == 0 {
				c.t.Errorf("partition %d: node %d has %d bytes that are not node 1's %d", p, id+1, len(all), len(first))
			}
		}
	}
	c.t.Logf("%d records acknowledged and read back", len(c.acked))
}

// TestADamagedFollowerIsRepaired: a closed and an active segment of a follower are damaged, one of them is found when a consumer reads there and
// the other when the log is opened after a kill; then the node is killed in the middle of a repair.
func TestADamagedFollowerIsRepaired(t *testing.T) {
	c := newThree(t)
	c.inSync()
	c.more(900)
	// What nobody else has when node 3 stops is cut off when it comes back: a very short active segment would be damaged in vain.
	stopped := func() bool {
		if err := c.nodes[2].Stop(); err != nil {
			t.Fatal(err)
		}
		return c.active(1) > 100<<10
	}
	for !stopped() {
		c.nodes[2].Start()
		c.inSync()
	}
	closed, active := c.flip(0, 1, 0), c.flip(1, -1, 0)
	wasClosed, wasActive := c.content(closed), c.content(active)
	c.nodes[2].Start()
	c.inSync()
	for p := range int32(2) {
		if err := c.readAt(p); !errors.Is(err, kerr.CorruptMessage) {
			t.Fatalf("partition %d was read: %v", p, err)
		}
	}
	c.repaired(2)
	c.keeps(closed, wasClosed)
	c.keeps(active, wasActive)
	for p := range int32(2) {
		if err := c.readAt(p); err != nil {
			t.Errorf("after the repair: partition %d: %v", p, err)
		}
	}
	if text := c.nodes[2].LogTail(1000); !strings.Contains(text, filepath.Base(closed)) || !strings.Contains(text, "copied anew from its leader") {
		t.Error("the node's log does not tell")
	}

	// Behind the recovery point, which moves when a segment ends: a start reads there.
	killed := func() bool {
		eventually(t, 20*time.Second, "a long active segment", func() bool { return c.active(0) > 300<<10 && c.active(0) < 900<<10 })
		c.nodes[2].Kill()
		return c.active(0) > 300<<10 // else a new one has begun meanwhile, and the damage would lie in the last write, which may be torn
	}
	for !killed() {
		c.nodes[2].Start()
		c.inSync()
	}
	active = c.flip(0, -1, 30_000)
	was := c.content(active)
	c.nodes[2].Start()
	c.repaired(1)
	c.keeps(active, was)

	if err := c.nodes[2].Stop(); err != nil {
		t.Fatal(err)
	}
	closed = c.flip(1, 0, 0)
	was = c.content(closed)
	before, err := filepath.Glob(filepath.Join(c.nodes[2].Data, "quarantine", "*"))
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[2].Start()
	c.inSync()
	if err := c.readAt(1); !errors.Is(err, kerr.CorruptMessage) {
		t.Fatalf("partition 1 was read: %v", err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; <-tick.C {
		if now, err := filepath.Glob(filepath.Join(c.nodes[2].Data, "quarantine", "*")); err != nil || len(now) > len(before) {
			break
		}
		select {
		case <-late:
			t.Fatal("no repair has begun")
		default:
		}
	}
	c.nodes[2].Kill()
	c.nodes[2].Start()
	c.inSync()
	eventually(t, 30*time.Second, "partition 1 is read", func() bool { return c.readAt(1) == nil })
	c.keeps(closed, was)
	c.end()
}

// TestADamagedLeaderIsRepaired: a leader that finds damage in its own log gives its lead to one that has all that was acknowledged, and is repaired as
// a follower; nobody is served a damaged byte, and a consumer goes on by itself.
func TestADamagedLeaderIsRepaired(t *testing.T) {
	c := newThree(t)
	c.inSync()
	c.more(600)
	if err := c.nodes[2].Stop(); err != nil {
		t.Fatal(err)
	}
	closed := c.flip(0, 0, 0)
	was := c.content(closed)
	c.nodes[2].Start()
	c.inSync()
	c.leads()
	got := int64(0)
	cl := client(t, c.nodes[0].Kafka, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}), kgo.MetadataMinAge(50*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for got < 300 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset != got {
				t.Errorf("offset %d after %d", r.Offset, got-1)
			}
			got = r.Offset + 1
		})
	}
	if got < 300 {
		t.Fatalf("a consumer has read %d records", got)
	}
	c.repaired(1)
	c.keeps(closed, was)
	if list := c.details(); list[0].Leader == 3 || list[1].Leader != 3 {
		t.Errorf("leaders: %+v", list)
	}
	c.more(100)
	c.end()
}
