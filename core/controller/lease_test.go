package controller

import (
	"context"
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
		<-time.After(SessionTimeout - 101*time.Millisecond)
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
