package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// house is a Set with the metadata that it follows.
type house struct {
	*Set
	t     testing.TB
	fs    vfs.FS
	image *metadata.Image
	log   bytes.Buffer
	now   time.Time
	clean bool

	durability commitlog.Durability
	// settings changes a topic's from what they are by default.
	settings  func(*metadata.Image, *topicSettings)
	following Following
}

type topicSettings = controller.TopicSettings

func newHouse(t testing.TB, fsys vfs.FS) *house {
	h := &house{t: t, fs: fsys, image: metadata.NewImage(), now: time.Unix(1_700_000_000, 0), durability: commitlog.Relaxed}
	h.apply(&metadata.RegisterNode{ID: 1})
	h.apply(&metadata.RegisterNode{ID: 2})
	h.open()
	return h
}

func (h *house) open() {
	syncer := commitlog.NewSyncer(2, nil)
	h.t.Cleanup(syncer.Close)
	h.Set = New(Options{
		NodeID: 1, FS: h.fs, Following: h.following, Dirs: []*Dir{{Path: "/data/log", Quarantine: "/data/quarantine", Syncer: syncer, Clean: h.clean}}, Durability: h.durability,
		Logger: slog.New(slog.NewTextHandler(&h.log, nil)), Now: func() time.Time { return h.now }, BootID: "b",
		Settings: func(i *metadata.Image, topic string) controller.TopicSettings {
			s := controller.TopicSettings{MinInSync: 1, Log: commitlog.Config{FileDeleteDelay: time.Minute}}
			if i.TopicConfigs[topic]["min.insync.replicas"] != "" {
				s.MinInSync = 2
			}
			if h.settings != nil {
				h.settings(i, &s)
			}
			return s
		},
	})
}

func (h *house) apply(c metadata.Command) metadata.Result {
	h.t.Helper()
	var r metadata.Result
	h.image, r = metadata.Apply(h.image, h.image.Index+1, c)
	if r.Err != nil {
		h.t.Fatal(r.Err)
	}
	if h.Set != nil {
		h.Update(h.image)
	}
	return r
}

func (h *house) create(name string, partitions int, nodes ...metadata.NodeID) metadata.TopicID {
	h.t.Helper()
	if nodes == nil {
		nodes = []metadata.NodeID{1}
	}
	spec := metadata.TopicSpec{Name: name, ID: uuid.New()}
	for range partitions {
		spec.Assignment = append(spec.Assignment, nodes)
	}
	if r := h.apply(&metadata.CreateTopics{Topics: []metadata.TopicSpec{spec}}); r.Errs[0] != nil {
		h.t.Fatal(r.Errs[0])
	}
	return spec.ID
}

func (h *house) start() {
	h.t.Helper()
	if err := h.Start(h.image); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) append(topic string, n int32, values ...string) {
	h.t.Helper()
	p, err := h.Partition(topic, n)
	if err != nil {
		h.t.Fatal(err)
	}
	b := record.NewBuilder()
	for _, v := range values {
		b.Append(1000, nil, []byte(v))
	}
	raw, err := b.Bytes()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := p.Append(raw, partition.AnyEpoch, commitlog.FromClient, false); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) end(topic string, n int32) int64 {
	h.t.Helper()
	p, err := h.Partition(topic, n)
	if err != nil {
		h.t.Fatal(err)
	}
	return p.Log().EndOffset()
}

// restart closes the Set and opens another one on the same disk.
func (h *house) restart() {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.open()
	h.start()
}

