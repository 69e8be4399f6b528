// Package consensus wires hashicorp/raft to the metadata: commands go in, agreed
// Images come out. It owns the files in data/raft. One group for the whole cluster; the partitions' records never pass
// through it.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// ErrNotLeader is the answer to Propose on a node that does not lead the metadata quorum.
var ErrNotLeader = errors.New("not the active controller")

// ErrDiskFull is the answer to Propose while the data directory's disk has next to nothing free.
var ErrDiskFull = errors.New("disk full")

// ErrClosed is the answer once Close has begun.
var ErrClosed = errors.New("consensus closed")

// Member is a server of the metadata quorum, by its stable id, never by its address.
type Member struct {
	ID      metadata.NodeID
	Address string
}

// Options open a Quorum.
type Options struct {
	FS     vfs.FS
	Dir    string // data/raft
	NodeID metadata.NodeID
	// Peers connect the members: Found then begins a group, or waits to be admitted to one.
	Peers *Peers
	// Transport connects the members, in tests. Nil, and no Peers: this node is alone, with timeouts of 25 ms.
	Transport raft.Transport
	// Bootstrap is the first set of voters, used only on an empty Dir. Nil and no Transport: this
	// node; nil with a Transport: wait to be added.
	Bootstrap []Member
	Logger    *slog.Logger // nil: silent
	// Forgot says that what is on the disk is only what a new one was told: the node does not vote before it has all that was agreed on. Once the next
	// start will not say so any more, Told is to be called.
	Forgot bool
	// Opened, if set, is given the last index that is on the disk, before others may tell this node more. An error ends Open.
	Opened func(last uint64) error
	// Failed is called at most once, when this node must not go on: its raft files
	// cannot be written, or it does not understand a command. Must not block.
	Failed func(error)
}

// Quorum is this node's membership in the metadata group. All methods may be called concurrently.
type Quorum struct {
	raft    *raft.Raft
	pace    *pacer
	store   *store
	machine *machine
	closing chan struct{}
	free    func() (uint64, error) // bytes that the disk has left
	node    metadata.NodeID
	peers   *Peers // nil: alone
	recall  *recall
	keeps   atomic.Bool // see Told

	// word is to whom this node has given its word that it may found the cluster.
	word struct {
		sync.Mutex
		to    metadata.NodeID
		until time.Time
	}
}

// Commands are refused while the disk has less than reserve left, deletions while it has less than
// a quarter: raft itself must never find it full, since it cannot go on without its votes (invariant 11).
const reserve = 4 << 20

// aloneTimeout is the unit of raft's timers without peers: nobody can be late,
// so it only delays the start.
const aloneTimeout = 25 * time.Millisecond

// Open recovers the raft log. The Image is current only once Ready has returned.
// Errors: ErrCorrupt, ErrVersion, or the file system's.
func Open(o Options) (*Quorum, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := o.FS.SyncDir(path.Dir(o.Dir)); err != nil {
		return nil, err
	}
	st, err := openStore(o.FS, o.Dir, o.Failed)
	if err != nil {
		return nil, err
	}
	q, err := open(o, st)
	if err != nil {
		_ = st.close() // the first error tells more
		return nil, err
	}
	return q, nil
}

