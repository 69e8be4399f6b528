package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// town is where the tests' nodes hear of each other, instead of gossip.
type town struct {
	mu     sync.Mutex
	expect int
	peers  map[metadata.NodeID]Candidate
	tls    *PeersTLS // of every node; nil: none
	forgot bool      // of who joins
}

func (w *town) candidates() (list []Candidate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := metadata.NodeID(1); id < 10; id++ {
		if c, ok := w.peers[id]; ok {
			list = append(list, c)
		}
	}
	return list
}

func (w *town) lookup(id metadata.NodeID) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.peers[id]
	return c.Address, ok
}

type peer struct {
	*Quorum
	peers *Peers
	id    metadata.NodeID
	fs    vfs.FS
	end   func()
}

func (w *town) join(t *testing.T, id metadata.NodeID, fsys vfs.FS, cluster string) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ps := NewPeers(PeersOptions{Listener: l, ClusterID: func() string { return cluster }, Lookup: w.lookup, TLS: w.tls})
	q, err := Open(Options{FS: fsys, Dir: "/data/raft", NodeID: id, Peers: ps, Forgot: w.forgot})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Quorum: q, peers: ps, id: id, fs: fsys}
	p.end = sync.OnceFunc(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close %d: %v", id, err)
		}
		if err := ps.Close(); err != nil {
			t.Errorf("close peers of %d: %v", id, err)
		}
	})
	t.Cleanup(p.end)
	w.mu.Lock()
	w.peers[id] = Candidate{Member: Member{ID: id, Address: ps.Addr()}, Expect: w.expect}
	w.mu.Unlock()
	return p
}

