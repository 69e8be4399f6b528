package metadata

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/google/uuid"
)

// large is a cluster of 100 nodes with 200,000 partitions of three replicas, a thousand in a topic.
func large(tb testing.TB) *Image {
	tb.Helper()
	const nodes, topics, each = 100, 200, 1000
	i := NewImage()
	next := uint64(0)
	apply := func(c Command) {
		next++
		var r Result
		if i, r = Apply(i, next, c); r.Err != nil {
			tb.Fatal(r.Err)
		}
	}
	for n := range nodes {
		apply(&RegisterNode{ID: NodeID(n + 1), Host: "host", Port: 9092, BootID: fmt.Sprint(n)})
	}
	for t := range topics {
		spec := TopicSpec{Name: fmt.Sprintf("topic-%d", t), ID: uuid.New()}
		for p := range each {
			first := t*each + p
			spec.Assignment = append(spec.Assignment, []NodeID{NodeID(first%nodes + 1), NodeID((first+1)%nodes + 1), NodeID((first+2)%nodes + 1)})
		}
		apply(&CreateTopics{Topics: []TopicSpec{spec}})
	}
	return i
}

// BenchmarkLargeImage tells what docs/scale.md counts with: bytes of memory and of a snapshot for each partition, and how long it takes to write and read a
// snapshot, to fence a node (4,000 partitions lose a replica, 2,000 their leader) and to change one ISR.
func BenchmarkLargeImage(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	i := large(b)
	runtime.GC()
	runtime.ReadMemStats(&after)
	const partitions = 200_000
	encoded := EncodeImage(i)
	b.Run("memory", func(b *testing.B) {
		for b.Loop() { //nolint:revive // nothing is timed
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/partitions, "B/partition")
		b.ReportMetric(float64(len(encoded))/partitions, "snapshot-B/partition")
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			EncodeImage(i)
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeImage(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fence", func(b *testing.B) {
		for b.Loop() {
			if _, r := Apply(i, i.Index+1, &FenceNode{ID: 50, Epoch: i.Nodes[50].Epoch}); r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	})
	p := i.Topics["topic-0"].Partitions[7]
	b.Run("isr", func(b *testing.B) {
		change := ISRChange{Topic: p.TopicID, Number: p.Number, Leader: p.Leader, NodeEpoch: i.Nodes[p.Leader].Epoch, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
		for _, n := range p.ISR[:2] {
			change.ISR = append(change.ISR, ISRMember{ID: n, Epoch: i.Nodes[n].Epoch})
		}
		for b.Loop() {
			if _, r := Apply(i, i.Index+1, &AlterPartition{Changes: []ISRChange{change}}); r.Err != nil || r.Errs[0] != nil {
				b.Fatal(r.Err, r.Errs)
			}
		}
	})
}
