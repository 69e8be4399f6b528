package broker

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

// endsByDisk waits until the node has ended by itself, for its disk's sake.
func (n *node) endsByDisk(t testing.TB) {
	t.Helper()
	select {
	case err := <-n.done:
		n.stop = nil
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != "disk-failed" {
			t.Errorf("the node ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the node serves on with a disk that takes nothing")
	}
}

// Without log.dirs a disk that fails ends the node, in whatever it fails, and the node starts again when it can be written to.
func TestTheOnlyDirectoryFails(t *testing.T) {
	for _, rule := range []vfs.Rule{
		{Op: vfs.OpWrite, Path: "/log/x-0/", Err: syscall.EIO},
		{Op: vfs.OpSync, Path: "/log/x-0/", Err: syscall.EIO},
		{Op: vfs.OpOpen, Path: "/log/x-0/partition.metadata.new", Err: syscall.EROFS},
		{Op: vfs.OpOpen, Path: "/log/x-0/00000000000000000000.log", Err: syscall.EIO},
		{Op: vfs.OpMkdir, Path: "/log/x-0", Err: syscall.EROFS},
	} {
		f := vfs.NewFault(vfs.NewMemory())
		o := Options{DataDir: "/data", FS: f}
		n := start(t, o)
		createTopic(t, n, "x", 1)
		remove := f.Inject(rule)
		n.client(t).Produce(t.Context(), &kgo.Record{Topic: "x", Value: []byte("x")}, nil)
		n.endsByDisk(t)
		remove()
		n = start(t, o)
		produce(t, n.client(t), "x", 0, 1)
		n.end(t)
	}
}

// A node of one data directory whose disk takes no more writes ends, and another one leads: it would refuse what it leads for ever.
func TestAWriteFailsInACluster(t *testing.T) {
	options := three(t)
	faults := make([]*vfs.Fault, len(options))
	for i := range options {
		faults[i] = vfs.NewFault(vfs.Disk{})
		options[i].FS = faults[i]
	}
	nodes := startAll(t, options)
	ctx := within(t, time.Minute)
	cl := nodes[0].client(t, seeds(nodes), kgo.MetadataMinAge(50*time.Millisecond))
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 3, nil, "x"); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "x", 0, 1)
	leader := nodes[0].quorum.Image().Partition("x", 0).Leader
	remove := faults[leader-1].Inject(vfs.Rule{Op: vfs.OpWrite, Path: "/log/x-0/", Err: syscall.EIO})
	produce(t, cl, "x", 1, 2) // tried again until somebody takes it
	nodes[leader-1].endsByDisk(t)
	other := nodes[leader%3]
	if p := other.quorum.Image().Partition("x", 0); p.Leader == leader || p.Leader == -1 {
		t.Errorf("%+v", p)
	}
	remove()
	nodes[leader-1] = start(t, options[leader-1])
	for len(other.quorum.Image().Partition("x", 0).ISR) < 3 {
		if err := other.quorum.WaitIndex(ctx, other.quorum.Image().Index+1); err != nil {
			t.Fatalf("node %d is not in sync again: %v", leader, err)
		}
	}
}
