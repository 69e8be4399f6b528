package broker

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
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

// After a failed sync the next start on the same boot does not believe the page cache (invariant 4): the node counts as one that may have lost its tail, and what
// it acknowledges then has survived a power cut.
func TestAFailedSyncIsNotBelieved(t *testing.T) {
	one := "1"
	for _, durability := range []commitlog.Durability{commitlog.PowerSafe, commitlog.Relaxed} {
		disk := vfs.NewCrash()
		f := vfs.NewFault(disk)
		o := Options{DataDir: "/data", FS: f, BootID: "a", Durability: durability}
		n := start(t, o)
		cl := n.client(t)
		if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"flush.messages": &one}, "x"); err != nil {
			t.Fatal(err)
		}
		produce(t, cl, "x", 0, 1)
		remove := f.Inject(vfs.Rule{Op: vfs.OpSync, Path: "/log/x-0/", Err: syscall.EIO})
		cl.Produce(t.Context(), &kgo.Record{Topic: "x", Value: []byte("1")}, nil)
		n.endsByDisk(t)
		remove()
		disk.Forget()
		epoch := metadata.Epoch(0)
		for _, more := range []metadata.Epoch{2, 1} { // a last leader that was not in sync any more is elected: one epoch more
			n = start(t, o)
			p := n.quorum.Image().Partition("x", 0)
			if p.LeaderEpoch-epoch != more {
				t.Errorf("%v: %d epochs, want %d", durability, p.LeaderEpoch-epoch, more)
			}
			epoch = p.LeaderEpoch
			cl = n.client(t)
			produce(t, cl, "x", int(2+more), int(3+more))
			cut := disk.Crashed(nil)
			n.end(t)
			if err := errors.Join(disk.Remove("/data/clean-shutdown"), disk.SyncDir("/data")); err != nil { // as of a process that was killed
				t.Fatal(err)
			}
			n = start(t, Options{DataDir: "/data", FS: cut, BootID: "b"})
			if end, want := n.ends(t, "x")[0], int64(5-more); end != want {
				t.Errorf("%v: %d records after a power cut, want %d", durability, end, want)
			}
			n.end(t)
		}
	}
}

// threeDisks are three nodes that can be made to fail, with one partition x on all of them.
func threeDisks(t *testing.T, configs map[string]*string) (options []Options, nodes []*node, faults []*vfs.Fault, cl *kgo.Client) {
	t.Helper()
	options = three(t)
	for i := range options {
		faults = append(faults, vfs.NewFault(vfs.Disk{}))
		options[i].FS = faults[i]
	}
	nodes = startAll(t, options)
	cl = nodes[0].client(t, seeds(nodes), kgo.MetadataMinAge(50*time.Millisecond))
	if _, err := kadm.NewClient(cl).CreateTopic(within(t, 20*time.Second), 1, 3, configs, "x"); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "x", 0, 1)
	return options, nodes, faults, cl
}

// inSync waits until x has all its replicas in sync.
func (n *node) inSync(t *testing.T) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	for len(n.quorum.Image().Partition("x", 0).ISR) < 3 {
		if err := n.quorum.WaitIndex(ctx, n.quorum.Image().Index+1); err != nil {
			t.Fatalf("in sync: %v", n.quorum.Image().Partition("x", 0).ISR)
		}
	}
}

// One follower whose disk is full does not hold up the acknowledgements of the others, and comes back by itself.
func TestAFollowersDiskIsFull(t *testing.T) {
	two := "2"
	_, nodes, faults, cl := threeDisks(t, map[string]*string{"min.insync.replicas": &two})
	nodes[0].inSync(t)
	p := nodes[0].quorum.Image().Partition("x", 0)
	full := p.Leader % 3 // its next one
	remove := faults[full].Inject(vfs.Rule{Op: vfs.OpWrite, Path: "/log/x-0/", Err: syscall.ENOSPC})
	start := time.Now()
	produce(t, cl, "x", 1, 2)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("acknowledged after %v", took)
	}
	if now := nodes[p.Leader-1].quorum.Image().Partition("x", 0); now.Leader != p.Leader || slices.Contains(now.ISR, full+1) || len(now.Offline) > 0 {
		t.Errorf("%+v", now)
	}
	remove()
	nodes[0].inSync(t)
}

// A node of one data directory whose disk takes no more writes ends, and another one leads: it would refuse what it leads for ever.
func TestAWriteFailsInACluster(t *testing.T) {
	options, nodes, faults, cl := threeDisks(t, nil)
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
	other.inSync(t)
}

// A log that a start after a failed sync could not open is not believed by the start after that one either.
func TestAFailedSyncOfALogThatIsNotOpened(t *testing.T) {
	disk := vfs.NewCrash()
	f := vfs.NewFault(disk)
	o := Options{DataDir: "/data", FS: f, BootID: "a"}
	n := start(t, o)
	cl := n.client(t)
	createTopic(t, n, "x", 1)
	produce(t, cl, "x", 0, 1)
	remove := f.Inject(vfs.Rule{Op: vfs.OpSync, Path: "/log/x-0/", Err: syscall.EIO})
	cl.Produce(t.Context(), &kgo.Record{Topic: "x", Value: []byte("1")}, nil)
	n.endsByDisk(t)
	remove()
	disk.Forget()
	remove = f.Inject(vfs.Rule{Op: vfs.OpReadDir, Path: "/log/x-0", Err: syscall.EIO})
	n = start(t, o)
	epoch := n.quorum.Image().Partition("x", 0).LeaderEpoch
	if len(n.replicas.Offline()) != 1 {
		t.Fatal("it was opened")
	}
	n.end(t)
	remove()
	if _, err := disk.Stat("/data/clean-shutdown"); err == nil {
		t.Error("the end is marked as clean, and a log was not recovered")
	}
	for _, more := range []metadata.Epoch{2, 1} { // as in TestAFailedSyncIsNotBelieved
		n = start(t, o)
		p := n.quorum.Image().Partition("x", 0)
		if p.LeaderEpoch-epoch != more {
			t.Errorf("%d epochs, want %d", p.LeaderEpoch-epoch, more)
		}
		epoch = p.LeaderEpoch
		produce(t, n.client(t), "x", int(4-more), int(5-more))
		cut := disk.Crashed(nil)
		n.end(t)
		n = start(t, Options{DataDir: "/data", FS: cut, BootID: "b"})
		if end, want := n.ends(t, "x")[0], int64(5-more); end != want {
			t.Errorf("%d records after a power cut, want %d", end, want)
		}
		n.end(t)
	}
}
