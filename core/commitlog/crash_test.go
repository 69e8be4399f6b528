package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// crashes cuts the power before every sync, write, rename and removal of a run, and opens what is left.
type crashes struct {
	t    *testing.T
	disk *vfs.Memory
	rnd  *rand.Rand

	mu      sync.Mutex
	busy    bool
	l       *Log
	limit   int64            // a truncation to here is under way
	want    map[int64]string // by offset; of an offset that was durable
	checked int
	compact bool
}

func (c *crashes) hook(op vfs.Op, name string) {
	switch op {
	case vfs.OpSync, vfs.OpSyncDir, vfs.OpRename, vfs.OpRemove, vfs.OpWrite, vfs.OpTruncate:
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.l == nil || c.busy {
		return
	}
	c.busy = true
	defer func() { c.busy = false }()
	// Everything that was durable before the clone was made must be in it.
	durable := min(c.published(), c.limit)
	for _, torn := range []*rand.Rand{nil, c.rnd} {
		c.verify(c.disk.Crashed(torn), durable, fmt.Sprintf("%s %s", op, name))
	}
}

// published is the durable offset, read without the log's lock: the hook may run under it.
func (c *crashes) published() int64 {
	if c.l.mu.TryRLock() {
		defer c.l.mu.RUnlock()
		return c.l.durable
	}
	return 0
}

func (c *crashes) verify(disk *vfs.Memory, durable int64, at string) {
	var lines bytes.Buffer
	defer func() {
		if c.t.Failed() {
			c.t.Log(lines.String())
		}
	}()
	l, err := Open(Options{Logger: slog.New(slog.NewTextHandler(&lines, nil)), FS: disk, Dir: "/data/t-0", BootID: "next", Syncer: NewSyncer(1, nil), Config: c.l.cfg})
	if err != nil {
		c.t.Errorf("crash before %s: %v", at, err)
		return
	}
	if l.EndOffset() < durable {
		c.t.Errorf("crash before %s: the log ends at %d, it was durable to %d", at, l.EndOffset(), durable)
	}
	got := readAll(c.t, l)
	for off := l.StartOffset(); off < min(durable, l.EndOffset()); off++ {
		if v, ok := got[off]; ok && v != c.want[off] {
			c.t.Errorf("crash before %s: offset %d is %.20q, was %.20q", at, off, v, c.want[off])
		} else if !ok && !c.compact && c.want[off] != "" {
			c.t.Errorf("crash before %s: offset %d is lost", at, off)
		}
	}
	c.checked++
	if err := l.Close(); err != nil {
		c.t.Error(err)
	}
}

// TestCrashAtEveryStep is invariant 1 in power-safe mode: nothing below DurableOffset is lost by a power
// cut at any moment, and no offset gets a second content (invariant 2).
func TestCrashAtEveryStep(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &crashes{t: t, disk: vfs.NewCrash(), rnd: rand.New(rand.NewPCG(seed, 7)), limit: 1 << 60, want: map[int64]string{}, compact: seed%2 == 1}
			fault := vfs.NewFault(c.disk)
			fault.Hook(c.hook)
			if err := vfs.MkdirAllSync(c.disk, "/data", 0o755); err != nil {
				t.Fatal(err)
			}
			ck := &clock{ms: 1_700_000_000_000}
			l := mustOpen(t, Options{FS: fault, Dir: "/data/t-0", BootID: "first", Now: ck.now, Syncer: NewSyncer(2, nil),
				Config: Config{SegmentBytes: 900, IndexBytes: 100, Compact: c.compact, RetentionAge: -1}})
			c.mu.Lock()
			c.l = l
			c.mu.Unlock()
			rnd := rand.New(rand.NewPCG(seed, 8))
			for i := range 100 {
				ck.tick(1000)
				c.step(l, rnd, ck, i)
				if t.Failed() {
					return
				}
			}
			l.syncer.forget(l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if c.checked < 300 {
				t.Fatalf("only %d crashes", c.checked)
			}
		})
	}
}

