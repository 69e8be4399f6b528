package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

// fakeGroup is a metadata quorum of one.
type fakeGroup struct {
	mu       sync.Mutex
	image    *metadata.Image
	term     uint64
	status   map[string]consensus.Status // by address; who is not there does not answer
	asked    int                         // for it
	admitted []metadata.NodeID
	voters   []metadata.NodeID // beside 1
	others   []metadata.NodeID
	behind   map[metadata.NodeID]bool // not caught up
	changes  []string
	full     bool          // its disk: it agrees to no election
	slow     time.Duration // what it takes to learn all that was agreed on
}

func newFakeGroup(nodes ...metadata.NodeID) *fakeGroup {
	g := &fakeGroup{image: metadata.NewImage(), status: map[string]consensus.Status{}}
	for _, n := range nodes {
		_, _ = g.Propose(context.Background(), &metadata.RegisterNode{ID: n})
	}
	return g
}

func (g *fakeGroup) Propose(_ context.Context, c metadata.Command) (metadata.Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := c.(*metadata.ChangePartition); ok && g.full {
		return metadata.Result{}, consensus.ErrDiskFull
	}
	next, r := metadata.ApplyAt(g.image, g.image.Index+1, time.Now().UnixMilli(), c)
	g.image = next
	return r, nil
}

func (g *fakeGroup) refuse(full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.full = full
}

func (g *fakeGroup) Current(context.Context) error { return nil }

func (g *fakeGroup) Image() *metadata.Image {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.image
}

func (g *fakeGroup) Term() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.term
}

func (g *fakeGroup) lead(term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.term = term
}

func (g *fakeGroup) Barrier(context.Context) error   { <-time.After(g.slow); return nil } // of a bubble's clock
func (g *fakeGroup) Leader() (metadata.NodeID, bool) { return 1, true }
func (g *fakeGroup) Members() (voters, others []consensus.Member, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return members(append([]metadata.NodeID{1}, g.voters...)), members(g.others), nil
}

func members(ids []metadata.NodeID) (list []consensus.Member) {
	for _, id := range ids {
		list = append(list, consensus.Member{ID: id, Address: fmt.Sprint("a", id)})
	}
	return list
}

// change makes a change of the quorum, if it can be.
func (g *fakeGroup) change(what string, from, to *[]metadata.NodeID, id metadata.NodeID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changes = append(g.changes, fmt.Sprint(what, " ", id))
	at := slices.Index(*from, id)
	if at < 0 {
		return errors.New("not there")
	}
	*from = slices.Delete(*from, at, at+1)
	if to != nil {
		*to = append(*to, id)
	}
	return nil
}

func (g *fakeGroup) Promote(m consensus.Member) error {
	return g.change("promote", &g.others, &g.voters, m.ID)
}
func (g *fakeGroup) Demote(id metadata.NodeID) error {
	return g.change("demote", &g.voters, &g.others, id)
}
func (g *fakeGroup) HandOverTo(m consensus.Member) error {
	return g.change("hand over to", &g.voters, &g.voters, m.ID)
}
func (g *fakeGroup) Expel(id metadata.NodeID) error {
	g.mu.Lock()
	votes := slices.Contains(g.voters, id)
	g.mu.Unlock()
	if votes {
		return g.change("expel", &g.voters, nil, id)
	}
	return g.change("expel", &g.others, nil, id)
}
func (g *fakeGroup) CaughtUp(_ context.Context, m consensus.Member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.behind[m.ID]
}

// made are the changes of the quorum up to now.
func (g *fakeGroup) made() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.changes, ", ")
}

func (g *fakeGroup) Admit(m consensus.Member) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.admitted = append(g.admitted, m.ID)
	return nil
}

func (g *fakeGroup) Status(ctx context.Context, addr string) (consensus.Status, error) {
	g.mu.Lock()
	s, ok := g.status[addr]
	g.asked++
	g.mu.Unlock()
	if !ok { // its packets are swallowed
		<-ctx.Done()
		return s, ctx.Err()
	}
	return s, nil
}

