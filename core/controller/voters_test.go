package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

// standings reads "1v 2v! 3v? 4": node 1 votes and lives, 2 is dead for long, 3 only just, 4 has no vote; + lives only just, d is draining, r removed.
func standings(s string) (list []standing) {
	for _, f := range strings.Fields(s) {
		m := standing{alive: true, long: true}
		_, _ = fmt.Sscan(strings.TrimRight(f, "v!?+dr"), &m.ID)
		for _, c := range f {
			switch c {
			case 'v':
				m.votes = true
			case '!':
				m.alive = false
			case '?':
				m.alive, m.long = false, false
			case '+':
				m.long = false
			case 'd':
				m.draining = true
			case 'r':
				m.removed, m.alive = true, false
			}
		}
		list = append(list, m)
	}
	return list
}

// play makes the changes that are planned until there is nothing more to change, as node 1 leads until it hands over.
func play(t *testing.T, members []standing) string {
	t.Helper()
	var done []string
	self := metadata.NodeID(1)
	for range 20 {
		voters, living := 0, 0
		for _, m := range members {
			if m.votes {
				voters++
				if m.alive {
					living++
				}
			}
		}
		able := living > voters/2
		c := planVoters(members, self)
		at := 0
		for n, m := range members {
			if m.ID == c.ID {
				at = n
			}
		}
		switch c.do {
		case keep:
			return strings.Join(done, ", ")
		case promote:
			done, members[at].votes = append(done, fmt.Sprint("+", c.ID)), true
		case demote:
			done, members[at].votes = append(done, fmt.Sprint("-", c.ID)), false
		case expel:
			done, members = append(done, fmt.Sprint("x", c.ID)), append(members[:at:at], members[at+1:]...)
		case handOver:
			done, self = append(done, fmt.Sprint(">", c.ID)), c.ID
		}
		voters, living = 0, 0
		for _, m := range members {
			if m.votes {
				voters++
				if m.alive {
					living++
				}
			}
		}
		if able && living <= voters/2 {
			t.Errorf("after %v only %d of %d voters live", done, living, voters)
		}
	}
	t.Errorf("the plan has no end: %v", done)
	return ""
}

func TestPlanVoters(t *testing.T) {
	for _, x := range []struct{ members, want, why string }{
		{"1v", "", "alone"},
		{"1v 2v 3v", "", "three"},
		{"1v 2v 3v 4", "", "an even number bears no more than the odd one below it"},
		{"1v 2v 3v 4v", "", "nobody who is well loses his vote"},
		{"1v 2v 3v 4 5", "+4, +5", "five, one after the other"},
		{"1v 2v 3v 4 5+", "", "who has just come is not counted on"},
		{"1v 2v 3v 4v 5v 6 7", "", "no more than five"},
		{"1v 2", "+2", "two are better than one"},
		{"1v 2v 3v? 4", "", "a restart changes nothing"},
		{"1v 2v 3v! 4", "-3, +4", "a dead voter is replaced"},
		{"1v 2v 3v! 4+", "", "not by one that has just come"},
		{"1v 2v 3v! 4!", "", "nor by a dead one"},
		{"1v 2v 3v! 4d", "", "nor by one that leaves"},
		{"1v 2v 3v!", "", "nobody can replace it: it keeps its vote for when it is back"},
		{"1v 2v 3v 4v!", "-4", "of four three bear as much"},
		{"1v 2v 3v! 4v! 5v", "-3, -4", "three that live bear one more loss, of five none"},
		{"1v 2v 3v! 4v! 5v 6 7", "-3, -4, +6, +7", "both are replaced"},
		{"1v 2v 3v 4v 5v! 6", "-5, +6", "of five"},
		{"1v 2v! 3v! 4", "", "without a majority nothing can be agreed on"},
		{"1v 2v 3vd 4", "+4, -3", "who leaves hands its vote on"},
		{"1vd 2v 3v 4", "+4, >2, -1", "the leader its lead first"},
		{"1v 2v 3vd", "", "nobody can have its vote before it is gone"},
		{"1v 2v 3vr", "x3", "the removed one goes"},
		{"1vr 2v 3v", ">2, x1", "the leader, too"},
		{"1v 2v 3v 4r", "x4", "one without a vote"},
		{"1v 2v? 3vr", "", "the removed one goes when the other one is back: two voters have to agree"},
		{"1v 2v! 3vr 4v!", "", "without a majority nothing can be agreed on"},
		{"1v 2v! 3vd 4 5", "-2, +4, +5, -3", "a dead one first"},
	} {
		if got := play(t, standings(x.members)); got != x.want {
			t.Errorf("%s: %q, want %q: %s", x.members, got, x.want, x.why)
		}
	}
}