func open(o Options, st *store) (*Quorum, error) {
	id := strconv.Itoa(int(o.NodeID))
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(id)
	conf.Logger = &bridge{l: o.Logger}
	conf.SnapshotThreshold, conf.TrailingLogs = 1024, 512
	conf.SnapshotInterval = time.Minute
	conf.NoLegacyTelemetry = true

	transport, members := o.Transport, o.Bootstrap
	memory := &recall{}
	var self atomic.Pointer[raft.Raft]
	pace := newPacer()
	st.stored = pace.wake
	if o.Peers != nil {
		conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = peerTimeout, peerTimeout, leaseTimeout
		conf.CommitTimeout = commitTimeout
		transport = newGate(o.Peers, pace, memory, func() uint64 {
			if r := self.Load(); r != nil {
				return r.AppliedIndex()
			}
			return 0
		})
	}
	if transport == nil {
		conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = aloneTimeout, aloneTimeout, aloneTimeout
		conf.CommitTimeout = aloneTimeout
		address, inmem := raft.NewInmemTransport(raft.ServerAddress("node-" + id))
		transport = inmem
		if members == nil {
			members = []Member{{ID: o.NodeID, Address: string(address)}}
		}
	}
	snaps := &snapshots{fs: o.FS, dir: o.Dir}
	if err := snaps.sweep(); err != nil {
		return nil, err
	}
	// Looked at before raft does: raft would pass over a snapshot that it cannot read and take an older one.
	saved, err := snaps.List()
	if err != nil {
		return nil, err
	}
	last, err := st.LastIndex()
	if err != nil {
		return nil, err
	}
	if len(saved) > 0 && last > 0 && st.parted(saved[0]) {
		// Killed between a snapshot from the leader and the removal of the entries that it stands for: the next one would be refused as a gap, or be put behind what was never agreed on.
		first, _ := st.FirstIndex() // fails as little as LastIndex
		if err := st.DeleteRange(first, last); err != nil {
			return nil, err
		}
		last = 0
	}
	if o.Opened != nil {
		for _, s := range saved {
			last = max(last, s.Index)
		}
		if err := o.Opened(last); err != nil {
			return nil, err
		}
	}
	exists, err := raft.HasExistingState(st, st, snaps)
	if err != nil {
		return nil, err
	}
	memory.all.Store(exists && !o.Forgot)
	if !exists && members != nil {
		if err := raft.BootstrapCluster(conf, st, st, snaps, transport, configuration(members)); err != nil {
			return nil, fmt.Errorf("bootstrap the metadata quorum: %w", err)
		}
	}
	m := &machine{halt: o.Failed, moved: make(chan struct{})}
	m.image.Store(metadata.NewImage())
	st.running.Store(true)
	r, err := start(func() (*raft.Raft, error) { return raft.NewRaft(conf, m, st, st, snaps, transport) })
	if err != nil {
		return nil, err
	}
	if m.failed != nil {
		_ = r.Shutdown().Error() // the first error tells more
		return nil, m.failed
	}
	self.Store(r)
	q := &Quorum{raft: r, pace: pace, store: st, machine: m, closing: make(chan struct{}), node: o.NodeID, peers: o.Peers, recall: memory, free: func() (uint64, error) {
		free, _, err := o.FS.Usage(o.Dir)
		return free, err
	}}
	q.keeps.Store(!o.Forgot)
	if o.Peers != nil {
		o.Peers.Handle(callPropose, q.answerPropose)
		o.Peers.Handle(callIndex, q.answerIndex)
		o.Peers.Handle(callStatus, q.answerStatus)
		o.Peers.Handle(callGrant, q.answerGrant)
		o.Peers.Handle(callDescribe, q.answerDescribe)
		o.Peers.Handle(callProgress, q.answerProgress)
		o.Peers.Handle(callStanding, q.answerStanding)
	}
	return q, nil
}

// start calls fn in a goroutine that a failing store may end; see store.Set.
func start(fn func() (*raft.Raft, error)) (*raft.Raft, error) {
	var r *raft.Raft
	err := errors.New("raft's term and vote cannot be written")
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err = fn()
	}()
	<-done
	return r, err
}

func configuration(members []Member) (c raft.Configuration) {
	for _, m := range members {
		c.Servers = append(c.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(strconv.Itoa(int(m.ID))), Address: raft.ServerAddress(m.Address),
		})
	}
	return c
}

// Told says that this node's next start will not be told Forgot.
func (q *Quorum) Told() { q.keeps.Store(true) }

