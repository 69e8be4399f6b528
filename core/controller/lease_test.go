package controller

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

// TestOwnLease: a node's own lease ends no later than the controller's memory of it, at once when it hears that it is fenced, and begins with its registration.
func TestOwnLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1)
		a := NewActive(ActiveOptions{Group: g, Node: 1, Nodes: func() []consensus.Candidate { return nil }, NewClusterID: func() string { return "named" }})
		if a.Leased() {
			t.Fatal("a node that is not registered has a lease")
		}
		asked := time.Now()
		<-time.After(100 * time.Millisecond)
		a.Registered(asked)
		<-time.After(silence - 101*time.Millisecond)
		if !a.Leased() {
			t.Fatal("no lease within one of the registration")
		}
		<-time.After(time.Millisecond)
		if a.Leased() {
			t.Fatal("the lease outlives the one of the registration")
		}

		waited := make(chan time.Time)
		go func() { a.AwaitLease(context.Background()); waited <- time.Now() }()
		<-time.After(SessionTimeout)
		send := func() error {
			return a.SendHeartbeat(context.Background(), nil, func(metadata.NodeID) (string, bool) { return "", false }, g.Image().Nodes[1].Epoch)
		}
		if send() == nil || a.Leased() {
			t.Fatal("a lease from somebody who does not lead the quorum")
		}
		g.lead(7)
		a.Step(context.Background())
		if err := send(); err != nil {
			t.Fatal(err)
		}
		if at := <-waited; !at.Equal(time.Now()) {
			t.Fatalf("who waited went on at %v, the lease began at %v", at, time.Now())
		}
		if _, err := g.Propose(context.Background(), &metadata.FenceNode{ID: 1, Epoch: g.Image().Nodes[1].Epoch}); err != nil {
			t.Fatal(err)
		}
		if send() == nil || a.Leased() {
			t.Fatal("a fenced node has a lease")
		}

		waiting, cancel := context.WithTimeout(context.Background(), SessionTimeout)
		defer cancel()
		a.AwaitLease(waiting)
		if a.Leased() || waiting.Err() == nil {
			t.Fatal("the wait has ended without a lease")
		}
	})
}

// TestOwnLeaseAndRefusals: who is silent and whose address refuses connections is fenced before the session timeout, and is not sure of its lease by then: it may be alive
// behind a firewall, and answer clients.
func TestOwnLeaseAndRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup(1, 2)
		g.lead(7)
		there := NewActive(ActiveOptions{Group: g, Node: 1, Nodes: func() []consensus.Candidate { return nil }, NewClusterID: func() string { return "named" },
			Refused: func(context.Context, metadata.NodeID) bool { return true }})
		here := NewActive(ActiveOptions{Group: g, Node: 2, Nodes: func() []consensus.Candidate { return nil }, NewClusterID: func() string { return "named" }})
		there.Step(t.Context()) // the leases begin
		here.Registered(time.Now())
		for began := time.Now(); !g.Image().Nodes[2].Fenced; {
			if time.Since(began) > SessionTimeout {
				t.Fatal("a node that is gone is not fenced")
			}
			<-time.After(StepEvery)
			if err := there.Heartbeat(1, g.Image().Nodes[1].Epoch); err != nil {
				t.Fatal(err)
			}
			there.Step(t.Context())
		}
		if here.Leased() {
			t.Error("a node that is fenced is sure of its lease")
		}
	})
}

// TestClockApart: a node learns from the answers to its heartbeats by how much at least its clock and the controller's are apart, however long the answer takes.
func TestClockApart(t *testing.T) {
	for _, ahead := range []time.Duration{0, 3 * time.Second, -time.Hour} {
		peers := func() *consensus.Peers {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			p := consensus.NewPeers(consensus.PeersOptions{Listener: l, Advertise: l.Addr().String(), ClusterID: func() string { return "" }, Lookup: func(metadata.NodeID) (string, bool) { return "", false }})
			t.Cleanup(func() { _ = p.Close() })
			return p
		}
		g := newFakeGroup(1, 2)
		g.lead(7)
		o := ActiveOptions{Group: g, Node: 1, Nodes: func() []consensus.Candidate { return nil }, NewClusterID: func() string { return "named" }}
		leader := NewActive(o)
		theirs, ours := peers(), peers()
		leader.Serve(theirs)
		leader.Step(t.Context())
		o.Node, o.Now = 2, func() time.Time { return time.Now().Add(ahead) }
		a := NewActive(o)
		if err := a.SendHeartbeat(t.Context(), ours, func(metadata.NodeID) (string, bool) { return theirs.Addr(), true }, g.Image().Nodes[2].Epoch); err != nil {
			t.Fatal(err)
		}
		if got := a.ClockApart(); (got-ahead).Abs() > time.Second || ahead == 0 && got != 0 {
			t.Errorf("%v ahead: %v", ahead, got)
		}
	}
	at := time.UnixMilli(10_000)
	for _, c := range []struct{ sent, received, read, want int64 }{{0, 100, 50, 0}, {0, 100, 0, 0}, {0, 100, 100, 0}, {0, 100, 101, -1}, {50, 100, 0, 50}, {0, 9000, 5000, 0}} {
		ms := func(n int64) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
		if got := clocksApart(ms(c.sent), ms(c.received), ms(c.read)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