func (g *fakeGroup) fenced(n metadata.NodeID) bool { return g.Image().Nodes[n].Fenced }

func runActive(t *testing.T, g *fakeGroup, r Rebalance, nodes ...consensus.Candidate) *Active {
	t.Helper()
	a := NewActive(ActiveOptions{Group: g, Voters: g, Node: 1, Rebalance: r, Nodes: func() []consensus.Candidate { return nodes }, NewClusterID: func() string { return "named" }})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return a
}

// beat sends heartbeats for a while.
func beat(t *testing.T, a *Active, d time.Duration, nodes ...metadata.NodeID) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, n := range nodes {
			if err := a.Heartbeat(n, a.o.Group.Image().Nodes[n].Epoch); err != nil {
				t.Fatalf("heartbeat of %d: %v", n, err)
			}
		}
		<-time.After(HeartbeatEvery)
	}
}

// TestLeasesOfANewLeader: a lease is one of SessionTimeout however long the new leader took to become one, and not shorter.
func TestLeasesOfANewLeader(t *testing.T) {
	for _, slow := range []time.Duration{0, SessionTimeout / 2, 1900 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			g := newFakeGroup(1, 2)
			g.slow = slow
			a := runActive(t, g, Rebalance{})
			<-time.After(StepEvery + time.Millisecond)
			g.lead(7)
			<-time.After(StepEvery + slow) // it leads since a millisecond
			beat(t, a, 4*HeartbeatEvery, 1)
			if g.fenced(2) {
				t.Fatalf("after %v to become the leader it fenced within a lease", slow)
			}
			beat(t, a, 3*HeartbeatEvery, 1)
			if !g.fenced(2) || g.fenced(1) {
				t.Fatalf("after %v to become the leader: the silent node fenced %t, the other one %t", slow, g.fenced(2), g.fenced(1))
			}
		})
	}
}

func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2, 3)
		a := runActive(t, g, Rebalance{})
		<-time.After(10 * SessionTimeout)
		if g.fenced(1) || g.fenced(2) || g.fenced(3) {
			t.Fatal("a node that does not lead the quorum has fenced")
		}
		if err := a.Heartbeat(1, 1); err == nil {
			t.Error("a node that does not lead the quorum has renewed a lease")
		}
		g.lead(7)
		<-time.After(2 * StepEvery)
		if g.Image().ClusterID != "named" {
			t.Error("the first leader has not named the cluster")
		}
		// A new leader waits one lease: it heard nobody yet.
		beat(t, a, 3*HeartbeatEvery, 1, 2)
		if g.fenced(3) {
			t.Fatal("fenced within the first lease")
		}
		beat(t, a, 3*HeartbeatEvery, 1, 2)
		if !g.fenced(3) || g.fenced(1) || g.fenced(2) {
			t.Fatal("only the silent node is to be fenced")
		}
		// Its registration is over; with a new one it has a whole lease again.
		old := g.Image().Nodes[3].Epoch
		if err := a.Heartbeat(3, old); !errors.Is(err, ErrFenced) {
			t.Errorf("heartbeat of a fenced registration: %v", err)
		}
		if _, err := g.Propose(t.Context(), &metadata.RegisterNode{ID: 3}); err != nil {
			t.Fatal(err)
		}
		beat(t, a, SessionTimeout/2, 1, 2)
		beat(t, a, 3*SessionTimeout, 1, 2, 3)
		if g.fenced(3) {
			t.Error("fenced although it kept its lease")
		}
		if err := a.Heartbeat(3, old); !errors.Is(err, ErrFenced) {
			t.Errorf("heartbeat of an older registration: %v", err)
		}
		// Another leader, then this one again: everybody has a whole lease.
		g.lead(0)
		<-time.After(5 * SessionTimeout)
		g.lead(9)
		<-time.After(SessionTimeout - StepEvery)
		if g.fenced(1) || g.fenced(2) || g.fenced(3) {
			t.Error("fenced within the first lease of a new term")
		}
	})
}

func TestPreferredLeaderComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2)
		id := newTopicID()
		_, _ = g.Propose(t.Context(), &metadata.CreateTopics{Topics: []metadata.TopicSpec{{Name: "t", ID: id, Assignment: [][]metadata.NodeID{{2, 1}}}}})
		_, _ = g.Propose(t.Context(), &metadata.FenceNode{ID: 2, Epoch: 2})
		_, _ = g.Propose(t.Context(), &metadata.RegisterNode{ID: 2})
		p := func() *metadata.Partition { return g.Image().Partition("t", 0) }
		g.lead(1)
		a := runActive(t, g, Rebalance{})
		<-time.After(2 * StepEvery)
		beat(t, a, 20*time.Second, 1, 2)
		if p().Leader != 1 {
			t.Fatalf("%d leads, out of sync", p().Leader)
		}
		n := g.Image().Nodes
		r, _ := g.Propose(t.Context(), &metadata.AlterPartition{Changes: []metadata.ISRChange{{
			Topic: id, Leader: 1, NodeEpoch: n[1].Epoch, LeaderEpoch: p().LeaderEpoch, PartitionEpoch: p().PartitionEpoch,
			ISR: []metadata.ISRMember{{ID: 1, Epoch: n[1].Epoch}, {ID: 2, Epoch: n[2].Epoch}},
		}}})
		if r.Errs[0] != nil {
			t.Fatal(r.Errs[0])
		}
		beat(t, a, 20*time.Second, 1, 2)
		if p().Leader != 2 {
			t.Errorf("%d leads, not the preferred replica", p().Leader)
		}
	})
}

func TestOnlyOurNodesAreAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1)
		g.status["a2"] = consensus.Status{ID: 2}
		g.status["a4"] = consensus.Status{ID: 4, HasState: true}
		g.status["a5"] = consensus.Status{ID: 50}
		node := func(id metadata.NodeID, addr, cluster string) consensus.Candidate {
			return consensus.Candidate{Member: consensus.Member{ID: id, Address: addr}, Cluster: cluster}
		}
		a := runActive(t, g, Rebalance{}, node(1, "a1", "named"), node(2, "a2", ""), node(3, "a3", "other"), node(4, "a4", ""), node(5, "a5", ""))
		g.lead(1)
		<-time.After(4 * StepEvery)
		beat(t, a, SessionTimeout, 1)
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, id := range g.admitted {
			if id != 1 && id != 2 {
				t.Errorf("node %d was admitted", id)
			}
		}
		if len(g.admitted) < 2 {
			t.Errorf("admitted: %v", g.admitted)
		}
	})
}

// Nodes that gossip and do not answer, as behind a firewall, keep nobody from being fenced, and are asked less and less often.
func TestNobodyAnswersAndNodesAreFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2)
		var deaf []consensus.Candidate
		for _, m := range members([]metadata.NodeID{3, 4, 5, 6}) {
			deaf = append(deaf, consensus.Candidate{Member: m})
		}
		a := runActive(t, g, Rebalance{}, deaf...)
		g.lead(1)
		<-time.After(2 * StepEvery)
		beat(t, a, 2*SessionTimeout, 1)
		if !g.fenced(2) || g.fenced(1) {
			t.Errorf("the silent node fenced %t, the other one %t", g.fenced(2), g.fenced(1))
		}
		beat(t, a, 5*time.Minute, 1)
		g.mu.Lock()
		defer g.mu.Unlock()
		if rounds := g.asked / len(deaf); rounds < 5 || rounds > 20 {
			t.Errorf("each was asked %d times in five minutes", rounds)
		}
	})
}

// Who is left alone for a while is noted beside those that are asked (with -race).
func TestDeafAreNotedBesideTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := members([]metadata.NodeID{4, 5})
		a := NewActive(ActiveOptions{Group: newFakeGroup(1), Node: 1})
		a.deaf = map[consensus.Member]deaf{list[1]: {time.Minute, time.Now().Add(time.Minute)}}
		ctx, end := context.WithCancel(t.Context())
		end()
		if said := a.ask(ctx, []consensus.Candidate{{Member: list[0]}, {Member: list[1]}}); len(said) != 0 || len(a.deaf) != 2 {
			t.Errorf("%d answered, %d are deaf", len(said), len(a.deaf))
		}
	})
}