// Ready waits until this node leads and has applied everything agreed before.
func (q *Quorum) Ready(ctx context.Context) error {
	for {
		if q.raft.State() == raft.Leader {
			err := wait(ctx, q.closing, q.raft.Barrier(0))
			if !errors.Is(err, ErrNotLeader) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.closing:
			return ErrClosed
		case <-q.raft.LeaderCh():
		case <-time.After(aloneTimeout / 5): // LeaderCh tells only one listener
		}
	}
}

// Propose returns once the command is agreed and applied here: Image shows it. With peers, any node
// may propose: the leader is asked.
// Result.Err and Errs say what it came to. When ctx ends before, nothing is proposed; when it ends meanwhile the command may still be applied.
func (q *Quorum) Propose(ctx context.Context, c metadata.Command) (metadata.Result, error) {
	if err := ctx.Err(); err != nil {
		return metadata.Result{}, err
	}
	need := uint64(reserve)
	switch c.(type) {
	case *metadata.DeleteTopics:
		need /= 4
	case *metadata.RegisterNode, *metadata.FenceNode, *metadata.UnregisterNode, *metadata.AlterPartition, *metadata.ChangePartition, *metadata.SetOffline:
		// A node of several that starts, or whose lease had run out, must not end or stay away for a full disk (invariant 11); nor must a dead one go on leading,
		// or one that hangs stay in ISRs, because the data directory of who proposes it is full: its logs may lie elsewhere, and the journal is everybody's.
		// That has room for it; where it is used up, too, it waits until there is some.
		if q.peers != nil {
			need = 0
		}
	}
	if free, err := q.free(); err == nil && free < need {
		return metadata.Result{}, fmt.Errorf("%w: %d bytes free, metadata changes need %d", ErrDiskFull, free, need)
	}
	if q.peers != nil {
		return q.proposeAnywhere(ctx, c)
	}
	_, r, err := q.apply(ctx, c)
	return r, err
}

// apply is the leader's part of Propose. What a node of the cluster would not understand does not get into the log: it would stop there.
func (q *Quorum) apply(ctx context.Context, c metadata.Command) (uint64, metadata.Result, error) {
	if err := ctx.Err(); err != nil {
		return 0, metadata.Result{}, err // a follower's, which has waited for too long
	}
	if err := q.Image().Admits(c); err != nil {
		return 0, metadata.Result{}, err
	}
	f := q.raft.Apply(metadata.Encode(c), 0)
	if err := wait(ctx, q.closing, f); err != nil {
		return 0, metadata.Result{}, err
	}
	o := f.Response().(outcome)
	return f.Index(), o.result, o.err
}

func wait(ctx context.Context, closing <-chan struct{}, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends with the future, at the latest when raft is shut down
	select {
	case err := <-done:
		switch {
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return fmt.Errorf("%w: %w", ErrNotLeader, err)
		case errors.Is(err, raft.ErrRaftShutdown):
			return ErrClosed
		}
		return err
	case <-closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Image is the newest state that this node has applied.
func (q *Quorum) Image() *metadata.Image { return q.machine.image.Load() }

// Follow calls fn with the current Image at once and with every later one, in order, before
// Image shows it. fn must not block: it holds up the state machine.
func (q *Quorum) Follow(fn func(*metadata.Image)) {
	q.machine.mu.Lock()
	defer q.machine.mu.Unlock()
	q.machine.followers = append(q.machine.followers, fn)
	fn(q.machine.image.Load())
}

// Leads says whether this node is the active controller.
func (q *Quorum) Leads() bool { return q.raft.State() == raft.Leader }

// Snapshot writes the Image now, so that the next start reads it instead of the log.
func (q *Quorum) Snapshot() error {
	err := q.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// Close leaves the group's work and closes the files. It is called once.
func (q *Quorum) Close() error {
	close(q.closing)
	q.pace.end()
	err := q.raft.Shutdown().Error()
	if cerr := q.store.close(); err == nil {
		err = cerr
	}
	return err
}
