package consensus

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
)

// MinVoters is how many members vote as soon as they are there: so many bear the loss of one. MaxVoters is how many may; more follow
// without a vote, because every one of them would only slow agreement down.
const (
	MinVoters = 3
	MaxVoters = 5
)

func serverID(node metadata.NodeID) raft.ServerID { return raft.ServerID(strconv.Itoa(int(node))) }

// Members are the servers of the group, with a vote or without.
func (q *Quorum) Members() (voters, others []Member, err error) {
	f := q.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, nil, err
	}
	for _, s := range f.Configuration().Servers {
		n, err := nodeOf(s.ID)
		if err != nil {
			return nil, nil, err
		}
		m := Member{ID: n, Address: string(s.Address)}
		if s.Suffrage == raft.Voter {
			voters = append(voters, m)
		} else {
			others = append(others, m)
		}
	}
	return voters, others, nil
}

// The changes of members are the leader's part; they are made one at a time, and raft refuses a second one while the first is not agreed
// on. Each returns once it is.

// Admit adds a node to the group. First it follows. While there are fewer than MinVoters, since a group that is being founded is not safe before, it
// votes once it says that it was told something: who remembers nothing does not vote, and a leader that counted on him before would never lead
// again if it lost its lead then. Who is not told anything soon, or comes later, gets his vote by Promote.
//
// A member that has moved keeps the address that it was admitted with: peers are found by what gossip says now, the
// old address is what is left where it says nothing. (raft 1.8.0 also reads a changed address without its lock.)
func (q *Quorum) Admit(m Member) error {
	voters, others, err := q.Members()
	if err != nil {
		return err
	}
	same := func(o Member) bool { return o.ID == m.ID }
	if slices.ContainsFunc(voters, same) || slices.ContainsFunc(others, same) {
		return nil
	}
	if err := q.raft.AddNonvoter(serverID(m.ID), raft.ServerAddress(m.Address), 0, configTimeout).Error(); err != nil {
		return fmt.Errorf("add node %d at %s to the metadata quorum: %w", m.ID, m.Address, err)
	}
	if len(voters) >= MinVoters || !q.told(m) {
		return nil
	}
	return q.Promote(m)
}

// toldTimeout bounds the wait for a new member to be told something. It takes milliseconds when it is there.
const toldTimeout = time.Second

// told waits until a member, and this node, would vote after a restart, too: were a majority of the voters killed before that, nobody could lead.
func (q *Quorum) told(m Member) bool {
	ctx, cancel := context.WithTimeout(context.Background(), toldTimeout)
	defer cancel()
	for {
		if s, err := q.Status(ctx, m.Address); err == nil && s.ID == m.ID && s.HasState && s.Told && q.keeps.Load() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-q.closing:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Promote gives a member a vote.
func (q *Quorum) Promote(m Member) error {
	if err := q.raft.AddVoter(serverID(m.ID), raft.ServerAddress(m.Address), 0, configTimeout).Error(); err != nil {
		return fmt.Errorf("give node %d a vote: %w", m.ID, err)
	}
	return nil
}

// Demote takes a member's vote away; it follows on.
func (q *Quorum) Demote(node metadata.NodeID) error {
	if err := q.raft.DemoteVoter(serverID(node), 0, configTimeout).Error(); err != nil {
		return fmt.Errorf("take the vote of node %d: %w", node, err)
	}
	return nil
}

// Expel takes a member out of the group.
func (q *Quorum) Expel(node metadata.NodeID) error {
	if err := q.raft.RemoveServer(serverID(node), 0, configTimeout).Error(); err != nil {
		return fmt.Errorf("take node %d out of the metadata quorum: %w", node, err)
	}
	return nil
}

// HandOver gives the lead away before this node stops, if it has it and somebody can take it.
func (q *Quorum) HandOver() {
	if q.Leads() {
		q.pace.wake()
		_ = q.raft.LeadershipTransfer().Error() // else an election does it
	}
}

// HandOverTo gives the lead to a voter.
func (q *Quorum) HandOverTo(m Member) error {
	q.pace.wake()
	if err := q.raft.LeadershipTransferToServer(serverID(m.ID), raft.ServerAddress(m.Address)).Error(); err != nil {
		return fmt.Errorf("give the lead to node %d: %w", m.ID, err)
	}
	return nil
}

// CaughtUp says whether a member answers, and has all that is agreed on now.
func (q *Quorum) CaughtUp(ctx context.Context, m Member) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return q.progress(ctx, m, q.raft.CommitIndex()).CaughtUp >= 0
}

const callStanding = "standing"

type standing struct {
	Node    metadata.NodeID `json:"n"`
	Removed bool            `json:"r,omitempty"`
}

// answerStanding tells a node whether it was removed: nobody else tells one that is no member any more.
func (q *Quorum) answerStanding(ctx context.Context, b []byte) ([]byte, error) {
	var s standing
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	if q.Image().Removed(s.Node) {
		if err := q.Current(ctx); err != nil { // it may have been admitted anew
			return nil, err
		}
		s.Removed = q.Image().Removed(s.Node)
	}
	return json.Marshal(s)
}

// RemovedSays asks the node at addr whether this one was removed from the cluster.
func (q *Quorum) RemovedSays(ctx context.Context, addr string) (bool, error) {
	var s standing
	err := q.peers.Call(ctx, addr, callStanding, standing{Node: q.node}, &s)
	return s.Removed, err
}
