package controller

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

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
	elect(true, kerr.EligibleLeadersNotAvailable) // never unclean
	elect(false, kerr.PreferredLeaderNotAvailable)
	if got := code(c.Elect(t.Context(), "none", 0, false)); got != kerr.UnknownTopicOrPartition.Code {
		t.Error(got)
	}
	if got := code(c.Elect(t.Context(), "t", 7, false)); got != kerr.UnknownTopicOrPartition.Code {
		t.Error(got)
	}
}
