// Package sim runs a cluster of the product's own code in one goroutine, against a model of network, disks, clocks and consensus. DESIGN.md
// has its promises.
package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
)

// Options make a World. The zero value of a number is its default.
type Options struct {
	Seed  uint64
	Chaos time.Duration // how long faults happen; 0: 12 s
	Trace bool          // keep what happened, as text
	Kind  Kind          // "": Common
}

// Kind is what a history has in it beside producers, readers and faults. What one kind gets does not change the histories of the others.
type Kind string

// The kinds of histories.
const (
	Common    Kind = "common"    // half of them with transactions and groups
	Deletions Kind = "deletions" // records are deleted (DeleteRecords)
	Moves     Kind = "moves"     // partitions are given other replicas, nodes are drained
	Cleaned   Kind = "cleaned"   // logs are compacted, and shortened by retention
	Topics    Kind = "topics"    // topics come, go, and get other configs
)

// Kinds are all of them.
var Kinds = []Kind{Common, Deletions, Moves, Topics, Cleaned}

// World is one simulated history.
type World struct {
	o     Options
	rng   *rand.Rand
	now   time.Duration
	queue events
	seq   uint64

	hash  uint64
	lines []string
	steps int

	mode       commitlog.Durability
	partitions int32  // of the topic that clients read
	parts      []part // of all topics
	segment    int64
	keep       commitlog.Config // what else logs are told; zero: they keep all
	keys       int64            // 0: records have none
	txns       bool             // transactions and groups, and their coordinators, are there

	turns   turns   // of clients that wait
	nodes   []*node // by number; the first is node 1
	net     network
	raft    raft
	clients []client
	check   *checker
	history []porcupine.Operation // of admins
	asked   int                   // by them
	calm    bool                  // no fault happens any more
	kinds   []kind
	weight  int           // the sum of theirs
	rate    time.Duration // between faults
	eager   float64       // how often a fault comes close to what is worth it
	sync    time.Duration // the longest sync of a disk
	late    float64       // messages that take long
	twice   float64       // messages that come once more
	behind  float64       // nodes that learn late of what was agreed
	failure error
}

// The shape of the cluster.
const (
	factor      = 3 // nodes, too, where no partition moves
	maxNodes    = 5
	minISR      = 2
	chaosLength = 12 * time.Second
	// patience bounds the time in which a cluster without faults is to be whole again.
	patience = 90 * time.Second
)

// New makes a world that has not begun.
func New(o Options) *World {
	if o.Chaos == 0 {
		o.Chaos = chaosLength
	}
	if o.Kind == "" {
		o.Kind = Common
	}
	w := &World{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x5ead))}
	// From a source of its own: the histories without it stay as they were.
	w.txns = rand.New(rand.NewPCG(o.Seed, 0x7a45)).IntN(2) == 0 && o.Kind == Common
	w.partitions = 1 + int32(w.rng.IntN(2))
	w.segment = []int64{2 << 10, 8 << 10, 1 << 20}[w.rng.IntN(3)]
	if w.chance(0.35) {
		w.mode = commitlog.Relaxed
	}
	w.sync = []time.Duration{2, 20, 100}[w.rng.IntN(3)] * time.Millisecond
	w.late = []float64{0.002, 0.01, 0.1}[w.rng.IntN(3)]
	w.twice = []float64{0, 0.02, 0.2}[w.rng.IntN(3)]
	w.behind = []float64{0, 0.05, 0.3}[w.rng.IntN(3)]
	w.turns.after = w.after
	w.topics()
	w.check = newChecker(w)
	for id := range w.size() {
		w.nodes = append(w.nodes, newNode(w, metadata.NodeID(id+1)))
	}
	w.startRacks()
	w.startPolicies()
	w.net = newNetwork(w)
	w.raft = newRaft(w)
	return w
}

// Run runs it to its end. The error tells what was wrong.
func (w *World) Run() error {
	w.note("seed %d mode %d partitions %d segment %d", w.o.Seed, w.mode, w.partitions, w.segment)
	w.found()
	w.startClients()
	w.startFaults()
	w.startDeletions()
	w.startMoves()
	w.startAdmins()
	w.until(w.o.Chaos, nil)
	w.heal()
	w.until(w.now+patience, w.settled)
	if w.failure == nil {
		w.check.end()
	}
	w.turns.end()
	for _, n := range w.nodes {
		n.turns.end()
	}
	return w.failure
}

