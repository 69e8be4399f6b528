package txn

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/statelog/statelogtest"
)

var ctx = context.Background()

// node is a node with one partition of __transaction_state and two of orders in memory.
type node struct {
	t      *testing.T
	log    *statelogtest.Memory
	orders map[int32]*statelogtest.Memory
	im     *metadata.Image
	c      *Coordinator
	stop   func()

	mu      sync.Mutex
	nextID  int64
	offsets []statelog.Producer // markers in __consumer_offsets
	epoch   int32
}

func (n *node) image() *metadata.Image             { return n.im }
func (n *node) createTopic(context.Context) error  { return nil }
func (n *node) open(int32) (statelog.Store, error) { return n.log, nil }
func (n *node) follow(fn func(int32, bool, int32)) { n.epoch++; fn(0, true, n.epoch) }
func (n *node) allocate(context.Context) (int64, int32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nextID += 1000
	return n.nextID, 1000, nil
}
func (n *node) data(tp TopicPartition) (statelog.Store, error) { return n.orders[tp.Partition], nil }
func (n *node) producer(tp TopicPartition, id int64) (commitlog.Producer, bool) {
	p := commitlog.Producer{ID: id, TxnStart: -1, CoordinatorEpoch: -1}
	ok := false
	for _, b := range n.orders[tp.Partition].Decode() {
		if b.ProducerID != id {
			continue
		}
		ok = true
		p.Epoch = max(p.Epoch, b.ProducerEpoch)
		if b.Marker {
			p.TxnStart, p.CoordinatorEpoch = -1, n.epoch
		} else if p.TxnStart < 0 {
			p.TxnStart = b.Base
		}
	}
	return p, ok
}
func (n *node) decided(tp TopicPartition, p statelog.Producer) (int32, bool) {
	s, ok := n.producer(tp, p.ID)
	return anyEpoch, ok && s.Epoch >= p.Epoch && s.TxnStart < 0 && s.CoordinatorEpoch >= 0
}
func (n *node) groups() Groups                    { return n }
func (n *node) peers() Peers                      { return nil }
func (n *node) EnsureTopic(context.Context) error { return nil }
func (n *node) PartitionFor(string) int32         { return 0 }
func (n *node) AppendMarker(_ context.Context, _ int32, p statelog.Producer, _ int32, _ bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.offsets = append(n.offsets, p)
	return nil
}

func testNode(t *testing.T, fn func(t *testing.T, n *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &node{t: t, log: &statelogtest.Memory{}, im: metadata.NewImage(), orders: map[int32]*statelogtest.Memory{0: {}, 1: {}}}
		for name, count := range map[string]int{Topic: 1, controller.OffsetsTopic: 1, "orders": 2} {
			tp := &metadata.Topic{Name: name}
			for i := range count {
				tp.Partitions = append(tp.Partitions, &metadata.Partition{Topic: name, Number: int32(i), Leader: 1})
			}
			n.im.Topics[name] = tp
		}
		n.start()
		fn(t, n)
		n.stop()
	})
}

func (n *node) start() {
	n.c = newCoordinator(Deps{NodeID: 1}, n)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = n.c.Run(ctx) }()
	n.stop = func() { cancel(); <-done }
}

// restart is a SIGKILL and a new process: what was not acknowledged is gone.
func (n *node) restart() {
	n.stop()
	n.log = n.log.Crash()
	for i, o := range n.orders {
		n.orders[i] = o.Crash()
	}
	n.start()
}

// producer is a client: TV2 unless old.
type client struct {
	n     *node
	id    int64
	epoch int16
	old   bool
}

func (n *node) init(timeout int32, id int64, epoch int16) (*client, int16) {
	r := kmsg.NewPtrInitProducerIDRequest()
	name := "tx"
	r.Version, r.TransactionalID, r.TransactionTimeoutMillis, r.ProducerID, r.ProducerEpoch = 5, &name, timeout, id, epoch
	resp := n.c.InitProducerID(ctx, r)
	return &client{n: n, id: resp.ProducerID, epoch: resp.ProducerEpoch}, resp.ErrorCode
}

func (n *node) mustInit() *client {
	n.t.Helper()
	p, code := n.init(60_000, -1, -1)
	wantCode(n.t, "init", code, 0)
	return p
}

// produce asks as Produce does, and writes a batch.
func (p *client) produce(partition int32) int16 {
	tp := []TopicPartition{{"orders", partition}}
	if p.old {
		r := kmsg.NewPtrAddPartitionsToTxnRequest()
		r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch = 3, "tx", p.id, p.epoch
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = "orders", []int32{partition}
		r.Topics = append(r.Topics, t)
		if code := p.n.c.AddPartitionsToTxn(ctx, r).Topics[0].Partitions[0].ErrorCode; code != 0 {
			return code
		}
	}
	if code := p.n.c.VerifyOrAdd(ctx, "tx", p.id, p.epoch, tp, !p.old)[0]; code != 0 {
		return code
	}
	b, err := statelog.EncodeBatch(0, statelog.Producer{ID: p.id, Epoch: p.epoch}, statelog.Record{Value: []byte("v")})
	if err != nil {
		return -1
	}
	if _, err := p.n.orders[partition].Append(b, 0, commitlog.Guard{}); err != nil {
		return -1
	}
	return 0
}

// end ends the transaction; from v5 on the client goes on with what it is told.
func (p *client) end(commit bool) int16 {
	r := kmsg.NewPtrEndTxnRequest()
	r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Commit = 5, "tx", p.id, p.epoch, commit
	if p.old {
		r.Version = 4
	}
	resp := p.n.c.EndTxn(ctx, r)
	if resp.ErrorCode == 0 && !p.old {
		p.id, p.epoch = resp.ProducerID, resp.ProducerEpoch
	}
	return resp.ErrorCode
}

func (n *node) phase() string {
	synctest.Wait()
	r := kmsg.NewPtrDescribeTransactionsRequest()
	r.TransactionalIDs = []string{"tx"}
	s := n.c.DescribeTransactions(ctx, r).TransactionStates[0]
	if s.ErrorCode != 0 {
		return "gone"
	}
	return s.State
}

// markers are what is in a partition: C, A for markers, r for records.
func (n *node) markers(partition int32) string {
	synctest.Wait()
	out := ""
	for _, b := range n.orders[partition].Decode() {
		switch {
		case !b.Control:
			out += "r"
		case b.Commit:
			out += "C"
		default:
			out += "A"
		}
	}
	return out
}

func wantCode(t *testing.T, what string, got, want int16) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: error code %d, want %d", what, got, want)
	}
}

func wantLog(t *testing.T, n *node, partition int32, want string) {
	t.Helper()
	if got := n.markers(partition); got != want {
		t.Fatalf("partition %d holds %s, want %s", partition, got, want)
	}
}
