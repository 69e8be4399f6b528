package broker

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

// twoDirs are the options of a lone node with two log directories.
func twoDirs(fsys vfs.FS) Options {
	return Options{DataDir: "/data", FS: fsys, Set: map[string]string{"log.dirs": "/a,/b"}}
}

// told waits until the cluster knows how many replicas of a node are offline.
func (n *node) told(t testing.TB, of metadata.NodeID, want int) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	for len(n.quorum.Image().OfflineOn(of)) != want {
		if err := n.quorum.WaitIndex(ctx, n.quorum.Image().Index+1); err != nil {
			t.Fatalf("%d replicas of node %d are offline, not %d", len(n.quorum.Image().OfflineOn(of)), of, want)
		}
	}
}

// perPartition has a record in each partition of a topic, by hand.
func perPartition(t testing.TB, n *node, topic string) {
	t.Helper()
	cl := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var records []*kgo.Record
	for i := range n.quorum.Image().Topics[topic].Partitions {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i), Value: []byte(fmt.Sprint(i))})
	}
	if err := cl.ProduceSync(within(t, 20*time.Second), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func (n *node) ends(t testing.TB, topic string) map[int32]int64 {
	t.Helper()
	list, err := kadm.NewClient(n.client(t)).ListEndOffsets(within(t, 20*time.Second), topic)
	var few *kadm.ShardErrors // of partitions without a leader
	if err != nil && !errors.As(err, &few) {
		t.Fatal(err)
	}
	m := map[int32]int64{}
	list.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			m[o.Partition] = o.Offset
		}
	})
	return m
}

// in are the partitions of a topic that lie in a directory.
func (n *node) in(t testing.TB, topic, dir string) (numbers []int32) {
	t.Helper()
	for p := range n.dirs(t, int32(n.o.NodeID))[dir].Topics[topic] {
		numbers = append(numbers, p)
	}
	slices.Sort(numbers)
	return numbers
}

func (n *node) dirs(t testing.TB, of int32) kadm.DescribedLogDirs {
	t.Helper()
	all, err := kadm.NewClient(n.client(t)).DescribeAllLogDirs(within(t, 20*time.Second), nil)
	if err != nil {
		t.Fatal(err)
	}
	return all[of]
}

func TestTwoLogDirectories(t *testing.T) {
	disk := vfs.NewMemory()
	n := start(t, twoDirs(disk))
	createTopic(t, n, "x", 4)
	perPartition(t, n, "x")
	described := n.dirs(t, 1)
	if a, b := described["/a"], described["/b"]; len(a.Topics["x"]) != 2 || len(b.Topics["x"]) != 2 || a.Err != nil {
		t.Errorf("%+v", described)
	}
	n.end(t)

	n = start(t, twoDirs(disk))
	if !n.logDirs.clean() || len(n.ends(t, "x")) != 4 {
		t.Errorf("after a restart: clean %v, ends %v", n.logDirs.clean(), n.ends(t, "x"))
	}
	n.end(t)

	// The disk of b is not mounted: its folder is empty.
	if err := errors.Join(disk.Rename("/b", "/b-away"), disk.MkdirAll("/b", 0o755)); err != nil {
		t.Fatal(err)
	}
	n = start(t, twoDirs(disk))
	n.told(t, 1, 2)
	if ends := n.ends(t, "x"); len(ends) != 2 {
		t.Errorf("ends without b: %v", ends)
	}
	described = n.dirs(t, 1)
	if !errors.Is(described["/b"].Err, kerr.KafkaStorageError) || len(described["/a"].Topics["x"]) != 2 {
		t.Errorf("without b: %+v", described)
	}
	topics, err := kadm.NewClient(n.client(t)).ListTopics(within(t, 20*time.Second), "x")
	if err != nil {
		t.Fatal(err)
	}
	off := 0
	for _, p := range topics["x"].Partitions {
		off += len(p.OfflineReplicas)
		if len(p.OfflineReplicas) > 0 != (p.Leader == -1) {
			t.Errorf("%+v", p)
		}
	}
	if h := n.Health(); off != 2 || h.OfflineReplicas != 2 || !strings.Contains(h.OfflineDirs["/b"], "mounted") {
		t.Errorf("%d offline replicas, %+v", off, h)
	}
	createTopic(t, n, "y", 2)
	perPartition(t, n, "y") // what is new goes elsewhere
	n.end(t)

	if err := errors.Join(disk.RemoveAll("/b"), disk.Rename("/b-away", "/b")); err != nil {
		t.Fatal(err)
	}
	n = start(t, twoDirs(disk))
	n.told(t, 1, 0)
	if x, y := n.ends(t, "x"), n.ends(t, "y"); len(x) != 4 || x[0]+x[1]+x[2]+x[3] != 4 || len(y) != 2 {
		t.Errorf("with b again: %v, %v", x, y)
	}
	perPartition(t, n, "x")
}

