package commitlog

import (
	"bytes"
	"errors"
	"os"
	"path"
	"sync"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

// relaxedPast is a Relaxed log that has written three batches, each past its recovery point, and what told of syncs of its segments.
func relaxedPast(t *testing.T) (l *Log, told chan struct{}) {
	l, told = syncs(t, Config{})
	l.pointEvery = 1
	for range 3 {
		mustAppend(t, l, keyed(t, 1000, "k", "a value that is long enough to be found"))
		l.syncer.forget(l)
	}
	return l, told
}

// flipped changes a byte of the log's first batch.
func flipped(t *testing.T, l *Log) {
	t.Helper()
	f, err := l.fs.OpenFile(segmentName(l.dir, 0, logSuffix), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{'!'}, 80); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestActiveSegmentIsTheKernels: a Relaxed log syncs a segment when it has ended, and not before; the recovery point moves all the same, and
// means something to this boot of the machine only.
func TestActiveSegmentIsTheKernels(t *testing.T) {
	l, told := relaxedPast(t)
	if len(told) != 0 {
		t.Fatalf("%d syncs of the active segment", len(told))
	}
	if p, ok, err := readPoint(l.fs, l.dir); err != nil || !ok || p.synced.offset != 0 || p.written.offset != 3 {
		t.Fatalf("recovery point %+v, %v, %v", p, ok, err)
	}
	flipped(t, l)
	o := l.o
	again := mustOpen(t, o) // killed: what is below the point is not read before it is served
	if again.EndOffset() != 3 {
		t.Fatalf("ends at %d", again.EndOffset())
	}
	if _, err := again.Read(0, 3, 1<<20, true); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a damaged batch: %v", err)
	}
	o.BootID = "another boot"
	if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("after a power cut it is read: %v", err)
	}

	l, told = relaxedPast(t)
	l.SetConfig(Config{SegmentBytes: 1})
	mustAppend(t, l, keyed(t, 1000, "k", "v"))
	l.syncer.forget(l)
	if len(told) == 0 || l.synced.base == 0 {
		t.Fatalf("%d syncs after a roll, %+v", len(told), l.synced)
	}
}

// TestMuchUnsynced: when the logs of a directory have much that is not synced, those that have some of it are.
func TestMuchUnsynced(t *testing.T) {
	l, told := relaxedPast(t)
	if n := l.syncer.unsynced.Load(); n <= 8 {
		t.Fatalf("%d bytes unsynced", n)
	}
	l.syncer.most = 1
	mustAppend(t, l, keyed(t, 1000, "k", "v"))
	l.syncer.forget(l)
	if n := l.syncer.unsynced.Load(); len(told) != 1 || n != 0 || l.synced.offset != 4 {
		t.Fatalf("%d syncs, %d bytes unsynced, synced to %+v", len(told), n, l.synced)
	}
	l.syncer.most = 1 << 40
	mustAppend(t, l, keyed(t, 1000, "k", "v"))
	l.syncer.forget(l)
	if n := l.syncer.unsynced.Load(); n <= 0 || n != l.unsynced {
		t.Fatalf("%d bytes unsynced, %d of the log", n, l.unsynced)
	}
	if err := l.TruncateTo(4); err != nil {
		t.Fatal(err)
	}
	if n := l.syncer.unsynced.Load(); n != 0 || l.unsynced != 0 {
		t.Fatalf("%d bytes unsynced after a truncation", n)
	}
}

// TestWrittenBytesAreMissed: what this boot has written and is not there is damage.
func TestWrittenBytesAreMissed(t *testing.T) {
	for _, boot := range []string{"", "another boot"} {
		l, _ := relaxedPast(t)
		f, err := l.fs.OpenFile(segmentName(l.dir, 0, logSuffix), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(70), f.Close()); err != nil {
			t.Fatal(err)
		}
		o := l.o
		o.BootID = boot
		again, err := Open(o)
		if boot == "" && !errors.Is(err, ErrCorrupt) {
			t.Errorf("same boot: %v", err)
		}
		if boot != "" && (err != nil || again.EndOffset() != 0) {
			t.Errorf("after a power cut: %v", err)
		}
	}
}

// TestRelaxedBecomesPowerSafe: the whole tail is synced before it counts as durable, not only what is behind the recovery point.
func TestRelaxedBecomesPowerSafe(t *testing.T) {
	l, told := relaxedPast(t)
	o := l.o
	o.Durability = PowerSafe
	again := mustOpen(t, o)
	if len(told) != 1 || again.synced.offset != 3 || again.DurableOffset() != 3 {
		t.Fatalf("%d syncs, synced to %+v", len(told), again.synced)
	}
}

// TestOldRecoveryPoint: a slot of a version before has one position.
func TestOldRecoveryPoint(t *testing.T) {
	disk := vfs.NewMemory()
	if err := disk.MkdirAll("/t-0", 0o755); err != nil {
		t.Fatal(err)
	}
	want := point{seq: 6, synced: position{10, 200, 12}, written: position{10, 200, 12}}
	b := encodePoint(want)
	old := sealState(recoveryMagic, b[8:8+24+positionSize])
	if len(old) != pointSize1 {
		t.Fatal(len(old))
	}
	if err := vfs.WriteFile(disk, path.Join("/t-0", recoveryName), old, false); err != nil {
		t.Fatal(err)
	}
	if p, ok, err := readPoint(disk, "/t-0"); err != nil || !ok || p != want {
		t.Fatalf("%+v, %v, %v", p, ok, err)
	}
	newer := want
	newer.seq, newer.written = 7, position{20, 0, 20}
	if err := writePoint(disk, "/t-0", newer, false); err != nil {
		t.Fatal(err)
	}
	if p, _, err := readPoint(disk, "/t-0"); err != nil || p != newer {
		t.Fatalf("%+v, %v", p, err)
	}
	bad := newer
	bad.written = position{0, 0, 0}
	if _, err := decodePoint(encodePoint(bad)); !errors.Is(err, errBadState) {
		t.Errorf("written before synced: %v", err)
	}
	if _, err := decodePoint(sealState(recoveryMagic, []byte("short"))); !errors.Is(err, errBadState) {
		t.Errorf("a short one: %v", err)
	}
}

// TestStartAtDuringAppends: a log that is started anew right after an append, before that has looked whether anything is due.
func TestStartAtDuringAppends(t *testing.T) {
	o, _ := memoryLog(t, Config{})
	o.Durability = Relaxed
	l := mustOpen(t, o)
	b := keyed(t, 1000, "k", "v")
	var appends sync.WaitGroup
	for range 4 {
		appends.Go(func() {
			for range 5000 {
				if _, err := l.Append(bytes.Clone(b), 1, FromClient); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range int64(5000) {
		if err := l.StartAt(i); err != nil {
			t.Error(err)
		}
	}
	appends.Wait()
}