func (c *crashes) step(l *Log, rnd *rand.Rand, ck *clock, i int) {
	switch op := rnd.IntN(20); {
	case op < 14:
		w := record.NewBuilder()
		end := l.EndOffset()
		c.mu.Lock()
		for k := range 1 + rnd.IntN(3) {
			v := fmt.Sprintf("%d-%d-%0*d", i, k, rnd.IntN(200), 0)
			w.Append(ck.ms, fmt.Appendf(nil, "key-%d", rnd.IntN(5)), []byte(v))
			c.want[end+int64(k)] = v
		}
		c.mu.Unlock()
		b, err := w.Bytes()
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := l.Append(b, 1, FromClient); err != nil {
			c.t.Fatal(err)
		}
	case op < 16:
		l.syncer.forget(l)
	case op < 17:
		if end, start := l.EndOffset(), l.StartOffset(); end > start && !c.compact {
			at := start + rnd.Int64N(end-start)
			if rnd.IntN(3) > 0 {
				at = max(at, end-5)
			}
			c.mu.Lock()
			c.limit = max(at-3, 0) // the batch that holds it goes, up to three records
			c.mu.Unlock()
			if err := l.TruncateTo(at); err != nil {
				c.t.Fatal(err)
			}
			c.mu.Lock()
			c.limit = 1 << 60
			c.mu.Unlock()
		}
	case op < 18 && !c.compact: // a follower starts over at its leader's log start: beyond its end, or where it is, or before
		c.mu.Lock()
		c.limit = 0
		c.mu.Unlock()
		at := max(l.EndOffset()+int64(rnd.IntN(60)-30), 0)
		if err := l.StartAt(at); err != nil {
			c.t.Fatal(err)
		}
		if l.StartOffset() != at || l.EndOffset() != at || l.DurableOffset() != at {
			c.t.Fatalf("started at %d: from %d to %d, durable to %d", at, l.StartOffset(), l.EndOffset(), l.DurableOffset())
		}
		c.mu.Lock()
		c.limit = 1 << 60
		c.mu.Unlock()
	default:
		if err := maintain(l, l.DurableOffset()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestSyncFailureIsFinal: after a failed fsync nobody knows what the disk holds, so nothing is acknowledged any more.
func TestSyncFailureIsFinal(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMemory())
	var failed []error
	o, ck := memoryLog(t, Config{})
	o.FS = fault
	o.Syncer = NewSyncer(2, func(err error) { failed = append(failed, err) })
	l := mustOpen(t, o)
	mustAppend(t, l, batch(t, ck.ms, []string{"good"}))
	waitDurable(t, l)
	other := o
	other.Dir = "/data/t-1"
	l2 := mustOpen(t, other)
	mustAppend(t, l2, batch(t, ck.ms, []string{"good"}))
	waitDurable(t, l2)

	remove := fault.Inject(vfs.Rule{Op: vfs.OpSync, Path: "t-0", Err: syscall.EIO, Count: 1})
	mustAppend(t, l, batch(t, ck.ms, []string{"lost"}))
	o.Syncer.forget(l)
	remove()
	if len(failed) != 1 || !errors.Is(failed[0], syscall.EIO) {
		t.Fatal(failed)
	}
	if d := l.DurableOffset(); d != 1 {
		t.Fatalf("durable to %d", d)
	}
	if _, err := l.Append(batch(t, ck.ms, []string{"x"}), 1, FromClient); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	// The directory is done for: a neighbour's next sync is not tried.
	if _, err := l2.Append(batch(t, ck.ms, []string{"x"}), 1, FromClient); err != nil && !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	o.Syncer.forget(l2)
	if d := l2.DurableOffset(); d != 1 || !errors.Is(l2.Failed(), ErrFailed) {
		t.Fatalf("durable to %d, %v", d, l2.Failed())
	}
	if got := readAll(t, l2); got[0] != "good" {
		t.Fatal(got)
	}
}

// TestDiskFull is invariant 11: appends are refused, reads and deletes go on, and when there is room again the log
// goes on without a restart.
func TestDiskFull(t *testing.T) {
	disk := vfs.NewMemory()
	disk.SetCapacity(60_000)
	o, ck := memoryLog(t, Config{SegmentBytes: 8000, RetentionAge: -1})
	o.FS = disk
	l := mustOpen(t, o)
	var err error
	n := int64(0)
	for err == nil {
		_, err = l.Append(batch(t, ck.ms, []string{string(make([]byte, 1500))}), 1, FromClient)
		if err == nil {
			n++
		}
		if n > 100 {
			t.Fatal("the disk does not fill")
		}
		ck.tick(2000)
	}
	if !errors.Is(err, ErrDiskFull) || errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if free, total, _ := disk.Usage("/"); free < total/20-2000 {
		t.Fatalf("refused late: %d of %d free", free, total)
	}
	waitDurable(t, l)
	if got := readAll(t, l); int64(len(got)) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	if err := l.DeleteBefore(n / 2); err != nil {
		t.Fatal(err)
	}
	ck.tick(2000)
	if _, err := l.Append(batch(t, ck.ms, []string{"again"}), 1, FromClient); err != nil {
		t.Fatal(err)
	}
	waitDurable(t, l)
}

// TestCutOnAFullDisk is invariant 11 for a follower: a cut for which there is no room leaves the log as it was, or empty, and is made when there is some.
// A start in between finds the same.
func TestCutOnAFullDisk(t *testing.T) {
	startAt := func(offset int64) func(*Log) error { return func(l *Log) error { return l.StartAt(offset) } }
	for name, cut := range map[string]struct {
		full string // the file for which there is no room
		make func(*Log) error
		have int // records, after it was refused
		left int // after it was made
		end  int64
		err  error
	}{
		"truncate":           {epochsName, func(l *Log) error { return l.TruncateTo(2) }, 2, 1, 2, syscall.ENOSPC},
		"truncate, quota":    {epochsName, func(l *Log) error { return l.TruncateTo(2) }, 2, 1, 2, syscall.EDQUOT},
		"start beyond":       {boundsName, startAt(7), 2, 0, 7, syscall.ENOSPC},
		"start in between":   {boundsName, startAt(2), 2, 0, 2, syscall.ENOSPC},
		"start before":       {boundsName, startAt(0), 0, 0, 0, syscall.ENOSPC},
		"truncate to before": {boundsName, func(l *Log) error { return l.TruncateTo(0) }, 0, 0, 0, syscall.ENOSPC},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %t", name, restarted), func(t *testing.T) {
				fault := vfs.NewFault(vfs.NewMemory())
				o, ck := memoryLog(t, Config{})
				o.FS = fault
				l := mustOpen(t, o)
				for epoch, value := range []string{"gone", "one", "two"} {
					opts := []batchOption{producerOf(7, 0, int32(epoch)), inTxn}
					if epoch == 0 {
						opts = nil
					}
					if _, err := l.Append(batch(t, ck.ms, []string{value}, opts...), int32(epoch+1), FromClient); err != nil {
						t.Fatal(err)
					}
				}
				waitDurable(t, l)
				if err := l.DeleteBefore(1); err != nil {
					t.Fatal(err)
				}
				remove := fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: cut.full, Err: cut.err})
				if err := cut.make(l); !errors.Is(err, ErrDiskFull) || errors.Is(err, ErrFailed) {
					t.Fatal(err)
				}
				check := func() {
					t.Helper()
					if got := readAll(t, l); len(got) != cut.have || l.Failed() != nil {
						t.Fatal(got, l.Failed())
					}
					p, known := l.ProducerState(7)
					if whole := cut.have > 0; whole != (l.LatestEpoch() == 3) || whole != known || known && p.TxnStart != 1 {
						t.Fatalf("epoch %d, producer %+v", l.LatestEpoch(), p)
					}
				}
				check()
				if restarted {
					o.Syncer = NewSyncer(4, nil)
					l = mustOpen(t, o)
					check()
				}
				remove()
				if err := cut.make(l); err != nil {
					t.Fatal(err)
				}
				if got := readAll(t, l); len(got) != cut.left || l.LatestEpoch() == 3 || l.EndOffset() != cut.end {
					t.Fatal(got, l.LatestEpoch(), l.EndOffset())
				}
				mustAppend(t, l, batch(t, ck.ms, []string{"three"}))
				waitDurable(t, l)
				o.Syncer = NewSyncer(4, nil)
				l = mustOpen(t, o)
				if got := readAll(t, l); len(got) != cut.left+1 || got[cut.end] != "three" {
					t.Fatal(got)
				}
			})
		}
	}
}