// A node that kept its logs in the data directory is given more directories; what it has stays where it is.
func TestLogDirectoriesAreAdded(t *testing.T) {
	disk := vfs.NewMemory()
	n := start(t, Options{DataDir: "/data", FS: disk})
	createTopic(t, n, "x", 2)
	perPartition(t, n, "x")
	n.end(t)

	o := twoDirs(disk)
	o.KafkaAddr = "127.0.0.1:0"
	var p *problem.Error
	if _, err := Open(t.Context(), o); !errors.As(err, &p) || p.Code != "log-directory-left-out" {
		t.Fatalf("the data directory was left out: %v", err)
	}
	o.Set = map[string]string{"log.dirs": "/data, /b"}
	n = start(t, o)
	createTopic(t, n, "y", 2)
	perPartition(t, n, "y")
	if d := n.dirs(t, 1); len(d["/data"].Topics["x"]) != 2 || len(d["/b"].Topics["y"]) != 2 {
		t.Errorf("%+v", d)
	}
	n.end(t)
	o.Set = nil
	if _, err := Open(t.Context(), o); !errors.As(err, &p) || p.Code != "log-directory-left-out" {
		t.Fatalf("b was left out: %v", err)
	}
	if entries, err := disk.ReadDir("/data/quarantine"); err == nil {
		t.Errorf("set aside: %v", entries)
	}
}

