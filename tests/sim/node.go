package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/internal/vfs"
)

// node is a machine with a process on it. What it does it does in steps; a process that has died leaves its steps undone.
type node struct {
	w    *World
	id   metadata.NodeID
	disk *vfs.Memory
	boot int // of the machine
	rack string
	tidy bool // the last process ended in good order

	// Of the process.
	gen     int // rises with every process, and every end of one
	up      bool
	serving bool // registered, and following the agreed state
	paused  time.Duration
	skew    time.Duration // of the clock
	slow    time.Duration // what a sync takes longer

	fault   *vfs.Fault
	armed   bool // it dies at an operation on the disk
	disarm  func()
	left    int  // operations until then
	power   bool // and so does the machine
	dying   bool
	syncer  *commitlog.Syncer
	syncing bool
	set     *replica.Set
	steps   *replica.Steps
	active  *controller.Active
	links   map[metadata.NodeID]*link
	ends    []int64 // of its logs, after the last step
	coordinators
	asking  bool // for ISR changes
	joining bool // a registration is under way
	leaving bool
	epoch   int64
	leased  time.Duration // until when its registration holds, as far as it knows
	applied uint64
	term    uint64 // in which it believes to lead the metadata quorum
}

// link is a follower's connection to a leader.
type link struct {
	waiting bool
	id      int
}

// Timing of the model.
const (
	lag           = time.Second // replica.lag.time.max.ms
	isrTick       = lag / 2
	wishTick      = 10 * time.Millisecond
	checkpoint    = 5 * time.Second
	followTimeout = 500 * time.Millisecond
	root          = "/data"
)

var epochOfTime = time.Unix(1_700_000_000, 0)

func newNode(w *World, id metadata.NodeID) *node {
	n := &node{w: w, id: id, disk: vfs.NewCrash(), boot: 1}
	for _, err := range []error{n.disk.MkdirAll(root, 0o755), n.disk.SyncDir("/")} {
		if err != nil {
			w.fail("new disk: %v", err)
		}
	}
	return n
}

// awake says that a process runs and is not held up.
func (n *node) awake() bool { return n.up && !n.dying && n.w.now >= n.paused }

// jump moves the clock.
func (n *node) jump(by time.Duration) {
	n.skew += by
	n.w.check.jumped(n, by)
}

func (n *node) clock() time.Time { return epochOfTime.Add(n.w.now + n.skew) }

func (n *node) image() *metadata.Image { return n.w.raft.images[n.applied] }

// now does a step of the process, as soon as it is not held up.
func (n *node) now(fn func()) {
	if n.dying { // somebody else has looked at its disk
		n.crash(n.power)
	}
	if !n.up {
		return
	}
	if n.w.now < n.paused {
		n.later(n.paused-n.w.now, fn)
		return
	}
	fn()
	n.turns.run(func() bool { return n.dying })
	if n.dying {
		n.crash(n.power)
		return
	}
	if n.serving {
		n.w.check.step(n)
	}
	if n.up && n.syncer != nil && n.syncer.Queued() && !n.syncing {
		n.syncing = true
		n.later(n.w.between(100*time.Microsecond, n.w.sync)+n.slow, func() {
			n.syncing = false
			n.syncer.Step()
		})
	}
}

// later has this process do a step in d, if it lives.
func (n *node) later(d time.Duration, fn func()) {
	gen := n.gen
	n.w.after(d, func() {
		if n.gen == gen {
			n.now(fn)
		}
	})
}

// every has this process do a step again and again, for as long as it lives.
func (n *node) every(d time.Duration, fn func()) {
	n.later(d, func() {
		n.every(d, fn)
		fn()
	})
}

// arm lets the process, or the machine, die at an operation on the disk.
func (n *node) arm(operations int, power bool) {
	if n.armed || !n.up {
		return
	}
	n.armed, n.left, n.power = true, operations, power
	n.disarm = n.fault.Inject(vfs.Rule{After: operations, Err: errDead, Keep: n.w.rng.IntN(200)})
}

var errDead = errors.New("the process is dead")

// crash ends the process; power: the machine with it, and what was not synced is lost.
func (n *node) crash(power bool) {
	if !n.up {
		return
	}
	n.w.note("node %d dies, power cut %v, in the midst of a step %v", n.id, power, n.dying)
	n.end()
	if power {
		n.boot++
		torn := n.w.rng
		if n.w.chance(0.3) {
			torn = nil
		}
		n.disk = n.disk.Crashed(torn)
		n.w.check.powerCut(n)
	}
	down := n.w.between(time.Millisecond, 200*time.Millisecond)
	if n.w.chance(0.6) {
		down *= 20
	}
	n.w.after(down, n.start)
}

