package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
)

// Timers of a group with peers: a dead leader is missed after 0.5 to 1 s.
const (
	peerTimeout   = 500 * time.Millisecond
	leaseTimeout  = 400 * time.Millisecond
	commitTimeout = 20 * time.Millisecond // how soon followers learn what is agreed, at the latest
	retryPause    = 20 * time.Millisecond // between two tries to reach a leader
	configTimeout = 2 * time.Second       // of a change of members
)

func nodeOf(id raft.ServerID) (metadata.NodeID, error) {
	n, err := strconv.ParseInt(string(id), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("raft server id %q is no node id", id)
	}
	return metadata.NodeID(n), nil
}

// Leader is the active controller as far as this node knows.
func (q *Quorum) Leader() (metadata.NodeID, bool) {
	_, id := q.raft.LeaderWithID()
	if id == "" {
		return 0, false
	}
	n, err := nodeOf(id)
	return n, err == nil
}

// Term is the raft term that this node leads in, 0 when it does not lead.
func (q *Quorum) Term() uint64 {
	before := q.raft.CurrentTerm()
	if q.raft.State() != raft.Leader || q.raft.CurrentTerm() != before {
		return 0
	}
	return before
}

// Barrier returns once this leader has applied everything that was agreed before it led: only then it knows.
func (q *Quorum) Barrier(ctx context.Context) error {
	return wait(ctx, q.closing, q.raft.Barrier(0))
}

// HasState says whether this node belongs to a group: it has founded one, or was added to one.
func (q *Quorum) HasState() bool { return q.raft.LastIndex() > 0 }

// WaitIndex returns once the Image has the command at index.
func (q *Quorum) WaitIndex(ctx context.Context, index uint64) error {
	for {
		q.machine.mu.Lock()
		have, moved := q.machine.image.Load().Index, q.machine.moved
		q.machine.mu.Unlock()
		if have >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-q.closing:
			return ErrClosed
		}
	}
}

// proposal is a forwarded command; decision what it came to.
type proposal struct {
	Command []byte `json:"c"`
}

type decision struct {
	Index uint64       `json:"i"`
	Err   *wireError   `json:"e,omitempty"`
	Errs  []*wireError `json:"es,omitempty"`
	First int64        `json:"f,omitempty"`
	Epoch int64        `json:"n,omitempty"`
}

const callPropose = "propose"

// answerPropose is the leader's side of a forwarded command.
func (q *Quorum) answerPropose(ctx context.Context, b []byte) ([]byte, error) {
	var p proposal
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, err
	}
	c, err := metadata.Decode(p.Command)
	if err != nil {
		return nil, err // what this node cannot understand must not get into the log
	}
	index, r, err := q.apply(ctx, c)
	if err != nil {
		return nil, err
	}
	d := decision{Index: index, Err: encodeError(r.Err), First: r.First, Epoch: r.Epoch}
	for _, e := range r.Errs {
		d.Errs = append(d.Errs, encodeError(e))
	}
	return json.Marshal(d)
}

// proposeAnywhere finds the leader, and tries again while there is none: an election takes about a second. A
// command whose leader died meanwhile is proposed again, so it may be applied twice; every command bears that.
func (q *Quorum) proposeAnywhere(ctx context.Context, command metadata.Command) (metadata.Result, error) {
	for {
		index, r, err := q.proposeOnce(ctx, command)
		if err == nil {
			return r, q.WaitIndex(ctx, index)
		}
		var broken net.Error
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnreached) && !errors.Is(err, io.EOF) && !errors.As(err, &broken) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-q.closing:
			return r, ErrClosed
		case <-time.After(retryPause):
		}
	}
}

