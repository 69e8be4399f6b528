package replica

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// shelf is a house with several log directories.
type shelf struct {
	*house
	data       string
	durability commitlog.Durability
	replaced   map[string]bool
	had        bool // a file of placements, before
	failed     []string
	all        chan error
}

func newShelf(t testing.TB, fsys vfs.FS, d commitlog.Durability, dirs ...*Dir) *shelf {
	t.Helper()
	s := &shelf{house: &house{t: t, fs: fsys, image: metadata.NewImage()}, durability: d, all: make(chan error, 1)}
	for n := range 3 {
		s.apply(&metadata.RegisterNode{ID: metadata.NodeID(n + 1)})
	}
	s.reopen(dirs...)
	return s
}

// newShelfAt is a shelf on the disk.
func newShelfAt(t testing.TB, root string, dirs ...*Dir) *shelf {
	s := &shelf{house: &house{t: t, fs: vfs.Disk{}, image: metadata.NewImage()}, data: root}
	s.durability = commitlog.Relaxed
	s.apply(&metadata.RegisterNode{ID: 1})
	s.reopen(dirs...)
	return s
}

// dir is a directory as the node finds it; err: why it cannot be used.
func dir(id string, err error) *Dir {
	return &Dir{ID: id, Name: "/" + id, Path: "/" + id, Quarantine: "/" + id + "/quarantine", Err: err}
}

