package controller

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// drainBy sets a config of a node, as `forebay nodes drain` does.
func drainBy(t *testing.T, g *fakeGroup, node, value string) error {
	t.Helper()
	return New(Options{Quorum: g, NodeID: 1}).AlterBrokerConfigs(t.Context(), node, []ConfigOp{{Name: metadata.DrainConfig, Op: opSet, Value: &value}}, false)
}

// catchUp brings every replica into the ISR, as the leaders would.
func catchUp(t *testing.T, g *fakeGroup) {
	t.Helper()
	image := g.Image()
	cmd := &metadata.AlterPartition{}
	for _, topic := range image.Topics {
		for _, p := range topic.Partitions {
			if p.Leader < 0 || len(p.ISR) == len(p.Replicas) {
				continue
			}
			c := metadata.ISRChange{Topic: p.TopicID, Number: p.Number, Leader: p.Leader, NodeEpoch: image.Nodes[p.Leader].Epoch, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
			for _, n := range p.Replicas {
				if !image.Nodes[n].Fenced {
					c.ISR = append(c.ISR, metadata.ISRMember{ID: n, Epoch: image.Nodes[n].Epoch})
				}
			}
			cmd.Changes = append(cmd.Changes, c)
		}
	}
	if len(cmd.Changes) == 0 {
		return
	}
	r, _ := g.Propose(context.Background(), cmd)
	for _, err := range r.Errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// drained is a cluster of four nodes with 100 partitions of two replicas and the offsets' topic of three, one of whose nodes is being drained.
func drained(t *testing.T) *fakeGroup {
	t.Helper()
	g := newFakeGroup()
	for n, rack := range []string{"a", "a", "b", "b"} {
		_, _ = g.Propose(t.Context(), &metadata.RegisterNode{ID: metadata.NodeID(n + 1), Rack: rack})
	}
	c := New(Options{Quorum: g, NodeID: 1})
	_, errs := c.CreateTopics(t.Context(), []NewTopic{{Name: "t", Partitions: 100, Replication: 2}, {Name: OffsetsTopic, Partitions: 50, Replication: 3}}, false)
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	return g
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := drained(t)
		g.lead(1)
		a := runActive(t, g, Rebalance{})
		<-time.After(2 * StepEvery)
		if err := drainBy(t, g, "2", "true"); err != nil {
			t.Fatal(err)
		}
		beat(t, a, 2*time.Second, 1, 2, 3, 4)
		// What it led is led by others at once, and stays there, before any replica has arrived.
		moving := 0
		for _, topic := range g.Image().Topics {
			for _, p := range topic.Partitions {
				if p.Leader == 2 {
					t.Fatalf("%s-%d is led by the node that is drained", p.Topic, p.Number)
				}
				if slices.Contains(p.Removing, 2) {
					moving++
				}
			}
		}
		if moving != maxMoves {
			t.Errorf("%d partitions are on their way at a time, want %d", moving, maxMoves)
		}
		// Nothing new comes to it.
		c := New(Options{Quorum: g, NodeID: 1})
		if _, errs := c.CreateTopics(t.Context(), []NewTopic{{Name: "new", Partitions: 20, Replication: 3}}, false); errs[0] != nil {
			t.Fatal(errs[0])
		}
		if _, errs := c.CreateTopics(t.Context(), []NewTopic{{Name: "four", Partitions: 1, Replication: 4}}, false); errs[0] == nil || !strings.Contains(errs[0].Error(), "drained") {
			t.Errorf("four replicas on three nodes that stay: %v", errs[0])
		}
		for _, p := range g.Image().Topics["new"].Partitions {
			if slices.Contains(p.Replicas, 2) {
				t.Errorf("new-%d is given to the node that is drained: %v", p.Number, p.Replicas)
			}
		}
		for range 30 {
			catchUp(t, g)
			beat(t, a, time.Second, 1, 2, 3, 4)
		}
		if n := g.Image().Hosted(2); n > 0 {
			t.Fatalf("%d partitions are still there", n)
		}
		hosts, led := hosted(g.Image()), leaders(g.Image())
		for _, n := range []metadata.NodeID{1, 3, 4} {
			if hosts[n] < 100 || hosts[n] > 180 || led[n] < 40 { // 1 is alone on its rack now
				t.Errorf("node %d has %d replicas and is preferred for %d: not even %v %v", n, hosts[n], led[n], hosts, led)
			}
		}
		// Two replicas stay on two racks where they were.
		for _, p := range g.Image().Topics["t"].Partitions {
			if (p.Replicas[0] > 2) == (p.Replicas[1] > 2) {
				t.Errorf("t-%d is on one rack: %v", p.Number, p.Replicas)
			}
		}
		if err := c.Unregister(t.Context(), 2); err != nil {
			t.Error(err)
		}
	})
}

