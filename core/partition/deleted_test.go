package partition

import (
	"context"
	"errors"
	"testing"

	"github.com/forebayhub/forebay/core/metadata"
)

// Records are deleted when no replica that is alive has them any more: who waits is told when the last follower says where its log starts, and followers that wait for
// records learn of it at once.
func TestAwaitDeleted(t *testing.T) {
	r := newReplicas(t, 1)
	leader := r.at[1]
	all := func(metadata.NodeID) bool { return true }
	for range 3 {
		if err := r.append(true); err != nil {
			t.Fatal(err)
		}
	}
	r.copied(2)
	r.copied(3)
	r.copied(2)
	if hw := leader.HighWatermark(); hw != 3 {
		t.Fatalf("the watermark is %d", hw)
	}
	tail := NewWaiter()
	tail.Tail = true
	leader.Watch(tail)
	defer leader.Unwatch(tail)
	seen, err := leader.Read(ReadRequest{Offset: 3, Epoch: AnyEpoch, LastEpoch: 0, Replica: 2, NodeEpoch: -1})
	if err != nil {
		t.Fatal(err)
	}
	if low, err := leader.DeleteBefore(2); low != 2 || err != nil {
		t.Fatal(low, err)
	}
	select {
	case <-tail.C:
	default:
		t.Error("a follower that waits was not woken")
	}
	if leader.Outdated(&seen, true) || seen.LogStart != 2 {
		t.Errorf("a follower that waits sees a log from %d", seen.LogStart)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := leader.AwaitDeleted(ended, 2, all); !errors.Is(err, context.Canceled) {
		t.Errorf("with two followers that have it all: %v", err)
	}
	done := make(chan error)
	go func() {
		low, err := leader.AwaitDeleted(t.Context(), 2, all)
		if low != 2 {
			t.Errorf("the low watermark is %d", low)
		}
		done <- err
	}()
	r.copied(2)
	r.copied(2)
	if low, err := leader.AwaitDeleted(ended, 2, func(n metadata.NodeID) bool { return n != 3 }); low != 2 || err != nil {
		t.Errorf("without node 3: %d, %v", low, err)
	}
	if low := leader.lowWatermark(all); low != 0 {
		t.Errorf("the low watermark is %d before node 3 has deleted", low)
	}
	r.copied(3)
	r.copied(3)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := r.at[2].AwaitDeleted(t.Context(), 0, all); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower: %v", err)
	}
}
