package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
)

// A cluster is founded once: by the least of the nodes that have waited for each other (bootstrap-expect, as
// Nomad and Consul have it). It needs the word of all of them, and each gives it to one only: so two founders that
// have heard of different nodes cannot both go on. The founder begins alone and admits the others, who thus never
// vote before they know anything.

// Candidate is a node that waits to be part of a cluster, or is part of one.
type Candidate struct {
	Member
	Cluster string // as Image.Identity; "": it belongs to none
	Expect  int
}

// Status is what a node says of itself.
type Status struct {
	ID       metadata.NodeID `json:"id"`
	Cluster  string          `json:"cluster,omitempty"`
	HasState bool            `json:"state,omitempty"`
	// Told says that a restart would not make this node one that does not vote (Options.Forgot).
	Told bool `json:"told,omitempty"`
}

type grantRequest struct {
	Founder metadata.NodeID `json:"founder"`
}

const (
	callStatus = "status"
	callGrant  = "grant"
	// grantFor is how long a node's word holds; a founder uses it at once, or never.
	grantFor   = 5 * time.Second
	foundPause = 25 * time.Millisecond
)

// ErrGranted is the answer of a node that has given its word to another founder, or needs none.
var errGranted = errors.New("no founder is needed here, or another one has this node's word")

func (q *Quorum) answerStatus(context.Context, []byte) ([]byte, error) {
	return json.Marshal(Status{ID: q.node, Cluster: q.Image().Identity(), HasState: q.HasState(), Told: q.keeps.Load()})
}

func (q *Quorum) answerGrant(_ context.Context, b []byte) ([]byte, error) {
	var r grantRequest
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	return nil, q.grant(r.Founder)
}

func (q *Quorum) grant(founder metadata.NodeID) error {
	q.word.Lock()
	defer q.word.Unlock()
	now := time.Now()
	if q.HasState() || q.word.until.After(now) && q.word.to != founder {
		return errGranted
	}
	q.word.to, q.word.until = founder, now.Add(grantFor)
	return nil
}

// Status asks the node at addr.
func (q *Quorum) Status(ctx context.Context, addr string) (Status, error) {
	var s Status
	err := q.peers.Call(ctx, addr, callStatus, struct{}{}, &s)
	return s, err
}

// Found returns once this node belongs to a group: it remembers one, or founds one, or is admitted by a leader.
// candidates gives the nodes that are heard of now, this one too, by id.
func (q *Quorum) Found(ctx context.Context, expect int, candidates func() []Candidate) error {
	for !q.HasState() {
		if err := q.tryFound(ctx, expect, candidates()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d nodes were heard of, %d are expected, and no cluster has taken this one in: %w", len(candidates()), expect, ctx.Err())
		case <-q.closing:
			return ErrClosed
		case <-time.After(foundPause):
		}
	}
	return nil
}

// tryFound founds when it is this node's turn. That others do not give their word is no error.
func (q *Quorum) tryFound(ctx context.Context, expect int, all []Candidate) error {
	var founders []Candidate
	for _, c := range all {
		if c.Cluster != "" {
			return nil // there is a cluster; its leader admits this node
		}
		if c.Expect == expect {
			founders = append(founders, c)
		}
	}
	if len(founders) < expect || founders[0].ID != q.node {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	began := time.Now()
	for _, c := range founders[:expect] {
		var err error
		if c.ID == q.node {
			err = q.grant(q.node)
		} else {
			err = q.peers.Call(ctx, c.Address, callGrant, grantRequest{Founder: q.node}, nil)
		}
		if err != nil {
			return nil // tried again
		}
	}
	// Round(0) drops the monotonic clock, which may stand still while a machine is paused.
	if took := max(time.Since(began), time.Now().Round(0).Sub(began.Round(0))); took > grantFor/2 {
		return nil // held up: the words may have been given to another one by now
	}
	err := q.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(strconv.Itoa(int(q.node))), Address: raft.ServerAddress(q.peers.Addr()),
	}}}).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return nil // admitted meanwhile
	}
	if err == nil {
		q.recall.all.Store(true) // there is nothing but what it has
		err = electAtOnce(q.raft)
	}
	if err != nil {
		return fmt.Errorf("found the metadata quorum: %w", err)
	}
	return nil
}

// electAtOnce has a follower that is the only voter stand for election now, not when its heartbeat timer, which began before there
// was a quorum, runs out: up to a second later. raft's timer ends when its timeout is made shorter.
func electAtOnce(r *raft.Raft) error {
	was := r.ReloadableConfig()
	longer := was
	longer.HeartbeatTimeout *= 2
	longer.ElectionTimeout *= 2
	return errors.Join(r.ReloadConfig(longer), r.ReloadConfig(was))
}
