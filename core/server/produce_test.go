package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/core/txn"
)

// What is wrong with a record set is told by partition, and costs the others nothing.
func TestProduceRefusals(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	build := func(change func(*record.Builder)) []byte {
		w := record.NewBuilder()
		change(w)
		w.Append(1000, nil, []byte("v"))
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := batch(t, "v")
	badCRC := slices.Clone(good)
	badCRC[len(badCRC)-1] ^= 1
	oldMagic := slices.Clone(good)
	oldMagic[16] = 1
	zstd := build(func(w *record.Builder) { w.Attributes = record.Attributes(record.Zstd) })
	transactional := build(func(w *record.Builder) {
		w.Attributes, w.ProducerID, w.ProducerEpoch, w.BaseSequence = record.Transactional, 7, 0, 0
	})
	for name, c := range map[string]struct {
		version int16
		records []byte
		change  func(*kmsg.ProduceRequest)
		code    *kerr.Error
	}{
		"no records":              {9, nil, nil, kerr.InvalidRecord},
		"cut short":               {9, good[:40], nil, kerr.InvalidRecord},
		"two batches":             {9, slices.Concat(good, good), nil, kerr.InvalidRecord},
		"old magic":               {9, oldMagic, nil, kerr.InvalidRecord},
		"wrong CRC":               {9, badCRC, nil, kerr.CorruptMessage},
		"zstd before KIP-110":     {6, zstd, nil, kerr.UnsupportedCompressionType},
		"txn without an id":       {9, transactional, nil, kerr.TransactionalIDAuthorizationFailed},
		"unknown topic":           {9, good, func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = "nope" }, kerr.UnknownTopicOrPartition},
		"unknown topic id":        {13, good, func(r *kmsg.ProduceRequest) { r.Topics[0].TopicID = [16]byte{1} }, kerr.UnknownTopicID},
		"unknown partition":       {9, good, func(r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = 9 }, kerr.UnknownTopicOrPartition},
		"negative partition":      {9, good, func(r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = -1 }, kerr.UnknownTopicOrPartition},
		"internal topic":          {9, good, func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = controller.OffsetsTopic }, kerr.InvalidTopicException},
		"acks of two":             {9, good, func(r *kmsg.ProduceRequest) { r.Acks = 2 }, kerr.InvalidRequiredAcks},
		"larger than the topic's": {9, batch(t, strings.Repeat("x", 2<<20)), nil, kerr.MessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			req := produceRequest(c.version, topic, 0, -1, c.records)
			if c.change != nil {
				c.change(req)
			}
			p := call[*kmsg.ProduceResponse](n.dial(), req).Topics[0].Partitions[0]
			if p.ErrorCode != c.code.Code || p.BaseOffset != -1 {
				t.Errorf("%v, base offset %d; want %v", kerr.ErrorForCode(p.ErrorCode), p.BaseOffset, c.code)
			}
			if c.version >= 8 && (p.ErrorMessage == nil || *p.ErrorMessage == "") {
				t.Error("no message")
			}
		})
	}
	both := produceRequest(9, topic, 5, -1, good)
	both.Topics[0].Partitions = append(both.Topics[0].Partitions, produceRequest(9, topic, 0, -1, good).Topics[0].Partitions...)
	ps := call[*kmsg.ProduceResponse](n.dial(), both).Topics[0].Partitions
	if ps[0].ErrorCode == 0 || ps[1].ErrorCode != 0 || ps[1].BaseOffset != 0 {
		t.Errorf("one wrong, one right: %+v", ps)
	}
	if strings.Contains(n.logs.String(), "level=ERROR") {
		t.Errorf("a client's mistakes are in the node's log as errors:\n%s", n.logs)
	}
}

// A leader whose lease has run out may have been followed by another, to whom the producer has sent what this one misses: it does not say that the sequence is out of
// order, by which a producer would take acknowledged records for lost.
func TestOutOfOrderSequenceIsToldUnderALease(t *testing.T) {
	var leased atomic.Bool
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.Leased = leased.Load }})
	topic := n.topic("orders", 1)
	send := func(sequence int32) int16 {
		w := record.NewBuilder()
		w.ProducerID, w.ProducerEpoch, w.BaseSequence = 7, 0, sequence
		w.Append(1000, nil, []byte("v"))
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return call[*kmsg.ProduceResponse](n.dial(), produceRequest(9, topic, 0, -1, b)).Topics[0].Partitions[0].ErrorCode
	}
	if code := send(0); code != 0 { // what it may have lost by now it never acknowledges alone: appends need no lease
		t.Fatal(kerr.ErrorForCode(code))
	}
	if code := send(5); code != kerr.NotLeaderForPartition.Code {
		t.Errorf("without a lease: %v", kerr.ErrorForCode(code))
	}
	leased.Store(true)
	if code := send(5); code != kerr.OutOfOrderSequenceNumber.Code {
		t.Errorf("with a lease: %v", kerr.ErrorForCode(code))
	}
}