func (h *house) ls(dir string) []string {
	h.t.Helper()
	entries, err := h.fs.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPartitionsAreFoundAndRecovered(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.start()
	h.create("a", 2)
	h.create("b", 1, 2)
	if _, err := h.Partition("none", 0); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	for _, n := range []int32{-1, 2} {
		if _, err := h.Partition("a", n); !errors.Is(err, ErrUnknown) {
			t.Error(n, err)
		}
	}
	if _, err := h.Partition("b", 0); !errors.Is(err, ErrElsewhere) {
		t.Error(err)
	}
	if _, err := h.Partition("a", 1); err != nil {
		t.Error(err)
	}
	if names := h.ls("/data/log"); len(names) != 0 {
		t.Errorf("files before the first append: %v", names)
	}
	h.append("a", 0, "x", "y")
	if names := h.ls("/data/log"); !slices.Equal(names, []string{"a-0"}) {
		t.Errorf("%v", names)
	}
	for _, clean := range []bool{false, true} {
		h.clean = clean
		h.restart()
		open := 0
		h.Hosted(func(*partition.Partition) { open++ })
		if want := map[bool]int{false: 1, true: 0}[clean]; open != want {
			t.Errorf("clean %v: %d logs were opened, want %d", clean, open, want)
		}
		if end := h.end("a", 0); end != 2 {
			t.Errorf("clean %v: end %d", clean, end)
		}
	}
	if len(h.ls("/data/quarantine")) > 0 {
		t.Error("set aside:", h.ls("/data/quarantine"))
	}
}

// Nothing is deleted because it is absent from metadata (invariant 8).
func TestUnknownDataIsSetAside(t *testing.T) {
	disk := vfs.NewMemory()
	h := newHouse(t, disk)
	h.create("kept", 1)
	h.create("renewed", 1)
	h.start()
	h.append("kept", 0, "1")
	h.append("renewed", 0, "1")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	put := func(name, text string) {
		t.Helper()
		f, err := disk.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(text), 0); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	for _, dir := range []string{"stranger-0", "no-owner-3", "half-made-0", "garbled-1", "not a topic", "kept-x", "kept-01"} {
		if err := disk.MkdirAll("/data/log/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put("/data/log/stranger-0/partition.metadata", "version: 0\ntopic_id: "+uuid.NewString()+"\n")
	put("/data/log/no-owner-3/00000000000000000000.log", "records")
	put("/data/log/garbled-1/partition.metadata", "topic: yes")
	put("/data/log/half-made-0/partition.metadata.new", "ver")
	put("/data/log/a-file", "")
	put("/data/log/renewed-0/partition.metadata", "version: 0\ntopic_id: "+uuid.NewString()+"\n")
	h.open()
	h.start()
	want := []string{"a-file", "garbled-1", "kept-01", "kept-x", "no-owner-3", "not a topic", "renewed-0", "stranger-0"}
	if got := h.ls("/data/quarantine"); !slices.Equal(got, want) {
		t.Errorf("set aside:\n%v\nwant\n%v", got, want)
	}
	if got := h.ls("/data/log"); !slices.Equal(got, []string{"kept-0"}) {
		t.Errorf("left: %v", got)
	}
	for _, name := range want {
		if !strings.Contains(h.log.String(), name) {
			t.Errorf("%s was not reported", name)
		}
	}
	if h.end("kept", 0) != 1 || h.end("renewed", 0) != 0 {
		t.Error("wrong records")
	}
	h.append("renewed", 0, "new")

	// A second stranger of the same name does not hide the first one.
	if err := disk.MkdirAll("/data/log/stranger-0", 0o755); err != nil {
		t.Fatal(err)
	}
	put("/data/log/stranger-0/partition.metadata", "version: 0\ntopic_id: "+uuid.NewString()+"\n")
	h.restart()
	if got := h.ls("/data/quarantine"); !slices.Contains(got, "stranger-0.1") || !slices.Contains(got, "stranger-0") {
		t.Error(got)
	}
}

// What was set aside is there after a power cut, too: the first that is makes the folder for it.
func TestWhatIsSetAsideIsDurable(t *testing.T) {
	disk := vfs.NewCrash()
	h := newHouse(t, disk)
	if err := errors.Join(vfs.MkdirAllSync(disk, "/data/log/stranger-0", 0o755), vfs.WriteFile(disk, "/data/log/stranger-0/file", []byte("x"), true)); err != nil {
		t.Fatal(err)
	}
	h.start()
	for _, after := range []*vfs.Memory{disk.Crashed(nil), disk} {
		if _, err := after.Stat("/data/quarantine/stranger-0/file"); err != nil {
			t.Error(err)
		}
	}
}

func (h *house) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Run(ctx); err != nil {
			h.t.Error(err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func TestDeletedTopicsArePutAwayAndLaterRemoved(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.start()
	old := h.create("a", 1)
	h.append("a", 0, "old", "old", "old")
	p, _ := h.Partition("a", 0)
	h.apply(&metadata.DeleteTopics{IDs: []metadata.TopicID{old}})
	if _, err := h.Partition("a", 0); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	h.create("a", 1)
	if end := h.end("a", 0); end != 0 {
		t.Errorf("the new topic begins at %d", end)
	}
	h.append("a", 0, "new")
	if leading, _ := p.Leader(); leading {
		t.Error("the deleted partition leads")
	}
	grave := "a-0." + strings.ReplaceAll(old.String(), "-", "") + "-delete"
	if got := h.ls("/data/log"); !slices.Equal(got, []string{"a-0", grave}) {
		t.Fatal(got)
	}
	if _, ok := h.removeDue(); !ok {
		t.Error("nothing is due later")
	}
	if got := h.ls("/data/log"); len(got) != 2 {
		t.Error("removed before its time")
	}
	h.restart()
	h.now = h.now.Add(time.Hour)
	h.removeDue()
	if got := h.ls("/data/log"); !slices.Equal(got, []string{"a-0"}) {
		t.Error(got)
	}
	if h.end("a", 0) != 1 {
		t.Error("the new topic's record is gone")
	}
}

// A crash between the agreed deletion and the rename: the folder is known as deleted, not as a stranger.
func TestCrashedDeletionIsFinished(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	id := h.create("a", 1)
	h.start()
	h.append("a", 0, "x")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.Set = nil
	h.apply(&metadata.DeleteTopics{IDs: []metadata.TopicID{id}})
	h.create("a", 1)
	h.open()
	h.start()
	if got := h.ls("/data/log"); len(got) != 1 || !strings.HasSuffix(got[0], graveSuffix) || len(h.ls("/data/quarantine")) > 0 {
		t.Error(got, h.ls("/data/quarantine"))
	}
	if h.end("a", 0) != 0 {
		t.Error("the new topic has the old one's record")
	}
}

func (h *house) reassign(topic string, nodes ...metadata.NodeID) {
	h.t.Helper()
	if r := h.apply(&metadata.ReassignPartitions{Changes: []metadata.Reassignment{{Topic: h.image.Topics[topic].ID, Replicas: nodes}}}); r.Errs[0] != nil {
		h.t.Fatal(r.Errs[0])
	}
}

func (h *house) inSync(topic string, nodes ...metadata.NodeID) {
	h.t.Helper()
	p := h.image.Partition(topic, 0)
	c := metadata.ISRChange{Topic: p.TopicID, Leader: p.Leader, NodeEpoch: h.image.Nodes[p.Leader].Epoch, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
	for _, n := range nodes {
		c.ISR = append(c.ISR, metadata.ISRMember{ID: n, Epoch: h.image.Nodes[n].Epoch})
	}
	if r := h.apply(&metadata.AlterPartition{Changes: []metadata.ISRChange{c}}); r.Errs[0] != nil {
		h.t.Fatal(r.Errs[0])
	}
}

// A replica that is moved away keeps its records until all who stay have them; then they go as a deleted topic's do. It may
// come back while the last ones are still there, again and again.
func TestMovedReplicasArePutAway(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.start()
	h.create("a", 1)
	for round := range 3 {
		h.append("a", 0, "x", "y")
		h.reassign("a", 2)
		h.finishRemovals()
		if h.end("a", 0) != 2 {
			t.Fatal("the records are gone before they are elsewhere")
		}
		h.inSync("a", 1, 2)
		if _, err := h.Partition("a", 0); !errors.Is(err, ErrElsewhere) {
			t.Fatal(err)
		}
		if round == 1 {
			h.finishRemovals()
		}
		// Back: it begins with nothing, whatever lies there still.
		h.reassign("a", 1)
		if end := h.end("a", 0); end != 0 {
			t.Fatalf("round %d: it begins at %d", round, end)
		}
		h.inSync("a", 1, 2)
		if p, err := h.Partition("a", 0); err != nil {
			t.Fatal(err)
		} else if leading, _ := p.Leader(); !leading {
			t.Fatal("it does not lead")
		}
	}
	graves := h.ls("/data/log")
	if len(graves) != 3 || slices.ContainsFunc(graves, func(name string) bool { return !strings.HasSuffix(name, graveSuffix) }) {
		t.Error(graves)
	}
	h.append("a", 0, "z")
	h.now = h.now.Add(time.Hour)
	h.removeDue()
	if got := h.ls("/data/log"); !slices.Equal(got, []string{"a-0"}) || h.end("a", 0) != 1 {
		t.Error(got)
	}
	if strings.Contains(h.log.String(), "level=ERROR") || len(h.ls("/data/quarantine")) > 0 {
		t.Error(h.log.String(), h.ls("/data/quarantine"))
	}
}

// A replica that was moved away while its node was down is put away at the start: the metadata has the partition, and not here.
func TestMovedAwayWhileDown(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.create("a", 1)
	h.create("b", 1)
	h.start()
	h.append("a", 0, "x")
	h.append("b", 0, "x")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.Set = nil
	h.reassign("a", 2)
	h.inSync("a", 1, 2)
	h.reassign("b", 2) // not yet
	h.open()
	h.start()
	got := h.ls("/data/log")
	if len(got) != 2 || !strings.HasPrefix(got[0], "a-0.") || !strings.HasSuffix(got[0], graveSuffix) || got[1] != "b-0" || len(h.ls("/data/quarantine")) > 0 {
		t.Error(got, h.ls("/data/quarantine"))
	}
	if h.end("b", 0) != 1 {
		t.Error("a record of a replica that is to go, and has not gone, is lost")
	}
}

// A topic that is gone without a deletion (a metadata snapshot from elsewhere) keeps its records.
func TestTopicGoneWithoutADeletionIsSetAside(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	before := h.image
	h.create("a", 1)
	h.start()
	h.append("a", 0, "x")
	h.image = before
	h.Update(before)
	h.finishRemovals()
	if got := h.ls("/data/quarantine"); !slices.Equal(got, []string{"a-0"}) {
		t.Error(got)
	}
}

func TestLeadersAreToldInOrder(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.start()
	var told []string
	fn := func(n int32, leading bool, epoch int32) {
		told = append(told, fmt.Sprintf("%d %v %d", n, leading, epoch))
	}
	h.Leaders("a", fn)
	id := h.create("a", 2, 1, 2)
	h.apply(&metadata.ChangePartition{Topic: id, Number: 1, Leader: 2, ISR: []metadata.NodeID{1, 2}})
	h.apply(&metadata.AlterConfigs{Name: "a", Set: map[string]string{"min.insync.replicas": "2"}})
	h.apply(&metadata.ChangePartition{Topic: id, Number: 1, Expected: 1, Leader: 1, ISR: []metadata.NodeID{1}})
	h.apply(&metadata.RegisterNode{ID: 1})
	h.create("other", 1)
	h.apply(&metadata.CreatePartitions{Topic: id, From: 2, Assignment: [][]metadata.NodeID{{1, 2}}})
	h.apply(&metadata.ChangePartition{Topic: id, Number: 0, Expected: 1, Leader: 2, ISR: []metadata.NodeID{2}, Replicas: []metadata.NodeID{2}})
	h.apply(&metadata.DeleteTopics{IDs: []metadata.TopicID{id}})
	want := []string{
		"0 true 0", "1 true 0", // created
		"1 false 1", "1 true 2", // moved and back
		"0 true 1", "1 true 3", // registered anew
		"2 true 0",               // a new partition
		"0 false 2",              // moved elsewhere
		"1 false 3", "2 false 0", // deleted
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %v\nwant %v", told, want)
	}
	told = nil
	h.create("b", 1)
	h.Leaders("b", fn)
	if !slices.Equal(told, []string{"0 true 0"}) {
		t.Error("at once:", told)
	}
}

func TestSettingsReachOpenPartitions(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.start()
	id := h.create("a", 1, 1, 2)
	h.append("a", 0, "x")
	h.apply(&metadata.ChangePartition{Topic: id, Leader: 1, ISR: []metadata.NodeID{1}})
	h.apply(&metadata.AlterConfigs{Name: "a", Set: map[string]string{"min.insync.replicas": "2"}})
	p, err := h.Partition("a", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(nil, partition.AnyEpoch, commitlog.FromClient, true); !errors.Is(err, partition.ErrNotEnough) {
		t.Error(err)
	}
}

// A log that cannot be opened takes its partition offline, and nothing else.
func TestOneBadLogTakesOnePartitionOffline(t *testing.T) {
	faulty := vfs.NewFault(vfs.NewMemory())
	h := newHouse(t, faulty)
	h.create("good", 1)
	h.create("bad", 1)
	h.start()
	h.append("good", 0, "x")
	h.append("bad", 0, "x")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	remove := faulty.Inject(vfs.Rule{Op: vfs.OpRead, Path: "/bad-0/0", Err: errors.New("unreadable sector")})
	h.open()
	h.start()
	if _, err := h.Partition("bad", 0); !errors.Is(err, commitlog.ErrFailed) {
		t.Error(err)
	}
	if off := h.Offline(); len(off) != 1 || off["bad-0"] == nil {
		t.Error(off)
	}
	if h.end("good", 0) != 1 {
		t.Error("good is not")
	}
	remove()
	h.restart()
	if h.end("bad", 0) != 1 {
		t.Error("mended, it is not the same")
	}
}

// Topics come and go while everybody asks for their partitions: no deadlock, no old record in a new topic.
// A folder whose owner cannot be read now, for want of descriptors or because of the disk, is not somebody else's.
func TestUnreadableOwnerIsNotSetAside(t *testing.T) {
	for _, cause := range []error{syscall.EMFILE, syscall.EIO} {
		disk := vfs.NewFault(vfs.NewMemory())
		h := newHouse(t, disk)
		h.start()
		h.create("a", 1)
		h.append("a", 0, "x", "y")
		heal := disk.Inject(vfs.Rule{Op: vfs.OpOpen, Path: ownerFile, Err: &os.PathError{Op: "open", Err: cause}})
		h.restart()
		if _, err := h.Partition("a", 0); !errors.Is(err, commitlog.ErrFailed) && !errors.Is(err, commitlog.ErrNoFiles) {
			t.Errorf("%v: %v", cause, err)
		}
		heal()
		if errors.Is(cause, syscall.EIO) { // final until a restart
			h.restart()
		}
		if end := h.end("a", 0); end != 2 {
			t.Errorf("%v: the log ends at %d", cause, end)
		}
		if aside := h.ls("/data/quarantine"); len(aside) > 0 {
			t.Errorf("%v: set aside: %v", cause, aside)
		}
	}
}

func TestTopicsComeAndGoUnderLoad(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.start()
	stop := h.run()
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				p, err := h.Partition("a", 0)
				if err != nil {
					continue
				}
				b := record.NewBuilder()
				b.Append(1000, nil, p.TopicID[:])
				raw, err := b.Bytes()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = p.Append(raw, partition.AnyEpoch, commitlog.FromClient, false) // refused once it is deleted
				r, err := p.Read(partition.ReadRequest{MaxBytes: 4096, MinOne: true, Epoch: -1, LastEpoch: -1, Replica: -1})
				if err != nil || r.Slice.Len == 0 {
					continue
				}
				got := make([]byte, r.Slice.Len)
				if _, err := r.Slice.File.ReadAt(got, r.Slice.Pos); err != nil {
					t.Error(err)
				} else if !bytes.Contains(got, p.TopicID[:]) {
					t.Errorf("topic %s has another's record", p.TopicID)
				}
				r.Slice.Release()
			}
		})
	}
	for range 40 {
		id := h.create("a", 1)
		h.apply(&metadata.DeleteTopics{IDs: []metadata.TopicID{id}})
	}
	h.create("a", 1)
	h.append("a", 0, "x")
	cancel()
	wg.Wait()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestMaintainOpensWhatHasRecords(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.create("a", 3)
	h.start()
	h.append("a", 1, "x")
	h.clean = true
	h.restart()
	h.Maintain(t.Context())
	var open []int32
	h.Hosted(func(p *partition.Partition) { open = append(open, p.Number) })
	if !slices.Equal(open, []int32{1}) {
		t.Error(open)
	}
}

// syncs counts the syncs of folders.
type syncs struct {
	vfs.FS
	folders atomic.Int32
}

func (s *syncs) SyncDir(dir string) error {
	s.folders.Add(1)
	return s.FS.SyncDir(dir)
}

// In power-safe the first record of a partition costs one sync of each folder; and once it is durable, so is whose it is.
func TestFirstRecordSyncsFoldersOnce(t *testing.T) {
	disk := vfs.NewCrash()
	if err := errors.Join(disk.MkdirAll("/data", 0o755), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	counted := &syncs{FS: disk}
	h := newHouse(t, counted)
	h.durability = commitlog.PowerSafe
	h.open()
	h.create("a", 1)
	h.start()
	before := counted.folders.Load()
	h.append("a", 0, "x")
	p, err := h.Partition("a", 0)
	if err != nil {
		t.Fatal(err)
	}
	for ctx := t.Context(); p.Log().DurableOffset() < 1 && ctx.Err() == nil; {
		runtime.Gosched()
	}
	if n := counted.folders.Load() - before; n != 3 { // the partition's, those of the logs, the data's
		t.Errorf("%d syncs of folders", n)
	}
	h.fs = disk.Crashed(nil)
	h.open()
	h.start()
	if end := h.end("a", 0); end != 1 || len(h.ls("/data/quarantine")) > 0 {
		t.Errorf("after the power cut the log ends at %d, set aside: %v", end, h.ls("/data/quarantine"))
	}
}

func FuzzOwner(f *testing.F) {
	f.Add("version: 0\ntopic_id: 6971e554-41f6-52eb-b5a6-7b370e856d5c\n")
	f.Add("version: 1\n")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseOwner(s)
		if err == nil && id == (metadata.TopicID{}) && !strings.Contains(s, "0000") {
			t.Error("an id out of nothing")
		}
		if topic, n, ok := parseFolder(s); ok && folder(&metadata.Partition{Topic: topic, Number: n}) != s {
			t.Error("another folder's name")
		}
	})
}