// admitting plays the active controller on whoever leads, until the test ends.
func (w *town) admitting(t *testing.T, nodes func() []*peer) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			for _, p := range nodes() {
				if !p.Leads() {
					continue
				}
				for _, c := range w.candidates() {
					_ = p.Admit(c.Member) // tried again
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
}

// found has three nodes found a group.
func (w *town) found(ctx context.Context, t *testing.T, all []*peer) {
	t.Helper()
	var founding sync.WaitGroup
	for _, p := range all {
		founding.Go(func() {
			if err := p.Found(ctx, 3, w.candidates); err != nil {
				t.Error(err)
			}
		})
	}
	founding.Wait()
}

// three are the nodes 1 to 3, which have founded a group.
func (w *town) three(ctx context.Context, t *testing.T) (all []*peer) {
	t.Helper()
	for id := metadata.NodeID(1); id <= 3; id++ {
		all = append(all, w.join(t, id, vfs.NewMemory(), ""))
	}
	w.admitting(t, func() []*peer { return all })
	w.found(ctx, t, all)
	return all
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("not within 20 s: " + what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestThreeFoundOneGroup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := &town{expect: 3, peers: map[metadata.NodeID]Candidate{}}
	var mu sync.Mutex
	var all []*peer
	nodes := func() []*peer { mu.Lock(); defer mu.Unlock(); return append([]*peer(nil), all...) }
	w.admitting(t, nodes)
	var founding sync.WaitGroup
	for id := metadata.NodeID(1); id <= 3; id++ {
		p := w.join(t, id, vfs.NewMemory(), "")
		mu.Lock()
		all = append(all, p)
		mu.Unlock()
		founding.Go(func() {
			if err := p.Found(ctx, 3, w.candidates); err != nil {
				t.Error(err)
			}
		})
	}
	founding.Wait()
	for _, p := range nodes() { // any node proposes, and sees what it proposed
		r, err := p.Propose(ctx, &metadata.RegisterNode{ID: p.id})
		if err != nil || r.Err != nil || p.Image().Nodes[p.id] == nil || p.Image().Nodes[p.id].Epoch != r.Epoch {
			t.Fatalf("%d: %v %+v", p.id, err, r)
		}
	}
	until(t, "three voters", func() bool { v, _, err := all[0].Members(); return err == nil && len(v) == 3 })
	// Any node tells how far each has got.
	until(t, "everybody is told to have everything", func() bool {
		for _, p := range nodes() {
			d, err := p.Describe(ctx)
			if err != nil || len(d.Voters) != 3 || len(d.Others) != 0 || d.Term == 0 {
				return false
			}
			for _, v := range d.Voters {
				if v.LastIndex < int64(d.Committed) || v.CaughtUp <= 0 || v.HeardMs < v.CaughtUp {
					return false
				}
			}
		}
		return true
	})
	// What is refused keeps its meaning on the way.
	for _, p := range nodes() {
		r, err := p.Propose(ctx, &metadata.FenceNode{ID: 1, Epoch: 1 << 40})
		if err != nil || !errors.Is(r.Err, metadata.ErrStale) {
			t.Errorf("%d: %v %v", p.id, err, r.Err)
		}
	}

	// The leader dies: the others go on, and know all that was agreed.
	var dead *peer
	var left []*peer
	for _, p := range nodes() {
		if p.Leads() {
			dead = p
		} else {
			left = append(left, p)
		}
	}
	mu.Lock()
	all = left
	mu.Unlock()
	dead.end()
	began := time.Now()
	for _, p := range left {
		if r, err := p.Propose(ctx, &metadata.FenceNode{ID: dead.id, Epoch: p.Image().Nodes[dead.id].Epoch}); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("agreed again after %v", took)
	}
	d, err := left[0].Describe(ctx)
	if err != nil || d.Leader == dead.id {
		t.Errorf("%+v %v", d, err)
	}
	for _, v := range d.Voters {
		if (v.LastIndex == -1) != (v.ID == dead.id) {
			t.Errorf("after %d has died: %+v", dead.id, d)
		}
	}

	// It comes back elsewhere, under its id, and catches up.
	back := w.join(t, dead.id, dead.fs, "")
	mu.Lock()
	all = append(all, back)
	mu.Unlock()
	if err := back.Current(ctx); err != nil {
		t.Fatal(err)
	}
	if n := back.Image().Nodes[dead.id]; n == nil || !n.Fenced {
		t.Errorf("the node that came back does not know that it is fenced: %+v", n)
	}
	// Since when nodes are as they are is by the leader's clock, on every node: of what it was sent, and of what it had on its disk.
	for _, p := range nodes() {
		if err := p.Current(ctx); err != nil {
			t.Fatal(err)
		}
		if n := p.Image().Nodes[dead.id]; n.Since < began.UnixMilli() || n.Since > time.Now().UnixMilli() {
			t.Errorf("node %d: fenced since %d, and died at %d", p.id, n.Since, began.UnixMilli())
		}
		if !bytes.Equal(metadata.EncodeImage(p.Image()), metadata.EncodeImage(back.Image())) {
			t.Errorf("node %d has another image than %d", p.id, dead.id)
		}
	}
}

// A node that comes late is given a snapshot; the fourth and later ones follow without a vote, and propose like any other, until they are given one.
func TestLateNodes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}}
	first := w.join(t, 1, vfs.NewMemory(), "")
	if err := first.Found(ctx, 1, w.candidates); err != nil {
		t.Fatal(err)
	}
	for range 1300 {
		if _, err := first.Propose(ctx, &metadata.AllocateProducerIDs{Node: 1, Count: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Snapshot(); err != nil {
		t.Fatal(err)
	}
	w.admitting(t, func() []*peer { return []*peer{first} })
	var second, last *peer
	for id := metadata.NodeID(2); id <= MaxVoters+1; id++ {
		if last = w.join(t, id, vfs.NewMemory(), ""); id == 2 {
			second = last
		}
		if err := last.Found(ctx, 9, w.candidates); err != nil { // it never founds: it is admitted
			t.Fatal(err)
		}
		if err := last.Current(ctx); err != nil {
			t.Fatal(err)
		}
		if n := last.Image().NextProducerID; n != 1300 {
			t.Fatalf("node %d: next producer id %d", id, n)
		}
	}
	count := func(voters, others int) func() bool {
		return func() bool {
			v, o, err := first.Members()
			return err == nil && len(v) == voters && len(o) == others
		}
	}
	until(t, "three voters and three others", count(MinVoters, MaxVoters+1-MinVoters))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// A vote is given, taken, and handed on with the lead; who is expelled is none of them.
	fourth := Member{ID: 4, Address: w.peers[4].Address}
	until(t, "the fourth has everything", func() bool { return first.CaughtUp(ctx, fourth) })
	must(first.Promote(fourth))
	must(first.Demote(2))
	if !count(3, 3)() {
		t.Error("a vote was not given, or not taken")
	}
	must(first.Expel(2))
	must(first.HandOverTo(fourth))
	until(t, "the fourth leads", func() bool { l, ok := last.Leader(); return ok && l == 4 })
	if first.CaughtUp(ctx, Member{ID: 77, Address: "127.0.0.1:1"}) {
		t.Error("nobody has caught up")
	}
	// The expelled one hears nothing more from the leader; the others tell it, once it is agreed on.
	r, err := last.Propose(ctx, &metadata.RegisterNode{ID: 2, Level: metadata.Level})
	must(err)
	_, err = last.Propose(ctx, &metadata.FenceNode{ID: 2, Epoch: r.Epoch})
	must(err)
	_, err = last.Propose(ctx, &metadata.UnregisterNode{ID: 2})
	must(err)
	must(first.Current(ctx)) // what is agreed on reaches it a little later
	if removed, err := second.RemovedSays(ctx, first.peers.Addr()); err != nil || !removed {
		t.Errorf("the removed node is told %v, %v", removed, err)
	}
	if removed, err := first.RemovedSays(ctx, last.peers.Addr()); err != nil || removed {
		t.Errorf("another one is told %v, %v", removed, err)
	}
	if r, err := last.Propose(ctx, &metadata.AllocateProducerIDs{Node: last.id, Count: 7}); err != nil || r.First != 1300 {
		t.Errorf("%+v %v", r, err)
	}
}

// Invariant 11: a node whose disk is full registers, which it does whenever it starts or had lost its lease; and as the active controller it fences.
func TestRegistrationOnAFullDisk(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}}
	founders, disk := vfs.NewMemory(), vfs.NewMemory()
	first := w.join(t, 1, founders, "")
	if err := first.Found(ctx, 1, w.candidates); err != nil {
		t.Fatal(err)
	}
	w.admitting(t, func() []*peer { return []*peer{first} })
	second := w.join(t, 2, disk, "")
	if err := second.Found(ctx, 9, w.candidates); err != nil { // it never founds: it is admitted
		t.Fatal(err)
	}
	if err := second.Current(ctx); err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(1)
	if _, err := second.Propose(ctx, &metadata.AllocateProducerIDs{Node: 2, Count: 1}); !errors.Is(err, ErrDiskFull) {
		t.Errorf("another change on a full disk: %v", err)
	}
	r, err := second.Propose(ctx, &metadata.RegisterNode{ID: 2, Host: "localhost", Port: 9092, Level: metadata.Level})
	if err != nil || r.Err != nil {
		t.Errorf("a registration on a full disk: %v, %v", err, r.Err)
	}
	for _, c := range []metadata.Command{&metadata.AlterPartition{}, &metadata.SetOffline{}, &metadata.ChangePartition{}, &metadata.UnregisterNode{ID: 7}} {
		if _, err := second.Propose(ctx, c); err != nil {
			t.Errorf("%T on a full disk: %v", c, err)
		}
	}
	founders.SetCapacity(1)
	if r, err := first.Propose(ctx, &metadata.FenceNode{ID: 2, Epoch: r.Epoch}); err != nil || r.Err != nil || !first.Image().Nodes[2].Fenced {
		t.Errorf("a dead node is not fenced by a controller whose disk is full: %v, %v", err, r.Err)
	}
}