func TestPlacement(t *testing.T) {
	g := newFakeGroup()
	for n, rack := range map[metadata.NodeID]string{1: "a", 2: "a", 3: "b", 4: "b", 5: "c"} {
		_, _ = g.Propose(t.Context(), &metadata.RegisterNode{ID: n, Rack: rack})
	}
	_, _ = g.Propose(t.Context(), &metadata.FenceNode{ID: 5, Epoch: g.Image().Nodes[5].Epoch})
	list, err := place(g.Image(), 12, 2)
	if err != nil {
		t.Fatal(err)
	}
	leads := map[metadata.NodeID]int{}
	for p, replicas := range list {
		leads[replicas[0]]++
		if a, b := g.Image().Nodes[replicas[0]].Rack, g.Image().Nodes[replicas[1]].Rack; a == b || a == "c" || b == "c" {
			t.Errorf("partition %d on %v: racks %s and %s", p, replicas, a, b)
		}
	}
	if len(leads) != 4 || leads[1] != 3 || leads[4] != 3 {
		t.Errorf("leaders: %v", leads)
	}
	if list, err = place(g.Image(), 1, 5); err != nil || len(list[0]) != 5 || list[0][4] != 5 {
		t.Errorf("with a fenced one: %v %v", list, err)
	}
	if _, err := place(g.Image(), 1, 6); err == nil {
		t.Error("six replicas on five nodes")
	}
}

// A node that is silent and whose process is gone is fenced before its lease ends; one that is only silent is not.
func TestAProcessThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2, 3, 4)
		asked := map[metadata.NodeID]int{}
		var mu sync.Mutex
		gone := false
		a := NewActive(ActiveOptions{
			Group: g, Node: 1, Nodes: func() []consensus.Candidate { return nil }, NewClusterID: func() string { return "named" },
			Refused: func(_ context.Context, n metadata.NodeID) bool {
				mu.Lock()
				defer mu.Unlock()
				asked[n]++
				return n == 3 && (gone || asked[n]%2 == 1)
			},
		})
		run := func(d time.Duration, alive ...metadata.NodeID) {
			for i := range d / StepEvery {
				a.Step(t.Context())
				for _, n := range alive {
					if err := a.Heartbeat(n, g.Image().Nodes[n].Epoch); i%4 == 0 && err != nil {
						t.Fatal(err)
					}
				}
				<-time.After(StepEvery)
			}
		}
		g.lead(1)
		run(SessionTimeout, 1, 2, 3, 4)
		if len(asked) > 0 {
			t.Errorf("nobody is silent, and %v were asked", asked)
		}
		run(SessionTimeout/2, 1, 2)
		if g.fenced(3) || g.fenced(4) || asked[3] < 2 || asked[4] < 2 || asked[2] > 0 || asked[1] > 0 {
			t.Fatalf("refused once, and taken the next time: %v", asked)
		}
		gone = true
		run(3*StepEvery, 1, 2)
		if !g.fenced(3) || g.fenced(4) {
			t.Errorf("node 3 is gone: fenced %v; node 4 may hang: fenced %v", g.fenced(3), g.fenced(4))
		}
		run(SessionTimeout, 1, 2)
		if !g.fenced(4) || g.fenced(1) || g.fenced(2) {
			t.Error("only who has a lease stays")
		}
	})
}