// event is something that happens at a time.
type event struct {
	at  time.Duration
	seq uint64
	fn  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

// after has fn called in d.
func (w *World) after(d time.Duration, fn func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.seq, fn})
}

// until runs events up to a time, or until done, which is asked every half second.
func (w *World) until(end time.Duration, done func() bool) {
	look := w.now
	for w.failure == nil && len(w.queue) > 0 && w.queue[0].at <= end {
		if done != nil && w.queue[0].at >= look {
			if look = w.queue[0].at + 500*time.Millisecond; done() {
				return
			}
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.steps++
		e.fn()
		w.turns.run(nil)
	}
	if done != nil && w.failure == nil && !done() {
		w.fail("the cluster is not whole again %v after the last fault: %s", patience, w.state())
	}
}

// note writes into the trace.
func (w *World) note(format string, args ...any) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d ", w.hash, w.now)
	line := fmt.Sprintf(format, args...)
	h.Write([]byte(line))
	w.hash = h.Sum64()
	if w.o.Trace {
		w.lines = append(w.lines, fmt.Sprintf("%10.6f %s", w.now.Seconds(), line))
	}
}

// fail ends the run: something that was promised is not so.
func (w *World) fail(format string, args ...any) {
	if w.failure != nil {
		return
	}
	w.failure = fmt.Errorf(format, args...)
	w.note("VIOLATION %v", w.failure)
}

// Trace is what happened, and its hash.
func (w *World) Trace() (text string, hash uint64) { return strings.Join(w.lines, "\n"), w.hash }

// Steps is how many events there were.
func (w *World) Steps() int { return w.steps }

// Acked is how many batches were acknowledged.
func (w *World) Acked() int { return w.check.batches }

func (w *World) chance(p float64) bool { return w.rng.Float64() < p }

// between is a time from a to b.
func (w *World) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *World) node(id metadata.NodeID) *node { return w.nodes[id-1] }

// state tells how the nodes and partitions are.
func (w *World) state() string {
	var b strings.Builder
	image := w.raft.image()
	for _, k := range w.parts {
		p := image.Partition(k.topic, k.number)
		fmt.Fprintf(&b, "\n  %s-%d leader %d epoch %d/%d isr %v elr %v", p.Topic, p.Number, p.Leader, p.LeaderEpoch, p.PartitionEpoch, p.ISR, p.ELR)
	}
	for _, n := range w.nodes {
		fmt.Fprintf(&b, "\n  node %d up %v serving %v registered %d fenced %v applied %d", n.id, n.up, n.serving, n.epoch, image.Nodes[n.id] == nil || image.Nodes[n.id].Fenced, n.applied)
		if !n.serving {
			continue
		}
		for _, k := range w.parts {
			if p, err := n.set.Partition(k.topic, k.number); err == nil {
				leading, epoch := p.Leader()
				fmt.Fprintf(&b, "; %v: leads %v in %d, end %d durable %d watermark %d stable %d", k, leading, epoch, p.Log().EndOffset(), p.Log().DurableOffset(), p.HighWatermark(), p.LastStable())
			} else {
				fmt.Fprintf(&b, "; %v: %v", k, err)
			}
		}
	}
	for _, c := range w.clients {
		fmt.Fprintf(&b, "\n  %s", c.say())
	}
	return b.String()
}

// settled says that all is as it should be when nothing is wrong.
func (w *World) settled() bool {
	image := w.raft.image()
	for _, c := range w.clients {
		if !c.done() {
			return false
		}
	}
	for _, k := range w.parts {
		p := image.Partition(k.topic, k.number)
		if p.Reassigning() || len(p.ISR) != len(p.Replicas) || p.Leader < 0 || w.stuck(p) {
			return false
		}
		end := int64(-1)
		for _, x := range w.nodes {
			if !x.serving || x.applied != w.raft.last() {
				return false
			}
			q, err := x.set.Partition(k.topic, k.number)
			if !slices.Contains(p.Replicas, x.id) && errors.Is(err, replica.ErrElsewhere) {
				continue
			}
			if err != nil {
				return false
			}
			if end < 0 {
				end = q.Log().EndOffset()
			}
			if q.Log().EndOffset() != end || q.Log().DurableOffset() != end || q.HighWatermark() != end || q.LastStable() != end {
				return false
			}
		}
	}
	for _, c := range w.clients {
		if t, ok := c.(*transactor); ok {
			if _, err := w.committedOffset(t.name); err != nil {
				return false
			}
		}
	}
	return true
}
