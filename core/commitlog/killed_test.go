package commitlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

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

// TestKilledInACut: a process that was killed in the middle of a cut may not have come to sync the folder, and the next one acknowledges records. A power cut
// after that must not bring a segment back that was cut off: its records would follow the new ones as if they were newer (invariant 2).
func TestKilledInACut(t *testing.T) {
	for name, cut := range map[string]func(*Log) error{
		"into a segment":   func(l *Log) error { return l.TruncateTo(2) },
		"between segments": func(l *Log) error { return l.TruncateTo(3) },
		"in the last one":  func(l *Log) error { return l.TruncateTo(7) },
	} {
		t.Run(name, func(t *testing.T) {
			for n := 0; ; n++ {
				o, ck := memoryLog(t, Config{SegmentBytes: 240, RetentionAge: -1})
				values := map[int64]string{}
				put := func(l *Log, epoch int32, what string) {
					value := fmt.Sprintf("%s %d", what, l.EndOffset())
					a, err := l.Append(batch(t, ck.ms, []string{value}), epoch, FromClient)
					if err != nil {
						t.Fatal(err)
					}
					values[a.Base] = value
				}
				l, disk, done := killedAt(t, n, o, func(l *Log) {
					for range 8 {
						put(l, 1, "old")
					}
					if len(l.segs) < 3 || l.segs[1].base != 3 {
						t.Fatalf("%d segments, the second at %d", len(l.segs), l.segs[1].base)
					}
				}, cut)
				for range 12 {
					put(l, 2, "new")
					l.syncer.Step()
					for _, torn := range []*rand.Rand{nil, rand.New(rand.NewPCG(uint64(n), 1))} {
						next := mustOpen(t, Options{FS: disk.Crashed(torn), Dir: "/data/t-0", BootID: "next", Config: o.Config, Syncer: NewSteppedSyncer(nil)})
						if got, want := next.EndOffset(), l.DurableOffset(); got != want {
							t.Fatalf("killed at step %d: after a power cut the log ends at %d, %d was durable", n, got, want)
						}
						for at, value := range readAll(t, next) {
							if value != values[at] {
								t.Fatalf("killed at step %d: offset %d is %q, was %q", n, at, value, values[at])
							}
						}
					}
				}
				if done {
					if n < 10 {
						t.Fatalf("only %d steps", n)
					}
					return
				}
			}
		})
	}
}
