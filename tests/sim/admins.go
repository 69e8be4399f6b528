package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
)

// adminNames are few, so that what one client does to a topic another one sees.
var adminNames = []string{"a", "b"}

const (
	adminConfig  = "retention.ms"
	adminTimeout = 3 * time.Second
	endless      = int64(1) << 62
)

// what an admin asks for.
type adminOp byte

const (
	createTopic adminOp = iota
	deleteTopic
	setConfig
	lookAt // by the Image of a node
)

func (o adminOp) String() string { return []string{"create", "delete", "set", "look at"}[o] }

// asked is one question about a topic.
type asked struct {
	op    adminOp
	name  string
	value string // of setConfig
	node  metadata.NodeID
}

// heardOf is what came of it.
type heardOf struct {
	unknown bool // nobody was told: it has happened, or will, or never
	missing bool // there is no such topic; of createTopic: there is one
	seen    seen // of lookAt; of createTopic the id
}

// seen is a topic as clients see it.
type seen struct {
	there bool
	id    metadata.TopicID // zero: whoever made it was not told
	value string
	epoch [2]metadata.Epoch // of its leader, and of the partition; by lookAt alone
}

// startAdmins has clients create, delete, configure and look at topics, each by any node.
func (w *World) startAdmins() {
	if w.o.Kind != Topics {
		return
	}
	ids := rand.NewChaCha8([32]byte{1: byte(w.o.Seed), 2: byte(w.o.Seed >> 8), 3: byte(w.o.Seed >> 16)})
	uuid.SetRand(ids) // of topics; every world that makes some begins with its own
	pause := []time.Duration{20, 100, 400}[w.rng.IntN(3)] * time.Millisecond
	for range 2 + w.rng.IntN(3) {
		w.turns.Go(func() {
			statelog.Pause(context.Background(), &w.turns, time.Second)
			for !w.calm {
				w.admin()
				statelog.Pause(context.Background(), &w.turns, w.between(0, 2*pause))
			}
		})
	}
}

// attemptsKey is where a request's context has what is called at every proposal of it but the first.
type attemptsKey struct{}

// admin does one thing, and waits for what comes of it.
func (w *World) admin() {
	in := asked{op: lookAt, name: adminNames[w.rng.IntN(len(adminNames))], node: metadata.NodeID(1 + w.rng.IntN(len(w.nodes)))}
	if w.chance(0.6) {
		in.op = adminOp(w.rng.IntN(int(lookAt)))
	}
	w.asked++
	in.value = strconv.Itoa(w.asked)
	called := w.now
	answered := make(chan porcupine.Operation, 1)
	w.ask(outside, in.node, func(x *node, answer func(func())) {
		// Each time that it is served, or proposed, it may happen: a copy of a message that comes later is a question of its own.
		at := len(w.history)
		unknown := func() {
			w.history = append(w.history, porcupine.Operation{Input: in, Call: int64(called), Output: heardOf{unknown: true}, Return: endless})
		}
		unknown()
		out := x.administer(context.WithValue(x.running, attemptsKey{}, unknown), in)
		if !out.unknown {
			answer(func() {
				w.note("admin: %v %s %s by node %d: %+v", in.op, in.name, in.value, in.node, out)
				w.history[at].Output, w.history[at].Return = out, int64(w.now)
				answered <- w.history[at]
			})
		}
	})
	_, _ = statelog.Await(context.Background(), &w.turns, answered, w.turns.After(adminTimeout))
}

// administer serves an admin's request as core/server does.
func (x *node) administer(ctx context.Context, in asked) (out heardOf) {
	if in.op == lookAt {
		return heardOf{seen: see(x.image(), in.name)}
	}
	x.turns.Wait(func() bool { return !x.planning }) // else it would wait for a lock
	x.planning = true
	defer func() { x.planning = false }()
	var err error
	switch in.op {
	case createTopic:
		made, errs := x.admin.CreateTopics(ctx, []controller.NewTopic{{Name: in.name, Partitions: 1, Replication: factor}}, false)
		if err = errs[0]; err == nil {
			out.seen.id = made[0].ID
		}
	case deleteTopic:
		err = x.admin.DeleteTopics(ctx, []string{in.name})[0]
	default:
		err = x.admin.AlterTopicConfigs(ctx, in.name, []controller.ConfigOp{{Name: adminConfig, Value: &in.value}}, false)
	}
	var refused *controller.Error
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Code == map[bool]*kerr.Error{true: kerr.TopicAlreadyExists, false: kerr.UnknownTopicOrPartition}[in.op == createTopic].Code:
		out.missing = true
	default:
		out.unknown = true
	}
	return out
}

func see(image *metadata.Image, name string) seen {
	t := image.Topics[name]
	if t == nil {
		return seen{}
	}
	p := t.Partitions[0]
	return seen{there: true, id: t.ID, value: image.TopicConfigs[name][adminConfig], epoch: [2]metadata.Epoch{p.LeaderEpoch, p.PartitionEpoch}}
}

