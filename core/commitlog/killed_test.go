package commitlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// killedAt runs change over what fill has made, on a disk that takes no more operations after n of them, as of a process that is killed there; done says that
// it was through before. The log that it gives was opened by the next process of the same boot, and its disk is whole.
func killedAt(t *testing.T, n int, o Options, fill func(*Log), change func(*Log) error) (l *Log, disk *vfs.Memory, done bool) {
	t.Helper()
	disk = vfs.NewCrash()
	if err := vfs.MkdirAllSync(disk, "/data", 0o755); err != nil {
		t.Fatal(err)
	}
	fault := vfs.NewFault(disk)
	o.FS, o.Dir, o.BootID, o.Syncer = fault, "/data/t-0", "first", NewSteppedSyncer(nil)
	l = mustOpen(t, o)
	fill(l)
	o.Syncer.Step()
	fault.Inject(vfs.Rule{After: n, Err: syscall.EIO})
	if err := change(l); err == nil {
		done = true
	} else if !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	o.FS, o.Syncer = disk, NewSteppedSyncer(nil)
	return mustOpen(t, o), disk, done
}

// A replica that begins where its leader's records end, and has none of its own yet, begins there after its process, or its machine, has died.
// Else it led from offset 0, and gave offsets out twice.
func TestAnEmptyLogKeepsWhereItBegins(t *testing.T) {
	for _, power := range []bool{false, true} {
		o, ck := memoryLog(t, Config{})
		disk := vfs.NewCrash()
		o.FS = disk
		die := func() *Log {
			if power {
				disk = disk.Crashed(nil)
			}
			o.FS, o.Syncer = disk, NewSteppedSyncer(nil)
			return mustOpen(t, o)
		}
		for _, at := range []int64{50, 70, 20} {
			mustDo(t, mustOpen(t, o).StartAt(at))
			if l := die(); l.StartOffset() != at || l.EndOffset() != at {
				t.Fatalf("power cut %v: from %d to %d, not at %d", power, l.StartOffset(), l.EndOffset(), at)
			}
		}
		a, err := die().Append(batch(t, ck.ms, []string{"v"}), 1, FromClient)
		if err != nil || a.Base != 20 {
			t.Errorf("power cut %v: the first record is at %d: %v", power, a.Base, err)
		}
	}
}

// TestKilledInACut: a process that was killed in the middle of a cut may not have come to sync the folder, and the next one acknowledges records. A power cut
// after that must not bring a segment back that was cut off: its records would follow the new ones as if they were newer (invariant 2).
func TestKilledInACut(t *testing.T) {
	for name, cut := range map[string]func(*Log) error{
		"into a segment":       func(l *Log) error { return l.TruncateTo(2) },
		"between segments":     func(l *Log) error { return l.TruncateTo(3) },
		"in the last one":      func(l *Log) error { return l.TruncateTo(7) },
		"start beyond the end": func(l *Log) error { return l.StartAt(20) },
		"start at the end":     func(l *Log) error { return l.StartAt(8) },
		"start in the middle":  func(l *Log) error { return l.StartAt(4) },
		"start at the start":   func(l *Log) error { return l.StartAt(1) },
		"start before":         func(l *Log) error { return l.StartAt(0) },
	} {
		for _, durability := range []Durability{PowerSafe, Relaxed} {
			t.Run(fmt.Sprintf("%s, durability %d", name, durability), func(t *testing.T) {
				for n := 0; !killedInACut(t, n, durability, cut); n++ {
					if n > 100 {
						t.Fatal("the cut does not end")
					}
				}
			})
		}
	}
}