// KIP-951: who asks the wrong node is told the right one, with its address.
func TestNotLeaderNamesTheLeaderKIP951(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	for _, c := range []metadata.Command{
		&metadata.RegisterNode{ID: 2, Host: "two.example", Port: 9292, BootID: "c"},
		&metadata.ChangePartition{Topic: topic.ID, Number: 0, Expected: topic.Partitions[0].PartitionEpoch,
			Replicas: []metadata.NodeID{2, 1}, ISR: []metadata.NodeID{2, 1}, Leader: 2, NewEpoch: true},
	} {
		if r, err := n.quorum.Propose(t.Context(), c); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	c := n.dial()
	pr := call[*kmsg.ProduceResponse](c, produceRequest(12, topic, 0, -1, batch(t, "v")))
	pp := pr.Topics[0].Partitions[0]
	if pp.ErrorCode != kerr.NotLeaderForPartition.Code || pp.CurrentLeader.LeaderID != 2 || pp.CurrentLeader.LeaderEpoch != 1 {
		t.Fatalf("%+v", pp)
	}
	if len(pr.Brokers) != 1 || pr.Brokers[0].NodeID != 2 || pr.Brokers[0].Host != "two.example" || pr.Brokers[0].Port != 9292 {
		t.Fatalf("%+v", pr.Brokers)
	}
	fr := call[*kmsg.FetchResponse](c, withWait(fetchRequest(16, topic, 0), 60_000))
	fp := fr.Topics[0].Partitions[0]
	if fp.ErrorCode != kerr.NotLeaderForPartition.Code || fp.CurrentLeader.LeaderID != 2 || fp.HighWatermark != -1 {
		t.Fatalf("%+v", fp)
	}
	if len(fr.Brokers) != 1 || fr.Brokers[0].Host != "two.example" {
		t.Fatalf("%+v", fr.Brokers)
	}
	// What producers it knows a follower tells all the same: `kafka-transactions find-hanging --broker-id` asks each node.
	dp := kmsg.NewPtrDescribeProducersRequest()
	dp.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "orders", Partitions: []int32{0, 1}}}
	got := call[*kmsg.DescribeProducersResponse](c, dp).Topics[0].Partitions
	if got[0].ErrorCode != 0 || got[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Fatalf("%+v", got)
	}
}

// guardRecorder answers for the transaction coordinator.
type guardRecorder struct {
	calls [][]txn.TopicPartition
	adds  []bool
	code  int16
}

func (g *guardRecorder) VerifyOrAdd(_ context.Context, _ string, _ int64, _ int16, parts []txn.TopicPartition, add bool) []int16 {
	g.calls = append(g.calls, slices.Clone(parts))
	g.adds = append(g.adds, add)
	out := make([]int16, len(parts))
	for i := range out {
		out[i] = g.code
	}
	return out
}

// KIP-890: the first batch of a transaction in a partition is asked for, the next are not; since
// version 12 asking adds the partition.
func TestTransactionalProduceKIP890(t *testing.T) {
	g := &guardRecorder{}
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.TxnGuard = g }})
	topic := n.topic("orders", 2)
	c := n.dial()
	sequence := [2]int32{}
	send := func(version int16, partition int32) int16 {
		w := record.NewBuilder()
		w.Attributes, w.ProducerID, w.ProducerEpoch, w.BaseSequence = record.Transactional, 7, 0, sequence[partition]
		w.Append(1000, nil, []byte("v"))
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		req := produceRequest(version, topic, partition, -1, slices.Clone(b))
		id := "tx"
		req.TransactionID = &id
		code := call[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode
		if code == 0 {
			sequence[partition]++
		}
		return code
	}
	g.code = kerr.InvalidTxnState.Code
	if code := send(12, 0); code != g.code {
		t.Fatalf("code %d although the coordinator refused", code)
	}
	g.code = 0
	for i, step := range []struct {
		version   int16
		partition int32
		calls     int
	}{{12, 0, 2}, {12, 0, 2}, {11, 1, 3}, {11, 1, 3}, {12, 0, 3}} {
		if code := send(step.version, step.partition); code != 0 || len(g.calls) != step.calls {
			t.Fatalf("step %d: code %d, %d calls", i, code, len(g.calls))
		}
	}
	if !slices.Equal(g.adds, []bool{true, true, false}) {
		t.Errorf("add was %v", g.adds)
	}
	p, err := n.set.Partition("orders", 0)
	if err != nil {
		t.Fatal(err)
	}
	// The marker ends the transaction; the next batch is asked for again.
	end := record.EndTxn(7, 0, record.Marker{Type: record.Commit, CoordinatorEpoch: 0}, 1000)
	if _, err := p.Append(end, -1, commitlog.FromCoordinator, true); err != nil {
		t.Fatal(err)
	}
	if code := send(12, 0); code != 0 || len(g.calls) != 4 {
		t.Fatalf("after the marker: code %d, %d calls", code, len(g.calls))
	}
}