// TestCutThatPasses: a cut that fails before it takes anything, for want of room or of descriptors, leaves the log as it was, also for who opens it again, and is made later.
func TestCutThatPasses(t *testing.T) {
	for name, rule := range map[string]vfs.Rule{
		"the transactions cannot be opened": {Op: vfs.OpOpen, Path: txnSuffix, Err: syscall.EMFILE},
		"a segment cannot be opened":        {Op: vfs.OpOpen, Path: segmentName("", 0, logSuffix), Err: syscall.ENFILE},
		"no room for the folder's sync":     {Op: vfs.OpSyncDir, Err: syscall.ENOSPC},
	} {
		for _, later := range []bool{false, true} { // it is made after all
			t.Run(fmt.Sprintf("%s, later %t", name, later), func(t *testing.T) {
				fault := vfs.NewFault(vfs.NewMemory())
				o, ck := memoryLog(t, Config{SegmentBytes: 400})
				o.FS, o.Syncer, o.Files = fault, NewSteppedSyncer(nil), NewFiles(1)
				l := mustOpen(t, o)
				var aborted []AbortedTxn
				const each, all = 2, 16
				write := func() {
					t.Helper()
					for base := l.EndOffset(); base < all; base += each {
						epoch := int32(base / 4)
						if _, err := l.Append(batch(t, ck.ms, []string{"v"}, producerOf(7, 0, int32(base/each)), inTxn), epoch, FromClient); err != nil {
							t.Fatal(err)
						}
						if _, err := l.Append(record.EndTxn(7, 0, record.Marker{Type: record.Abort}, ck.ms), epoch, FromCoordinator); err != nil {
							t.Fatal(err)
						}
						aborted = append(aborted[:base/each], AbortedTxn{7, base, base + 1})
					}
				}
				write()
				mustDo(t, l.Close()) // all of it is in files
				o.Syncer = NewSteppedSyncer(nil)
				l = mustOpen(t, o)
				l.pointEvery = 1
				const end = 6
				heal := fault.Inject(rule)
				err := l.TruncateTo(end)
				heal()
				if want := map[bool]error{true: ErrDiskFull, false: ErrNoFiles}[errors.Is(rule.Err, syscall.ENOSPC)]; !errors.Is(err, want) || l.Failed() != nil || l.EndOffset() != all {
					t.Fatal(err, l.Failed(), l.EndOffset())
				}
				if later {
					mustDo(t, l.TruncateTo(end))
					write()
				} else {
					mustAppend(t, l, batch(t, ck.ms, []string{"v"}))
				}
				l.syncer.Step()
				check := func() {
					t.Helper()
					p, _ := l.ProducerState(7)
					if got := l.Aborted(0, all); !slices.Equal(got, aborted) || p.LastSequence != all/each-1 || l.EpochAt(5) != 1 || l.EpochAt(all-1) != 3 {
						t.Fatalf("aborted %v, want %v; epochs %d, %d; producer %+v", got, aborted, l.EpochAt(5), l.EpochAt(all-1), p)
					}
				}
				check()
				for _, boot := range []string{o.BootID, "another"} {
					o.Syncer, o.BootID = NewSteppedSyncer(nil), boot // as it is left by a kill
					l = mustOpen(t, o)
					check()
				}
			})
		}
	}
}