func (n *node) end() {
	n.gen++
	n.up, n.serving, n.armed, n.dying, n.syncing, n.asking, n.joining, n.leaving = false, false, false, false, false, false, false, false
	n.paused, n.term, n.epoch, n.leased = 0, 0, 0, 0
	n.set, n.steps, n.active, n.syncer = nil, nil, nil, nil
	if n.w.o.Kind == Cleaned && n.fault != nil {
		n.fault.Inject(vfs.Rule{Err: errDead}) // what is undone of a compaction when its process dies stays undone
	}
	n.turns.end()
	n.coordinators = coordinators{}
}

// start begins a process.
func (n *node) start() {
	if n.up {
		return
	}
	n.gen++
	n.up = true
	n.links, n.ends = map[metadata.NodeID]*link{}, make([]int64, len(n.w.parts))
	n.fault = vfs.NewFault(n.disk)
	n.fault.Hook(func(vfs.Op, string) {
		if n.armed {
			if n.left--; n.left < 0 {
				n.dying = true
			}
		}
	})
	n.w.note("node %d starts, boot %d, tidy %v", n.id, n.boot, n.tidy)
	n.join()
}

func (n *node) bootID() string { return fmt.Sprintf("boot-%d-%d", n.id, n.boot) }

// join waits for the quorum, and opens the logs then.
func (n *node) join() {
	r := &n.w.raft
	if !r.works() || !n.w.net.both(n.id, r.leader) {
		n.later(100*time.Millisecond, n.join)
		return
	}
	n.applied = r.last()
	n.active = controller.NewActive(controller.ActiveOptions{
		Group: quorum{n}, Node: n.id, Nodes: noCandidates, Now: n.clock, Logger: n.logger(),
		NewClusterID: func() string { return "simulated" }, Rebalance: controller.Rebalance{Every: 3 * time.Second},
	})
	n.every(controller.StepEvery, func() { n.active.Step(context.Background()) })
	if err := n.open(); err != nil {
		if !n.dying {
			n.w.fail("node %d cannot open its logs: %v", n.id, err)
		}
		return
	}
	before := n.image().Nodes[n.id]
	lost := before != nil && !n.tidy && n.w.mode == commitlog.Relaxed && before.BootID != n.bootID()
	n.tidy = false
	n.register(lost)
}

// open recovers the logs.
func (n *node) open() error {
	n.syncer = commitlog.NewSteppedSyncer(func(err error) { n.failed(err) })
	n.set = replica.New(replica.Options{
		NodeID: n.id, FS: n.fault, Durability: n.w.mode, Now: n.clock, BootID: n.bootID(), Parallel: 1, Watermarks: root + "/high-watermarks",
		Dirs:     []*replica.Dir{{Path: root + "/log", Quarantine: root + "/quarantine", Syncer: n.syncer, Clean: n.tidy}},
		Settings: func(*metadata.Image, string) controller.TopicSettings { return n.w.settings() },
		Logger:   n.logger(), AllFailed: n.failed,
		Following: replica.Following{
			Dial: noDial, ISR: noAlterer{}, Lag: lag, Wait: 20 * time.Millisecond,
			NodeEpoch: func() int64 {
				if x := n.image().Nodes[n.id]; x != nil {
					return x.Epoch
				}
				return -1
			},
		},
	})
	n.steps = n.set.Steps(n.call)
	if err := n.set.Start(n.image()); err != nil {
		return err
	}
	for name, err := range n.set.Offline() {
		return fmt.Errorf("%s is offline: %w", name, err)
	}
	return nil
}

// failed is told that the disk does not keep what it is told to.
func (n *node) failed(err error) {
	if !n.dying {
		n.w.fail("node %d: its log directory has failed: %v", n.id, err)
	}
}

func (w *World) settings() controller.TopicSettings {
	c := w.keep
	c.SegmentBytes, c.IndexBytes = w.segment, 512
	return controller.TopicSettings{MinInSync: minISR, Log: c}
}

// register announces the process.
func (n *node) register(tailLost bool) {
	n.joining = true
	asked := n.w.now
	c := &metadata.RegisterNode{ID: n.id, Host: "localhost", Port: 9092, Rack: n.rack, BootID: n.bootID(), TailLost: tailLost, MinISR: 1}
	n.w.raft.proposeFrom(n, c, func(r metadata.Result, err error) {
		n.joining = false
		switch {
		case err != nil && !n.serving:
			n.register(tailLost)
			return
		case err != nil:
			return // the next heartbeat tells so again
		}
		n.epoch = r.Epoch
		n.leased = max(n.leased, asked+controller.SessionTimeout)
		if !n.serving {
			n.serve()
		}
	})
}

