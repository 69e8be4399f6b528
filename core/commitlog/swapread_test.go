package commitlog

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// stopAt has the next operation op on a file of this name wait for release; met is closed when it does.
func stopAt(fault *vfs.Fault, op vfs.Op) (name *atomic.Pointer[string], met, release chan struct{}) {
	name, met, release = new(atomic.Pointer[string]), make(chan struct{}), make(chan struct{})
	fault.Hook(func(o vfs.Op, of string) {
		if want := name.Load(); o == op && want != nil && strings.HasSuffix(of, *want) && name.CompareAndSwap(want, nil) {
			close(met)
			<-release
		}
	})
	return name, met, release
}

// swapped is a log of four segments and more of two records each. Offset 0 is of time 5000 and deleted, 3 of 6000, all others of 1000.
func swapped(t *testing.T, fs vfs.FS) (*Log, Options) {
	t.Helper()
	o, _ := memoryLog(t, Config{SegmentBytes: 170, Compact: true, MinDirtyRatio: 1e-9})
	o.FS = fs
	l := mustOpen(t, o)
	for i := range 9 {
		switch i {
		case 0:
			mustAppend(t, l, keyed(t, 5000, "k", "first"))
		case 3:
			mustAppend(t, l, keyed(t, 6000, "latest", "of all"))
		default:
			mustAppend(t, l, keyed(t, 1000, "k", "other"))
		}
	}
	waitDurable(t, l)
	mustDo(t, l.DeleteBefore(1))
	if len(l.segs) != 5 {
		t.Fatalf("%d segments", len(l.segs))
	}
	return l, o
}

// A search by time that a compaction overtakes does not pass over the segments that were replaced.
func TestSearchBesideASwap(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMemory())
	name, met, release := stopAt(fault, vfs.OpRead)
	l, _ := swapped(t, fault)
	first := segmentName("", 0, logSuffix)
	name.Store(&first)
	type answer struct {
		offset int64
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		offset, _, _, err := l.OffsetForTime(2000)
		got <- answer{offset, err}
	}()
	<-met
	was := l.segs[1]
	mustDo(t, l.Clean(l.EndOffset(), Cleaning{}))
	if l.segs[1] == was {
		t.Fatal("nothing was swapped")
	}
	close(release)
	if a := <-got; a.offset != 3 || a.err != nil {
		t.Errorf("the first record of that time is at %d (%v), want 3", a.offset, a.err)
	}
}

// Nor does the one for the latest time, which looks at all segments first.
func TestLatestTimeBesideASwap(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMemory())
	name, met, release := stopAt(fault, vfs.OpOpen)
	l, o := swapped(t, fault)
	mustDo(t, l.Close())
	l = mustOpen(t, o)
	stable := l.segs[3].base
	last := segmentName("", stable, timeSuffix)
	name.Store(&last)
	got := make(chan error, 1)
	var offset int64
	go func() {
		var err error
		offset, _, _, err = l.MaxTimestamp()
		got <- err
	}()
	<-met
	was := l.segs[1]
	mustDo(t, l.Clean(stable, Cleaning{}))
	if l.segs[1] == was {
		t.Fatal("nothing was swapped")
	}
	close(release)
	if err := <-got; err != nil || offset != 3 {
		t.Errorf("the latest record is at %d (%v), want 3", offset, err)
	}
}

// Where a swap has failed half way, who reads there is told, and does not wait for what will not come.
func TestReadOfAFailedSwap(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMemory())
	l, _ := swapped(t, fault)
	fault.Inject(vfs.Rule{Op: vfs.OpRename, Path: logSuffix, Err: syscall.EPERM})
	if err := l.Clean(l.EndOffset(), Cleaning{}); !errors.Is(err, ErrFailed) {
		t.Fatalf("the swap: %v", err)
	}
	got := make(chan error, 2)
	go func() {
		_, err := l.Read(1, l.EndOffset(), 1, true)
		got <- err
	}()
	go func() {
		_, _, _, err := l.OffsetForTime(2000)
		got <- err
	}()
	for range 2 {
		select {
		case err := <-got:
			if !errors.Is(err, ErrFailed) {
				t.Errorf("a reader is told %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a reader waits")
		}
	}
}