func (q *Quorum) proposeOnce(ctx context.Context, command metadata.Command) (uint64, metadata.Result, error) {
	if q.Leads() {
		return q.apply(ctx, command)
	}
	addr, id := q.raft.LeaderWithID()
	if id == "" {
		return 0, metadata.Result{}, fmt.Errorf("%w: there is none now", ErrNotLeader)
	}
	if a, err := (addresses{q.peers}).ServerAddr(id); err == nil {
		addr = a
	}
	// A leader that hangs is not waited for longer than an election takes.
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var d decision
	if err := q.peers.Call(ctx, string(addr), callPropose, proposal{Command: metadata.Encode(command)}, &d); err != nil {
		return 0, metadata.Result{}, err
	}
	r := metadata.Result{Err: d.Err.decode(), First: d.First, Epoch: d.Epoch}
	for _, e := range d.Errs {
		r.Errs = append(r.Errs, e.decode())
	}
	return d.Index, r, nil
}

// recall says whether a node remembers what it has voted and agreed to. One whose disk was emptied does not, and not either while a leader tells it anew: it does once it has all
// that was agreed on. The zero value does not.
type recall struct {
	all  atomic.Bool
	told atomic.Uint64 // the highest index that it has heard to be agreed on
}

// votes says whether it does, with what is agreed on applied up to an index.
func (r *recall) votes(applied uint64) bool {
	if told := r.told.Load(); told > 0 && applied >= told {
		r.all.Store(true)
	}
	return r.all.Load()
}

var errForgot = errors.New("this node does not remember what was agreed on: it does not vote")

// gate keeps a node that does not remember from voting, and from asking for votes.
type gate struct {
	*raft.NetworkTransport
	pass  chan raft.RPC
	pace  *pacer
	votes func() bool
}

func newGate(p *Peers, pace *pacer, r *recall, applied func() uint64) *gate {
	g := &gate{NetworkTransport: p.raft, pass: make(chan raft.RPC), pace: pace, votes: func() bool { return r.votes(applied()) }}
	p.wg.Go(func() {
		for {
			select {
			case <-p.ctx.Done():
				return
			case rpc := <-p.raft.Consumer():
				switch c := rpc.Command.(type) {
				case *raft.AppendEntriesRequest:
					r.told.Store(max(r.told.Load(), c.LeaderCommitIndex))
				case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
					if !g.votes() {
						rpc.Respond(nil, errForgot)
						continue
					}
				}
				select {
				case g.pass <- rpc:
				case <-p.ctx.Done():
					return
				}
			}
		}
	})
	return g
}

func (g *gate) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !g.votes() {
		return errForgot
	}
	return g.NetworkTransport.RequestVote(id, target, args, resp)
}

func (g *gate) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !g.votes() {
		return errForgot
	}
	return g.NetworkTransport.RequestPreVote(id, target, args, resp)
}

func (g *gate) Consumer() <-chan raft.RPC { return g.pass }

const callIndex = "index"

type position struct {
	Index uint64 `json:"i"`
}

// answerIndex is the leader's side of Current.
func (q *Quorum) answerIndex(ctx context.Context, _ []byte) ([]byte, error) {
	if !q.Leads() {
		return nil, ErrNotLeader
	}
	if err := q.Barrier(ctx); err != nil {
		return nil, err
	}
	return json.Marshal(position{q.Image().Index})
}

// Current returns once the Image here has all that was agreed on before the call: a restarted
// node's own log does not tell how much of it that is.
func (q *Quorum) Current(ctx context.Context) error {
	if q.peers == nil {
		return nil // nobody else agrees to anything
	}
	for {
		var p position
		addr, id := q.raft.LeaderWithID()
		err := ErrNotLeader
		switch {
		case q.Leads():
			err = q.Barrier(ctx)
		case id != "":
			if a, aerr := (addresses{q.peers}).ServerAddr(id); aerr == nil {
				addr = a
			}
			step, cancel := context.WithTimeout(ctx, time.Second)
			err = q.peers.Call(step, string(addr), callIndex, struct{}{}, &p)
			cancel()
		}
		if err == nil {
			if err = q.WaitIndex(ctx, p.Index); err == nil {
				q.recall.all.Store(true)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-q.closing:
			return ErrClosed
		case <-time.After(retryPause):
		}
	}
}
