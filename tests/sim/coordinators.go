package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/txn"
)

// coordinators are what a process has of them.
type coordinators struct {
	turns   turns
	running context.Context
	cease   context.CancelFunc
	txns    *txn.Coordinator
	groups  *group.Coordinator

	admin    *controller.Controller // for admins
	planning bool                   // it is at something
}

// parkTime is short, so that requests come to its end.
const parkTime = 400 * time.Millisecond

// coordinate starts the coordinators.
func (n *node) coordinate() {
	n.turns.after = n.later
	n.running, n.cease = context.WithCancel(context.Background())
	n.admin = controller.New(controller.Options{Quorum: admins{n}, NodeID: n.id, Logger: n.logger()})
	if !n.w.txns {
		return
	}
	c := controller.New(controller.Options{Quorum: proposer{n}, NodeID: n.id, Logger: n.logger()})
	// Timers go by a clock that does not jump; what it shows is what the wall's showed when the process began.
	began, wall := n.w.now, n.clock()
	now := func() time.Time { return wall.Add(n.w.now - began) }
	n.groups = group.New(group.Deps{NodeID: n.id, Replicas: n.set, Controller: c, Lease: lease{n}, Logger: n.logger(), Now: now, Turns: &n.turns})
	n.txns = txn.New(txn.Deps{
		NodeID: n.id, Replicas: n.set, Controller: c, Groups: n.groups, Peers: peers{n}, Logger: n.logger(), Now: now, Turns: &n.turns,
		Options: txn.Options{ParkTime: parkTime},
	})
	for _, run := range []func(context.Context) error{n.groups.Run, n.txns.Run} {
		n.turns.Go(func() {
			if err := run(n.running); err != nil {
				n.w.fail("a coordinator of node %d has ended: %v", n.id, err)
			}
		})
	}
}

// retire ends them in good order.
func (n *node) retire() {
	if n.cease != nil {
		n.cease()
		n.turns.run(func() bool { return n.dying })
	}
}

// lease is what a node knows of its own, by a clock that does not jump.
type lease struct{ n *node }

func (l lease) Leased() bool { return l.n.w.now < l.n.leased }

// leaseWait is how long core/group waits.
const leaseWait = 2 * time.Second

func (l lease) AwaitLease(context.Context) {
	end := l.n.w.now + leaseWait
	l.n.turns.Wait(func() bool { return l.Leased() || l.n.w.now >= end })
}

// proposer is the metadata quorum as a node's planning controller sees it.
type proposer struct{ n *node }

func (p proposer) Image() *metadata.Image { return p.n.image() }

// Current is at once, too.
func (p proposer) Current(context.Context) error {
	r := &p.n.w.raft
	if !r.works() || !p.n.w.net.both(p.n.id, r.leader) {
		return errUnknown
	}
	p.n.apply(r.last())
	return nil
}

// Propose is one message there and one back, at once: a block of producer ids is waited for with a lock held.
func (p proposer) Propose(_ context.Context, c metadata.Command) (metadata.Result, error) {
	r := &p.n.w.raft
	if r.leader < 0 || !p.n.w.net.both(p.n.id, r.leader) || !p.n.w.node(r.leader).awake() {
		return metadata.Result{}, errUnknown
	}
	result, err := r.propose(r.leader, c)
	if err == nil {
		p.n.apply(r.last())
	}
	return result, err
}

// peers is how a node's transaction coordinator asks other nodes.
type peers struct{ n *node }

// peerTimeout is how long an answer is waited for; the message may be served later all the same.
const peerTimeout = 700 * time.Millisecond

func (p peers) WriteTxnMarkers(ctx context.Context, to metadata.NodeID, req *kmsg.WriteTxnMarkersRequest) (*kmsg.WriteTxnMarkersResponse, error) {
	return askPeer(ctx, p.n, to, func(x *node) *kmsg.WriteTxnMarkersResponse { return x.txns.WriteTxnMarkers(x.running, req) })
}

func (p peers) AddPartitionsToTxn(ctx context.Context, to metadata.NodeID, req *kmsg.AddPartitionsToTxnRequest) (*kmsg.AddPartitionsToTxnResponse, error) {
	return askPeer(ctx, p.n, to, func(x *node) *kmsg.AddPartitionsToTxnResponse { return x.txns.AddPartitionsToTxn(x.running, req) })
}

