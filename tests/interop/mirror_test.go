//go:build long

package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
)

// TestMirrorMaker moves a topic and a group of Apache Kafka here with MirrorMaker 2, exactly once, and is killed at work: what docs/migrate.md
// tells who moves in. Every partition has its records once and in order, and the group goes on here without a gap.
func TestMirrorMaker(t *testing.T) {
	kafka := testenv.NewKafka(t).Bootstrap
	onOneAndThree(t, func(t *testing.T, nodes int, bootstrap string) {
		moveIn(t, kafka, bootstrap, fmt.Sprintf("moving-%d", nodes))
	})
}

func moveIn(t *testing.T, kafka, bootstrap, topic string) {
	const partitions, half, read = 3, 6000, 2000
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	there := connected(t, kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if _, err := kadm.NewClient(there).CreateTopics(ctx, partitions, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	next := [partitions]int{}
	write := func(n int) {
		t.Helper()
		var records []*kgo.Record
		for i := range n {
			p := i % partitions
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(numbered(next[p]))})
			next[p]++
		}
		if err := there.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write(half)
	done := map[int32]int{} // partition -> records that the group has read there
	for n := 0; n < read; {
		fetches := there.PollRecords(ctx, read-n)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { done[r.Partition]++; n++ })
	}
	if err := there.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}

	mirror := newMirror(t, kafka, bootstrap, topic)
	mirror.start()
	mirrored := "kafka." + topic
	here := connected(t, bootstrap, kgo.ConsumeTopics(mirrored), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(50*time.Millisecond), kgo.UnknownTopicRetries(-1))
	var seen [partitions]int
	offsets := [partitions][]int64{} // of the records, in order
	follow := func(upTo int) {
		t.Helper()
		for seen[0]+seen[1]+seen[2] < upTo {
			fetches := here.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatalf("%d of %d records came in time", seen, upTo)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if want := numbered(seen[r.Partition]); string(r.Value) != want {
					t.Fatalf("partition %d, offset %d has %q, not %q", r.Partition, r.Offset, r.Value, want)
				}
				seen[r.Partition]++
				offsets[r.Partition] = append(offsets[r.Partition], r.Offset)
			})
		}
	}
	follow(half / 2)
	mirror.kill()
	write(half)
	mirror.start()
	follow(2 * half)

	// The position of the group here: never past what it has read there, and not at the beginning.
	groups := kadm.NewClient(here)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for moved := 0; moved < len(done); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the group's position did not come in time")
		}
		committed, err := groups.FetchOffsets(ctx, topic)
		if err != nil {
			continue // the group is not there yet
		}
		moved = 0
		for p, n := range done {
			at, ok := committed.Lookup(mirrored, p)
			if !ok || at.At <= 0 {
				continue
			}
			moved++
			if n < len(offsets[p]) && at.At > offsets[p][n] {
				t.Fatalf("partition %d: the group would go on at %d, its next record has offset %d", p, at.At, offsets[p][n])
			}
		}
	}
	t.Logf("%v records, each once and in order; the group goes on here", seen)
}

func connected(t *testing.T, bootstrap string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(strings.Split(bootstrap, ",")...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// newMirror is MirrorMaker 2 in its dedicated mode.
func newMirror(t *testing.T, kafka, bootstrap, topic string) *javaProcess {
	return newJavaProcess(t, testenv.MirrorMaker(t), "connect-mirror-maker", fmt.Sprintf(`clusters=kafka,forebay
kafka.bootstrap.servers=%s
forebay.bootstrap.servers=%s
kafka->forebay.enabled=true
kafka->forebay.topics=%s
kafka->forebay.groups=%[3]s
kafka->forebay.sync.group.offsets.enabled=true
kafka->forebay.sync.topic.acls.enabled=false
kafka->forebay.emit.checkpoints.interval.seconds=1
kafka->forebay.sync.group.offsets.interval.seconds=1
kafka->forebay.offset.lag.max=50
forebay->kafka.enabled=false
forebay.exactly.once.source.support=enabled
dedicated.mode.enable.internal.rest=true
listeners=http://%s
replication.factor=-1
checkpoints.topic.replication.factor=-1
heartbeats.topic.replication.factor=-1
offset-syncs.topic.replication.factor=-1
offset-syncs.topic.location=target
offset.storage.replication.factor=-1
status.storage.replication.factor=-1
config.storage.replication.factor=-1
session.timeout.ms=6000
heartbeat.interval.ms=1000
scheduled.rebalance.max.delay.ms=1000
offset.flush.interval.ms=1000
`, kafka, bootstrap, topic, testenv.FreeAddr(t)))
}
