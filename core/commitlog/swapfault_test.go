package commitlog

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

// TestAFolderThatIsNotSynced: the sync of a folder fails once, at any step of a compaction: for want of descriptors, which passes, or for good. What a start finds then
// has every key's last value, also where a manifest was there when its write failed: it is not carried out without the file that it is about.
func TestAFolderThatIsNotSynced(t *testing.T) {
	for _, failure := range []syscall.Errno{syscall.EMFILE, syscall.ENOSPC, syscall.EIO} {
		for after, met := 0, true; met; after++ {
			disk := vfs.NewFault(vfs.NewMemory())
			var syncs atomic.Int64
			disk.Hook(func(op vfs.Op, _ string) {
				if op == vfs.OpSyncDir {
					syncs.Add(1)
				}
			})
			o, _ := memoryLog(t, Config{SegmentBytes: 500, Compact: true, MinDirtyRatio: 1e-9})
			o.FS = disk
			l := mustOpen(t, o)
			put := func(i int) {
				key := fmt.Sprint("k", i%3)
				if i%2 == 0 {
					key = fmt.Sprint("once", i) // each segment has some that no other has
				}
				mustAppend(t, l, keyed(t, 1000, key, fmt.Sprint(i)))
			}
			for i := range 40 {
				put(i)
			}
			waitDurable(t, l)
			mustDo(t, l.Clean(40, Cleaning{})) // the next one puts two segments into one
			for i := range 20 {
				put(40 + i)
			}
			waitDurable(t, l)
			syncs.Store(0)
			heal := disk.Inject(vfs.Rule{Op: vfs.OpSyncDir, After: after, Count: 1, Err: &os.PathError{Op: "sync", Err: failure}})
			err := l.Clean(60, Cleaning{})
			heal()
			met = int(syncs.Load()) > after
			if failure == syscall.EMFILE {
				put(60) // it goes on
				waitDurable(t, l)
			}
			want, _, _ := latest(t, l, l.EndOffset())
			_ = l.Close() // says again what has failed
			o.Syncer = NewSyncer(1, nil)
			l = mustOpen(t, o)
			if got, _, _ := latest(t, l, l.EndOffset()); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v at the sync %d of a compaction, which ended with %v: %v, want %v", failure, after, err, got, want)
			}
		}
	}
}

// TestNoRoomForARewrite: where the file system finds out only at the sync that there is no room for a compacted segment, it is given up, and the log goes on.
func TestNoRoomForARewrite(t *testing.T) {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		fault := vfs.NewFault(vfs.NewMemory())
		o, _ := memoryLog(t, Config{SegmentBytes: 500, Compact: true, MinDirtyRatio: 1e-9})
		o.FS = fault
		l := mustOpen(t, o)
		for i := range 30 {
			mustAppend(t, l, keyed(t, 1000, "k", fmt.Sprint(i)))
		}
		waitDurable(t, l)
		size := l.Size()
		heal := fault.Inject(vfs.Rule{Op: vfs.OpSync, Path: cleanedSuffix, Err: full})
		if err := l.Clean(30, Cleaning{}); err != nil || l.Size() != size {
			t.Errorf("%v at a compaction's sync: %v, %d bytes, was %d", full, err, l.Size(), size)
		}
		mustAppend(t, l, keyed(t, 1000, "k", "30"))
		waitDurable(t, l)
		heal()
		if err := l.Clean(30, Cleaning{}); err != nil || l.Size() >= size {
			t.Errorf("with room: %v, %d bytes, was %d", err, l.Size(), size)
		}
		mustDo(t, l.Close())
	}
}