// TestOneLineForADeath: and one for a return, however many partitions the node has; who leads next says nothing of what was before.
func TestOneLineForADeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2, 3)
		assignment := make([][]metadata.NodeID, 50)
		for n := range assignment {
			assignment[n] = []metadata.NodeID{metadata.NodeID(n%2 + 2), 1}
		}
		propose := func(c metadata.Command) {
			t.Helper()
			if r, err := g.Propose(t.Context(), c); err != nil || r.Err != nil {
				t.Fatal(err, r.Err)
			}
		}
		propose(&metadata.CreateTopics{Topics: []metadata.TopicSpec{{Name: "t", ID: uuid.New(), Assignment: assignment}}})
		var told bytes.Buffer
		handler := slog.NewTextHandler(&told, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == "epoch" {
				return slog.Attr{}
			}
			return a
		}})
		a := NewActive(ActiveOptions{
			Group: g, Node: 1, Nodes: func() []consensus.Candidate { return nil }, NewClusterID: func() string { return "named" }, Logger: slog.New(handler),
		})
		run := func(d time.Duration, alive ...metadata.NodeID) {
			for range d / StepEvery {
				a.Step(t.Context())
				for _, n := range alive {
					_ = a.Heartbeat(n, g.Image().Nodes[n].Epoch) // of a fenced one it is refused
				}
				<-time.After(StepEvery)
			}
		}
		says := func(want string) {
			t.Helper()
			if got := told.String(); got != want {
				t.Errorf("told:\n%swant:\n%s", got, want)
			}
			told.Reset()
		}
		g.lead(1)
		run(2*SessionTimeout, 1, 2)
		says("msg=\"this node is the active controller\" term=1\nmsg=\"a node has lost its lease: it is fenced\" node=3 led=25 replicas=25\n")
		<-time.After(8 * time.Second)
		propose(&metadata.RegisterNode{ID: 3})
		run(2*SessionTimeout, 1, 2, 3)
		says("msg=\"a node is back\" node=3 away=9s\n")
		propose(&metadata.FenceNode{ID: 3, Epoch: g.Image().Nodes[3].Epoch}) // it stops in good order
		run(SessionTimeout, 1, 2)
		says("msg=\"a node has left\" node=3\n")
		g.lead(2)
		run(2*SessionTimeout, 1, 2)
		says("msg=\"this node is the active controller\" term=2\n")
		propose(&metadata.RegisterNode{ID: 3})
		run(SessionTimeout, 1, 2, 3)
		says("msg=\"a node is back\" node=3 away=3s\n")
	})
}

// Replicas lie on as many racks as there are, whatever the racks' sizes; leaders and replicas are spread over all nodes where racks are even.
func TestPlaceOnRacks(t *testing.T) {
	for _, c := range []struct {
		name   string
		racks  []string // of node 1, 2, …
		factor int
		spread int // racks of each partition
		even   bool
	}{
		{"three racks of two", []string{"a", "a", "b", "b", "c", "c"}, 3, 3, true},
		{"one large rack", []string{"a", "a", "a", "a", "b", "c"}, 3, 3, false},
		{"fewer racks than replicas", []string{"a", "a", "b", "b"}, 3, 2, true},
		{"two of a large one", []string{"a", "a", "a", "b"}, 2, 2, false},
		{"no racks", []string{"", "", ""}, 3, 1, true},
	} {
		image := metadata.NewImage()
		for n, rack := range c.racks {
			image, _ = metadata.Apply(image, image.Index+1, &metadata.RegisterNode{ID: metadata.NodeID(n + 1), Rack: rack})
		}
		list, err := place(image, 60, c.factor)
		if err != nil {
			t.Fatal(err)
		}
		leads, has := map[metadata.NodeID]int{}, map[metadata.NodeID]int{}
		for n, replicas := range list {
			on := map[string]bool{}
			for _, r := range replicas {
				on[image.Nodes[r].Rack] = true
				has[r]++
			}
			leads[replicas[0]]++
			if len(on) != c.spread || len(replicas) != c.factor {
				t.Errorf("%s: partition %d on %v", c.name, n, replicas)
			}
		}
		for n := range image.Nodes {
			if leads[n] != 60/len(c.racks) {
				t.Errorf("%s: node %d leads %d of 60", c.name, n, leads[n])
			}
			if want := 60 * c.factor / len(c.racks); c.even && has[n] != want {
				t.Errorf("%s: node %d has %d replicas, an even share is %d", c.name, n, has[n], want)
			}
		}
	}
}