// In relaxed the records of after the kill may be lost, and the cut with them. What is left is still one history: no record of an older leader epoch
// lies behind one of a newer.
func killedInACut(t *testing.T, n int, durability Durability, cut func(*Log) error) (done bool) {
	o, ck := memoryLog(t, Config{SegmentBytes: 240, RetentionAge: -1})
	o.Durability = durability
	values := map[int64]string{}
	put := func(l *Log, epoch int32, what string) {
		value := fmt.Sprintf("%s %d", what, l.EndOffset())
		a, err := l.Append(batch(t, ck.ms, []string{value}), epoch, FromClient)
		if err != nil {
			t.Fatal(err)
		}
		values[a.Base] = value
	}
	verify := func(l *Log, when string) {
		epoch := int32(0)
		eachBatch(t, l, l.EndOffset(), func(h *record.Header, _ record.Batch) {
			if h.LeaderEpoch < epoch {
				t.Fatalf("killed at step %d, %s: offset %d is of epoch %d, behind one of %d", n, when, h.BaseOffset, h.LeaderEpoch, epoch)
			}
			epoch = h.LeaderEpoch
		})
		if durability == Relaxed && when == "after a power cut" {
			return
		}
		for at, value := range readAll(t, l) {
			if value != values[at] {
				t.Fatalf("killed at step %d, %s: offset %d is %q, was %q", n, when, at, value, values[at])
			}
		}
		if l.StartOffset() > l.EndOffset() || len(l.segs) == 0 && l.StartOffset() != l.EndOffset() {
			t.Fatalf("killed at step %d, %s: the log goes from %d to %d in %d segments", n, when, l.StartOffset(), l.EndOffset(), len(l.segs))
		}
	}
	var whole *Log
	l, disk, done := killedAt(t, n, o, func(l *Log) {
		for range 8 {
			put(l, 1, "old")
		}
		if len(l.segs) < 3 || l.segs[1].base != 3 {
			t.Fatalf("%d segments, the second at %d", len(l.segs), l.segs[1].base)
		}
		l.syncer.Step()
		if err := l.DeleteBefore(1); err != nil {
			t.Fatal(err)
		}
		delete(values, 0)
		whole = l
	}, cut)
	verify(l, "at the next start")
	if done && (l.StartOffset() != whole.StartOffset() || l.EndOffset() != whole.EndOffset()) {
		t.Fatalf("the log goes from %d to %d, it was cut from %d to %d", l.StartOffset(), l.EndOffset(), whole.StartOffset(), whole.EndOffset())
	}
	for range 8 {
		put(l, 2, "new")
		l.syncer.Step()
		for seed := range uint64(3) {
			torn := rand.New(rand.NewPCG(uint64(n), seed))
			if seed == 0 {
				torn = nil
			}
			after := durability * Durability(seed%2) // what the next run promises does not matter
			next := mustOpen(t, Options{FS: disk.Crashed(torn), Dir: "/data/t-0", BootID: "next", Config: o.Config, Durability: after, Ran: durability, Syncer: NewSteppedSyncer(nil)})
			if got, want := next.EndOffset(), l.DurableOffset(); got != want && durability == PowerSafe {
				t.Fatalf("killed at step %d: after a power cut the log ends at %d, %d was durable", n, got, want)
			}
			verify(next, "after a power cut")
		}
	}
	return done
}

// TestPowerCutInACut: in relaxed the recovery point may lie at the end while the batches before it are in the page cache alone. A cut that brings the point down to between the two
// must not call them synced before it has synced them: after a power cut in the middle of it the log would be refused as damaged.
func TestPowerCutInACut(t *testing.T) {
	for _, to := range []int64{1, 2, 3, 4, 5, 6, 7} {
		for n := 0; !powerCutInACut(t, n, to); n++ {
			if n > 100 {
				t.Fatal("the cut does not end")
			}
		}
	}
}