// TestAbortedOnceOnAFullDisk: an aborted transaction that was written down, while there was no room for what comes after it, is not written down again. A client
// that is told of it twice drops what its producer has committed since.
func TestAbortedOnceOnAFullDisk(t *testing.T) {
	for _, full := range []string{recoveryName, epochsName, "00000000000000000005" + txnSuffix} {
		t.Run(full, func(t *testing.T) {
			fault := vfs.NewFault(vfs.NewMemory())
			o, ck := memoryLog(t, Config{SegmentBytes: 400})
			o.FS, o.Syncer = fault, NewSteppedSyncer(nil)
			l := mustOpen(t, o)
			l.pointEvery = 1
			var want []AbortedTxn
			abort := func() {
				t.Helper()
				base := l.EndOffset()
				if _, err := l.Append(batch(t, ck.ms, []string{"v"}, producerOf(7, 0, int32(base/2)), inTxn), 1, FromClient); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Append(record.EndTxn(7, 0, record.Marker{Type: record.Abort}, ck.ms), 1, FromCoordinator); err != nil {
					t.Fatal(err)
				}
				want = append(want, AbortedTxn{7, base, base + 1})
			}
			for range 3 { // in two segments
				abort()
			}
			remove := fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: full, Err: syscall.ENOSPC})
			for range 3 {
				l.syncer.Step()
				abort()
			}
			remove()
			abort()
			if len(l.segs) < 3 || l.Failed() != nil {
				t.Fatal(len(l.segs), l.Failed())
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			o.Syncer = NewSteppedSyncer(nil)
			l = mustOpen(t, o)
			if got := l.Aborted(0, l.EndOffset()); !slices.Equal(got, want) {
				t.Errorf("%v were aborted, and not %v", got, want)
			}
		})
	}
}

