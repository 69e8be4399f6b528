package consensus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

func openReady(t testing.TB, fsys vfs.FS, dir string) *Quorum {
	t.Helper()
	q, err := Open(Options{FS: fsys, Dir: dir, NodeID: 1, Failed: func(err error) { t.Log("failed:", err) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := q.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return q
}

func propose(t testing.TB, q *Quorum, c metadata.Command) metadata.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := q.Propose(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func setKey(n int) metadata.Command {
	return &metadata.AlterConfigs{Broker: true, Set: map[string]string{fmt.Sprintf("k%d", n): fmt.Sprint(n)}}
}

// TestTooLateToPropose: who has been told that it was too late is not surprised by it afterwards.
func TestTooLateToPropose(t *testing.T) {
	q := openReady(t, vfs.Disk{}, t.TempDir())
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Propose(late, setKey(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	propose(t, q, setKey(2)) // applied behind it
	if got, made := q.Image().BrokerConfigs[""]["k1"]; made {
		t.Errorf("what came too late is applied: %q", got)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsAgreedSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	q := openReady(t, vfs.Disk{}, dir)
	for n := range 20 {
		propose(t, q, setKey(n))
	}
	if got := q.Image().BrokerConfigs[""]["k19"]; got != "19" {
		t.Fatalf("Image after Propose shows %q", got)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	q = openReady(t, vfs.Disk{}, dir)
	t.Log("restart took", time.Since(start))
	if got := len(q.Image().BrokerConfigs[""]); got != 20 {
		t.Errorf("%d keys after the restart", got)
	}
	if err := q.Snapshot(); err != nil {
		t.Fatal(err)
	}
	propose(t, q, setKey(20))
	index := q.Image().Index
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openReady(t, vfs.Disk{}, dir)
	defer q.Close()
	if got := len(q.Image().BrokerConfigs[""]); got != 21 || q.Image().Index != index {
		t.Errorf("%d keys, index %d after a restart from a snapshot; want 21, %d", got, q.Image().Index, index)
	}
}

// Every proposal that was answered is there after a power cut at any moment, whatever
// part of the unsynced bytes reached the disk.
func TestAgreedSurvivesPowerCuts(t *testing.T) {
	for seed := range uint64(8) {
		disk := vfs.NewCrash()
		if err := disk.MkdirAll("/data", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := disk.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(seed, 1))
		total := 0
		for range 4 {
			q := openReady(t, disk, "/data/raft")
			if got := len(q.Image().BrokerConfigs[""]); got < total {
				t.Fatalf("seed %d: %d of %d answered proposals are there", seed, got, total)
			}
			for range 1 + rnd.IntN(10) {
				propose(t, q, setKey(total))
				total++
			}
			if rnd.IntN(2) == 0 {
				if err := q.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			after := disk.Crashed(rnd)
			_ = q.Close() // of the machine that lost its power
			disk = after
		}
	}
}

func TestFollowersSeeEveryImageInOrder(t *testing.T) {
	q := openReady(t, vfs.NewMemory(), "/raft")
	defer q.Close()
	var last atomic.Uint64
	q.Follow(func(i *metadata.Image) {
		if i.Index < last.Swap(i.Index) {
			t.Errorf("image %d came late", i.Index)
		}
	})
	for n := range 50 {
		propose(t, q, setKey(n))
	}
	if last.Load() != q.Image().Index {
		t.Errorf("followers saw up to %d of %d", last.Load(), q.Image().Index)
	}
}

func corrupt(t *testing.T, fsys vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// A flipped bit in the middle of the journal or in a snapshot stops the node with
// the file's name: an older state would take topics away (NATS #7556).
func TestCorruptMetadataIsRefused(t *testing.T) {
	disk := vfs.NewMemory()
	q := openReady(t, disk, "/raft")
	for n := range 10 {
		propose(t, q, setKey(n))
	}
	if err := q.Snapshot(); err != nil {
		t.Fatal(err)
	}
	propose(t, q, setKey(11))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := disk.ReadDir("/raft")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := "/raft/" + e.Name()
		corrupt(t, disk, name, 60)
		if _, err := Open(Options{FS: disk, Dir: "/raft", NodeID: 1}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), e.Name()) {
			t.Errorf("%s with a flipped byte: %v", name, err)
		}
		corrupt(t, disk, name, 60)
	}
	if len(entries) < 2 {
		t.Errorf("only %d files", len(entries))
	}
	q = openReady(t, disk, "/raft")
	defer q.Close()
	if len(q.Image().BrokerConfigs[""]) != 11 {
		t.Error("mended, it is not the same")
	}
}

func TestUnknownCommandStopsTheNode(t *testing.T) {
	disk := vfs.NewMemory()
	failed := make(chan error, 1)
	q, err := Open(Options{FS: disk, Dir: "/raft", NodeID: 1, Failed: func(err error) { failed <- err }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := q.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if err := q.raft.Apply([]byte{99, 1}, 0).Error(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, metadata.ErrVersion) {
		t.Errorf("failed with %v", err)
	}
	if _, err := q.Propose(ctx, setKey(1)); !errors.Is(err, metadata.ErrVersion) {
		t.Errorf("the next proposal: %v", err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFullDiskRefusesProposalsAndRecovers(t *testing.T) {
	disk := vfs.NewMemory()
	q := openReady(t, disk, "/raft")
	defer q.Close()
	propose(t, q, setKey(0))
	disk.SetCapacity(2 << 20)
	if _, err := q.Propose(t.Context(), setKey(1)); !errors.Is(err, ErrDiskFull) {
		t.Errorf("on a full disk: %v", err)
	}
	if _, err := q.Propose(t.Context(), &metadata.DeleteTopics{}); err != nil {
		t.Errorf("a deletion on a full disk: %v", err)
	}
	disk.SetCapacity(1 << 30)
	propose(t, q, setKey(2))
}

// A failed sync is final: the node is told to stop, and nothing panics.
func TestFailedSyncStopsTheNode(t *testing.T) {
	faulty := vfs.NewFault(vfs.NewMemory())
	failed := make(chan error, 8)
	q, err := Open(Options{FS: faulty, Dir: "/raft", NodeID: 1, Failed: func(err error) { failed <- err }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := q.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	faulty.Inject(syncFails)
	if _, err := q.Propose(ctx, setKey(1)); err == nil {
		t.Error("a proposal that was not synced was answered")
	}
	select {
	case <-failed:
	case <-ctx.Done():
		t.Fatal("nobody was told")
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func TestHalfACompactionIsNoJournal(t *testing.T) {
	disk := vfs.NewMemory()
	q := openReady(t, disk, "/raft")
	propose(t, q, setKey(1))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile("/raft/journal.new", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("FBRAFTJ"), 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	q = openReady(t, disk, "/raft")
	defer q.Close()
	if q.Image().BrokerConfigs[""]["k1"] != "1" {
		t.Error("lost")
	}
	if _, err := disk.Stat("/raft/journal.new"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the half is still there", err)
	}
}

// Entries of another history than the snapshot that a leader has sent are not gone on from, nor applied to it by who looks through a stopped node's folder.
func TestKilledBehindASnapshotOfAnotherHistory(t *testing.T) {
	disk := vfs.NewMemory()
	q := openReady(t, disk, "/raft")
	propose(t, q, setKey(1))
	image := q.Image()
	propose(t, q, setKey(2))
	propose(t, q, setKey(3))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	sink, err := (&snapshots{fs: disk, dir: "/raft"}).Create(1, image.Index, 7, configuration([]Member{{ID: 1, Address: "node-1"}}), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := (frozen{image}).Persist(sink); err != nil {
		t.Fatal(err)
	}
	r, err := Read(disk, "/raft")
	if err != nil || r.Index != image.Index || r.Term != 7 || r.Image.BrokerConfigs[""]["k2"] != "" {
		t.Errorf("%v, %+v", err, r)
	}
	q = openReady(t, disk, "/raft")
	propose(t, q, setKey(4))
	if got := q.Image().BrokerConfigs[""]; got["k1"] != "1" || got["k2"] != "" || got["k4"] != "4" {
		t.Errorf("at %d: %v", q.Image().Index, got)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// A snapshot that finds no room leaves nothing behind: each would take what is left of the disk, and the room for deletions with it. What a kill has left goes at the next start.
func TestSnapshotWithoutRoom(t *testing.T) {
	disk := vfs.NewMemory()
	q := openReady(t, disk, "/raft")
	propose(t, q, setKey(1))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	image := q.Image()
	used := disk.Used()
	disk.SetCapacity(used + 8)
	sink, err := (&snapshots{fs: disk, dir: "/raft"}).Create(1, image.Index, 7, configuration([]Member{{ID: 1, Address: "node-1"}}), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := (frozen{image}).Persist(sink); !errors.Is(err, syscall.ENOSPC) || disk.Used() != used {
		t.Errorf("%v, %d bytes more", err, disk.Used()-used)
	}
	disk.SetCapacity(1 << 30)
	const half = "/raft/" + snapshotPrefix + "00000000000000000007-00000000000000000900.new"
	f, err := disk.OpenFile(half, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	q = openReady(t, disk, "/raft")
	defer q.Close()
	if _, err := disk.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the half is still there", err)
	}
}

// Who is killed between a snapshot of the leader's and the removal of the entries that it stands for goes on behind the snapshot.
func TestKilledBehindASnapshot(t *testing.T) {
	disk := vfs.NewMemory()
	q := openReady(t, disk, "/raft")
	propose(t, q, setKey(1))
	image := *q.Image()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	image.Index = 1000
	sink, err := (&snapshots{fs: disk, dir: "/raft"}).Create(1, image.Index, 7, configuration([]Member{{ID: 1, Address: "node-1"}}), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := (frozen{&image}).Persist(sink); err != nil {
		t.Fatal(err)
	}
	q = openReady(t, disk, "/raft")
	propose(t, q, setKey(2))
	if got := q.Image(); got.Index <= 1000 || got.BrokerConfigs[""]["k1"] != "1" || got.BrokerConfigs[""]["k2"] != "2" {
		t.Errorf("at %d: %v", got.Index, got.BrokerConfigs)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}
