package controller

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// lopsided is a cluster of nodes 1 and 2 in which each is preferred for as many partitions of t, all in sync, and 1 leads those of 2 up to number elsewhere.
func lopsided(t *testing.T, partitions, elsewhere int) *fakeGroup {
	t.Helper()
	g := newFakeGroup(1, 2)
	spec := metadata.TopicSpec{Name: "t", ID: newTopicID()}
	for range partitions {
		spec.Assignment = append(spec.Assignment, []metadata.NodeID{2, 1}, []metadata.NodeID{1, 2})
	}
	_, _ = g.Propose(t.Context(), &metadata.CreateTopics{Topics: []metadata.TopicSpec{spec}})
	for n := range elsewhere {
		p := g.Image().Partition("t", int32(2*n))
		if r, _ := g.Propose(t.Context(), &metadata.ChangePartition{Topic: p.TopicID, Number: p.Number, Expected: p.PartitionEpoch, Leader: 1, ISR: p.ISR}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return g
}

// displaced counts the partitions that are not led by their first replica.
func displaced(g *fakeGroup) (n int) {
	for _, p := range g.Image().Topics["t"].Partitions {
		if p.Leader != p.Replicas[0] {
			n++
		}
	}
	return n
}

// TestLeaderImbalance names each config, how much is out of place, and what is left after a while.
func TestLeaderImbalance(t *testing.T) {
	for _, x := range []struct {
		r         Rebalance
		elsewhere int // of 10 that node 2 is preferred for
		after     time.Duration
		left      int
	}{
		{Rebalance{}, 1, 9 * time.Second, 1},
		{Rebalance{}, 1, 11 * time.Second, 0},
		{Rebalance{Off: true}, 10, time.Minute, 10},
		{Rebalance{Every: 30 * time.Second}, 3, 29 * time.Second, 3},
		{Rebalance{Every: 30 * time.Second}, 3, 31 * time.Second, 0},
		{Rebalance{Percent: 30}, 3, 11 * time.Second, 3},
		{Rebalance{Percent: 29}, 3, 11 * time.Second, 0},
		{Rebalance{Percent: 100}, 10, time.Minute, 10},
	} {
		t.Run(fmt.Sprintf("%+v after %v", x.r, x.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := lopsided(t, 10, x.elsewhere)
				g.lead(1)
				a := runActive(t, g, x.r)
				<-time.After(2 * StepEvery)
				beat(t, a, x.after-2*StepEvery, 1, 2)
				if left := displaced(g); left != x.left {
					t.Errorf("%d partitions are not with their preferred leaders, want %d", left, x.left)
				}
			})
		})
	}
}

// A round gives back no more than so many; the next one does not wait for the whole interval.
func TestLeadersAreGivenBackInRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lopsided(t, 250, 250)
		g.lead(1)
		a := runActive(t, g, Rebalance{Every: time.Minute})
		<-time.After(2 * StepEvery)
		beat(t, a, time.Minute+200*time.Millisecond, 1, 2)
		if left := displaced(g); left != 150 {
			t.Errorf("%d are left after the first round", left)
		}
		beat(t, a, 3*time.Second, 1, 2)
		if left := displaced(g); left != 0 {
			t.Errorf("%d are left", left)
		}
	})
}
