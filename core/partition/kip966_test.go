package partition

import (
	"errors"
	"slices"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// replicas are a partition's three replicas, each with a disk of its own, and what the cluster agreed on. They copy when they are told to.
type replicas struct {
	t     *testing.T
	image *metadata.Image
	disks map[metadata.NodeID]*vfs.Memory
	at    map[metadata.NodeID]*Partition // those that are up
}

func newReplicas(t *testing.T, elr int16) *replicas {
	r := &replicas{t: t, image: metadata.NewImage(), disks: map[metadata.NodeID]*vfs.Memory{}, at: map[metadata.NodeID]*Partition{}}
	r.apply(&metadata.SetFeatures{Levels: map[string]int16{metadata.FeatureELR: elr}})
	for n := range metadata.NodeID(3) {
		r.apply(&metadata.RegisterNode{ID: n + 1, MinISR: 1})
	}
	r.apply(&metadata.CreateTopics{Topics: []metadata.TopicSpec{{
		Name: "t", ID: metadata.TopicID{1}, Assignment: [][]metadata.NodeID{{1, 2, 3}}, Configs: map[string]string{"min.insync.replicas": "2"},
	}}})
	for n := range metadata.NodeID(3) {
		r.disks[n+1] = vfs.NewCrash()
		r.start(n + 1)
	}
	return r
}

func (r *replicas) state() *metadata.Partition { return r.image.Partition("t", 0) }

func (r *replicas) apply(c metadata.Command) {
	r.t.Helper()
	next, result := metadata.Apply(r.image, r.image.Index+1, c)
	if err := errors.Join(append(result.Errs, result.Err)...); err != nil {
		r.t.Fatal(err)
	}
	r.image = next
	for _, p := range r.at {
		p.Update(r.state(), 2)
	}
}

func (r *replicas) start(n metadata.NodeID) {
	r.t.Helper()
	syncer := commitlog.NewSyncer(1, nil)
	r.t.Cleanup(syncer.Close)
	p, err := Open(Options{
		Node: n, State: r.state(), MinISR: 2,
		Open: func(advanced func()) (*commitlog.Log, error) {
			return commitlog.Open(commitlog.Options{FS: r.disks[n], Dir: "/t-0", Name: "t-0", Durability: commitlog.Relaxed, Syncer: syncer, Advanced: advanced, BootID: "b"})
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.at[n] = p
}

// kill ends a node; powerCut takes what was not synced with it. The cluster finds out.
func (r *replicas) kill(n metadata.NodeID, powerCut bool) {
	r.t.Helper()
	p := r.at[n]
	if powerCut {
		r.disks[n] = r.disks[n].Crashed(nil)
	}
	delete(r.at, n)
	p.Close()
	if err := p.Log().Close(); err != nil {
		r.t.Fatal(err)
	}
	r.apply(&metadata.FenceNode{ID: n, Epoch: r.image.Nodes[n].Epoch})
}

func (r *replicas) back(n metadata.NodeID, tailLost bool) {
	r.t.Helper()
	r.start(n)
	r.apply(&metadata.RegisterNode{ID: n, MinISR: 1, TailLost: tailLost})
}

func (r *replicas) append(acks bool) error {
	r.t.Helper()
	_, err := r.at[r.state().Leader].Append(batchOf(r.t, 1), AnyEpoch, commitlog.FromClient, acks)
	return err
}

// copied lets a follower fetch until it has all that its leader has, and has told so.
func (r *replicas) copied(n metadata.NodeID) {
	r.t.Helper()
	s := r.state()
	leader, p := r.at[s.Leader], r.at[n]
	for range 10 {
		end, last := p.Position()
		got, err := leader.Read(ReadRequest{
			Offset: end, Epoch: int32(s.LeaderEpoch), LastEpoch: last, MaxBytes: 1 << 20, MinOne: true, Replica: n, LogStart: p.Log().StartOffset(), NodeEpoch: r.image.Nodes[n].Epoch,
		})
		if err != nil {
			r.t.Fatal(err)
		}
		if got.Diverging != nil {
			err = p.CutBack(int32(s.LeaderEpoch), *got.Diverging, got.LogStart)
		} else if got.Slice.Len > 0 {
			b := make([]byte, got.Slice.Len)
			if _, err = got.Slice.File.ReadAt(b, got.Slice.Pos); err == nil {
				err = p.AppendFetched(b, int32(s.LeaderEpoch))
			}
			got.Slice.Release()
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if err := p.Learn(int32(s.LeaderEpoch), got.HighWatermark, got.LogStart); err != nil {
			r.t.Fatal(err)
		}
	}
	if end, _ := p.Position(); end != leader.Log().EndOffset() {
		r.t.Fatalf("node %d has not copied node %d: %d of %d", n, s.Leader, end, leader.Log().EndOffset())
	}
}

// join has the leader's wish for another ISR agreed on.
func (r *replicas) join() {
	r.t.Helper()
	c, ok := r.at[r.state().Leader].Wish(1<<40, func(n metadata.NodeID) (int64, bool) { return r.image.Nodes[n].Epoch, !r.image.Nodes[n].Fenced })
	if !ok {
		r.t.Fatalf("the leader wishes for no other ISR: %+v", r.state())
	}
	r.apply(&metadata.AlterPartition{Changes: []metadata.ISRChange{c}})
}

// The history of KIP-966: the last replica in sync loses its tail in a power cut, while others that left before have all that was
// acknowledged. With eligible leader replicas one of those leads, and nothing is lost. Without them the last one leads, and everybody cuts
// back to what it has.
func TestLastReplicaStanding(t *testing.T) {
	for level, kept := range []int64{0, 2} {
		r := newReplicas(t, int16(level))
		leader := r.at[1]
		for range 2 {
			if err := r.append(true); err != nil {
				t.Fatal(err)
			}
			r.copied(2)
			if len(r.state().ISR) == 3 {
				r.copied(3)
				r.copied(2)
			}
			if hw := leader.HighWatermark(); hw != leader.Log().EndOffset() {
				t.Fatalf("what all in sync have is not acknowledged: %d of %d", hw, leader.Log().EndOffset())
			}
			if len(r.state().ISR) == 3 {
				r.kill(3, false) // it has the first record only
			}
		}
		r.kill(2, false)
		if err := r.append(true); !errors.Is(err, ErrNotEnough) {
			t.Fatalf("acknowledged by one of three, where two are asked for: %v", err)
		}
		if err := r.append(false); err != nil || leader.HighWatermark() != 2 {
			t.Fatalf("%v; readable up to %d: what one replica has is not to be read", err, leader.HighWatermark())
		}
		r.kill(1, true)
		r.back(3, false)
		if s := r.state(); s.Leader != -1 {
			t.Fatalf("node 3 has missed a record and leads: %+v", s)
		}
		r.back(1, true)
		r.back(2, false)
		s := r.state()
		want := []metadata.NodeID{1, 2}[level]
		if s.Leader != want || !slices.Equal(s.ISR, []metadata.NodeID{want}) {
			t.Fatalf("level %d: %+v", level, s)
		}
		for _, n := range []metadata.NodeID{1, 2, 3} {
			if n != want {
				r.copied(n)
			}
		}
		r.join()
		for n := range r.at {
			if n != want {
				r.copied(n)
				r.copied(n)
			}
		}
		for n, p := range r.at {
			if end := p.Log().EndOffset(); end != kept {
				t.Errorf("level %d: node %d has %d records, want %d", level, n, end, kept)
			}
		}
		if hw := r.at[want].HighWatermark(); hw != kept {
			t.Errorf("level %d: %d can be read, want %d", level, hw, kept)
		}
		if s := r.state(); len(s.ISR) != 3 || len(s.ELR) != 0 {
			t.Errorf("level %d: in the end %+v", level, s)
		}
	}
}
