package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/testenv"
)

// three are the Options of nodes that find each other.
func three(t testing.TB) (list []Options) {
	t.Helper()
	var gossip []string
	for range 3 {
		gossip = append(gossip, testenv.FreeAddr(t))
	}
	dir := t.TempDir()
	for i := range 3 {
		list = append(list, Options{
			NodeID: metadata.NodeID(i + 1), DataDir: filepath.Join(dir, fmt.Sprint(i+1)), KafkaAddr: testenv.FreeAddr(t),
			Cluster: &Cluster{Peer: testenv.FreeAddr(t), Gossip: gossip[i], Join: gossip, Expect: 3, Rack: fmt.Sprint("rack-", i)},
		})
	}
	return list
}

// startAll starts nodes that wait for each other.
func startAll(t testing.TB, list []Options) []*node {
	t.Helper()
	type opened struct {
		at  int
		b   *Broker
		err error
	}
	ch := make(chan opened, len(list))
	for i, o := range list {
		go func() {
			b, err := Open(context.Background(), o)
			ch <- opened{i, b, err}
		}()
	}
	nodes := make([]*node, len(list))
	for range list {
		o := <-ch
		if o.err != nil {
			t.Fatal(o.err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		n := &node{Broker: o.b, stop: cancel, done: make(chan error, 1)}
		go func() { n.done <- o.b.Run(ctx) }()
		nodes[o.at] = n
		t.Cleanup(func() { n.end(t) })
	}
	for _, n := range nodes {
		<-n.Ready()
	}
	return nodes
}

func seeds(nodes []*node) kgo.Opt {
	var all []string
	for _, n := range nodes {
		all = append(all, n.KafkaAddr())
	}
	return kgo.SeedBrokers(all...)
}

// One of three leaves in good order, comes back, and everything that was acknowledged is there.
func TestThreeNodes(t *testing.T) {
	options := three(t)
	nodes := startAll(t, options)
	ctx := within(t, time.Minute)
	cl := nodes[0].client(t, seeds(nodes), kgo.MetadataMinAge(50*time.Millisecond))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 3, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	send := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			cl.Produce(ctx, &kgo.Record{Topic: "t", Value: []byte(fmt.Sprint(i))}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	send(0, 300)
	if a, b := nodes[0].ClusterID(), nodes[2].ClusterID(); a == "" || a != b {
		t.Errorf("cluster ids %q and %q", a, b)
	}
	nodes[1].end(t)
	send(300, 600)
	nodes[1] = start(t, options[1])
	send(600, 900)
	// Both others go, one after the other, once the third is in sync again.
	inSync := func() bool {
		topics, err := adm.ListTopics(ctx, "t")
		if err != nil {
			return false
		}
		for _, p := range topics["t"].Partitions {
			if len(p.ISR) != 3 {
				return false
			}
		}
		return true
	}
	for !inSync() {
		select {
		case <-ctx.Done():
			t.Fatal("not in sync again")
		case <-time.After(10 * time.Millisecond):
		}
	}
	ends, err := adm.ListEndOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	if total != 900 {
		t.Errorf("%d records, 900 were acknowledged", total)
	}
}

// A copy of a living node's data directory neither takes its place nor its vote.
func TestCopiedDataDirectory(t *testing.T) {
	options := three(t)
	nodes := startAll(t, options)
	copied := options[2]
	copied.DataDir, copied.KafkaAddr = filepath.Join(t.TempDir(), "copy"), testenv.FreeAddr(t)
	if err := os.CopyFS(copied.DataDir, os.DirFS(options[2].DataDir)); err != nil {
		t.Fatal(err)
	}
	c := *copied.Cluster
	c.Peer, c.Gossip = testenv.FreeAddr(t), testenv.FreeAddr(t)
	copied.Cluster = &c
	epoch := nodes[0].quorum.Image().Nodes[3].Epoch
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	if b, err := Open(ctx, copied); err == nil {
		_ = b.Close() // the error is the point
		t.Fatal("a copy is in the cluster")
	}
	if n := nodes[0].quorum.Image().Nodes[3]; n.Epoch != epoch || n.Fenced {
		t.Errorf("the copy has cost the node its registration: %+v", n)
	}
	// Where gossip does not keep it away, the registration does.
	var p *problem.Error
	if err := nodes[0].waitForPredecessor(t.Context(), 3, "127.0.0.1", 1); !errors.As(err, &p) || p.Code != "node-id-in-use" {
		t.Errorf("beside a living node of the same id: %v", err)
	}
	nodes[2].end(t)
	if err := nodes[0].waitForPredecessor(t.Context(), 3, "127.0.0.1", 1); err != nil {
		t.Errorf("after a node of the same id: %v", err)
	}
	back := startAll(t, options[2:])
	if n := back[0].quorum.Image().Nodes[3]; n.Epoch == epoch || n.Fenced {
		t.Errorf("the node itself does not come back: %+v", n)
	}
}

// A second node of the same id must not share it.
func TestSameIDTwice(t *testing.T) {
	options := three(t)
	startAll(t, options)
	other := options[2]
	other.DataDir, other.KafkaAddr = filepath.Join(t.TempDir(), "other"), testenv.FreeAddr(t)
	c := *other.Cluster
	c.Peer, c.Gossip = testenv.FreeAddr(t), testenv.FreeAddr(t)
	other.Cluster = &c
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	b, err := Open(ctx, other)
	if err == nil {
		_ = b.Close() // the error is the point
		t.Fatal("two nodes of one id are in the cluster")
	}
	var p *problem.Error
	if !errors.As(err, &p) {
		t.Errorf("%v tells no user what to do", err)
	}
}

// A coordinator that has lost the others does not know whether they have put another one in its place: it answers no committed offsets, which might be old.
func TestIsolatedCoordinatorAnswersNoOffsets(t *testing.T) {
	nodes := startAll(t, three(t))
	ctx := within(t, time.Minute)
	cl := nodes[0].client(t, seeds(nodes))
	adm := kadm.NewClient(cl)
	topic, err := adm.CreateTopic(ctx, 1, 3, nil, "orders")
	if err != nil {
		t.Fatal(err)
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset("orders", 0, 7, -1)
	var found kadm.FindCoordinatorResponse
	ask := func() (offset int64, code int16) {
		req := kmsg.NewPtrOffsetFetchRequest()
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = "g"
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.TopicID, gt.Partitions = "orders", topic.ID, []int32{0}
		g.Topics = append(g.Topics, gt)
		req.Groups = append(req.Groups, g)
		raw, err := cl.Broker(int(found.NodeID)).Request(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		r := raw.(*kmsg.OffsetFetchResponse).Groups[0]
		if r.ErrorCode != 0 {
			return -1, r.ErrorCode
		}
		return r.Topics[0].Partitions[0].Offset, r.Topics[0].Partitions[0].ErrorCode
	}
	// The coordinators' topic is made by the first commit.
	eventually(t, "a committed offset", func() bool {
		r, err := adm.CommitOffsets(ctx, "g", offsets)
		if err != nil || r.Error() != nil {
			return false
		}
		if found = adm.FindGroupCoordinators(ctx, "g")["g"]; found.Err != nil {
			return false
		}
		offset, code := ask()
		return offset == 7 && code == 0
	})
	for _, n := range nodes {
		if n.o.NodeID != metadata.NodeID(found.NodeID) {
			n.end(t)
		}
	}
	for {
		offset, code := ask()
		if code == kerr.NotCoordinator.Code {
			return
		}
		if offset != 7 || code != 0 {
			t.Fatalf("offset %d, code %d", offset, code)
		}
	}
}

// A node whose data directory was put back from a copy that is older than its last registration has lost its tail, whatever it was in sync with: it leads nothing
// before it has copied what it lacks (invariant 4).
func TestOlderDataDirectoryDoesNotLead(t *testing.T) {
	options := three(t)
	nodes := startAll(t, options)
	ctx := within(t, time.Minute)
	cl := nodes[0].client(t, seeds(nodes), kgo.MetadataMinAge(50*time.Millisecond))
	two := "2"
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 3, map[string]*string{"min.insync.replicas": &two}, "t"); err != nil {
		t.Fatal(err)
	}
	state := func(of *node) *metadata.Partition { return of.quorum.Image().Topics["t"].Partitions[0] }
	inSync := func(of *node, want int) func() bool {
		return func() bool { return len(state(of).ISR) == want }
	}
	produce(t, cl, "t", 0, 100)
	first := state(nodes[0]).Replicas[0]
	at := func(k int) int { return int(state(nodes[0]).Replicas[k]) - 1 }
	x, y, z := at(0), at(1), at(2)

	nodes[x].end(t)
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(options[x].DataDir)); err != nil {
		t.Fatal(err)
	}
	nodes[x] = startAll(t, options[x:x+1])[0]
	eventually(t, "all in sync", inSync(nodes[x], 3))
	produce(t, cl, "t", 100, 200)
	nodes[z].end(t)
	nodes[y].end(t)
	eventually(t, "the first replica alone in sync", inSync(nodes[x], 1))
	if p := state(nodes[x]); p.ISR[0] != first || len(p.ELR) != 1 || p.ELR[0] != options[y].NodeID {
		t.Fatalf("%+v", p)
	}
	nodes[x].end(t)
	if err := errors.Join(os.RemoveAll(options[x].DataDir), os.CopyFS(options[x].DataDir, os.DirFS(older))); err != nil {
		t.Fatal(err)
	}
	back := startAll(t, []Options{options[x], options[y]})
	if p := state(back[1]); p.Leader == first {
		t.Errorf("it leads: %+v", p)
	}
	eventually(t, "both in sync", inSync(back[1], 2))
	if got := consume(t, back[1], "t", 200, seeds(back)); len(got) != 200 {
		t.Errorf("%d records, 200 were acknowledged", len(got))
	}
}

// What a node is told of the metadata while it starts is no part of what its directory had: a start that ends before it is registered changes nothing in that the
// next one has lost its tail (invariant 4).
func TestStartThatIsNotRegisteredDoesNotLead(t *testing.T) {
	for _, replaced := range []string{"by an empty one", "by an older one"} {
		t.Run(replaced, func(t *testing.T) {
			t.Parallel()
			options := three(t)
			nodes := startAll(t, options)
			ctx := within(t, time.Minute)
			cl := nodes[1].client(t, seeds(nodes[1:]), kgo.MetadataMinAge(50*time.Millisecond))
			x, y, z := nodes[0], nodes[1], nodes[2]
			req := kmsg.NewPtrCreateTopicsRequest()
			two := "2"
			req.Topics = []kmsg.CreateTopicsRequestTopic{{
				Topic: "t", NumPartitions: -1, ReplicationFactor: -1, ReplicaAssignment: []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Replicas: []int32{1, 2}}},
				Configs: []kmsg.CreateTopicsRequestTopicConfig{{Name: "min.insync.replicas", Value: &two}},
			}}
			if r, err := req.RequestWith(ctx, cl); err != nil || kerr.ErrorForCode(r.Topics[0].ErrorCode) != nil {
				t.Fatal(err, r)
			}
			state := func(of *node) *metadata.Partition { return of.quorum.Image().Partition("t", 0) }
			inSync := func(of *node, want int) func() bool {
				return func() bool { p := state(of); return p != nil && len(p.ISR) == want }
			}
			produce(t, cl, "t", 0, 100)
			x.end(t)
			older := filepath.Join(t.TempDir(), "older")
			if err := os.CopyFS(older, os.DirFS(options[0].DataDir)); err != nil {
				t.Fatal(err)
			}
			x = startAll(t, options[:1])[0]
			eventually(t, "both in sync", inSync(z, 2))
			produce(t, cl, "t", 100, 200)
			x.end(t)
			eventually(t, "one in sync, and one that may lead", func() bool { p := state(z); return len(p.ISR) == 1 && len(p.ELR) == 1 })

			err := os.RemoveAll(options[0].DataDir)
			if replaced == "by an older one" {
				err = errors.Join(err, os.CopyFS(options[0].DataDir, os.DirFS(older)))
			}
			if err != nil {
				t.Fatal(err)
			}
			mistaken := options[0]
			mistaken.Set = map[string]string{"log.dirs": filepath.Join(os.DevNull, "log")}
			if b, err := Open(ctx, mistaken); err == nil {
				t.Fatal("it starts with logs in a device: ", b.Close())
			}
			b, err := Open(ctx, options[0]) // it is registered, and copies nothing before it runs
			if err != nil {
				t.Fatal(err)
			}
			y.end(t)
			eventually(t, "it is known that the leader is gone", func() bool { return state(z).Leader != 2 })
			if p := state(z); p.Leader == 1 {
				t.Errorf("it leads without a record: %+v", p)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			startAll(t, options[:2])
			eventually(t, "both in sync again", inSync(z, 2))
			if got := consume(t, z, "t", 200, seeds([]*node{z})); len(got) != 200 {
				t.Errorf("%d records, 200 were acknowledged", len(got))
			}
		})
	}
}