// TestOpenOnAFullDisk is invariant 11 at a start: what a kill or a power cut has left is recovered without room, read, and appended to when there is some.
func TestOpenOnAFullDisk(t *testing.T) {
	for _, boot := range []string{"first", "next"} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("boot %s, closed %t", boot, closed), func(t *testing.T) {
				fault := vfs.NewFault(vfs.NewMemory())
				o, ck := memoryLog(t, Config{SegmentBytes: 400, IndexBytes: 100})
				o.FS, o.BootID, o.Syncer = fault, "first", NewSteppedSyncer(nil)
				l := mustOpen(t, o)
				for i := range 20 {
					if _, err := l.Append(batch(t, ck.ms, []string{"v"}, producerOf(7, 0, int32(i)), inTxn), int32(i/5), FromClient); err != nil {
						t.Fatal(err)
					}
					if i == 10 {
						l.syncer.Step()
					}
				}
				if closed {
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
				}
				remove := fault.Inject(vfs.Rule{Op: vfs.OpWrite, Err: syscall.ENOSPC})
				o.BootID, o.Syncer = boot, NewSteppedSyncer(nil)
				l = mustOpen(t, o)
				if got := readAll(t, l); len(got) != 20 || l.DurableOffset() != 20 || l.LatestEpoch() != 3 {
					t.Fatalf("%d records, durable to %d, epoch %d", len(got), l.DurableOffset(), l.LatestEpoch())
				}
				if p, ok := l.ProducerState(7); !ok || p.LastSequence != 19 || p.TxnStart != 0 {
					t.Fatalf("%+v", p)
				}
				next := batch(t, ck.ms, []string{"v"}, producerOf(7, 0, 20), inTxn)
				if _, err := l.Append(next, 3, FromClient); !errors.Is(err, ErrDiskFull) || l.Failed() != nil {
					t.Fatal(err, l.Failed())
				}
				remove()
				ck.tick(2000)
				if _, err := l.Append(next, 3, FromClient); err != nil {
					t.Fatal(err)
				}
				l.syncer.Step()
				if d := l.DurableOffset(); d != 21 {
					t.Fatalf("durable to %d", d)
				}
			})
		}
	}
}

// TestPartialWrite: a write that fails half way leaves nothing that a later recovery could find.
func TestPartialWrite(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMemory())
	o, ck := memoryLog(t, Config{})
	o.FS = fault
	l := mustOpen(t, o)
	mustAppend(t, l, batch(t, ck.ms, []string{"one"}))
	remove := fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: ".log", Err: syscall.ENOSPC, Keep: 50, Count: 1})
	if _, err := l.Append(batch(t, ck.ms, []string{"half"}), 1, FromClient); !errors.Is(err, ErrDiskFull) {
		t.Fatal(err)
	}
	remove()
	if a := mustAppend(t, l, batch(t, ck.ms, []string{"two"})); a.Base != 1 {
		t.Fatal(a)
	}
	fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: ".log", Err: syscall.EIO, Keep: 50, Count: 1})
	if _, err := l.Append(batch(t, ck.ms, []string{"half"}), 1, FromClient); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	if got := readAll(t, l); len(got) != 2 || got[1] != "two" {
		t.Fatal(got)
	}
}
