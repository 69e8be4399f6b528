package partition

import (
	"errors"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
)

// A follower answers consumers up to the watermark that it knows, and wakes them when that rises; a leader names the replica near to a consumer that
// has the offset and is in sync.
func TestReadFromFollowers(t *testing.T) {
	r := newReplicas(t, 1)
	leader, follower := r.at[1], r.at[2]
	near := func(nodes ...metadata.NodeID) func(metadata.NodeID) bool {
		return func(n metadata.NodeID) bool {
			for _, m := range nodes {
				if n == m {
					return true
				}
			}
			return false
		}
	}
	read := func(p *Partition, offset int64, epoch int32, f func(metadata.NodeID) bool) (ReadResult, error) {
		t.Helper()
		got, err := p.Read(ReadRequest{Offset: offset, Epoch: epoch, LastEpoch: -1, MaxBytes: 1 << 20, MinOne: true, Replica: -1, Follower: true, Near: f})
		got.Slice.Release()
		return got, err
	}
	if err := r.append(true); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Read(ReadRequest{Epoch: -1, LastEpoch: -1, Replica: -1}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a client that knows of no followers: %v", err)
	}
	if _, err := follower.Read(ReadRequest{Epoch: -1, LastEpoch: -1, Replica: 3, Follower: true}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower fetches from the leader only: %v", err)
	}
	// It has the record when node 3 has not: not to be read.
	r.copied(2)
	if got, err := read(follower, 0, 0, nil); err != nil || got.Slice.Len > 0 || got.HighWatermark != 0 {
		t.Errorf("above the watermark: %+v, %v", got, err)
	}
	if got, err := read(leader, 0, 0, near(3)); err != nil || got.Elsewhere {
		t.Errorf("node 3 has not fetched yet: %+v, %v", got, err)
	}
	if got, err := read(leader, 0, 0, near(2)); err != nil || !got.Elsewhere || got.Preferred != 2 || got.Slice.Len > 0 {
		t.Errorf("node 2 is near: %+v, %v", got, err)
	}
	if got, err := read(leader, 1, 0, near(3)); err != nil || got.Elsewhere {
		t.Errorf("node 3 has not got so far: %+v, %v", got, err)
	}
	w := NewWaiter()
	follower.Watch(w)
	r.copied(3)
	r.copied(2)
	select {
	case <-w.C:
	default:
		t.Error("the watermark of the follower has risen, and nobody was woken")
	}
	if got, err := read(follower, 0, 0, nil); err != nil || got.Slice.Len == 0 || got.HighWatermark != 1 {
		t.Errorf("below the watermark: %+v, %v", got, err)
	}
	if _, err := read(follower, 2, 0, nil); !errors.Is(err, commitlog.ErrOffsetOutOfRange) {
		t.Errorf("beyond the follower's log: %v", err)
	}
	if _, err := read(follower, 0, 1, nil); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("a newer epoch: %v", err)
	}
	for _, c := range []struct {
		near func(metadata.NodeID) bool
		want metadata.NodeID // -1: the leader answers
	}{{near(2), 2}, {near(1, 2), -1}, {near(), -1}, {near(9), -1}} {
		got, err := read(leader, 0, 0, c.near)
		if err != nil || got.Elsewhere != (c.want >= 0) || got.Elsewhere && (got.Preferred != c.want || got.Slice.Len > 0) {
			t.Errorf("want %d: %+v, %v", c.want, got, err)
		}
	}
	// Who has most, of several; who is out of sync, never.
	if err := r.append(true); err != nil {
		t.Fatal(err)
	}
	r.copied(3)
	if got, _ := read(leader, 0, 0, near(2, 3)); got.Preferred != 3 {
		t.Errorf("node 3 has most: %+v", got)
	}
	r.kill(3, false)
	if got, _ := read(leader, 0, 0, near(3)); got.Elsewhere {
		t.Errorf("node 3 is out of sync: %+v", got)
	}
	follower.Close()
	if _, err := read(follower, 0, 0, nil); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a partition that is closed: %v", err)
	}
}
