package consensus

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A leader that has nothing new says so again after paceIdle. For paceAwake after something came up, it says all that raft has it say.
const (
	paceIdle  = 200 * time.Millisecond
	paceAwake = 100 * time.Millisecond
)

// pacer holds back what a follower knows already. So that followers learn soon of what was agreed last, raft's leader tells each of them every
// 20 to 40 ms (CommitTimeout) what is agreed, changed or not: more than half of what a node at rest costs. Heartbeats are not held back, so nobody's
// lease or election depends on it, and nothing is answered for a follower: a held call is made later, with what it was to say.
type pacer struct {
	mu    sync.Mutex
	woken chan struct{} // closed and replaced when something comes up
	last  time.Time     // when that was
	told  map[raft.ServerID]told
	ended bool
}

// told is what a follower has acknowledged, and when.
type told struct {
	term, prevTerm, prev, committed uint64
	at                              time.Time
}

func newPacer() *pacer { return &pacer{woken: make(chan struct{}), told: map[raft.ServerID]told{}} }

// wake is called when there may be something to tell, before raft tells it.
func (p *pacer) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	close(p.woken)
	p.woken = make(chan struct{})
}

// end lets everything pass from now on.
func (p *pacer) end() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.wake()
}

// repeats says whether a request has no entries and is no heartbeat, and what it tells.
func repeats(args *raft.AppendEntriesRequest) (told, bool) {
	return told{term: args.Term, prevTerm: args.PrevLogTerm, prev: args.PrevLogEntry, committed: args.LeaderCommitIndex},
		len(args.Entries) == 0 && args.PrevLogEntry > 0
}

// wait holds a request back as long as it is to be.
func (p *pacer) wait(to raft.ServerID, t told) {
	p.mu.Lock()
	known := p.told[to]
	t.at = known.at
	if woken := p.woken; known == t && !p.ended && time.Since(p.last) > paceAwake {
		p.mu.Unlock()
		timer := time.NewTimer(time.Until(known.at.Add(paceIdle)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-woken:
		}
		return
	}
	p.mu.Unlock()
}

// acknowledged notes what a follower was told.
func (p *pacer) acknowledged(by raft.ServerID, t told) {
	t.at = time.Now()
	p.mu.Lock()
	p.told[by] = t
	p.mu.Unlock()
}

// AppendEntries is the leader's word to one follower.
func (g *gate) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t, repeated := repeats(args)
	if repeated {
		g.pace.wait(id, t)
	}
	err := g.NetworkTransport.AppendEntries(id, target, args, resp)
	if repeated && err == nil && resp.Success {
		g.pace.acknowledged(id, t)
	}
	return err
}
