package commitlog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// TestWhenASegmentEnds: by size, by the clock, by the records' own time, by its indexes; after a change of config too.
func TestWhenASegmentEnds(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    Config
		wait   time.Duration // between appends
		record time.Duration // between the records' own times
		want   int
	}{
		"one segment":        {Config{}, time.Second, time.Second, 1},
		"size":               {Config{SegmentBytes: 350}, 0, 0, 10},
		"clock":              {Config{SegmentAge: time.Minute}, 31 * time.Second, 0, 10},
		"records' time":      {Config{SegmentAge: time.Minute}, 0, 31 * time.Second, 10},
		"time going back":    {Config{SegmentAge: time.Minute}, 0, -31 * time.Second, 1},
		"index":              {Config{IndexBytes: 1, IndexFileBytes: 72}, 0, 0, 2},
		"max compaction lag": {Config{Compact: true, MaxCompactionLag: time.Minute}, 31 * time.Second, 0, 10},
		"lag without policy": {Config{MaxCompactionLag: time.Minute}, 31 * time.Second, 0, 1},
	} {
		for _, late := range []bool{false, true} {
			o, ck := memoryLog(t, c.cfg)
			if late {
				o.Config = Config{}
			}
			ck.tick(0)
			l := mustOpen(t, o)
			l.SetConfig(c.cfg)
			ts := ck.ms
			for i := range 20 {
				mustAppend(t, l, keyed(t, ts, fmt.Sprint("k", i), "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"))
				ck.tick(c.wait.Milliseconds())
				ts += c.record.Milliseconds()
			}
			if n := len(l.segs); n != c.want {
				t.Errorf("%s: %d segments, want %d", name, n, c.want)
			}
		}
	}
}

// TestSegmentAgeOutlivesARestart: a node that restarts more often than segment.ms still ends segments.
func TestSegmentAgeOutlivesARestart(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentAge: time.Hour})
	ck.tick(0)
	for i := range 4 {
		l := mustOpen(t, o)
		mustAppend(t, l, keyed(t, ck.ms, "k", fmt.Sprint(i)))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ck.tick((25 * time.Minute).Milliseconds())
	}
	if l := mustOpen(t, o); len(l.segs) != 2 {
		t.Fatalf("%d segments", len(l.segs))
	}
}

// TestJitter: segments of logs that were made together do not all end together.
func TestJitter(t *testing.T) {
	ends := map[int]int{}
	for range 40 {
		o, ck := memoryLog(t, Config{SegmentAge: 100 * time.Minute, SegmentJitter: 50 * time.Minute})
		ck.tick(0)
		l := mustOpen(t, o)
		for n := 0; len(l.segs) < 2; n++ {
			mustAppend(t, l, keyed(t, ck.ms, "k", "v"))
			ck.tick(time.Minute.Milliseconds())
			if n > 101 {
				t.Fatal("the segment does not end")
			}
			ends[n/10]++
		}
		if int(l.segs[1].base) < 50 {
			t.Fatalf("the segment ended after %d minutes", l.segs[1].base)
		}
	}
	if ends[6] == ends[9] {
		t.Fatalf("no jitter: %v", ends)
	}
}

// syncs makes a Relaxed log on a disk that tells of each sync of a segment, before it happens.
func syncs(t *testing.T, c Config) (*Log, chan struct{}) {
	o, _ := memoryLog(t, c)
	disk := vfs.NewFault(o.FS)
	told := make(chan struct{}, 100)
	disk.Hook(func(op vfs.Op, name string) {
		if op == vfs.OpSync && strings.HasSuffix(name, logSuffix) {
			told <- struct{}{}
		}
	})
	o.FS, o.Durability = disk, Relaxed
	return mustOpen(t, o), told
}

// TestFlushMessages: an append that makes it flush.messages is durable only when it is synced; the others at once.
func TestFlushMessages(t *testing.T) {
	l, told := syncs(t, Config{FlushMessages: 3})
	for i, want := range []int64{1, 2, 2} {
		mustHold(t, l, func() { mustAppend(t, l, keyed(t, 1000, "k", fmt.Sprint(i))) }, want)
	}
	waitDurable(t, l)
	if len(told) != 1 {
		t.Fatalf("%d syncs of 3 records", len(told))
	}
	l.SetConfig(Config{FlushMessages: 1})
	mustHold(t, l, func() { mustAppend(t, l, keyed(t, 1000, "k", "v")) }, 3)
	waitDurable(t, l)
	l.SetConfig(Config{})
	mustHold(t, l, func() { mustAppend(t, l, keyed(t, 1000, "k", "v")) }, 5)
	waitDurable(t, l)
}

// mustHold appends while no sync can run, and compares the durable offset.
func mustHold(t *testing.T, l *Log, put func(), want int64) {
	t.Helper()
	l.flushing.Lock()
	defer l.flushing.Unlock()
	put()
	if d := l.DurableOffset(); d != want {
		t.Fatalf("durable %d, want %d", d, want)
	}
}

// TestFlushAge: what lies in the page cache is synced after flush.ms, without another append.
func TestFlushAge(t *testing.T) {
	for _, every := range []int64{pointEvery, 1} { // with each append the recovery point moves, too
		t.Run(fmt.Sprint(every), func(t *testing.T) { testFlushAge(t, every) })
	}
}

func testFlushAge(t *testing.T, every int64) {
	l, told := syncs(t, Config{FlushAge: time.Millisecond})
	l.pointEvery = every
	for range 2 {
		a := mustAppend(t, l, keyed(t, 1000, "k", "v"))
		if l.DurableOffset() != a.Last+1 {
			t.Fatal("an append waits for flush.ms")
		}
		select {
		case <-told:
		case <-time.After(time.Minute):
			t.Fatal("no sync")
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