// topicModel is one topic in which things happen one after the other.
var topicModel = porcupine.Model{
	Init: func() any { return seen{} },
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		list := make([][]porcupine.Operation, len(adminNames))
		for _, o := range history {
			for n, name := range adminNames {
				if o.Input.(asked).name == name {
					list[n] = append(list[n], o)
				}
			}
		}
		return list
	},
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(seen), input.(asked), output.(heardOf)
		next, done := s.after(in, out)
		switch {
		case out.unknown && (!done || in.op == lookAt):
			return true, s
		case in.op == lookAt:
			return done, next
		case out.unknown:
			return true, next
		case out.missing:
			return !done, s
		}
		if in.op == createTopic && s.there && (s.id == out.seen.id || s.id == metadata.TopicID{}) {
			s.id = out.seen.id // it was proposed twice, and is told by its topic
			return true, s
		}
		return done, next
	},
}

// after is a topic after something was done to it, if it can be done.
func (s seen) after(in asked, out heardOf) (next seen, done bool) {
	switch in.op {
	case createTopic:
		if s.there {
			return s, false
		}
		return seen{there: true, id: out.seen.id}, true
	case deleteTopic:
		return seen{}, s.there
	case setConfig:
		if s.there {
			s.value = in.value
		}
		return s, s.there
	default:
		got := out.seen
		same := got.there == s.there && got.value == s.value && (s.id == got.id || s.id == metadata.TopicID{}) && got.epoch[0] >= s.epoch[0] && got.epoch[1] >= s.epoch[1]
		return got, same
	}
}

// linearizable looks at what admins were told. What changes topics is linearizable, by whatever node it goes. What a node shows is a state that was,
// and never an older one than it showed before, or than what was done by it: by itself each node is linearizable, where what is done by others gets there in its time.
func (c *checker) linearizable() {
	if c.w.o.Kind != Topics {
		return
	}
	var changes []porcupine.Operation
	by := make([][]porcupine.Operation, len(c.w.nodes))
	for _, o := range c.w.history {
		in, late := o.Input.(asked), o
		late.Return = endless
		if in.op != lookAt {
			changes = append(changes, o)
		}
		for n := range by {
			switch {
			case int(in.node) == n+1:
				by[n] = append(by[n], o)
			case in.op != lookAt:
				by[n] = append(by[n], late)
			}
		}
	}
	c.holds("what changes topics", changes)
	for n, history := range by {
		c.holds(fmt.Sprintf("what node %d shows", n+1), history)
	}
}

func (c *checker) holds(what string, history []porcupine.Operation) {
	if possible(history) {
		return
	}
	// Up to which answer is it possible?
	slices.SortStableFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	n, _ := slices.BinarySearchFunc(history, true, func(o porcupine.Operation, _ bool) int {
		if possible(until(history, o.Return)) {
			return -1
		}
		return 0
	})
	o := history[min(n, len(history)-1)]
	c.w.fail("%s is not linearizable: it cannot be that %v is answered with %+v at %v, when it was asked at %v", what, o.Input, o.Output, time.Duration(o.Return), time.Duration(o.Call))
}

func possible(history []porcupine.Operation) bool {
	return porcupine.CheckOperationsTimeout(topicModel, history, 10*time.Second) != porcupine.Illegal
}

// until is a history as it was at a time.
func until(history []porcupine.Operation, at int64) (list []porcupine.Operation) {
	for _, o := range history {
		switch {
		case o.Return <= at:
			list = append(list, o)
		case o.Call <= at:
			o.Output, o.Return = heardOf{unknown: true}, endless
			list = append(list, o)
		}
	}
	return list
}

// admins is the metadata quorum as a node's controller sees it that serves admins: questions are messages, as those of core/consensus.
type admins struct{ n *node }

func (a admins) Image() *metadata.Image { return a.n.image() }

// retryPause is the one of core/consensus.
const retryPause = 100 * time.Millisecond

// question has the leader serve something, again and again, until it does or until nobody waits any more. index is what its answer is about: it is waited for here.
func question[T any](n *node, again func(), serve func(leader metadata.NodeID) (v T, index uint64, err error)) (v T, err error) {
	type served struct {
		v     T
		index uint64
	}
	end := n.w.now + adminTimeout
	for n.w.now < end && n.running.Err() == nil {
		if leader := n.w.raft.leader; leader > 0 {
			answered := make(chan served, 1)
			gen := n.gen
			n.w.net.send(n.id, leader, false, func(bool) {
				v, index, err := serve(leader)
				if err != nil {
					return
				}
				n.w.net.send(leader, n.id, false, func(bool) {
					if n.gen == gen {
						answered <- served{v, index}
					}
				})
			})
			got, err := statelog.Await(n.running, &n.turns, answered, n.turns.After(time.Second))
			if err == nil {
				n.turns.Wait(func() bool { return n.applied >= got.index || n.w.now >= end })
				if n.applied >= got.index {
					return got.v, nil
				}
				break
			}
			again()
		}
		statelog.Pause(n.running, &n.turns, retryPause)
	}
	return v, context.DeadlineExceeded
}

func (a admins) Propose(ctx context.Context, c metadata.Command) (metadata.Result, error) {
	return question(a.n, ctx.Value(attemptsKey{}).(func()), func(leader metadata.NodeID) (metadata.Result, uint64, error) {
		r, err := a.n.w.raft.propose(leader, c)
		return r, a.n.w.raft.last(), err
	})
}

// Current is that of core/consensus.
func (a admins) Current(context.Context) error {
	_, err := question(a.n, func() {}, func(leader metadata.NodeID) (struct{}, uint64, error) {
		if r := &a.n.w.raft; r.leader != leader || !r.works() {
			return struct{}{}, 0, errUnknown
		}
		return struct{}{}, a.n.w.raft.last(), nil
	})
	return err
}
