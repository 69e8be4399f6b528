package controller

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// doubling is a quorum whose leader dies over every proposal after it was agreed on: what is told is what the second one came to. Before each
// of the two others may come in between.
type doubling struct {
	*fakeGroup
	between func()
}

func (d *doubling) Propose(ctx context.Context, c metadata.Command) (metadata.Result, error) {
	if d.between != nil {
		d.between()
	}
	if _, err := d.fakeGroup.Propose(ctx, c); err != nil {
		return metadata.Result{}, err
	}
	return d.fakeGroup.Propose(ctx, c)
}

// moving is a controller over nodes 1 to 4 and a topic t of one partition.
func moving(t *testing.T, replicas ...metadata.NodeID) (*doubling, *Controller) {
	t.Helper()
	g := newFakeGroup(1, 2, 3, 4)
	if _, err := g.Propose(t.Context(), &metadata.CreateTopics{Topics: []metadata.TopicSpec{{Name: "t", ID: newTopicID(), Assignment: [][]metadata.NodeID{replicas}}}}); err != nil {
		t.Fatal(err)
	}
	d := &doubling{fakeGroup: g}
	return d, New(Options{Quorum: d, NodeID: 1})
}

func (d *doubling) inSync(t *testing.T, isr ...metadata.NodeID) {
	t.Helper()
	p := d.Image().Partition("t", 0)
	c := metadata.ISRChange{Topic: p.TopicID, Leader: p.Leader, NodeEpoch: d.Image().Nodes[p.Leader].Epoch, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
	for _, n := range isr {
		c.ISR = append(c.ISR, metadata.ISRMember{ID: n, Epoch: d.Image().Nodes[n].Epoch})
	}
	r, err := d.fakeGroup.Propose(t.Context(), &metadata.AlterPartition{Changes: []metadata.ISRChange{c}})
	if err != nil || r.Errs[0] != nil {
		t.Fatal(err, r.Errs)
	}
}

func wish(replicas ...metadata.NodeID) []Reassignment {
	return []Reassignment{{Topic: "t", Replicas: replicas}}
}

func reassigned(t *testing.T, c *Controller, w []Reassignment, keepFactor bool) (code int16, said string) {
	t.Helper()
	err := c.Reassign(t.Context(), w, keepFactor)[0]
	if err == nil {
		return 0, ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	return e.Code, e.Message
}

// What Kafka's ReplicationControlManager refuses, and its words.
func TestReassignIsRefused(t *testing.T) {
	_, c := moving(t, 1, 2)
	for _, x := range []struct {
		wish Reassignment
		keep bool
		code *kerr.Error
		said string
	}{
		{Reassignment{Topic: "u", Replicas: []metadata.NodeID{1}}, false, kerr.UnknownTopicOrPartition, "Unable to find a topic named u."},
		{Reassignment{Topic: "t", Number: 1}, false, kerr.UnknownTopicOrPartition, "Unable to find partition t:1."},
		{Reassignment{Topic: "t", Number: -1}, false, kerr.UnknownTopicOrPartition, "Unable to find partition t:-1."},
		{Reassignment{Topic: "t"}, false, kerr.NoReassignmentInProgress, "No partition reassignment is in progress."},
		{Reassignment{Topic: "t", Replicas: []metadata.NodeID{}}, false, kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list."},
		{Reassignment{Topic: "t", Replicas: []metadata.NodeID{1, 9}}, false, kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker 9, but no such broker is registered."},
		{Reassignment{Topic: "t", Replicas: []metadata.NodeID{2, 1, 2}}, false, kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker 2 more than once."},
		{Reassignment{Topic: "t", Replicas: []metadata.NodeID{2}}, true, kerr.InvalidReplicationFactor, "The replication factor is changed from 2 to 1"},
	} {
		if code, said := reassigned(t, c, []Reassignment{x.wish}, x.keep); code != x.code.Code || said != x.said {
			t.Errorf("%+v: %d %q, want %v %q", x.wish, code, said, x.code, x.said)
		}
	}
}

// Every proposal is agreed on twice: a wish, and taking it back, are the same twice as once.
func TestReassignSurvivesItsLeader(t *testing.T) {
	d, c := moving(t, 1, 2)
	part := func() *metadata.Partition { return d.Image().Partition("t", 0) }
	if code, said := reassigned(t, c, wish(3, 4), true); code != 0 {
		t.Fatal(code, said)
	}
	if p := part(); !slices.Equal(p.Replicas, []metadata.NodeID{3, 4, 1, 2}) || p.PartitionEpoch != 1 {
		t.Errorf("%+v", p)
	}
	if code, said := reassigned(t, c, wish(), false); code != 0 {
		t.Fatal("taking it back: ", code, said)
	}
	if p := part(); !slices.Equal(p.Replicas, []metadata.NodeID{1, 2}) || p.Reassigning() {
		t.Errorf("%+v", p)
	}
	// It was done when the cancellation came: that is told.
	if code, said := reassigned(t, c, wish(3), false); code != 0 {
		t.Fatal(code, said)
	}
	d.between = func() { d.inSync(t, 1, 2, 3) }
	if code, said := reassigned(t, c, wish(), false); code != kerr.NoReassignmentInProgress.Code {
		t.Error("taken back after the end: ", code, said)
	}
	if p := part(); !slices.Equal(p.Replicas, []metadata.NodeID{3}) || p.Leader != 3 {
		t.Errorf("%+v", p)
	}
	// Nobody from before is in sync.
	d.between = nil
	if code, said := reassigned(t, c, wish(1, 2), false); code != 0 {
		t.Fatal(code, said)
	}
	d.inSync(t, 3, 1)
	if err := New(Options{Quorum: d.fakeGroup, NodeID: 1}).Elect(t.Context(), "t", 0, false); err != nil {
		t.Fatal(err)
	}
	d.inSync(t, 1)
	if code, said := reassigned(t, c, wish(), false); code != kerr.InvalidReplicaAssignment.Code ||
		said != "Unable to revert partition assignment for t:0 because it would require an unclean leader election." {
		t.Error(code, said)
	}
	// The topic is deleted between look and proposal.
	d.between = func() {
		_, _ = d.fakeGroup.Propose(t.Context(), &metadata.DeleteTopics{IDs: []metadata.TopicID{part().TopicID}})
		d.between = nil
	}
	if code, said := reassigned(t, c, wish(4), false); code != kerr.UnknownTopicOrPartition.Code {
		t.Error(code, said)
	}
}

// New partitions have as many replicas as the topic is to have, not as many as it has on the way.
func TestPartitionsOfATopicOnItsWay(t *testing.T) {
	d, c := moving(t, 1, 2)
	if code, said := reassigned(t, c, wish(3, 4), false); code != 0 {
		t.Fatal(code, said)
	}
	c = New(Options{Quorum: d.fakeGroup, NodeID: 1})
	if err := c.CreatePartitions(t.Context(), "t", 2, nil, false); err != nil {
		t.Fatal(err)
	}
	if got := c.Image().Partition("t", 1).Replicas; len(got) != 2 {
		t.Errorf("the new partition is on %v", got)
	}
}