// TestVotersOverTime has time pass: restarts, flapping, a new leader, and at last a death for good.
func TestVotersOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2, 3, 4)
		g.voters, g.others, g.behind = []metadata.NodeID{2, 3}, []metadata.NodeID{4}, map[metadata.NodeID]bool{}
		g.lead(1)
		a := runActive(t, g, Rebalance{})
		<-time.After(2 * StepEvery)
		nothing := func(when string) {
			t.Helper()
			if made := g.made(); made != "" {
				t.Fatalf("%s: %s", when, made)
			}
		}
		back := func(n metadata.NodeID) {
			t.Helper()
			if r, _ := g.Propose(t.Context(), &metadata.RegisterNode{ID: n}); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		// Away for 4 of 5 minutes, again and again.
		for range 5 {
			beat(t, a, 4*time.Minute, 1, 2, 4)
			back(3)
			beat(t, a, 20*time.Second, 1, 2, 3, 4)
		}
		nothing("a voter that comes back")
		// A new leader has not seen how long it was away.
		beat(t, a, 4*time.Minute, 1, 2, 4)
		g.lead(0)
		<-time.After(2 * StepEvery)
		g.lead(2)
		<-time.After(2 * StepEvery)
		beat(t, a, 4*time.Minute, 1, 2, 4)
		nothing("a new leader")
		// Then it is dead for good; the other one is not up to date yet.
		g.mu.Lock()
		g.behind = map[metadata.NodeID]bool{4: true}
		g.mu.Unlock()
		beat(t, a, 2*time.Minute, 1, 2, 4)
		if made := g.made(); made != "demote 3" {
			t.Fatalf("made: %s", made)
		}
		g.mu.Lock()
		g.behind = map[metadata.NodeID]bool{}
		g.mu.Unlock()
		beat(t, a, 3*time.Second, 1, 2, 4)
		// It comes back, and stays what it has become.
		back(3)
		beat(t, a, 10*time.Minute, 1, 2, 3, 4)
		if made := g.made(); made != "demote 3, promote 4" {
			t.Fatalf("made: %s", made)
		}
	})
}

// A removed node is not admitted by what it remembers, but with an empty directory; and it is out of the quorum before that.
func TestRemovedNodesAreAdmittedAnew(t *testing.T) {
	for _, cluster := range []string{"named", ""} { // that it tells of; emptied in part it may tell of none
		synctest.Test(t, func(t *testing.T) {
			g := newFakeGroup(1, 2, 3)
			g.voters, g.others = []metadata.NodeID{2}, []metadata.NodeID{3}
			_, _ = g.Propose(t.Context(), &metadata.FenceNode{ID: 3, Epoch: 3})
			if r, _ := g.Propose(t.Context(), &metadata.UnregisterNode{ID: 3}); r.Err != nil {
				t.Fatal(r.Err)
			}
			g.status["a3"] = consensus.Status{ID: 3, HasState: true}
			a := runActive(t, g, Rebalance{}, consensus.Candidate{Member: consensus.Member{ID: 3, Address: "a3"}, Cluster: cluster})
			g.lead(1)
			<-time.After(2 * StepEvery)
			beat(t, a, 3*time.Second, 1, 2)
			admitted := func() (list []metadata.NodeID) {
				g.mu.Lock()
				defer g.mu.Unlock()
				return slices.Clone(g.admitted)
			}
			if made := g.made(); made != "expel 3" {
				t.Errorf("made: %s", made)
			}
			if len(admitted()) > 0 || !g.Image().Removed(3) {
				t.Errorf("admitted %v although it was removed", admitted())
			}
			g.mu.Lock()
			g.status["a3"] = consensus.Status{ID: 3}
			g.mu.Unlock()
			beat(t, a, 3*time.Second, 1, 2)
			if anew := len(admitted()) > 0 && !g.Image().Removed(3); anew != (cluster == "") {
				t.Errorf("of cluster %q, without metadata: admitted %v", cluster, admitted())
			}
		})
	}
}