func TestNobodyGivesItsWordTwice(t *testing.T) {
	w := &town{expect: 3, peers: map[metadata.NodeID]Candidate{}}
	p := w.join(t, 3, vfs.NewMemory(), "")
	if err := p.grant(1); err != nil {
		t.Fatal(err)
	}
	if err := p.grant(2); !errors.Is(err, errGranted) {
		t.Errorf("given twice: %v", err)
	}
	if err := p.grant(1); err != nil {
		t.Errorf("not to the same one again: %v", err)
	}
}

func TestOtherClustersAreRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}}
	a, b, c := w.join(t, 1, vfs.NewMemory(), "ours"), w.join(t, 2, vfs.NewMemory(), "theirs"), w.join(t, 3, vfs.NewMemory(), "")
	if _, err := b.Status(ctx, a.peers.Addr()); err == nil {
		t.Error("a node of another cluster was answered")
	}
	if s, err := c.Status(ctx, a.peers.Addr()); err != nil || s.ID != 1 {
		t.Errorf("a node of no cluster: %+v %v", s, err)
	}
	// Nobody is there, nobody leads, and both are said in time.
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if _, err := c.Propose(short, &metadata.SetClusterID{ID: "x"}); !errors.Is(err, ErrNotLeader) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a leader: %v", err)
	}
	if _, err := c.Status(ctx, "127.0.0.1:1"); !errors.Is(err, ErrUnreached) {
		t.Errorf("nobody there: %v", err)
	}
}

