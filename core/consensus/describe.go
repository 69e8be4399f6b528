package consensus

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
)

// Description is the state of the group as its leader sees it.
type Description struct {
	Leader    metadata.NodeID `json:"leader"`
	Term      uint64          `json:"term"`
	Committed uint64          `json:"committed"` // index
	Voters    []Progress      `json:"voters"`
	Others    []Progress      `json:"others,omitempty"` // without a vote
}

// Progress is how far a member has got.
type Progress struct {
	Member
	LastIndex int64 `json:"last"`   // of its log; -1: it did not answer
	HeardMs   int64 `json:"heard"`  // when it answered, Unix time; -1: not now
	CaughtUp  int64 `json:"caught"` // when it was seen to have everything that was agreed on, Unix time in ms; -1: not now
}

const (
	callDescribe = "describe"
	callProgress = "progress"
	// answerTimeout is how long a member is waited for: one that hangs shows as one that is gone.
	answerTimeout = 300 * time.Millisecond
)

// Describe asks the leader, who asks every member. Errors: ErrNotLeader while there is none, and as Call.
func (q *Quorum) Describe(ctx context.Context) (Description, error) {
	var d Description
	addr, id := q.raft.LeaderWithID()
	switch {
	case q.Leads():
		return q.describe(ctx)
	case id == "" || q.peers == nil:
		return d, ErrNotLeader
	}
	if a, err := (addresses{q.peers}).ServerAddr(id); err == nil {
		addr = a
	}
	err := q.peers.Call(ctx, string(addr), callDescribe, struct{}{}, &d)
	return d, err
}

func (q *Quorum) answerDescribe(ctx context.Context, _ []byte) ([]byte, error) {
	if !q.Leads() {
		return nil, ErrNotLeader
	}
	d, err := q.describe(ctx)
	if err != nil {
		return nil, err
	}
	return json.Marshal(d)
}

func (q *Quorum) answerProgress(context.Context, []byte) ([]byte, error) {
	return json.Marshal(position{q.raft.LastIndex()})
}

// describe is the leader's part.
func (q *Quorum) describe(ctx context.Context) (Description, error) {
	d := Description{Leader: q.node, Term: q.raft.CurrentTerm(), Committed: q.raft.CommitIndex()}
	voters, others, err := q.Members()
	if err != nil {
		return d, err
	}
	d.Voters, d.Others = make([]Progress, len(voters)), make([]Progress, len(others))
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var asked sync.WaitGroup
	for n, m := range voters {
		asked.Go(func() { d.Voters[n] = q.progress(ctx, m, d.Committed) })
	}
	for n, m := range others {
		asked.Go(func() { d.Others[n] = q.progress(ctx, m, d.Committed) })
	}
	asked.Wait()
	return d, nil
}

func (q *Quorum) progress(ctx context.Context, m Member, committed uint64) Progress {
	p := Progress{Member: m, LastIndex: -1, HeardMs: -1, CaughtUp: -1}
	at := position{q.raft.LastIndex()}
	if m.ID != q.node {
		addr := m.Address
		if a, err := (addresses{q.peers}).ServerAddr(raft.ServerID(strconv.Itoa(int(m.ID)))); err == nil {
			addr = string(a)
		}
		if err := q.peers.Call(ctx, addr, callProgress, struct{}{}, &at); err != nil {
			return p
		}
	}
	p.LastIndex, p.HeardMs = int64(at.Index), time.Now().UnixMilli()
	if at.Index >= committed {
		p.CaughtUp = p.HeardMs
	}
	return p
}