func (s *shelf) reopen(dirs ...*Dir) {
	s.t.Helper()
	if err := s.fs.MkdirAll(s.data+"/data", 0o755); err != nil {
		s.t.Fatal(err)
	}
	p, err := OpenPlacement(s.fs, s.data+"/data/log-placement", s.had, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range dirs {
		d.Syncer = commitlog.NewSyncer(2, func(err error) { s.Set.Fail(d, err) })
		s.t.Cleanup(d.Syncer.Close)
	}
	s.Set = New(Options{
		NodeID: 1, FS: s.fs, Dirs: dirs, Placement: p, Durability: s.durability, BootID: "b", Replaced: s.replaced,
		Settings:  func(*metadata.Image, string) controller.TopicSettings { return controller.TopicSettings{MinInSync: 1} },
		Failed:    func(d *Dir, _ error) { s.failed = append(s.failed, d.ID) },
		AllFailed: func(err error) { s.all <- err },
	})
	if err := s.Start(s.image); err != nil {
		s.t.Fatal(err)
	}
}

// restart closes the Set and opens it with these directories.
func (s *shelf) restart(dirs ...*Dir) {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.reopen(dirs...)
}

// homes are the directories of a topic's partitions.
func (s *shelf) homes(topic string) (list []string) {
	s.t.Helper()
	for n := range s.image.Topics[topic].Partitions {
		d, _, _ := s.Located(topic, int32(n))
		if d == nil {
			list = append(list, "")
		} else {
			list = append(list, d.ID)
		}
	}
	return list
}

func (s *shelf) fill(topic string) {
	s.t.Helper()
	for n := range s.image.Topics[topic].Partitions {
		s.append(topic, int32(n), fmt.Sprint(topic, n))
	}
}

// settle waits until all records of the topics that are not offline are durable: a sync that is still to come would meet a fault meant for later ones.
func (s *shelf) settle(topics ...string) {
	s.t.Helper()
	for _, topic := range topics {
		for n := range s.image.Topics[topic].Partitions {
			p, err := s.Partition(topic, int32(n))
			if errors.Is(err, commitlog.ErrFailed) {
				continue
			}
			if err == nil {
				err = p.AwaitDurable(s.t.Context(), p.Log().EndOffset())
			}
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

func (s *shelf) mustFail(topic string, n int32) {
	s.t.Helper()
	if _, err := s.Partition(topic, n); !errors.Is(err, commitlog.ErrFailed) {
		s.t.Errorf("%s-%d is not offline: %v", topic, n, err)
	}
}

func (s *shelf) unavailable(topic string) (numbers []int32) {
	for _, id := range s.Unavailable(s.image) {
		if id.Topic == s.image.Topics[topic].ID {
			numbers = append(numbers, id.Number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

func TestNewPartitionsGoToTheDirectoryWithTheFewest(t *testing.T) {
	s := newShelf(t, vfs.NewMemory(), commitlog.Relaxed, dir("a", nil), dir("b", nil))
	s.create("x", 6)
	s.fill("x")
	if got := strings.Join(s.homes("x"), ""); got != "ababab" {
		t.Errorf("6 partitions lie in %s", got)
	}
	s.restart(dir("a", nil), dir("b", nil), dir("c", nil))
	if got := strings.Join(s.homes("x"), ""); got != "ababab" {
		t.Errorf("after a restart: %s", got)
	}
	s.create("y", 6)
	s.fill("y")
	if got := strings.Join(s.homes("y"), ""); got != "cccabc" {
		t.Errorf("with a new directory: %s", got)
	}
	for n := range int32(6) {
		if s.end("x", n) != 1 || s.end("y", n) != 1 {
			t.Errorf("partition %d: %d and %d records", n, s.end("x", n), s.end("y", n))
		}
	}
}

func TestADirectoryThatIsNotThereIsMissed(t *testing.T) {
	s := newShelf(t, vfs.NewMemory(), commitlog.Relaxed, dir("a", nil), dir("b", nil))
	s.create("x", 4)
	s.fill("x")
	s.create("never", 2) // no record yet: it lies nowhere
	s.restart(dir("a", nil), dir("b", errors.New("not mounted")))
	s.mustFail("x", 1)
	s.mustFail("x", 3)
	if got := s.unavailable("x"); !slices.Equal(got, []int32{1, 3}) {
		t.Errorf("unavailable: %v", got)
	}
	s.fill("never")
	s.append("x", 0, "more")
	if got := strings.Join(s.homes("never"), ""); got != "aa" {
		t.Errorf("new partitions lie in %q", got)
	}
	if names := s.ls("/b"); !slices.Contains(names, "x-1") || slices.Contains(s.ls("/a"), "x-1") {
		t.Errorf("b: %v, a: %v", names, s.ls("/a"))
	}
	s.restart(dir("a", nil), dir("b", nil))
	if s.end("x", 1) != 1 || s.end("x", 0) != 2 || len(s.Unavailable(s.image)) > 0 {
		t.Errorf("back again: %d and %d, unavailable %v", s.end("x", 1), s.end("x", 0), s.unavailable("x"))
	}
}

// Without the file of placements nobody knows what the directory that is not there has: nothing is made anew, not even after more restarts.
func TestTheFileOfPlacementsIsGone(t *testing.T) {
	s := newShelf(t, vfs.NewMemory(), commitlog.Relaxed, dir("a", nil), dir("b", nil))
	s.create("x", 4)
	s.fill("x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.fs.Remove("/data/log-placement"); err != nil {
		t.Fatal(err)
	}
	s.had = true
	s.reopen(dir("a", nil), dir("b", errors.New("not mounted")))
	for range 2 {
		s.mustFail("x", 1)
		s.mustFail("x", 3)
		if got := s.unavailable("x"); !slices.Equal(got, []int32{1, 3}) || s.end("x", 0) != 1 {
			t.Errorf("unavailable: %v", got)
		}
		s.restart(dir("a", nil), dir("b", errors.New("not mounted")))
	}
	s.restart(dir("a", nil), dir("b", nil))
	if s.end("x", 1) != 1 || s.end("x", 3) != 1 || len(s.Unavailable(s.image)) > 0 {
		t.Errorf("back again: unavailable %v", s.unavailable("x"))
	}
	s.create("new", 2)
	s.restart(dir("a", nil), dir("b", errors.New("not mounted")))
	s.mustFail("x", 1)
	s.fill("new") // all is known again
}

func TestAFailedSyncTakesOneDirectoryOffline(t *testing.T) {
	f := vfs.NewFault(vfs.NewMemory())
	s := newShelf(t, f, commitlog.PowerSafe, dir("a", nil), dir("b", nil))
	s.create("x", 4)
	s.create("never", 2)
	s.fill("x")
	if _, err := s.Partition("never", 1); err != nil { // open, in b by its turn, and without a record
		t.Fatal(err)
	}
	if _, err := s.Partition("never", 0); err != nil {
		t.Fatal(err)
	}
	var events []string
	s.Leaders("never", func(n int32, leading bool, epoch int32) { events = append(events, fmt.Sprint(n, leading)) })
	events = nil
	s.settle("x")
	f.Inject(vfs.Rule{Op: vfs.OpSync, Path: "/b/", Err: syscall.EIO})
	held, err := s.Partition("x", 1)
	if err != nil {
		t.Fatal(err)
	}
	acked := make(chan error, 1)
	s.append("x", 1, "lost?")
	go func() { acked <- held.AwaitDurable(t.Context(), 2) }()
	<-s.UnavailableChanged()
	s.closeFailed()
	if err := <-acked; err == nil {
		t.Error("an append was acknowledged whose sync has failed")
	}
	if _, err := held.Append(nil, partition.AnyEpoch, commitlog.FromClient, false); err == nil {
		t.Error("who holds the partition can append still")
	}
	s.mustFail("x", 1)
	s.mustFail("x", 3)
	if got := s.unavailable("x"); !slices.Equal(got, []int32{1, 3}) || len(s.unavailable("never")) > 0 {
		t.Errorf("unavailable: %v, %v", got, s.unavailable("never"))
	}
	s.fill("never")
	if got := strings.Join(s.homes("never"), ""); got != "aa" {
		t.Errorf("the partitions without records went to %q", got)
	}
	s.append("x", 0, "more")
	if s.end("x", 0) != 2 || len(s.all) > 0 || !slices.Equal(s.failed, []string{"b"}) {
		t.Errorf("end %d, all failed: %d, told: %v", s.end("x", 0), len(s.all), s.failed)
	}
	if len(events) != 2 || events[0][1:] != " false" || events[1][1:] != " true" {
		t.Errorf("who follows leaders was told %v", events)
	}
	s.settle("x", "never")
	f.Inject(vfs.Rule{Op: vfs.OpSync, Path: "/a/", Err: syscall.EIO})
	s.append("x", 0, "more")
	if err := <-s.all; !errors.Is(err, syscall.EIO) {
		t.Errorf("the last directory has failed: %v", err)
	}
}

// A write that fails, and a log that cannot be read when it is opened, tell of the disk as a sync does; a full disk does not.
func TestWhatTakesADirectoryOffline(t *testing.T) {
	for _, c := range []struct {
		rule    vfs.Rule
		offline bool
	}{
		{vfs.Rule{Op: vfs.OpWrite, Path: "/b/x-1", Err: syscall.EIO}, true},
		{vfs.Rule{Op: vfs.OpWrite, Path: "/b/x-1", Err: syscall.EROFS}, true},
		{vfs.Rule{Op: vfs.OpWrite, Path: "/b/x-1", Err: syscall.ENOSPC}, false},
		{vfs.Rule{Op: vfs.OpMkdir, Path: "/b/x-1", Err: syscall.EIO}, true},
		{vfs.Rule{Op: vfs.OpMkdir, Path: "/b/x-1", Err: syscall.ENOSPC}, false},
		{vfs.Rule{Op: vfs.OpOpen, Path: "/b/x-1", Err: syscall.EMFILE}, false},
	} {
		f := vfs.NewFault(vfs.NewMemory())
		s := newShelf(t, f, commitlog.Relaxed, dir("a", nil), dir("b", nil))
		s.create("x", 2)
		s.append("x", 0, "first")
		f.Inject(c.rule)
		_, err := appendTo(s.house, "x", 1)
		if got := s.Dirs()[1].Failed() != nil; got != c.offline || err == nil {
			t.Errorf("%v %v: offline %v, append: %v", c.rule.Op, c.rule.Err, got, err)
		}
		if _, err := appendTo(s.house, "x", 0); err != nil {
			t.Errorf("%v %v: the other directory: %v", c.rule.Op, c.rule.Err, err)
		}
	}
}

func TestAPartitionInTwoDirectories(t *testing.T) {
	s := newShelf(t, vfs.NewMemory(), commitlog.Relaxed, dir("a", nil), dir("b", nil))
	s.create("x", 1)
	s.append("x", 0, "one")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	copyTree(t, s.fs, "/a/x-0", "/b/x-0")
	s.reopen(dir("a", nil), dir("b", nil))
	s.append("x", 0, "two")
	if s.homes("x")[0] != "a" || s.end("x", 0) != 2 {
		t.Errorf("%v, end %d", s.homes("x"), s.end("x", 0))
	}
	if !slices.Contains(s.ls("/b/quarantine"), "x-0") || slices.Contains(s.ls("/b"), "x-0") {
		t.Errorf("the copy: %v, %v", s.ls("/b"), s.ls("/b/quarantine"))
	}
	// Without a word of the placement the log that reaches further counts.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.fs.Remove("/data/log-placement"); err != nil {
		t.Fatal(err)
	}
	if err := s.fs.Rename("/b/quarantine/x-0", "/b/x-0"); err != nil {
		t.Fatal(err)
	}
	s.reopen(dir("b", nil), dir("a", nil))
	if s.homes("x")[0] != "a" || s.end("x", 0) != 2 || !slices.Contains(s.ls("/b/quarantine"), "x-0") {
		t.Errorf("%v, end %d, %v", s.homes("x"), s.end("x", 0), s.ls("/b/quarantine"))
	}
}

func appendTo(h *house, topic string, n int32) (commitlog.Appended, error) {
	p, err := h.Partition(topic, n)
	if err != nil {
		return commitlog.Appended{}, err
	}
	b := record.NewBuilder()
	b.Append(1000, nil, []byte("v"))
	raw, err := b.Bytes()
	if err != nil {
		h.t.Fatal(err)
	}
	return p.Append(raw, partition.AnyEpoch, commitlog.FromClient, false)
}

func copyTree(t *testing.T, fsys vfs.FS, from, to string) {
	t.Helper()
	if err := fsys.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := fsys.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := vfs.ReadFile(fsys, path.Join(from, e.Name()), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fsys, path.Join(to, e.Name()), b, true); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that was replaced: what others lead and have is copied anew; what only this node had is offline until the old directory is back.
func TestAReplacedDisk(t *testing.T) {
	s := newShelf(t, vfs.NewMemory(), commitlog.Relaxed, dir("a", nil), dir("b", nil))
	s.create("alone", 2)
	s.create("shared", 2, 1, 2)
	s.fill("alone")
	s.fill("shared")
	s.replaced = map[string]bool{"b": true}
	s.restart(dir("a", nil), dir("c", nil))
	s.mustFail("alone", 1)
	s.mustFail("shared", 1) // it is in the ISR still
	off := s.Unavailable(s.image)
	if len(off) != 2 {
		t.Fatalf("unavailable: %v", off)
	}
	s.apply(&metadata.SetOffline{Node: 1, NodeEpoch: s.image.Nodes[1].Epoch, Offline: off})
	<-s.UnavailableChanged()
	if got := s.unavailable("alone"); !slices.Equal(got, []int32{1}) || len(s.unavailable("shared")) > 0 {
		t.Errorf("node 2 leads: %v, %v", got, s.unavailable("shared"))
	}
	s.mustFail("alone", 1)
	if s.end("shared", 1) != 0 || s.homes("shared")[1] != "c" {
		t.Errorf("it begins anew: end %d in %v", s.end("shared", 1), s.homes("shared"))
	}
	if s.end("shared", 0) != 1 || s.end("alone", 0) != 1 {
		t.Error("the other directory has lost something")
	}
	s.restart(dir("a", nil), dir("c", nil)) // it was written down where it lies now
	if s.homes("shared")[1] != "" && s.homes("shared")[1] != "c" || len(s.unavailable("shared")) > 0 {
		t.Errorf("after a restart: %v, %v", s.homes("shared"), s.unavailable("shared"))
	}
	s.replaced = nil
	s.restart(dir("a", nil), dir("c", nil), dir("b", nil))
	if s.end("alone", 1) != 1 || len(s.Unavailable(s.image)) > 0 {
		t.Errorf("the old directory is back: %d, %v", s.end("alone", 1), s.Unavailable(s.image))
	}
}

// A replica that is moved away and comes back lies where it is put now, and counts there, not where it lay before.
func TestAReplicaComesBack(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s := newShelf(t, vfs.NewMemory(), commitlog.Relaxed, dir("a", nil), dir("b", nil))
		s.create("x", 1)
		s.fill("x")
		s.reassign("x", 2)
		s.inSync("x", 1, 2)
		if fails {
			s.Fail(s.Dirs()[0], syscall.EIO)
		}
		s.reassign("x", 1)
		if end := s.end("x", 0); end != 0 {
			t.Errorf("it begins at %d", end)
		}
		s.inSync("x", 1, 2)
		s.fill("x")
		var counts [2]int64
		for i, d := range s.Dirs() {
			counts[i] = d.partitions.Load()
		}
		if want := map[bool]string{false: "a", true: "b"}[fails]; s.homes("x")[0] != want || counts[0]+counts[1] != 1 {
			t.Errorf("a has failed: %v; it lies in %v, of %v", fails, s.homes("x"), counts)
		}
	}
}

// A suspect directory is told of as if it were offline until the cluster has heard it.
func TestASuspectDirectory(t *testing.T) {
	s := newShelf(t, vfs.NewMemory(), commitlog.Relaxed, dir("a", nil), dir("b", nil))
	s.create("x", 2)
	s.fill("x")
	b := dir("b", nil)
	b.Suspect = true
	s.restart(dir("a", nil), b)
	if got := s.unavailable("x"); !slices.Equal(got, []int32{1}) {
		t.Errorf("unavailable: %v", got)
	}
	s.Trust()
	if got := s.unavailable("x"); len(got) > 0 || s.end("x", 1) != 1 {
		t.Errorf("unavailable: %v, end %d", got, s.end("x", 1))
	}
}

// Whatever sync a power cut comes at: what was acknowledged is there when both directories are, and is missed, not
// made anew, when one is not.
func TestPowerCutsWhilePartitionsAreMade(t *testing.T) {
	disk := vfs.NewCrash()
	f := vfs.NewFault(disk)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	source := rand.New(rand.NewPCG(seed, 1))
	acked := map[int32]bool{}
	type cut struct {
		disk  *vfs.Memory
		acked map[int32]bool
	}
	var cuts []cut
	watching := false
	f.Hook(func(op vfs.Op, name string) {
		if watching && (op == vfs.OpSync || op == vfs.OpSyncDir) {
			cuts = append(cuts, cut{disk.Crashed(nil), maps.Clone(acked)}, cut{disk.Crashed(source), maps.Clone(acked)})
		}
	})
	s := newShelf(t, f, commitlog.PowerSafe, dir("a", nil), dir("b", nil))
	s.create("x", 4)
	for _, d := range []string{"/a", "/b"} {
		if err := errors.Join(disk.SyncDir("/"), disk.SyncDir(d)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range int32(4) {
		p, err := s.Partition("x", n)
		if err != nil {
			t.Fatal(err)
		}
		watching = true
		s.append("x", n, "one")
		if err := p.AwaitDurable(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		s.Dirs()[n%2].Syncer.Close() // nothing runs beside the hook
		watching = false
		acked[n] = true
	}
	if len(cuts) < 20 {
		t.Fatalf("only %d cuts", len(cuts))
	}
	for i, c := range cuts {
		for _, missing := range []string{"", "a", "b"} {
			after := c.disk.Crashed(nil)
			dirs := []*Dir{dir("a", nil), dir("b", nil)}
			for _, d := range dirs {
				if d.ID == missing {
					d.Err = io.ErrUnexpectedEOF
				}
			}
			again := &shelf{house: &house{t: t, fs: after, image: s.image}, durability: commitlog.PowerSafe}
			again.reopen(dirs...)
			for n := range c.acked {
				_, err := again.Partition("x", n)
				switch there := []string{"a", "b"}[n%2] != missing; {
				case there && (err != nil || again.end("x", n) != 1):
					t.Errorf("cut %d without %q: x-%d has lost its record: %v", i, missing, n, err)
				case !there && !errors.Is(err, commitlog.ErrFailed):
					t.Errorf("cut %d without %q: x-%d was made anew", i, missing, n)
				}
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