func TestLogDirectoriesThatAreRefused(t *testing.T) {
	properties := func(text string) func(t *testing.T, m *vfs.Memory) {
		return func(t *testing.T, m *vfs.Memory) {
			if err := errors.Join(m.MkdirAll("/b", 0o755), vfs.WriteFile(m, "/b/meta.properties", []byte(text), true)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, m *vfs.Memory)
		dirs    string
		code    string
	}{
		"another node": {func(t *testing.T, m *vfs.Memory) {
			b, err := vfs.ReadFile(m, "/a/meta.properties", 1000)
			if err != nil {
				t.Fatal(err)
			}
			properties(strings.NewReplacer("node.id=1", "node.id=2", "directory.id=", "directory.id=x").Replace(string(b)))(t, m)
		}, "/a,/b", "foreign-log-directory"},
		"another cluster": {properties("cluster.id=other\ndirectory.id=d\nnode.id=1\nversion=1\n"), "/a,/b", "foreign-log-directory"},
		"no properties":   {properties("hello\n"), "/a,/b", "foreign-log-directory"},
		"other data": {func(t *testing.T, m *vfs.Memory) {
			if err := errors.Join(m.MkdirAll("/b/photos", 0o755)); err != nil {
				t.Fatal(err)
			}
		}, "/a,/b", "foreign-log-directory"},
		"a copy": {func(t *testing.T, m *vfs.Memory) {
			b, err := vfs.ReadFile(m, "/a/meta.properties", 1000)
			if err != nil {
				t.Fatal(err)
			}
			properties(string(b))(t, m)
		}, "/a,/b", "log-directory-twice"},
		"twice":    {func(*testing.T, *vfs.Memory) {}, "/a,/a/", "log-directory-twice"},
		"left out": {func(*testing.T, *vfs.Memory) {}, "/b", "log-directory-left-out"},
		"locked": {func(t *testing.T, m *vfs.Memory) {
			l, err := m.Lock("/a/.lock")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, "/a", "log-directory-in-use"},
		"none": {func(t *testing.T, m *vfs.Memory) {
			if err := errors.Join(m.Rename("/a", "/away"), m.MkdirAll("/a", 0o755)); err != nil {
				t.Fatal(err)
			}
		}, "/a", "no-log-directory"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMemory()
			o := Options{DataDir: "/data", FS: disk, Set: map[string]string{"log.dirs": "/a"}, KafkaAddr: "127.0.0.1:0"}
			n := start(t, o)
			createTopic(t, n, "x", 1)
			perPartition(t, n, "x")
			n.end(t)
			c.prepare(t, disk)
			o.Set = map[string]string{"log.dirs": c.dirs}
			_, err := Open(t.Context(), o)
			var p *problem.Error
			if !errors.As(err, &p) || p.Code != c.code || p.Class != problem.Environment || p.Hint == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

// Without log-placement a directory that is left out could have anything; once all were seen, what is left out is known again.
func TestThePlacementIsGone(t *testing.T) {
	disk := vfs.NewMemory()
	o := twoDirs(disk)
	o.KafkaAddr = "127.0.0.1:0"
	n := start(t, o)
	createTopic(t, n, "x", 1)
	perPartition(t, n, "x") // in a
	n.end(t)
	if err := disk.Remove("/data/" + placementName); err != nil {
		t.Fatal(err)
	}
	o.Set = map[string]string{"log.dirs": "/b"}
	var p *problem.Error
	if _, err := Open(t.Context(), o); !errors.As(err, &p) || p.Code != "log-directory-left-out" {
		t.Fatalf("a was left out: %v", err)
	}
	n = start(t, twoDirs(disk))
	if got := n.ends(t, "x"); got[0] != 1 {
		t.Errorf("ends: %v", got)
	}
	n.end(t)
	o.Set = map[string]string{"log.dirs": "/a"}
	n = start(t, o)
	if got := n.ends(t, "x"); got[0] != 1 {
		t.Errorf("without b, which is empty: %v", got)
	}
	n.end(t)
}

// A node alone, one of whose directories fails while it runs: the other serves on, and the failed one comes back with a restart.
func TestALogDirectoryFails(t *testing.T) {
	disk := vfs.NewMemory()
	f := vfs.NewFault(disk)
	n := start(t, twoDirs(f))
	createTopic(t, n, "x", 4)
	perPartition(t, n, "x")
	a, b := n.in(t, "x", "/a"), n.in(t, "x", "/b")
	remove := f.Inject(vfs.Rule{Op: vfs.OpSync, Path: "/b/", Err: syscall.EIO})
	cl := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(2*time.Second))
	if err := cl.ProduceSync(within(t, 20*time.Second), &kgo.Record{Topic: "x", Partition: b[0], Value: []byte("x")}).FirstErr(); err == nil {
		t.Error("a record was acknowledged whose sync has failed")
	}
	n.told(t, 1, 2)
	for _, p := range a {
		if err := cl.ProduceSync(within(t, 20*time.Second), &kgo.Record{Topic: "x", Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
			t.Errorf("x-%d: %v", p, err)
		}
	}
	if d := n.dirs(t, 1); !errors.Is(d["/b"].Err, kerr.KafkaStorageError) {
		t.Errorf("%+v", d)
	}
	n.end(t)
	remove()
	remove = f.Inject(vfs.Rule{Op: vfs.OpReadDir, Path: fmt.Sprintf("/b/x-%d", b[0]), Err: syscall.EACCES})
	n = start(t, twoDirs(f))
	n.told(t, 1, 0)
	n.end(t)
	if !slices.ContainsFunc(n.logDirs.known, func(k knownDir) bool { return k.Failed }) {
		t.Error("all is forgotten, and a log was not recovered")
	}
	remove()
	n = start(t, twoDirs(f))
	n.told(t, 1, 0)
	if ends := n.ends(t, "x"); len(ends) != 4 || ends[a[0]] != 2 || ends[b[1]] != 1 {
		t.Errorf("after a restart: %v", ends)
	}
	for _, k := range n.logDirs.known {
		if k.Failed {
			t.Errorf("%+v", n.logDirs.known)
		}
	}
}

// The node ends when its last directory has failed.
func TestTheLastLogDirectoryFails(t *testing.T) {
	f := vfs.NewFault(vfs.NewMemory())
	n := start(t, twoDirs(f))
	createTopic(t, n, "x", 2)
	perPartition(t, n, "x")
	f.Inject(vfs.Rule{Op: vfs.OpSync, Path: "/b/", Err: syscall.EIO})
	f.Inject(vfs.Rule{Op: vfs.OpSync, Path: "/a/", Err: syscall.EIO})
	cl := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(2*time.Second))
	for p := range int32(2) {
		cl.Produce(t.Context(), &kgo.Record{Topic: "x", Partition: p, Value: []byte("x")}, nil)
	}
	select {
	case err := <-n.done:
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != "disk-failed" {
			t.Errorf("the node ended with %v", err)
		}
		n.stop = nil
	case <-time.After(20 * time.Second):
		t.Error("the node serves on without a directory")
	}
}

// smallDir is a disk one of whose directories can be full.
type smallDir struct {
	*vfs.Memory
	at   string
	full atomic.Bool
}

func (d *smallDir) Usage(name string) (free, total uint64, err error) {
	if d.full.Load() && strings.HasPrefix(name, d.at) {
		return 1 << 20, 1 << 40, nil
	}
	return 1 << 39, 1 << 40, nil
}

// A full disk refuses writes to the partitions that lie on it, and to no others (invariant 11).
func TestOneFullLogDirectory(t *testing.T) {
	disk := &smallDir{Memory: vfs.NewMemory(), at: "/b"}
	n := start(t, twoDirs(disk))
	createTopic(t, n, "x", 2)
	perPartition(t, n, "x")
	inA, inB := n.in(t, "x", "/a")[0], n.in(t, "x", "/b")[0]
	cl := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(5*time.Second), kgo.RecordRetries(1))
	put := func(p int32) error {
		return cl.ProduceSync(within(t, 20*time.Second), &kgo.Record{Topic: "x", Partition: p, Value: make([]byte, 64<<10)}).FirstErr()
	}
	disk.full.Store(true)
	var err error
	for range 100 { // what is known of the room on a disk holds for a second
		if err = put(inB); err != nil {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if other := put(inA); err == nil || other != nil {
		t.Errorf("b is full: %v; a: %v", err, other)
	}
	if ends := n.ends(t, "x"); len(ends) != 2 || len(n.quorum.Image().OfflineOn(1)) > 0 {
		t.Errorf("a full directory can be read still: %v", ends)
	}
	disk.full.Store(false)
	for range 100 {
		if err = put(inB); err == nil {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

// three nodes with two log directories each; the first one's b fails. Nothing that was acknowledged is lost, others lead, and a new disk is
// filled from them.
func TestALogDirectoryFailsInACluster(t *testing.T) {
	options := three(t)
	f := vfs.NewFault(vfs.Disk{})
	root := t.TempDir()
	for i := range options {
		options[i].Set = map[string]string{"log.dirs": fmt.Sprintf("%s/%d/a,%[1]s/%[2]d/b", root, i+1)}
		options[i].Durability = commitlog.PowerSafe
	}
	options[0].FS = f
	nodes := startAll(t, options)
	ctx := within(t, 2*time.Minute)
	cl, err := kgo.NewClient(seeds(nodes), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	adm := kadm.NewClient(cl)
	two := "2"
	if _, err := adm.CreateTopic(ctx, 6, 3, map[string]*string{"min.insync.replicas": &two}, "x"); err != nil {
		t.Fatal(err)
	}
	put := func(round int) {
		t.Helper()
		var records []*kgo.Record
		for p := range int32(6) {
			records = append(records, &kgo.Record{Topic: "x", Partition: p, Value: []byte(fmt.Sprint(round))})
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	b := filepath.ToSlash(path.Join(root, "1", "b"))
	remove := f.Inject(vfs.Rule{Op: vfs.OpSync, Path: b + "/", Err: syscall.EIO})
	for round := range 5 {
		put(round + 1)
	}
	nodes[1].told(t, 1, 3)
	off := nodes[1].quorum.Image().OfflineOn(1)
	for _, p := range nodes[1].quorum.Image().Topics["x"].Partitions {
		is := slices.Contains(off, p.ID())
		if is == slices.Contains(p.ISR, 1) || p.Leader == -1 || is && p.Leader == 1 {
			t.Errorf("%+v", p)
		}
	}
	nodes[0].end(t)
	remove()
	// The disk is replaced by an empty one, which is said.
	disk := vfs.Disk{}
	if err := errors.Join(disk.Rename(b, b+"-away"), disk.MkdirAll(b, 0o755), vfs.WriteFile(disk, b+"/new-disk", nil, true)); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(ctx, options[0])
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	n := &node{Broker: opened, stop: stop, done: make(chan error, 1)}
	go func() { n.done <- opened.Run(running) }()
	t.Cleanup(func() { n.end(t) })
	n.told(t, 1, 0)
	put(6)
	full := func() bool {
		for _, p := range nodes[1].quorum.Image().Topics["x"].Partitions {
			if len(p.ISR) != 3 {
				return false
			}
		}
		return true
	}
	for !full() {
		if err := nodes[1].quorum.WaitIndex(ctx, nodes[1].quorum.Image().Index+1); err != nil {
			t.Fatalf("node 1 is not in sync again: %v", err)
		}
	}
	for p := range int32(6) {
		d, hosted, err := n.replicas.Located("x", p)
		if err != nil || d == nil || hosted.Log().EndOffset() != 7 {
			t.Errorf("x-%d on node 1: %v, %v", p, d, err)
		}
	}
	if _, err := disk.Stat(b + "/new-disk"); err == nil {
		t.Error("the file that says that the disk is new is there still")
	}
}

func FuzzProperties(f *testing.F) {
	f.Add(properties{1, "NF2U", "d"}.String())
	f.Add("# a comment\nversion = 1\nnode.id=\ncluster.id==\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseProperties(text)
		if err != nil {
			return
		}
		if again, err := parseProperties(p.String()); err != nil || again != p {
			t.Fatalf("%+v does not survive: %+v, %v", p, again, err)
		}
	})
}

// A directory that has failed is known as such to the next start at once, the last one too, and not only when the node comes to a good end.
func TestAFailedLogDirectoryIsKnownAtOnce(t *testing.T) {
	disk := vfs.NewCrash()
	o := twoDirs(disk)
	o.KafkaAddr = "127.0.0.1:0"
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range b.logDirs.dirs {
		b.replicas.Fail(d, syscall.EIO)
	}
	<-b.failed
	b.stopDial() // nothing more of the end: it may not come
	if err := b.early.Wait(); err != nil {
		t.Fatal(err)
	}
	o.FS = disk.Crashed(nil)
	next, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range next.logDirs.dirs {
		if !d.Suspect {
			t.Errorf("%s is believed", d.Name)
		}
	}
	_ = b.Close() // tells again what has failed
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}