func askPeer[T any](ctx context.Context, n *node, to metadata.NodeID, serve func(*node) T) (T, error) {
	answered := make(chan T, 1)
	n.w.ask(n.id, to, func(x *node, answer func(func())) {
		resp := serve(x)
		gen := n.gen
		answer(func() {
			if n.gen == gen {
				answered <- resp
			}
		})
	})
	return statelog.Await(ctx, &n.turns, answered, n.turns.After(peerTimeout))
}

// ask has a node serve something that may wait; answer sends back what is to be done there, once.
func (w *World) ask(from, to metadata.NodeID, serve func(x *node, answer func(func()))) {
	w.net.send(from, to, true, func(again bool) {
		x := w.node(to)
		if !x.serving {
			return
		}
		x.turns.Go(func() {
			serve(x, func(fn func()) {
				if !again && !x.dying {
					w.net.send(to, from, false, func(bool) { fn() })
				}
			})
		})
	})
}

// guardRounds is how often core/server asks about one batch.
const guardRounds = 3

// produceTxn appends a batch of a transaction as the leader, as core/server does it for Produce v12 and later: it asks the coordinator first.
func (n *node) produceTxn(k part, id string, raw []byte, producer int64, epoch int16, sequence int32, done func(commitlog.Appended, error)) {
	p, err := n.find(k)
	if err != nil {
		done(commitlog.Appended{}, err)
		return
	}
	if leading, _ := p.Leader(); !leading {
		done(commitlog.Appended{}, partition.ErrNotLeader)
		return
	}
	guard, unknown := p.Log().Verify(producer, epoch, sequence)
	for round := 1; unknown; round++ {
		code := n.txns.VerifyOrAdd(n.running, id, producer, epoch, []txn.TopicPartition{{Topic: k.topic, Partition: k.number}}, true)[0]
		if err := kerr.ErrorForCode(code); err != nil {
			if !kerr.IsRetriable(err) { // CONCURRENT_TRANSACTIONS, too, as in core/server
				p.Log().Unverified(producer, guard)
			}
			done(commitlog.Appended{}, err)
			return
		}
		if round == guardRounds {
			break
		}
		g, ask := p.Log().Verify(producer, epoch, sequence)
		if unknown = ask && g != guard; unknown {
			guard = g
		}
	}
	a, err := p.AppendGuarded(raw, partition.AnyEpoch, commitlog.FromClient, guard, true)
	if n.dying {
		return
	}
	if err != nil {
		done(a, err)
		return
	}
	n.acknowledge(k, p, a, done)
}

// final says that a transactional producer cannot go on after an error.
func final(err error) bool {
	var k *kerr.Error
	if errors.As(err, &k) {
		return !kerr.IsRetriable(err) && k != kerr.ConcurrentTransactions
	}
	return errors.Is(err, commitlog.ErrProducerFenced) || errors.Is(err, commitlog.ErrInvalidTxnState) || errors.Is(err, commitlog.ErrOutOfOrderSequence)
}

// committedOffset is what the coordinator of a group has for input, asked for when all is at rest.
func (w *World) committedOffset(name string) (offset int64, err error) {
	k := part{group.Topic, statelog.PartitionFor(name, w.count(group.Topic))}
	x := w.node(w.raft.image().Partition(k.topic, k.number).Leader)
	err = errUnknown
	x.turns.Go(func() { offset, err = x.fetchOffset(name) })
	x.turns.run(nil)
	return offset, err
}

// input is the partition of another topic that transactions say they have read.
var input = data(0)

func (n *node) fetchOffset(name string) (int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.RequireStable = 8, true
	g := kmsg.NewOffsetFetchRequestGroup()
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic, t.Partitions = input.topic, []int32{input.number}
	g.Group, g.Topics = name, append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	resp := n.groups.OffsetFetch(n.running, req).Groups[0]
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return -1, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return -1, fmt.Errorf("an answer for %d topics", len(resp.Topics))
	}
	p := resp.Topics[0].Partitions[0]
	return p.Offset, kerr.ErrorForCode(p.ErrorCode)
}