// serve begins to follow the agreed state and to answer.
func (n *node) serve() {
	n.serving = true
	n.w.moment(0.5, 200*time.Millisecond)
	n.set.Update(n.image())
	n.coordinate()
	n.clean()
	n.w.check.disk(n, noCut)
	n.every(controller.HeartbeatEvery, n.heartbeat)
	n.every(checkpoint, n.steps.Checkpoint)
	n.every(isrTick, func() { n.wishes(true) })
	n.every(wishTick, func() {
		if k := n.w.o.Kind; k == Moves || k == Topics {
			n.steps.Removals()
		}
		n.wishes(false)
		for _, leader := range n.steps.Leaders() {
			if n.links[leader] == nil {
				n.links[leader] = &link{}
				n.follow(leader)
			}
		}
	})
	n.every(100*time.Millisecond, func() { n.w.raft.learn(n) })
}

// apply takes over the agreed log up to index.
func (n *node) apply(index uint64) {
	for n.applied < index && !n.dying {
		n.applied++
		if n.serving {
			n.set.Update(n.image())
		}
	}
}

func (n *node) heartbeat() {
	leader := n.w.raft.leader
	if leader < 0 || n.leaving || n.joining {
		return
	}
	epoch, gen, sent := n.epoch, n.gen, n.w.now
	n.w.net.send(n.id, leader, true, func(bool) {
		x := n.w.node(leader)
		if x.active == nil {
			return
		}
		err := x.active.Heartbeat(n.id, epoch)
		if err == nil {
			n.w.check.heard(x, n.id)
		}
		fenced := errors.Is(err, controller.ErrFenced)
		if !fenced && (err != nil || !n.w.txns) {
			return
		}
		n.w.net.send(leader, n.id, false, func(bool) {
			if !fenced && n.gen == gen && n.epoch == epoch {
				n.leased = max(n.leased, sent+controller.SessionTimeout)
			}
			if fenced && n.gen == gen && n.epoch == epoch && !n.joining && !n.leaving {
				n.register(false) // it was not heard for a while
			}
		})
	})
}

// leave ends the process in good order.
func (n *node) leave() {
	if !n.serving || n.leaving {
		return
	}
	n.leaving = true
	n.w.note("node %d leaves", n.id)
	if n.w.raft.leader == n.id {
		n.w.raft.handOver()
	}
	n.w.raft.proposeFrom(n, &metadata.FenceNode{ID: n.id, Epoch: n.epoch}, func(metadata.Result, error) {
		n.retire()
		err := n.set.Close()
		if n.dying {
			return
		}
		n.tidy = err == nil
		n.w.note("node %d has left: %v", n.id, err)
		n.end()
		n.w.after(n.w.between(100*time.Millisecond, 2*time.Second), n.start)
	})
}

// wishes has ISR changes agreed on, one question at a time.
func (n *node) wishes(lagging bool) {
	if n.asking {
		return
	}
	changes, answered := n.steps.Wishes(lagging)
	if len(changes) == 0 {
		return
	}
	n.asking = true
	n.w.raft.proposeFrom(n, &metadata.AlterPartition{Changes: changes}, func(r metadata.Result, err error) {
		n.asking = false
		if err == nil {
			err = r.Err
		}
		errs := r.Errs
		if err != nil || len(errs) != len(changes) {
			errs = make([]error, len(changes))
			for i := range errs {
				errs[i] = err
			}
		}
		answered(errs)
	})
}

// follow asks a leader for what comes next.
func (n *node) follow(leader metadata.NodeID) {
	l := n.links[leader]
	if l.waiting {
		return
	}
	req := n.steps.Fetch(leader)
	if req == nil {
		n.later(n.w.between(2*time.Millisecond, 12*time.Millisecond), func() { n.follow(leader) })
		return
	}
	l.waiting = true
	l.id++
	id, gen := l.id, n.gen
	n.later(followTimeout, func() {
		if l.waiting && l.id == id {
			l.waiting = false
			n.steps.Lost(leader)
			n.follow(leader)
		}
	})
	n.w.net.send(n.id, leader, true, func(again bool) {
		x := n.w.node(leader)
		if !x.serving {
			return
		}
		resp, some := x.fetch(req)
		if again {
			return
		}
		n.w.net.send(leader, n.id, false, func(bool) {
			if n.gen != gen || !l.waiting || l.id != id {
				return
			}
			l.waiting = false
			if err := n.steps.Fetched(leader, resp); err != nil {
				n.steps.Lost(leader)
			}
			wait := n.w.between(4*time.Millisecond, 25*time.Millisecond)
			if some {
				wait = n.w.between(0, 2*time.Millisecond)
			}
			n.later(wait, func() { n.follow(leader) })
		})
	})
}