// A node that is dead for good is drained, too: what others have is copied from them.
func TestDrainOfADeadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := drained(t)
		g.lead(1)
		a := runActive(t, g, Rebalance{})
		<-time.After(2 * StepEvery)
		beat(t, a, 3*time.Second, 1, 2, 3)
		if !g.fenced(4) {
			t.Fatal("it lives")
		}
		if err := New(Options{Quorum: g, NodeID: 1}).Unregister(t.Context(), 4); err == nil {
			t.Error("removed with replicas")
		}
		if err := drainBy(t, g, "4", "true"); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			catchUp(t, g)
			beat(t, a, time.Second, 1, 2, 3)
		}
		if n := g.Image().Hosted(4); n > 0 {
			t.Fatalf("%d partitions are still there", n)
		}
		if err := New(Options{Quorum: g, NodeID: 1}).Unregister(t.Context(), 4); err != nil {
			t.Error(err)
		}
	})
}

func TestDrainThatCannotEnd(t *testing.T) {
	g := newFakeGroup(1, 2, 3)
	c := New(Options{Quorum: g, NodeID: 1})
	if _, errs := c.CreateTopics(t.Context(), []NewTopic{{Name: "t", Partitions: 5, Replication: 3}, {Name: "u", Partitions: 9, Replication: 2}}, false); errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	err := drainBy(t, g, "2", "true")
	if err == nil || !strings.Contains(err.Error(), "t-0 has 3 replicas and only 2 other node(s)") || !strings.Contains(err.Error(), "5 partition(s)") {
		t.Errorf("%v", err)
	}
	if err := drainBy(t, g, "2", "false"); err != nil {
		t.Error(err)
	}
	if err := drainBy(t, g, "", "true"); err == nil {
		t.Error("all nodes at once")
	}
	if err := drainBy(t, g, "9", "true"); err == nil {
		t.Error("a node that is not there")
	}
	if err := CheckStatic(map[string]string{metadata.DrainConfig: "true"}); err == nil {
		t.Error("by --set")
	}
	if err := c.Unregister(t.Context(), 9); err == nil {
		t.Error("a node that is not there was removed")
	}
	_, _ = g.Propose(t.Context(), &metadata.RegisterNode{ID: 4})
	if err := c.Unregister(t.Context(), 4); err == nil || !strings.Contains(err.Error(), "alive") {
		t.Errorf("a living node that is not drained was removed: %v", err)
	}
	if err := drainBy(t, g, "2", "true"); err != nil {
		t.Errorf("with a fourth node: %v", err)
	}
	if err := drainBy(t, g, "3", "true"); err == nil {
		t.Error("two of four, with three replicas")
	}
}

// A node that hosts nothing is kept, too, while another one's drain needs it.
func TestDrainThatAnotherOneNeeds(t *testing.T) {
	g := newFakeGroup(1, 2, 3)
	c := New(Options{Quorum: g, NodeID: 1})
	if _, errs := c.CreateTopics(t.Context(), []NewTopic{{Name: "t", Partitions: 5, Replication: 3}}, false); errs[0] != nil {
		t.Fatal(errs)
	}
	_, _ = g.Propose(t.Context(), &metadata.RegisterNode{ID: 4})
	if err := drainBy(t, g, "2", "true"); err != nil {
		t.Fatal(err)
	}
	if err := drainBy(t, g, "4", "true"); err == nil || !strings.Contains(err.Error(), "t-0 has 3 replicas and only 2 other node(s)") {
		t.Errorf("2 can give its replicas to nobody else: %v", err)
	}
	if err := drainBy(t, g, "2", "false"); err != nil {
		t.Fatal(err)
	}
	if err := drainBy(t, g, "4", "true"); err != nil {
		t.Errorf("2 stays: %v", err)
	}
}