func powerCutInACut(t *testing.T, n int, to int64) (done bool) {
	o, ck := memoryLog(t, Config{RetentionAge: -1})
	disk := vfs.NewCrash()
	if err := vfs.MkdirAllSync(disk, "/data", 0o755); err != nil {
		t.Fatal(err)
	}
	fault := vfs.NewFault(disk)
	o.FS, o.Dir, o.BootID, o.Syncer, o.Durability = fault, "/data/t-0", "first", NewSteppedSyncer(nil), Relaxed
	l := mustOpen(t, o)
	value := func(at int64) string { return fmt.Sprintf("record %d", at) }
	for at := range int64(8) {
		mustAppend(t, l, batch(t, ck.ms, []string{value(at)}))
		if at == 1 {
			if err := l.syncAll(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.savePoint(true); err != nil {
		t.Fatal(err)
	}
	if l.saved.written.offset != 8 || l.saved.synced.offset != 2 {
		t.Fatalf("the point is at %+v", l.saved)
	}
	fault.Inject(vfs.Rule{After: n, Err: syscall.EIO})
	err := l.TruncateTo(to)
	if err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	for seed := range uint64(6) {
		torn := rand.New(rand.NewPCG(uint64(n), seed))
		if seed == 0 {
			torn = nil
		}
		next, err := Open(Options{FS: disk.Crashed(torn), Dir: "/data/t-0", BootID: "next", Config: o.Config, Durability: Relaxed, Syncer: NewSteppedSyncer(nil)})
		if err != nil {
			t.Fatalf("a power cut at step %d of a cut to %d: %v", n, to, err)
		}
		for at, got := range readAll(t, next) {
			if got != value(at) {
				t.Fatalf("a power cut at step %d of a cut to %d: offset %d is %q", n, to, at, got)
			}
		}
	}
	return err == nil
}

// TestHoleWhereCompactionWas: what compaction had seen was cut off, and other records came. A power cut that takes some of them, and not those behind, leaves
// a hole; it is not compaction's, and the log ends there.
func TestHoleWhereCompactionWas(t *testing.T) {
	for name, cut := range map[string]func(*Log) error{
		"truncate":   func(l *Log) error { return l.TruncateTo(1) },
		"start over": func(l *Log) error { return l.StartAt(0) },
	} {
		t.Run(name, func(t *testing.T) { holeWhereCompactionWas(t, cut) })
	}
}

func holeWhereCompactionWas(t *testing.T, cut func(*Log) error) {
	disk := vfs.NewCrash()
	if err := vfs.MkdirAllSync(disk, "/data", 0o755); err != nil {
		t.Fatal(err)
	}
	o, ck := memoryLog(t, Config{SegmentBytes: 240, RetentionAge: -1, Compact: true})
	o.FS, o.BootID, o.Syncer = disk, "first", NewSteppedSyncer(nil)
	l := mustOpen(t, o)
	for range 12 {
		mustAppend(t, l, batch(t, ck.ms, []string{"a value of a key"}))
	}
	l.syncer.Step()
	if err := maintain(l, 12); err != nil {
		t.Fatal(err)
	}
	if l.cleaned < 9 {
		t.Fatalf("compacted to %d", l.cleaned)
	}
	if err := cut(l); err != nil { // its leader has lost nearly everything
		t.Fatal(err)
	}
	durable := mustAppend(t, l, batch(t, ck.ms, []string{"durable"})).Last + 1
	l.syncer.Step()
	for n := len(l.segs); len(l.segs) < n+2; {
		mustAppend(t, l, batch(t, ck.ms, []string{"a value of a key"}))
	}
	if l.segs[len(l.segs)-1].base > 9 {
		t.Fatalf("the last segment begins at %d", l.segs[len(l.segs)-1].base)
	}
	// The kernel writes the last segment back, and not the one before.
	last, err := disk.OpenFile(l.segs[len(l.segs)-1].path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(last.Sync(), last.Close(), disk.SyncDir("/data/t-0")); err != nil {
		t.Fatal(err)
	}
	o.FS, o.BootID, o.Syncer = disk.Crashed(nil), "next", NewSteppedSyncer(nil)
	if next := mustOpen(t, o); next.EndOffset() != durable {
		t.Fatalf("the log goes on to %d over a hole from %d on", next.EndOffset(), durable)
	}
}

// TestTailOfAFailedSync: a sync has failed, and the process after it, on the same boot, is told so. What the page cache still has is written again, so that a power cut later
// does not take what was synced behind it; what the page cache has no more was never vouched for, whatever the point says of this boot.
func TestTailOfAFailedSync(t *testing.T) {
	for _, durability := range []Durability{PowerSafe, Relaxed} {
		for _, evicted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, evicted %t", durability, evicted), func(t *testing.T) {
				disk := vfs.NewCrash()
				fault := vfs.NewFault(disk)
				o, ck := memoryLog(t, Config{SegmentBytes: 400})
				o.FS, o.Syncer, o.Durability, o.BootID = fault, NewSteppedSyncer(nil), durability, "this"
				l := mustOpen(t, o)
				put := func(from, to int) {
					for i := from; i < to; i++ {
						mustAppend(t, l, batch(t, ck.ms, []string{fmt.Sprint(i)}))
					}
				}
				put(0, 3)
				mustDo(t, l.syncAll())
				mustDo(t, l.savePoint(true))
				put(3, 12)
				if durability == Relaxed {
					mustDo(t, l.savePoint(true)) // of this boot
				}
				fault.Inject(vfs.Rule{Op: vfs.OpSync, Path: ".log", Err: syscall.EIO})
				if err := l.syncAll(); !errors.Is(err, ErrFailed) {
					t.Fatal(err)
				}
				mustDo(t, disk.SyncDir("/data/t-0")) // the names are there
				disk.Forget()
				have := 12
				if evicted {
					disk, have = disk.Crashed(nil), 3
				}
				o.FS, o.Syncer, o.Suspect = disk, NewSteppedSyncer(nil), true
				l = mustOpen(t, o)
				check := func() {
					t.Helper()
					got := readAll(t, l)
					if len(got) != have || int(l.EndOffset()) != have {
						t.Fatalf("%v to %d, want %d", got, l.EndOffset(), have)
					}
				}
				check()
				put(have, have+3)
				have += 3
				mustDo(t, l.syncAll())
				o.FS, o.Syncer, o.Suspect, o.BootID = disk.Crashed(nil), NewSteppedSyncer(nil), false, "next"
				l = mustOpen(t, o)
				check()
			})
		}
	}
}
