package controller

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

func TestElect(t *testing.T) {
	c := newController(t, 3, nil)
	topic, err := create(t, c, NewTopic{Name: "t", Partitions: -1, Replication: -1, Assignment: map[int32][]metadata.NodeID{0: {1, 2, 3}}})
	if err != nil {
		t.Fatal(err)
	}
	p := func() *metadata.Partition { return c.Image().Partition("t", 0) }
	elect := func(unclean bool, want *kerr.Error) {
		t.Helper()
		got, wanted := code(c.Elect(t.Context(), "t", 0, unclean)), int16(0)
		if want != nil {
			wanted = want.Code
		}
		if got != wanted {
			t.Errorf("%d, want %d; %+v", got, wanted, p())
		}
	}
	set := func(leader metadata.NodeID, isr ...metadata.NodeID) {
		t.Helper()
		if _, err := c.propose(t.Context(), &metadata.ChangePartition{Topic: topic.ID, Expected: p().PartitionEpoch, Leader: leader, ISR: isr}); err != nil {
			t.Fatal(err)
		}
	}
	elect(false, kerr.ElectionNotNeeded)
	elect(true, kerr.ElectionNotNeeded)
	set(2, 2, 3)
	elect(false, kerr.PreferredLeaderNotAvailable) // invariant 4: it is not in sync
	set(2, 1, 2)
	epoch := p().LeaderEpoch
	elect(false, nil)
	if p().Leader != 1 || p().LeaderEpoch != epoch+1 || len(p().ISR) != 2 {
		t.Errorf("after the election: %+v", p())
	}
	set(-1, 3)
	elect(false, kerr.PreferredLeaderNotAvailable)
	for _, n := range []metadata.NodeID{1, 2} {
		fence(t, c, n)
	}
	fence(t, c, 3)
	elect(true, kerr.EligibleLeadersNotAvailable) // nobody is alive
	register(t, c, 2)
	elect(true, nil) // who is not in sync leads only when an operator wishes it
	if p().Leader != 2 || !slices.Equal(p().ISR, []metadata.NodeID{2}) {
		t.Errorf("after the unclean election: %+v", p())
	}
	elect(true, kerr.ElectionNotNeeded)
	if got := code(c.Elect(t.Context(), "none", 0, false)); got != kerr.UnknownTopicOrPartition.Code {
		t.Error(got)
	}
	if got := code(c.Elect(t.Context(), "t", 7, false)); got != kerr.UnknownTopicOrPartition.Code {
		t.Error(got)
	}
}

func fence(t *testing.T, c *Controller, n metadata.NodeID) {
	t.Helper()
	if _, err := c.propose(t.Context(), &metadata.FenceNode{ID: n, Epoch: c.Image().Nodes[n].Epoch}); err != nil {
		t.Fatal(err)
	}
}

func register(t *testing.T, c *Controller, n metadata.NodeID) {
	t.Helper()
	if _, err := c.propose(t.Context(), &metadata.RegisterNode{ID: n}); err != nil {
		t.Fatal(err)
	}
}

// A topic that would rather lose records than wait is given a leader by the active controller; no other is.
func TestUncleanByConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2, 3)
		id := metadata.TopicID{1}
		two := metadata.TopicID{2}
		_, _ = g.Propose(t.Context(), &metadata.CreateTopics{Topics: []metadata.TopicSpec{
			{Name: "any", ID: id, Assignment: [][]metadata.NodeID{{3, 1}}, Configs: map[string]string{"unclean.leader.election.enable": "true"}},
			{Name: "wait", ID: two, Assignment: [][]metadata.NodeID{{3, 1}}},
		}})
		for _, topic := range []metadata.TopicID{id, two} {
			_, _ = g.Propose(t.Context(), &metadata.ChangePartition{Topic: topic, Leader: 3, ISR: []metadata.NodeID{3}})
		}
		c := New(Options{Quorum: g, NodeID: 1})
		a := NewActive(ActiveOptions{
			Group: g, Node: 1, Unclean: c.Unclean, Nodes: func() []consensus.Candidate { return nil }, NewClusterID: func() string { return "named" },
		})
		g.lead(1)
		for range 4 * SessionTimeout / StepEvery { // node 3 sends no heartbeat
			a.Step(t.Context())
			for _, n := range []metadata.NodeID{1, 2} {
				if err := a.Heartbeat(n, g.Image().Nodes[n].Epoch); err != nil {
					t.Fatal(err)
				}
			}
			<-time.After(StepEvery)
		}
		image := g.Image()
		if p := image.Partition("any", 0); p.Leader != 1 || !slices.Equal(p.ISR, []metadata.NodeID{1}) {
			t.Errorf("any: %+v", p)
		}
		if p := image.Partition("wait", 0); p.Leader != -1 || !slices.Equal(p.ELR, []metadata.NodeID{3}) {
			t.Errorf("wait: %+v", p)
		}
	})
}