// A connection that says nonsense, or nothing, costs nobody anything.
func TestNonsenseOnThePeerPort(t *testing.T) {
	w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}}
	a := w.join(t, 1, vfs.NewMemory(), "ours")
	for _, b := range []string{"", "X", "X\x00", "P\x04ours\xff\xff\xff\xff", "P\x00\x00\x00\x00\x03abc", "GET / HTTP/1.1\r\n\r\n", "R\x00\x00\x00\x00"} {
		conn, err := net.Dial("tcp", a.peers.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(conn, b); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Status(t.Context(), a.peers.Addr()); err != nil {
		t.Error(err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"m":"status","w":10,"b":{}}`))
	f.Add([]byte(`{"m":"propose","w":10,"b":{"c":"AQE="}}`))
	f.Add([]byte(`{"m":"grant","b":{"founder":1}}`))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ps := NewPeers(PeersOptions{Listener: l, ClusterID: func() string { return "" }, Lookup: func(metadata.NodeID) (string, bool) { return "", false }})
	q, err := Open(Options{FS: vfs.NewMemory(), Dir: "/data/raft", NodeID: 1, Peers: ps})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = q.Close(); _ = ps.Close() }) // only the answers are looked at
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(ps.answer(b)) == 0 {
			t.Error("no answer")
		}
	})
}

// FuzzPeer sends any bytes to the listener of the peers.
func FuzzPeer(f *testing.F) {
	f.Add([]byte{kindCall, 0, 0, 0, 0, 2, '{', '}'})
	f.Add([]byte{kindRaft, 3, 'a', 'b', 'c'})
	f.Add([]byte{kindCall, 1, 'x', 0xff, 0xff, 0xff, 0xff})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ps := NewPeers(PeersOptions{Listener: l, ClusterID: func() string { return "" }, Lookup: func(metadata.NodeID) (string, bool) { return "", false }})
	f.Cleanup(func() { _ = ps.Close() }) // only the reading is looked at
	f.Fuzz(func(t *testing.T, b []byte) {
		c, s := net.Pipe()
		go func() {
			_, _ = c.Write(b) // the other side may end early
			_ = c.Close()
		}()
		defer func() { _ = s.Close() }()
		if _, kind, err := ps.greeted(s); err != nil || kind != kindCall {
			return
		}
		for {
			call, err := readCall(s)
			if err != nil {
				return
			}
			if len(ps.answer(call)) == 0 {
				t.Error("no answer")
			}
		}
	})
}

// TestNewCommandsWaitForTheLastNode: what one node of the cluster does not understand gets into the log of none, whoever asks.
func TestNewCommandsWaitForTheLastNode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := &town{expect: 3, peers: map[metadata.NodeID]Candidate{}}
	nodes := w.three(ctx, t)
	until(t, "three voters", func() bool { // each vote is an entry of the log, too
		for _, n := range nodes {
			if v, _, err := n.Members(); err != nil || len(v) != 3 {
				return false
			}
		}
		return true
	})
	register := func(node metadata.NodeID, level int16) {
		t.Helper()
		if r, err := nodes[0].Propose(ctx, &metadata.RegisterNode{ID: node, Level: level}); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	register(2, 0)
	register(1, 1)
	register(3, 1)
	newer := &metadata.SetFeatures{Levels: map[string]int16{metadata.LevelFeature: 1}}
	for _, n := range nodes {
		if err := n.Current(ctx); err != nil { // what was agreed on before may reach it a little later
			t.Fatal(err)
		}
		before := n.raft.LastIndex()
		if _, err := n.Propose(ctx, newer); !errors.Is(err, metadata.ErrLevel) || !strings.Contains(err.Error(), "node 2 knows 0") {
			t.Errorf("node %d: %v", n.id, err)
		}
		if after := n.raft.LastIndex(); after != before {
			t.Errorf("node %d: its log went from %d to %d", n.id, before, after)
		}
	}
	register(2, 1)
	for _, n := range nodes {
		if r, err := n.Propose(ctx, newer); err != nil || r.Err != nil {
			t.Errorf("node %d, once all know it: %v %v", n.id, err, r.Err)
		}
	}
}

// A node that was heard of and cannot be told anything gets no vote: a leader that counted on it would never lead again, for who
// remembers nothing does not vote either.
func TestAdmitsNobodyWhoIsNotThere(t *testing.T) {
	w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}}
	a := w.join(t, 1, vfs.NewMemory(), "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := a.Found(ctx, 1, w.candidates); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Propose(ctx, &metadata.SetClusterID{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone := Member{ID: 2, Address: silent.Addr().String()}
	w.mu.Lock()
	w.peers[2] = Candidate{Member: gone}
	w.mu.Unlock()
	_ = a.Admit(gone) // it may follow, once it is there
	for range 3 {     // for longer than a leader's lease
		short, stop := context.WithTimeout(ctx, 5*time.Second)
		_, err := a.Propose(short, &metadata.RegisterNode{ID: 1})
		stop()
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Admit(gone)
	}
	voters, others, err := a.Members()
	if err != nil || len(voters) != 1 || len(others) != 1 {
		t.Errorf("%v %v %v", voters, others, err)
	}
}

// A leader that loses its lead while it tells the others of changes must still be able to end, and a follower that was refused something must be
// told the rest.
func TestEndsAfterChangesOfLeaders(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w := &town{expect: 3, peers: map[metadata.NodeID]Candidate{}}
	all := w.three(ctx, t)
	until(t, "three vote", func() bool { v, _, err := all[0].Members(); return err == nil && len(v) == 3 })
	proposing, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	for _, p := range all {
		for range 3 {
			group.Go(func() {
				for proposing.Err() == nil {
					if _, err := p.Propose(proposing, &metadata.AllocateProducerIDs{Node: 1, Count: 1}); err != nil {
						continue // nobody leads now
					}
				}
			})
		}
	}
	for range 40 {
		var was metadata.NodeID
		until(t, "somebody leads", func() bool {
			for _, p := range all {
				if p.Leads() {
					was = p.id
					return true
				}
			}
			return false
		})
		all[was-1].HandOver()
	}
	stop()
	group.Wait()
	if _, err := all[0].peers.raft.AppendEntriesPipeline("2", raft.ServerAddress(all[1].peers.Addr())); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("a pipeline, which may hang: %v", err)
	}
	var closing sync.WaitGroup
	for _, p := range all {
		closing.Go(p.end)
	}
	ended := make(chan struct{})
	go func() { closing.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("not ended within 20 s:\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// A voter whose disk was emptied, and whom a leader has told a part of what it had agreed on, neither votes nor stands for election before it has the rest: with one that
// was behind it would elect a leader that lacks it. Not after a restart in between either.
func TestWhoIsToldAPartDoesNotVote(t *testing.T) {
	w := &town{expect: 9, peers: map[metadata.NodeID]Candidate{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := NewPeers(PeersOptions{Listener: l, ClusterID: func() string { return "" }, Lookup: w.lookup})
	defer other.Close()
	w.peers[1] = Candidate{Member: Member{ID: 1, Address: other.Addr()}}
	disk := vfs.NewMemory()
	emptied := w.join(t, 2, disk, "")
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("1"), Addr: []byte(other.Addr())}
	tell := func(agreed uint64, logs ...*raft.Log) {
		t.Helper()
		a := &raft.AppendEntriesRequest{RPCHeader: header, Term: 5, Entries: logs, LeaderCommitIndex: agreed}
		if len(logs) == 0 {
			a.PrevLogEntry, a.PrevLogTerm = 2, 5
		}
		var r raft.AppendEntriesResponse
		if err := other.raft.AppendEntries("2", raft.ServerAddress(emptied.peers.Addr()), a, &r); err != nil || !r.Success {
			t.Fatal(err, r)
		}
	}
	term := uint64(5)
	vote := func() bool {
		t.Helper()
		term++
		var r raft.RequestVoteResponse
		err := other.raft.RequestVote("2", raft.ServerAddress(emptied.peers.Addr()),
			&raft.RequestVoteRequest{RPCHeader: header, Term: term, LastLogIndex: 9, LastLogTerm: 5, LeadershipTransfer: true}, &r)
		return err == nil && r.Granted
	}
	voters := configuration([]Member{{ID: 1, Address: other.Addr()}, {ID: 2, Address: emptied.peers.Addr()}, {ID: 3, Address: "127.0.0.1:1"}})
	key := metadata.Encode(setKey(1))
	tell(9, &raft.Log{Index: 1, Term: 5, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(voters)}, &raft.Log{Index: 2, Term: 5, Data: key})
	if vote() || emptied.recall.votes(emptied.raft.AppliedIndex()) {
		t.Error("it votes with 2 of 9 entries")
	}
	emptied.end()
	w.forgot = true
	emptied = w.join(t, 2, disk, "")
	if vote() {
		t.Error("it votes after a restart")
	}
	if tell(2); !vote() {
		t.Error("it does not vote with all that was agreed on")
	}
}

// A new node gets its vote once a restart would not take it away again: of two founders that are killed in their first moments none could lead for good.
func TestAVoteIsForWhoKeepsIt(t *testing.T) {
	for _, told := range [][]int{{}, {0}, {1}, {0, 1}} {
		t.Run(fmt.Sprint(told), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}, forgot: true}
			all := []*peer{w.join(t, 1, vfs.NewMemory(), ""), w.join(t, 2, vfs.NewMemory(), "")}
			if err := errors.Join(all[0].Found(ctx, 1, w.candidates), all[0].Ready(ctx)); err != nil {
				t.Fatal(err)
			}
			for _, n := range told {
				all[n].Told()
			}
			if err := all[0].Admit(w.peers[2].Member); err != nil {
				t.Fatal(err)
			}
			voters, others, err := all[0].Members()
			if want := len(told) / 2; err != nil || len(voters) != 1+want || len(others) != 1-want {
				t.Errorf("%d voters, %d others, %v", len(voters), len(others), err)
			}
		})
	}
}