// fetch answers a follower; some says that there are records in it.
func (n *node) fetch(req *kmsg.FetchRequest) (resp *kmsg.FetchResponse, some bool) {
	resp = kmsg.NewPtrFetchResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.TopicID = t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition = p.Partition
			var name string
			if known := n.image().TopicIDs[t.TopicID]; known != nil {
				name = known.Name
			}
			q, err := n.find(part{name, p.Partition})
			if err == nil {
				var r partition.ReadResult
				r, err = q.Read(partition.ReadRequest{
					Offset: p.FetchOffset, Epoch: p.CurrentLeaderEpoch, LastEpoch: p.LastFetchedEpoch, MaxBytes: int(p.PartitionMaxBytes), MinOne: true,
					Replica: metadata.NodeID(req.ReplicaState.ID), NodeEpoch: req.ReplicaState.Epoch,
				})
				rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = r.HighWatermark, r.LastStable, r.LogStart
				if r.Diverging != nil {
					rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = r.Diverging.Epoch, r.Diverging.EndOffset
				}
				if err == nil {
					rp.RecordBatches, err = bytesOf(r.Slice)
					some = some || len(rp.RecordBatches) > 0
				}
			}
			rp.ErrorCode = codeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, some
}

func (n *node) find(k part) (*partition.Partition, error) {
	if !n.serving {
		return nil, replica.ErrUnknown
	}
	return n.set.Partition(k.topic, k.number)
}

func bytesOf(s commitlog.Slice) ([]byte, error) {
	if s.Len == 0 {
		return nil, nil
	}
	defer s.Release()
	b := make([]byte, s.Len)
	_, err := s.File.ReadAt(b, s.Pos)
	return b, err
}

// codeOf is Kafka's code for an error, as core/server has it.
func codeOf(err error) int16 {
	if err == nil {
		return 0
	}
	for _, m := range []struct {
		err  error
		code *kerr.Error
	}{
		{partition.ErrNotLeader, kerr.NotLeaderForPartition},
		{partition.ErrFencedEpoch, kerr.FencedLeaderEpoch},
		{partition.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
		{commitlog.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
		{replica.ErrUnknown, kerr.UnknownTopicOrPartition},
		{replica.ErrElsewhere, kerr.NotLeaderForPartition},
	} {
		if errors.Is(err, m.err) {
			return m.code.Code
		}
	}
	return kerr.KafkaStorageError.Code
}

// call asks another node where its log begins, at once.
func (n *node) call(_ context.Context, id metadata.NodeID, req kmsg.Request) (kmsg.Response, error) {
	x := n.w.node(id)
	if !n.w.net.both(n.id, id) || !x.awake() || !x.serving {
		return nil, errUnknown
	}
	topic := req.(*kmsg.ListOffsetsRequest).Topics[0]
	ask := topic.Partitions[0]
	resp := kmsg.NewPtrListOffsetsResponse()
	rt := kmsg.NewListOffsetsResponseTopic()
	rp := kmsg.NewListOffsetsResponseTopicPartition()
	p, err := x.find(part{topic.Topic, ask.Partition})
	if err == nil {
		rp.Offset, _, _, err = p.ListOffset(ask.Timestamp, ask.CurrentLeaderEpoch, partition.ToEnd)
	}
	rp.ErrorCode = codeOf(err)
	rt.Partitions = append(rt.Partitions, rp)
	resp.Topics = append(resp.Topics, rt)
	return resp, nil
}

type noAlterer struct{}

func (noAlterer) AlterPartition(context.Context, []metadata.ISRChange) []error { return nil }

func noDial(context.Context, metadata.NodeID) (net.Conn, error) { return nil, errUnknown }

// logger writes what the node says into the trace, where one is kept.
func (n *node) logger() *slog.Logger {
	if !n.w.o.Trace {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(said{n}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

type said struct{ n *node }

func (s said) Write(b []byte) (int, error) {
	w := s.n.w
	w.lines = append(w.lines, fmt.Sprintf("%10.6f   node %d says %s", w.now.Seconds(), s.n.id, b[:len(b)-1]))
	return len(b), nil
}