// intruder says yes, and lets the transaction be aborted before the answer is there.
type intruder struct{ abort func() }

func (g intruder) VerifyOrAdd(_ context.Context, _ string, _ int64, _ int16, parts []txn.TopicPartition, _ bool) []int16 {
	g.abort()
	return make([]int16, len(parts))
}

// KIP-890 for clients before transaction version 2, whose epoch an abort does not raise: between the coordinator's yes and the append a
// marker may come in. The batch must not open a transaction that nobody ends.
func TestAbortBetweenVerificationAndAppendKIP890(t *testing.T) {
	var n *node
	n = newNode(t, nodeOptions{deps: func(d *Deps) {
		d.TxnGuard = intruder{func() {
			p, err := n.set.Partition("orders", 0)
			if err == nil {
				_, err = p.Append(record.EndTxn(7, 0, record.Marker{Type: record.Abort}, 1000), -1, commitlog.FromCoordinator, true)
			}
			if err != nil {
				t.Error(err)
			}
		}}
	}})
	topic := n.topic("orders", 1)
	w := record.NewBuilder()
	w.Attributes, w.ProducerID, w.ProducerEpoch, w.BaseSequence = record.Transactional, 7, 0, 0
	w.Append(1000, nil, []byte("v"))
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	req := produceRequest(11, topic, 0, -1, b)
	id := "tx"
	req.TransactionID = &id
	if code := call[*kmsg.ProduceResponse](n.dial(), req).Topics[0].Partitions[0].ErrorCode; code != kerr.InvalidTxnState.Code {
		t.Fatalf("code %d", code)
	}
	p, err := n.set.Partition("orders", 0)
	if err != nil {
		t.Fatal(err)
	}
	if l := p.Log(); l.EndOffset() != 1 || l.LastStable(l.EndOffset()) != 1 {
		t.Fatalf("end %d, last stable %d", l.EndOffset(), l.LastStable(l.EndOffset()))
	}
}

// A coordinator parks the first batch of the next transaction until the markers of the last are written. Those must not cost the client
// its batch: at transaction version 2 the coordinator is asked again.
func TestMarkersOfTheLastTransactionKIP890(t *testing.T) {
	asked := 0
	var n *node
	n = newNode(t, nodeOptions{deps: func(d *Deps) {
		d.TxnGuard = intruder{func() {
			if asked++; asked > 1 {
				return
			}
			p, err := n.set.Partition("orders", 0)
			if err == nil {
				_, err = p.Append(record.EndTxn(7, 1, record.Marker{Type: record.Commit}, 1000), -1, commitlog.FromCoordinator, true)
			}
			if err != nil {
				t.Error(err)
			}
		}}
	}})
	w := record.NewBuilder()
	w.Attributes, w.ProducerID, w.ProducerEpoch, w.BaseSequence = record.Transactional, 7, 1, 0
	w.Append(1000, nil, []byte("v"))
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	req := produceRequest(12, n.topic("orders", 1), 0, -1, b)
	id := "tx"
	req.TransactionID = &id
	if code := call[*kmsg.ProduceResponse](n.dial(), req).Topics[0].Partitions[0].ErrorCode; code != 0 || asked != 2 {
		t.Fatalf("code %d after %d questions", code, asked)
	}
}

// A partition without records has six bytes, and takes twenty-five times as many: they are counted. So are topics without partitions.
func TestProduceCountsPartitions(t *testing.T) {
	for _, c := range []struct {
		topics, partitions int
		fails              bool
	}{{1, maxNamed, false}, {1, maxNamed + 1, true}, {10, maxNamed/10 + 1, true}, {maxNamed, 0, false}, {maxNamed + 1, 0, true}} {
		req := kmsg.NewPtrProduceRequest()
		req.Version = 9
		for range c.topics {
			topic := kmsg.NewProduceRequestTopic()
			topic.Partitions = make([]kmsg.ProduceRequestTopicPartition, c.partitions)
			req.Topics = append(req.Topics, topic)
		}
		p := produced{ready: make(chan struct{}, 1)}
		_, _, err := p.parse(9, req.AppendTo(nil), metadata.NewImage())
		if c.fails != errors.Is(err, errNamed) || !c.fails && err != nil {
			t.Errorf("%d topics of %d partitions: %v", c.topics, c.partitions, err)
		}
		p.free()
		if n := max(cap(p.parts), cap(p.topics)); n > keptParts {
			t.Errorf("room for %d is kept", n)
		}
	}
}