// An unclean election that was not agreed on is tried again although nothing else has changed.
func TestUncleanIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2)
		id := metadata.TopicID{1}
		_, _ = g.Propose(t.Context(), &metadata.CreateTopics{Topics: []metadata.TopicSpec{
			{Name: "any", ID: id, Assignment: [][]metadata.NodeID{{2, 1}}, Configs: map[string]string{"unclean.leader.election.enable": "true"}},
		}})
		_, _ = g.Propose(t.Context(), &metadata.ChangePartition{Topic: id, Leader: -1, ISR: []metadata.NodeID{2}})
		_, _ = g.Propose(t.Context(), &metadata.FenceNode{ID: 2, Epoch: g.Image().Nodes[2].Epoch})
		a := NewActive(ActiveOptions{
			Group: g, Node: 1, Unclean: New(Options{Quorum: g, NodeID: 1}).Unclean, Nodes: func() []consensus.Candidate { return nil },
			NewClusterID: func() string { return "named" }, Rebalance: Rebalance{Off: true},
		})
		g.lead(1)
		step := func() {
			for range 3 * uncleanEvery / StepEvery {
				a.Step(t.Context())
				if err := a.Heartbeat(1, g.Image().Nodes[1].Epoch); err != nil {
					t.Fatal(err)
				}
				<-time.After(StepEvery)
			}
		}
		g.refuse(true) // its disk is full
		step()
		if p := g.Image().Partition("any", 0); p.Leader != -1 {
			t.Fatalf("%+v", p)
		}
		g.refuse(false)
		step()
		if p := g.Image().Partition("any", 0); p.Leader != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// A cluster from before there were eligible leader replicas keeps them as soon as all its nodes know of them.
func TestELRIsKeptOnceAllKnowOfIt(t *testing.T) {
	g := newFakeGroup(1, 2)
	a := NewActive(ActiveOptions{Group: g, Node: 1})
	for n, want := range []int16{0, 0, 1} {
		if n > 0 {
			_, _ = g.Propose(t.Context(), &metadata.RegisterNode{ID: metadata.NodeID(n), MinISR: 1})
		}
		a.keepELR(t.Context())
		if got := g.Image().Features[metadata.FeatureELR]; got != want {
			t.Errorf("%d nodes know of it: level %d", n, got)
		}
	}
}

// late is a quorum in which a node dies between the look and the choice.
type late struct {
	*quorum
	dies metadata.NodeID
}

func (q *late) Propose(ctx context.Context, c metadata.Command) (metadata.Result, error) {
	if _, ok := c.(*metadata.ChangePartition); ok && q.dies != 0 {
		dead := &metadata.FenceNode{ID: q.dies, Epoch: q.Image().Nodes[q.dies].Epoch}
		q.dies = 0
		if r, err := q.quorum.Propose(ctx, dead); err != nil || r.Err != nil {
			return r, err
		}
	}
	return q.quorum.Propose(ctx, c)
}

// An unclean election that was overtaken by the death of whom it chose chooses another one.
func TestUncleanElectionOfTheDead(t *testing.T) {
	c := newController(t, 3, nil)
	topic, err := create(t, c, NewTopic{Name: "t", Partitions: -1, Replication: -1, Assignment: map[int32][]metadata.NodeID{0: {1, 2, 3}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.propose(t.Context(), &metadata.ChangePartition{Topic: topic.ID, Leader: -1, ISR: []metadata.NodeID{}}); err != nil {
		t.Fatal(err)
	}
	c = New(Options{Quorum: &late{c.quorum.(*quorum), 1}, NodeID: 2})
	if err := c.Elect(t.Context(), "t", 0, true); err != nil {
		t.Fatal(err)
	}
	if p := c.Image().Partition("t", 0); p.Leader != 2 || !slices.Equal(p.ISR, []metadata.NodeID{2}) {
		t.Errorf("%+v", p)
	}
}
